"""Habits of the source, counted: ``make lint`` fails where a count in structure.toml rises, and where it fell without being written down.

Each rule reads the syntax of src/sparring and lists places. The number of places may only fall: who removes some lowers the ratchet in
the same commit. A place that must stay is an ``[[exception]]`` with a reason; an exception that no longer fits any place fails, too.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "sparring"
TABLE = Path(__file__).with_name("structure.toml")
MOST_PARAMETERS = 10
SILENCERS = ("type: ignore", "pyright: ignore")
EMPTY_WORDS = ("found", "made")  # a variable says what it holds
# what enrols a name when it is called with one: a registry itself, or a decorator of a room
REGISTRARS = {
    *("ATTACKS", "DEFENSES", "THREATS", "ANALYSES", "TASKS", "MODELS", "DATA", "METRICS"),
    *("threat_kind", "threat", "analysis", "metric", "_readout"),
}


N = TypeVar("N", bound=ast.AST)


@dataclass(frozen=True)
class Place:
    """Where a rule looks: a file below the package, a line, and what stands there."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


@dataclass(frozen=True)
class Source:
    """One file: its path below the package, its lines, its syntax."""

    name: str
    lines: tuple[str, ...]
    tree: ast.Module

    @classmethod
    def of(cls, name: str, text: str) -> Source:
        return cls(name, tuple(text.splitlines()), ast.parse(text))

    def at(self, line: int, text: str = "") -> Place:
        """A place in this file; without ``text``: the line itself."""
        return Place(self.name, line, text or self.lines[line - 1].strip())

    def nodes(self, *kinds: type[N]) -> Iterator[N]:
        """The nodes of some kinds, in any order."""
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))


Sources = tuple[Source, ...]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def any_types(sources: Sources) -> Iterator[Place]:
    """``Any`` in an annotation or a type alias: it switches the type checker off."""
    for source in sources:
        yield from (source.at(n.lineno) for n in source.nodes(ast.Name) if n.id == "Any")


def silenced(sources: Sources) -> Iterator[Place]:
    """A comment that silences the type checker."""
    for source in sources:
        for number, line in enumerate(source.lines, 1):
            if any(f"# {word}" in line for word in SILENCERS):
                yield source.at(number)


def _calls(sources: Sources, name: str) -> Iterator[Place]:
    for source in sources:
        for call in source.nodes(ast.Call):
            if isinstance(call.func, ast.Name) and call.func.id == name:
                yield source.at(call.lineno)


def getattrs(sources: Sources) -> Iterator[Place]:
    """``getattr(``: an attribute that no contract declares."""
    return _calls(sources, "getattr")


def casts(sources: Sources) -> Iterator[Place]:
    """``cast(``: a type that is claimed, not known."""
    return _calls(sources, "cast")


def long_signatures(sources: Sources) -> Iterator[Place]:
    """A function with over ten parameters, ``self`` not counted; what belongs together is one frozen dataclass."""
    for source in sources:
        for function in source.nodes(ast.FunctionDef, ast.AsyncFunctionDef):
            count = len(parameters(function))
            if count > MOST_PARAMETERS:
                yield source.at(function.lineno, f"{function.name} takes {count} parameters")


