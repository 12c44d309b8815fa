"""R16 known search."""

from __future__ import annotations

from sparring.attacks.attack import Attack, attack
from sparring.checks.base import Answer
from sparring.checks.pool import pools
from sparring.checks.rows import row_check, toy_rows
from sparring.core.geometry import NORMS, Norm
from sparring.core.spec import parse
from sparring.core.victim import Access
from sparring.evaluation.plan.followup import QUERIES, best_by_answers, same_search
from sparring.evaluation.results.table import RowTable

ANSWERS = {access.name: access for access in (Access.SCORES, Access.LABEL)}


def _searched(*by: str) -> RowTable:
    """Each image is in a row of each search."""
    left = {"correct": True, "k": 1, "p_select": 1.0, "margin": -1.0, "source_fooled": False}
    about = {"threat": "score", "kind": "query", "access": "scores", "backwards": 0, "forwards": 1000, **left}
    images = [f"i{i:03d}" for i in range(10)]
    return toy_rows(10 * len(by), attack=[text for text in by for _ in images], image=images * len(by), **about)


@row_check(
    "R16",
    "known search",
    "A",
    "FAIL",
    fires=lambda: _searched("square:steps=999,eps=0.1"),
    silent=lambda: _searched("square:steps=999,eps=0.1", "rays:queries=1000,eps=0.1", "tiles:eps=0.1"),
)
def known_search(rows: RowTable) -> list[Answer]:
    """Raised if: under a threat that grants scores or labels alone what is known to search best by them, in this norm and of a random system or another,
    did not search, or nothing is known to. Where scores are granted, both are asked for: by scores, and by labels.

    Why: no gradient says whether a search was good, so that what withstands a weak one looks robust. By labels HopSkipJump leaves 76 % in linf 0.15 where RayS
    leaves 26, and 88 % in l2 4 after 200 where signs on tiles leave 33; by scores Square leaves 74 % behind Gaussian noise where a regression leaves 34,
    and 74 % of a network that answers scores of 0 and 10 where RayS leaves 8 (mnist_cnn, n=40 to 50, 1,000 queries where not said).

    What to do: let the follow-up run (it searches so), or name the searches; where none is known (l0 and l1 of random systems) take another norm, or a
    threat with gradients.
    """
    answers = []
    for pool in pools(rows):
        facts = rows.facts(pool.threat)
        if facts.queries is None or facts.grants not in ANSWERS or not pool.survivors:
            continue
        norm: Norm = next(n for n in NORMS if n == pool.norm)
        random = bool(rows["random"][pool.aimed].any())
        best = best_by_answers(ANSWERS[facts.grants], norm, random, QUERIES)
        system = f"in {pool.norm} of a {'random system' if random else 'system'} by {facts.grants.lower()}"
        if not best:
            text = f"nothing is known to search well {system}: what withstands may not have been looked for"
            answers.append(pool.answer(False, 0, 1, text))
            continue
        ran = [
            attack(text) for text in dict.fromkeys(map(str, rows.at("attack", pool.aimed))) if _is_one_of(text, best)
        ]
        names = [search.method.spec_name for search in best]
        absent = [s.method.spec_name for s in best if not any(same_search(a, s) for a in ran)]
        text = f"what is known to search best {system} ({' and '.join(names)}) searched"
        if absent:
            text = f"{' and '.join(absent)} did not search, known to search best {system}"
        answers.append(pool.answer(not absent, 1 - len(absent) / len(best), 1, text))
    return answers


def _is_one_of(text: str, searches: list[Attack]) -> bool:
    return parse(text).name in {search.method.spec_name for search in searches}
