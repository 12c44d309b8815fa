"""R16 known search."""

from __future__ import annotations

from sparring.attacks.attack import attack
from sparring.checks.base import Answer
from sparring.checks.pool import pools
from sparring.checks.rows import row_check, toy_rows
from sparring.core.geometry import NORMS, Norm
from sparring.core.spec import parse
from sparring.core.victim import Access
from sparring.evaluation.plan.followup import QUERIES, best_by_answers, same_search
from sparring.evaluation.results.table import RowTable

ANSWERS = {access.name: access for access in (Access.SCORES, Access.LABEL)}


def _searched(by: str) -> RowTable:
    left = {"correct": True, "k": 1, "p_select": 1.0, "margin": -1.0, "source_fooled": False}
    return toy_rows(threat="score", kind="query", access="scores", backwards=0, forwards=1000, attack=by, **left)


@row_check(
    "R16",
    "known search",
    "A",
    "FAIL",
    fires=lambda: _searched("spsa:eps=0.1"),
    silent=lambda: _searched("square:steps=999,eps=0.1"),
)
def known_search(rows: RowTable) -> list[Answer]:
    """Raised if: under a threat that grants scores or labels alone what is known to search best by them, in this norm and of a random system or another,
    did not search, or nothing is known to.

    Why: no gradient says whether a search was good, so that what withstands a weak one looks robust. By labels HopSkipJump leaves 76 % in linf 0.15 where RayS
    leaves 26; by scores Square leaves 74 % behind Gaussian noise where a regression leaves 34 (mnist_cnn, 1,000 queries, n=50).

    What to do: let the follow-up run (it searches so), or name the search; where none is known (l0 and l1 of random systems) take another norm, or a
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
        system = "random system" if random else "system"
        if best is None:
            text = f"nothing is known to search well by {facts.grants.lower()} in {pool.norm} of a {system}: what withstands may not have been looked for"
            answers.append(pool.answer(False, 0, 1, text))
            continue
        name = best.method.spec_name
        ran = {text for text in map(str, rows.at("attack", pool.aimed)) if parse(text).name == name}
        ok = any(same_search(attack(text), best) for text in ran)
        text = f"{name}, which is known to search best by {facts.grants.lower()} in {pool.norm} of a {system}, {'searched' if ok else 'did not search'}"
        answers.append(pool.answer(ok, float(ok), 1, text))
    return answers
