"""Checks that ask the attacked system, once its attacks are over: is its gradient one, does the attack work here at all?"""
