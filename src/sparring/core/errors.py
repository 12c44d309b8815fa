"""One exception for everything a user can put right: its text is one line naming the thing, the fault and the fix."""

from __future__ import annotations


def visible_lines(text: str) -> str:
    """Text of several lines, each ``visible``."""
    return "\n".join(map(visible, text.split("\n")))


def visible(text: str) -> str:
    """Text with everything escaped that a terminal would obey or not show: control characters, line ends, lone surrogates."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class SparringError(ValueError):
    """A user's mistake. The command line prints its text without a traceback and exits with code 2."""

    def __str__(self) -> str:
        """One line, whatever stands in the names and values it quotes."""
        return visible(super().__str__())


class AccessError(SparringError):
    """An attack asked its victim for more than the threat model grants."""


def one_line(error: BaseException) -> str:
    """What an exception of somebody else's code says, in one line: its kind and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
