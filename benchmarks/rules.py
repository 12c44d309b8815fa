"""The operating characteristic of the rules: how often each word falls, against the true robust accuracy R and the number of images n.

``python benchmarks/rules.py`` (under 30 s, no model). Everything that checks say is in order; what is left to chance is which images were drawn.
Alone and with a claim the probabilities are exact; with a baseline they are over drawn pairs, in which the defense also loses 3 points of what the
baseline keeps.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable
from functools import cache

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from sparring.evaluation.results.stats import gain_bounds, lower_bound, upper_bound
from sparring.verdict.evidence import Evidence
from sparring.verdict.rules import verdict_of

COUNTS = (32, 128, 500, 1000)
RATES = (0.0, 0.02, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7)
LOST = 0.03
Words = dict[str, float]


@cache
def low(k: int, n: int) -> float:
    return lower_bound(k, n)


@cache
def high(k: int, n: int) -> float:
    return upper_bound(k, n)


def evidence(k: int, n: int, classes: int, **changes) -> Evidence:
    """k of n images are robust, and every check is silent."""
    return Evidence(
        defense="d",
        threat="adaptive",
        norm="linf",
        eps=8 / 255,
        n=n,
        classes=classes,
        tier="standard",
        clean=0.9,
        robust=k / n,
        lower=low(k, n),
        upper=high(k, n),
        lattice=k / n,
        kinds=frozenset({"iterative", "query"}),
        labels_only=True,
        undefended_broken=True,
        converged=True,
        **changes,
    )


def counted(n: int, classes: int, claim: float = math.nan) -> Callable[[float], Words]:
    """Exact: the word of each k, weighed by its probability."""
    words = [verdict_of(evidence(k, n, classes, claim=claim)).word for k in range(n + 1)]

    def at(rate: float) -> Words:
        chance, sums = stats.binom.pmf(np.arange(n + 1), n, rate), Counter()
        for word, p in zip(words, chance, strict=True):
            sums[word] += float(p)
        return dict(sums)

    return at


@cache
def compared(n: int, classes: int, base: int, won: int, lost: int) -> str:
    """The word where the baseline keeps ``base`` images, and the defense wins and loses some."""
    own = np.r_[np.ones(won), np.zeros(n - won)]
    other = np.r_[np.zeros(won), np.ones(lost), np.zeros(n - won - lost)]
    bounds = gain_bounds(own, other)
    about = {"baseline": "b", "baseline_robust": base / n, "gain": (won - lost) / n}
    about |= {"gain_lower": bounds.low, "gain_upper": bounds.high}
    return verdict_of(evidence(base + won - lost, n, classes, **about)).word


def paired(n: int, classes: int, baseline: float, draws: int) -> Callable[[float], Words]:
    """Drawn: images are kept by both, lost by the defense, won by it, or kept by neither."""

    def at(rate: float) -> Words:
        lost = min(LOST, baseline)
        won = max(0.0, rate - baseline + lost)
        shares = [max(0.0, baseline - lost), lost, won]
        table = np.random.default_rng(0).multinomial(n, [*shares, max(0.0, 1 - sum(shares))], draws)
        sums = Counter(compared(n, classes, int(both + gone), int(up), int(gone)) for both, gone, up, _ in table)
        return {word: count / draws for word, count in sums.items()}

    return at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--draws", type=int, default=300)
    args = parser.parse_args()
    K, draws = args.classes, args.draws
    settings: dict[str, tuple[tuple[float, ...], Callable[[int], Callable[[float], Words]]]] = {
        "alone": (RATES, lambda n: counted(n, K)),
        "claimed: 45 %": ((*(r for r in RATES if r >= 0.2), 0.43, 0.45), lambda n: counted(n, K, 0.45)),
        "baseline of 12 %": ((0.12, 0.15, 0.17, 0.2, 0.3), lambda n: paired(n, K, 0.12, draws)),
        "baseline of 40 %": ((0.35, 0.4, 0.43, 0.45, 0.5, 0.6), lambda n: paired(n, K, 0.4, draws)),
    }
    out = Console(width=130)
    for title, (rates, of) in settings.items():
        table = Table(
            title=f"{title}; {K} classes, standard tier, every check silent: words in % of runs", title_justify="left"
        )
        table.add_column("true R")
        for n in COUNTS:
            table.add_column(f"n={n}")
        columns = [of(n) for n in COUNTS]
        for rate in sorted(rates):
            table.add_row(f"{100 * rate:g} %", *(_cell(at(rate)) for at in columns))
        out.print(table)


def _cell(words: Words) -> str:
    """The words that fall at least once in two hundred runs, the likeliest first."""
    ordered = sorted(words.items(), key=lambda pair: -pair[1])
    return "\n".join(f"{word} {100 * p:.0f}" for word, p in ordered if p >= 0.005)


if __name__ == "__main__":
    main()
