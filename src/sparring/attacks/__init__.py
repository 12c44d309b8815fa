"""Attacks: one family a file, all run by the one loop in ``engine``. They import ``core`` only: an attack knows a
victim, never a model or a defense.
"""
