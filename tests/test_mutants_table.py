"""The table of faults fits the code: ``make mutants`` would put every one of them in, exactly once."""

from __future__ import annotations

import pydoc
from collections import Counter

from tests.mutants.run import ROOT, SLOW, load

MUTANTS = load()
PACKAGE = ROOT / "src" / "sparring"


def test_every_fault_fits_exactly_once():
    assert [f"{m.id}: {why}" for m in MUTANTS if (why := m.stale(PACKAGE))] == []
    assert all(m.old != m.new for m in MUTANTS)


def test_every_faulty_file_still_compiles():
    for m in MUTANTS:
        path = m.path(PACKAGE)
        assert path is not None
        compile(path.read_text().replace(m.old, m.new), m.id, "exec")


def test_ids_are_unique_and_there_are_many():
    assert [k for k, n in Counter(m.id for m in MUTANTS).items() if n > 1] == []
    assert len(MUTANTS) >= 60


def test_named_tests_exist():
    for node in {t for m in MUTANTS for t in m.tests} | set(SLOW):
        file, _, name = node.partition("[")[0].partition("::")
        assert (ROOT / file).is_file(), node
        if "::" in name:  # a test that a class has from its suite in sparring.testing
            assert pydoc.locate(f"{file.removesuffix('.py')}/{name}".replace("::", ".").replace("/", ".")), node
        else:
            assert not name or f"def {name}(" in (ROOT / file).read_text(), node
    assert all(m.tests and m.promise for m in MUTANTS)