def parameters(function: Function) -> list[str]:
    """Names of a function's parameters, without ``self``, ``cls`` and the starred ones."""
    a = function.args
    names = [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def repeated_classes(sources: Sources) -> Iterator[Place]:
    """A class whose name another class of the package has."""
    classes = [(source, node) for source in sources for node in source.nodes(ast.ClassDef)]
    counts = Counter(node.name for _, node in classes)
    seen: set[str] = set()
    for source, node in classes:
        if counts[node.name] > 1 and node.name in seen:
            yield source.at(node.lineno, f"class {node.name} is there already")
        seen.add(node.name)


def registered(sources: Sources) -> dict[str, set[str]]:
    """Names of attacks, defenses, threats, ... -> the files that enrol them, as far as they are literals."""
    homes: dict[str, set[str]] = {}
    for source in sources:
        for call in source.nodes(ast.Call):
            if isinstance(call.func, ast.Name) and call.func.id in REGISTRARS and call.args:
                for name in _literals(call.args[0]):
                    homes.setdefault(name, set()).add(source.name)
    return homes


def compared_names(sources: Sources) -> Iterator[Place]:
    """A comparison with a registered name outside the file that enrols it: what differs belongs to the entry, as a declared fact."""
    homes = registered(sources)
    for source in sources:
        for node in source.nodes(ast.Compare, ast.MatchValue):
            foreign = [n for n in _compared(node) if source.name not in homes.get(n, {source.name})]
            if foreign:
                line = node.lineno if isinstance(node, ast.Compare) else node.value.lineno
                yield source.at(line)


def _compared(node: ast.Compare | ast.MatchValue) -> list[str]:
    """The literals that something is compared with: x == "a", x in ("a", "b"), case "a"."""
    if isinstance(node, ast.MatchValue):
        return _literals(node.value)
    sides = [node.left, *node.comparators]
    literals: list[str] = []
    for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
        if isinstance(operator, ast.Eq | ast.NotEq):
            literals += _literals(left) + _literals(right)
        elif isinstance(operator, ast.In | ast.NotIn) and isinstance(right, ast.Tuple | ast.List | ast.Set):
            literals += [text for element in right.elts for text in _literals(element)]
    return literals


def _literals(node: ast.expr) -> list[str]:
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def empty_words(sources: Sources) -> Iterator[Place]:
    """A variable called ``found`` or ``made``: everything in a variable was found or made."""
    for source in sources:
        for node in source.nodes(ast.Name, ast.Attribute, ast.arg):
            name = node.arg if isinstance(node, ast.arg) else node.id if isinstance(node, ast.Name) else node.attr
            bound = isinstance(node, ast.arg) or isinstance(node.ctx, ast.Store)
            if bound and name in EMPTY_WORDS:
                yield source.at(node.lineno)


def functions_named_run(sources: Sources) -> Iterator[Place]:
    """A function called ``run``: too many things do, a verb of the field says which."""
    for source in sources:
        yield from (source.at(f.lineno) for f in source.nodes(ast.FunctionDef) if f.name == "run")


Rule = Callable[[Sources], Iterator[Place]]
RULES: dict[str, Rule] = {
    "any_types": any_types,
    "silenced": silenced,
    "getattrs": getattrs,
    "casts": casts,
    "long_signatures": long_signatures,
    "repeated_classes": repeated_classes,
    "compared_names": compared_names,
    "empty_words": empty_words,
    "functions_named_run": functions_named_run,
}


def read(package: Path = PACKAGE) -> Sources:
    """Every file of the package."""
    files = sorted(package.rglob("*.py"))
    return tuple(Source.of(f.relative_to(package).as_posix(), f.read_text()) for f in files)


def complaints(sources: Sources, table: dict) -> list[str]:
    """What is wrong, a line each: a count above its ratchet with its places, one below it, an exception that fits nothing."""
    lines: list[str] = []
    exceptions = table.get("exception", [])
    if set(table["ratchet"]) != set(RULES):
        lines.append(f"structure.toml: [ratchet] has exactly {', '.join(RULES)}")
    for e in exceptions:
        if set(e) != {"rule", "file", "text", "reason"} or e["rule"] not in RULES or not e["reason"].strip():
            lines.append(f"structure.toml: an exception has rule, file, text and a reason, not {e}")
    if lines:
        return lines
    for name, rule in RULES.items():
        places, limit = list(rule(sources)), table["ratchet"][name]
        for e in (e for e in exceptions if e["rule"] == name):
            excused = [p for p in places if p.file == e["file"] and e["text"] in p.text]
            if not excused:
                lines.append(f"{name}: the exception for {e['file']} ({e['text']}) fits no place; remove it")
            places = [p for p in places if p not in excused]
        if len(places) > limit:
            lines.append(f"{name}: {len(places)} places, at most {limit}. {(rule.__doc__ or '').strip()}")
            lines += [f"  {place}" for place in places]
        elif len(places) < limit:
            lines.append(f"{name}: lower the ratchet to {len(places)} (tests/structure.toml says {limit})")
    return lines


def main() -> int:
    """Print the complaints; 1 where there is one. ``structure.py RULE``: print the places of a rule instead."""
    sources = read()
    if len(sys.argv) > 1:
        places = [place for name in sys.argv[1:] for place in RULES[name](sources)]
        print(*places, f"{len(places)} places", sep="\n")
        return 0
    lines = complaints(sources, tomllib.loads(TABLE.read_text()))
    print(*lines or ["structure: no count rose"], sep="\n")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
