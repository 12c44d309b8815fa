"""Ranges of numbers, declared beside the type of a field, and what counts as a number at all.

``steps: Count = 40`` says what ``steps`` may be; spec texts, options, files and Python are held to the same declaration. A field
without a range of its own takes any finite number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cache
from numbers import Integral, Real
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import TypeAdapter

INFINITE = "may be infinite"
MANY = 10**9
Positive = Annotated[float, Gt(0), Le(1e9)]
NonNegative = Annotated[float, Ge(0), Le(1e9)]
Extended = Annotated[float, Ge(0), INFINITE]  # a field that takes inf; every other one is finite
Share = Annotated[float, Ge(0), Le(1)]
Part = Annotated[float, Gt(0), Le(1)]  # a share that must not be nothing
Rate = Annotated[float, Ge(0), Lt(1)]  # a share that must not be everything
Inner = Annotated[float, Gt(0), Lt(1)]
Step = Annotated[float, Gt(0), Le(10)]  # of an attack, in units of its ball, or a learning rate
Count = Annotated[int, Ge(1), Le(MANY)]
Natural = Annotated[int, Ge(0), Le(MANY)]
Draws = Annotated[int, Ge(1), Le(2**16)]  # the counter of draws has 16 bits
Draw = Annotated[int, Ge(0), Lt(2**16)]
Classes = Annotated[int, Ge(2), Le(10**6)]
Seed = Annotated[int, Ge(0), Le(2**62)]
Workers = Annotated[int, Ge(1), Le(1024)] | Literal["auto"]  # processes
Limit = Annotated[int | None, Ge(1), Le(MANY)]  # how many of the images; None: all

_DECIMAL = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
_NUMBER = re.compile(rf"({_DECIMAL})(?:/({_DECIMAL}))?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_WORDS = ("nan", "inf", "+inf", "-inf", "infinity", "-infinity")


def number(text: str) -> float:
    """'8/255', '0.5/255', '0.03', 'inf' as a float. Raises ValueError, whose text says why, for everything but plain decimal numbers and
    fractions of two; a number that is too large comes back infinite.
    """
    if text.lower() in _WORDS:
        return float(text)
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(_why(text))
    above, below = (float(part) if part else 1.0 for part in match.groups())
    if below == 0:
        raise ValueError("a fraction over 0 is no number")
    value = above / below
    if value == 0 and any(c in "123456789" for c in re.split("[eE]", match.group(1))[0]):
        raise ValueError("the number is too small to be told from 0")
    return value


def _why(text: str) -> str:
    if any(c in text for c in "\u2212\u2012\u2013\u2014\ufe63\uff0d"):
        return "the minus is not the one of the keyboard; write - (ASCII)"
    if "," in text:
        return "write a decimal point, not a comma"
    return "write a plain number such as 40, 0.03, 1e-3 or 8/255"


def parsed(text: str, annotation: object) -> int | float:
    """A text as a number of an annotated type: whole numbers exactly, a float that is whole as an int where only ints are taken."""
    whole = takes(annotation, int) and not takes(annotation, float)
    if whole and _WHOLE.fullmatch(text):
        return int(text)
    value = number(text)
    return int(value) if whole and value.is_integer() else value


def leaves(annotation: object, limits: tuple[object, ...] = ()) -> Iterator[tuple[object, tuple[object, ...]]]:
    """(type, what is declared of it) of each alternative of an annotation; a Literal is one alternative."""
    if get_origin(annotation) is Annotated:
        base, *more = get_args(annotation)
        yield from leaves(base, (*limits, *more))
    elif get_origin(annotation) is not Literal and get_args(annotation):
        for part in get_args(annotation):
            if part is not ...:
                yield from leaves(part, limits)
    else:
        yield annotation, limits


def takes(annotation: object, kind: type) -> bool:
    """Is ``kind`` one of the alternatives, or a listed value of that type?"""
    alternatives = [leaf for leaf, _ in leaves(annotation)]
    listed = [value for leaf in alternatives if get_origin(leaf) is Literal for value in get_args(leaf)]
    return any(leaf is kind for leaf in alternatives) or any(type(value) is kind for value in listed)


def takes_numbers(annotation: object) -> bool:
    """Is a number one of the alternatives?"""
    return takes(annotation, int) or takes(annotation, float)


def takes_infinity(annotation: object) -> bool:
    """Is an infinite number allowed?"""
    return any(INFINITE in limits for _, limits in leaves(annotation))


def closed(annotation: object) -> bool:
    """Does it take nothing but numbers, flags, None and words that it lists? Then a value can be checked without knowing more."""
    known = (int, float, bool, NoneType)
    return all(leaf in known or get_origin(leaf) is Literal for leaf, _ in leaves(annotation))


def declared(annotation: object) -> bool:
    """Has every number in it a range?"""
    kinds = (Ge, Gt, Le, Lt)
    numbers = [limits for leaf, limits in leaves(annotation) if leaf in (int, float)]
    return all(any(isinstance(x, kinds) for x in limits) for limits in numbers)


def range_of(annotation: object) -> str:
    """The declared range in words, "" where there is none: 'at least 1', 'in (0,1]'."""
    for leaf, limits in leaves(annotation):
        if leaf in (int, float):
            return _words(leaf is int, limits)
    return ""


def _words(whole: bool, limits: tuple[object, ...]) -> str:
    low = next((x for x in limits if isinstance(x, Ge | Gt)), None)
    high = next((x for x in limits if isinstance(x, Le | Lt)), None)
    least = "" if low is None else _show(low.ge if isinstance(low, Ge) else low.gt)
    most = "" if high is None else _show(high.le if isinstance(high, Le) else high.lt)
    if whole and least and least == most:
        return least
    if low is not None and high is not None and not whole:
        return f"in {'[' if isinstance(low, Ge) else '('}{least},{most}{']' if isinstance(high, Le) else ')'}"
    texts = [f"{'at least' if isinstance(low, Ge) else 'above'} {least}"] if least else []
    texts += [f"{'at most' if isinstance(high, Le) else 'below'} {most}"] if most else []
    return " and ".join(texts) + (" (inf too)" if INFINITE in limits else "")


def _show(limit: object) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}".replace("e+0", "e")


def plain(value: object) -> object:
    """numpy's numbers as Python's."""
    if isinstance(value, bool | int | float) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def is_finite_for(annotation: object, value: object) -> bool:
    """False for nan, and for an infinite number where none is allowed."""
    if not isinstance(value, float) or math.isfinite(value):
        return True
    return math.isinf(value) and takes_infinity(annotation)


@cache
def adapter(annotation: Any) -> TypeAdapter[object]:
    """Pydantic's validator of an annotation."""
    return TypeAdapter(annotation)
