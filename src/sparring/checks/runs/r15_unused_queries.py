"""R15 unused queries."""

from __future__ import annotations

import numpy as np

from sparring.checks.base import Answer
from sparring.checks.pool import pools
from sparring.checks.rows import row_check, toy_rows
from sparring.checks.thresholds import thresholds
from sparring.core.victim import Access
from sparring.evaluation.results.table import RowTable

(LEAST,) = thresholds("R15", "least")


def _asked(queries: int) -> RowTable:
    left = {"correct": True, "k": 1, "p_select": 1.0, "margin": -1.0, "source_fooled": False}
    return toy_rows(threat="score", kind="query", access="scores", backwards=0, forwards=queries, **left)


@row_check("R15", "unused queries", "A", "FAIL", fires=lambda: _asked(10), silent=lambda: _asked(1000))
def unused_queries(rows: RowTable) -> list[Answer]:
    """Raised if: in the median over the images that count as robust no attack spent 80 % of the queries that the threat allows.

    Why: the number is about an attacker who may ask so often, and none did. On an MNIST network in linf 0.1 Square leaves 98 % after 10
    queries and 50 % after the 1,000 that the threat score allows (n=50).

    What to do: more steps, or a threat that allows fewer queries (score:queries=100), so that the number says what it is about.
    """
    answers = []
    for pool in pools(rows):
        facts = rows.facts(pool.threat)
        if facts.queries is None or facts.grants == Access.GRADIENT.name or not pool.survivors:
            continue
        most = dict.fromkeys(pool.survivors, 0)
        for image, count in zip(rows.at("image", pool.aimed), rows["forwards"][pool.aimed], strict=True):
            if str(image) in most:
                most[str(image)] = max(most[str(image)], int(count))
        asked = float(np.median(list(most.values())))
        text = f"{asked:g} of the {facts.queries} queries that the threat allows were asked (median of what counts as robust)"
        answers.append(pool.answer(asked / facts.queries >= LEAST, asked / facts.queries, LEAST, text))
    return answers
