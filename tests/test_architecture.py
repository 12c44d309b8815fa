"""The house: a room may import only rooms above it; no file is long; steps never reduce over the batch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "sparring"
# room -> rooms it may import (besides itself and version); records, results and report know no attack and no model
LOWER = {"core", "data", "models", "attacks", "defenses", "threats"}
PLAN = {"evaluation.judge", "evaluation.records", "evaluation.results", "evaluation.plan"}
# of recipes what judges and draws: it knows no attack and no model
JUDGED = {f"recipes.{name}" for name in ("recipe", "load", "expand", "numbers", "bounds", "judging", "twins")}
ALLOWED = {
    "version": set(),
    "core": set(),
    "data": {"core"},
    "models": {"core"},
    "attacks": {"core"},
    "defenses": {"core", "models"},
    "threats": {"core", "defenses"},
    "subject": {"core", "data", "models", "defenses"},
    "deploy": {"core", "data", "models", "attacks", "defenses"},
    "training": {"core", "data", "models", "defenses", "attacks"},
    "analysis": {"core", "data", "models", "defenses", "attacks", "subject"},
    "evaluation": set(),
    "evaluation.judge": {"core"},
    "evaluation.records": {"core"},
    "evaluation.results": {"core", "evaluation.records"},
    "evaluation.plan": LOWER | {"evaluation.judge", "evaluation.records", "evaluation.results"},
    "evaluation.run": LOWER | PLAN | {"subject"},
    "checks": LOWER | PLAN | {"subject", "evaluation.run"},
    "verdict": {"core", "evaluation.records", "evaluation.results"},
    "conduct": LOWER | PLAN | {"subject", "training", "evaluation.run", "checks", "verdict"},
    "recipes": LOWER
    | PLAN
    | JUDGED
    | {"subject", "training", "analysis", "evaluation.run", "checks", "verdict", "conduct"},
    **dict.fromkeys(JUDGED, {"core", "evaluation.records", "evaluation.results"} | JUDGED),
    "report": {"core", "data", "evaluation.records", "evaluation.results", "analysis", "verdict"} | JUDGED,
    "testing": LOWER
    | PLAN
    | {"subject", "training", "analysis", "evaluation.run", "checks", "verdict", "conduct", "report"},
    "cli": LOWER
    | PLAN
    | JUDGED
    | {
        "subject",
        "deploy",
        "training",
        "analysis",
        "evaluation.run",
        "checks",
        "verdict",
        "conduct",
        "recipes",
        "report",
    },
    "__main__": {"cli"},
}


def room_of(module: str) -> str:
    """The room of a dotted module below sparring: the longest name in the table that it begins with."""
    parts = module.split(".")
    names = [".".join(parts[:i]) for i in range(len(parts), 0, -1)]
    return next(n for n in names if n in ALLOWED)


def imports(file: Path) -> set[str]:
    """Dotted modules below sparring that a file imports; ``from sparring.a import b`` may mean the module a.b."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sparring":
            modules |= {_module(f"{node.module}.{alias.name}") for alias in node.names}
        elif isinstance(node, ast.Import):
            modules |= {_module(alias.name) for alias in node.names if alias.name.startswith("sparring.")}
    return modules - {""}


def _module(name: str) -> str:
    """a.b of sparring.a.b, or a where b is a name in the module a."""
    parts = name.split(".")[1:]
    while parts and not (ROOT.joinpath(*parts).is_dir() or ROOT.joinpath(*parts).with_suffix(".py").is_file()):
        parts = parts[:-1]
    return ".".join(parts)


FILES = [f for f in ROOT.rglob("*.py") if f != ROOT / "__init__.py"]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_rooms_import_only_rooms_above(file: Path):
    room = room_of(".".join(file.relative_to(ROOT).with_suffix("").parts))
    wrong = {m for m in imports(file) if room_of(m) not in ALLOWED[room] | {room, "version"}}
    assert not wrong, f"{room} may not import {wrong}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_private_names_stay_in_their_room(file: Path):
    room = room_of(".".join(file.relative_to(ROOT).with_suffix("").parts))
    foreign = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("sparring.")
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__") and room_of(_module(node.module)) != room
    ]
    assert not foreign


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_files_stay_readable(file: Path):
    assert len(file.read_text().splitlines()) <= 400
    assert ast.get_docstring(ast.parse(file.read_text())), "every module says in its first line what it is"


@pytest.mark.parametrize(
    "file",
    [f for f in FILES if f.parent.name == "attacks" and f.name not in ("attack.py", "method.py", "libraries.py")],
    ids=lambda f: f.name,
)
def test_attack_steps_never_leave_the_device_or_branch_on_values(file: Path):
    calls = {n.attr for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Attribute)}
    assert not calls & {"item", "cpu", "numpy", "tolist", "any", "all"}


def test_no_pickle_and_no_print_in_the_package():
    for file in FILES:
        text = file.read_text()
        assert "import pickle" not in text
        assert "weights_only=False" not in text
        if "cli" not in file.parts:
            assert not any(isinstance(n, ast.Name) and n.id == "print" for n in ast.walk(ast.parse(text))), file


@pytest.mark.slow
def test_pages_and_tables_are_drawn_without_an_attack_or_a_model():
    """Whoever reads a run folder needs none of the rooms that made it."""
    code = (
        "import sys, sparring.report.page, sparring.report.terminal, sparring.evaluation.results.load\n"
        "made = [m for m in sys.modules if m.startswith(('sparring.attacks', 'sparring.defenses', 'sparring.threats', 'sparring.models'))]\n"
        "sys.exit(str(made) if made else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("words", [["-c", "import sparring"], ["-m", "sparring.cli", "--help"]])
def test_nobody_waits_for_torch_to_read_the_help(words):
    run = subprocess.run(
        [sys.executable, "-X", "importtime", *words], capture_output=True, text=True, check=True, timeout=120
    )
    heavy = [
        n for n in ("torch", "scipy", "pyarrow", "matplotlib") if f"| {n}\n" in run.stderr or f" {n}\n" in run.stderr
    ]
    assert not heavy
