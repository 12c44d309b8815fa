"""Defenses: frozen configs that install themselves on a classifier and declare, stage by stage, what an attacker
may use.
"""
