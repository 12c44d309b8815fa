"""Checks that ask whether the evaluation can be believed. One check a file: its docstring is its docs section, and
it ships a context it must fire on and one it must stay silent on.
"""
