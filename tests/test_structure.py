"""The counts of tests/structure.py: each rule sees what it is for, the ratchet turns one way, and the package keeps to it."""

from __future__ import annotations

import tomllib

import pytest

from tests.structure import PACKAGE, ROOT, RULES, TABLE, Source, complaints, read

# rule -> (text in which it sees one place, text in which it sees none)
CASES = {
    "any_types": ("def f(x: dict[str, Any]) -> int: ...", "def f(x: object) -> int: ...  # Any"),
    "silenced": ("x = f()  # type: ignore[arg-type]", "x = f()  # of this type: ignored"),
    "getattrs": ("y = getattr(x, 'name', None)", "y = x.name; setattr(x, 'name', y)"),
    "casts": ("y = cast(int, x)", "y = cast"),
    "long_signatures": (
        f"class A:\n def f(self, {', '.join(f'a{i}' for i in range(6))}, *, {', '.join(f'b{i}' for i in range(5))}): ...",
        f"class A:\n def f(self, {', '.join(f'a{i}' for i in range(10))}, *rest, **options): ...",
    ),
    "repeated_classes": ("class A: ...\nclass B:\n class A: ...", "class A: ...\nclass B: ..."),
    "empty_words": ("made = f()", "outcome = f(found=1); y = f.made"),
    "functions_named_run": ("class A:\n def run(self): ...", "class A:\n def answer(self): self.run()"),
}
ENROLS = Source.of("home.py", "@ATTACKS('pgd')\nclass PGD:\n  def f(self): return self.name == 'pgd'")


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_sees_what_it_is_for(rule: str):
    seen, silent = (Source.of("a.py", text) for text in CASES[rule])
    assert len(list(RULES[rule]((seen,)))) == 1
    assert list(RULES[rule]((silent,))) == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("if x == 'pgd': ...", 1),
        ("if 'pgd' != x: ...", 1),
        ("if x in ('fgsm', 'pgd'): ...", 1),
        ("match x:\n case 'pgd': ...", 1),
        ("if x == 'fgsm': ...", 0),
        ("if 'pgd' in x: ...", 0),
        ("x = 'pgd'; y = {'pgd': 1}", 0),
    ],
)
def test_a_registered_name_is_compared_only_where_it_is_enrolled(text: str, count: int):
    places = list(RULES["compared_names"]((ENROLS, Source.of("a.py", text))))
    assert len(places) == count
    assert all(p.file == "a.py" for p in places)


def table(limit: int, **exception: str) -> dict:
    """Ratchets at 0, but for ``silenced``; and perhaps one exception."""
    return {"ratchet": dict.fromkeys(RULES, 0) | {"silenced": limit}, "exception": [exception] if exception else []}


TWO = (Source.of("a.py", "x = 1  # type: ignore\ny = 2  # type: ignore"),)


@pytest.mark.parametrize(("limit", "says"), [(1, "2 places, at most 1"), (2, ""), (3, "lower the ratchet to 2")])
def test_a_count_may_neither_rise_nor_fall_unseen(limit: int, says: str):
    lines = complaints(TWO, table(limit))
    assert says in lines[0] if says else lines == []


def test_an_exception_has_a_reason_and_a_place():
    fits = {"rule": "silenced", "file": "a.py", "text": "x = 1", "reason": "numpy has no type here"}
    assert complaints(TWO, table(1, **fits)) == []
    assert "a reason" in complaints(TWO, table(1, **{**fits, "reason": " "}))[0]
    assert "fits no place" in complaints(TWO, table(2, **{**fits, "text": "z = 1"}))[0]


def test_a_ratchet_for_every_rule():
    assert "[ratchet]" in complaints(TWO, {"ratchet": {"silenced": 2}})[0]


def test_the_package_keeps_to_its_ratchets():
    assert complaints(read(), tomllib.loads(TABLE.read_text())) == []


def test_types_are_shipped_and_every_strict_path_is_there():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pyright"]
    assert (PACKAGE / "py.typed").is_file()
    assert [p for p in settings["strict"] if not (ROOT / p).exists()] == []
