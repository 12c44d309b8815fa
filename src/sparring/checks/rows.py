"""Checks that look at the rows of a run: how they are enrolled and asked, and rows for their fixtures."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from sparring.checks.base import Answer, Enrolled, in_order
from sparring.core.registry import CHECKS
from sparring.evaluation.records.finding import Finding, Scope, Severity
from sparring.evaluation.records.rows import SCHEMA
from sparring.evaluation.results.cells import cell_keys
from sparring.evaluation.results.table import CLEAN, RowTable

Ask = Callable[[RowTable], list[Answer]]


class RowCheck(Enrolled[RowTable]):
    """A check of the rows of a run."""


def row_check(
    id: str,
    title: str,
    scope: Scope,
    severity: Severity,
    *,
    fires: Callable[[], RowTable],
    silent: Callable[[], RowTable],
) -> Callable[[Ask], RowCheck]:
    """Decorator: enrol a function RowTable -> list[Answer]. Its docstring says when it is raised, why, and what to do."""

    def enrol(ask: Ask) -> RowCheck:
        return CHECKS(id)(RowCheck(id, title, scope, severity, ask, fires, silent))

    return enrol


def run_row_checks(rows: RowTable) -> list[Finding]:
    """Findings of all enrolled checks of rows, in order of number. Each is asked of one defense at a time: no number is about two."""
    defenses = dict.fromkeys(key[0] for key in cell_keys(rows))
    parts, asked = (rows.only(rows.where(defense=defense)) for defense in defenses), in_order(RowCheck)
    said = [[c.run(part) for c in asked] for part in parts]
    return [finding for of_check in zip(*said, strict=True) for findings in of_check for finding in findings]


def toy_rows(count: int = 20, /, **changes: object) -> RowTable:
    """Rows of ``count`` images, right when clean, each with one point of one attack that moved and won; ``changes`` of the attacked rows, a
    column may be a list with an entry an image.
    """
    blank = {f.name: "" if f.type == pa.string() else False if f.type == pa.bool_() else 0 for f in SCHEMA}
    same = {**blank, "defense": "none", "norm": "linf", "pooled": True, "feasible": True, "draws": 1, "lattice": True}
    rows = []
    for i in range(count):
        mine = {k: v[i] if isinstance(v, list) else v for k, v in changes.items()}
        about = {**same, "image": f"i{i:03d}", "source_clean": True, "size": 192, "clean_l2": 5.0}
        right = {"correct": True, "k": 1, "k_8bit": 1, "k_truncated": 1, "p_select": 1.0}
        rows.append({**about, "threat": CLEAN, "attack": "none", "run": CLEAN, **right})
        moved = {"eps": 0.1, "linf": 0.1, "l2": 0.5, "l1": 2.0, "l0": 9.0, "source_fooled": True, "margin": 1.0}
        rows.append(
            {
                **about,
                "threat": "adaptive",
                "attack": "a",
                "run": "r",
                "kind": "iterative",
                "access": "gradient",
                "backwards": 20,
                **moved,
                **mine,
            }
        )
    facts = {
        "adaptive": {"name": "adaptive", "dominated": ["adaptive"], "deployed": True, "grants": "GRADIENT"},
        "score": {"name": "score", "dominated": ["score"], "deployed": True, "grants": "SCORES", "queries": 1000},
    }
    return RowTable(pa.Table.from_pylist(rows, schema=SCHEMA), threats=facts)
