"""Docs and examples are executed; links lead somewhere; what the README promises is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import SHORT
from tests.fresh import fresh

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "tutorials").glob("*.md")),
]
BLOCKS = [(p, b) for p in PAGES for b in re.findall(r"```python\n(.*?)```", p.read_text(), re.S)]


@pytest.mark.slow
@pytest.mark.parametrize(("page", "block"), BLOCKS, ids=[f"{p.name}{i}" for i, (p, _) in enumerate(BLOCKS)])
def test_python_blocks_run(page, block, tmp_path):
    pytest.importorskip("mlxtend", reason="extra demo is not installed")
    fresh("-c", SHORT + block, check=True, cwd=tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.slow
@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_run(example, tmp_path):
    pytest.importorskip("mlxtend", reason="extra demo is not installed")
    fresh("-c", SHORT + example.read_text(), check=True, cwd=tmp_path)


def test_every_threat_has_its_line_in_the_docs():
    from sparring.core.registry import THREATS

    text = (ROOT / "docs" / "threats.md").read_text()
    for name in THREATS:
        assert f"| `{name}`" in text


def test_every_defense_and_surrogate_is_in_the_docs():
    from sparring.core.registry import DEFENSES

    text = (ROOT / "docs" / "defenses.md").read_text()
    for name in DEFENSES:
        assert f"`{name}`" in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("maker", "name"), [("attacks", "attacks.md"), ("checks", "checks.md"), ("schema", "schema/evaluation.json")]
)
def test_made_pages_are_up_to_date(maker, name, tmp_path):
    """The page says what the docstrings say."""
    script, made = ROOT / "docs" / f"make_{maker}.py", ROOT / "docs" / name
    copy = tmp_path / script.name
    copy.write_text(script.read_text())
    fresh(copy, check=True)
    assert (tmp_path / name).read_text() == made.read_text(), f"run python docs/{script.name}"


def test_ci_calls_the_readmes_own_test_command():
    assert "make test" in (ROOT / "README.md").read_text()
    assert "make test" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize(
    "text", ["pgd:eps=0.1,alpha=0.01", "pgd:eps=0.1,iters=3", "apgd:eps=0.1,n_restarts=2", "pgd:epsilon=0.1"]
)
def test_fields_of_other_libraries_are_refused_with_their_name_here(text):
    from sparring.attacks.attack import ELSEWHERE, attack
    from sparring.core.errors import SparringError
    from sparring.core.registry import ATTACKS
    from sparring.core.spec import signature

    with pytest.raises(SparringError, match=r"docs/migration\.md"):
        attack(text)
    for name, entry in ATTACKS.items():  # what an attack takes itself keeps its meaning
        for field in set(ELSEWHERE) & set(signature(entry)):
            assert field in signature(entry), name
