"""The house: a room may import only rooms above it; no file is long; steps never reduce over the batch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "sparring"
# room -> rooms it may import (besides itself)
ALLOWED = {
    "version": set(),
    "core": set(),
    "data": {"core"},
    "models": {"core"},
    "defenses": {"core", "models"},
    "attacks": {"core"},
    "threats": {"core", "defenses"},
    "subject": {"core", "data", "models", "defenses"},
    "training": {"core", "data", "models", "defenses", "attacks"},
    "evaluation": {"core", "data", "models", "defenses", "attacks", "threats", "subject"},
    "analysis": {"core", "data", "models", "defenses", "attacks", "subject"},
    "report": {"core", "data", "evaluation", "analysis"},
    "recipes": {"core", "data", "models", "defenses", "attacks", "threats", "subject", "training", "evaluation", "analysis", "report"},
    "cli": {"core", "data", "models", "defenses", "attacks", "threats", "subject", "training", "evaluation", "analysis", "report", "recipes"},
}  # fmt: skip


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        if names == ["sparring"]:  # from sparring import core
            names = [f"sparring.{a.name}" for a in node.names]  # type: ignore[union-attr]
        names += [a.name for a in node.names] if isinstance(node, ast.Import) else []
        found |= {n.split(".")[1] for n in names if n.startswith("sparring.") and len(n.split(".")) > 1}
    return found


FILES = [f for f in ROOT.rglob("*.py") if f != ROOT / "__init__.py"]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_rooms_import_only_rooms_above(file: Path):
    name = str(file.relative_to(ROOT))
    room = name.split("/")[0].removesuffix(".py")
    wrong = imports(file) - ALLOWED[room] - {room, "version"}
    assert not wrong, f"{name} imports {wrong}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_files_stay_readable(file: Path):
    assert len(file.read_text().splitlines()) <= 400
    assert ast.get_docstring(ast.parse(file.read_text())), "every module says in its first line what it is"


@pytest.mark.parametrize(
    "file",
    [f for f in FILES if f.parent.name == "attacks" and f.name not in ("attack.py", "method.py")],
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


def test_pages_and_tables_are_drawn_without_an_attack_or_a_model():
    """Whoever reads a run folder needs none of the rooms that made it."""
    code = (
        "import sys, sparring.report.html, sparring.report.tables, sparring.evaluation.load\n"
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
