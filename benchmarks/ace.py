"""ACE's attack survival and defense success rates from run folders, with both denominators.

``python benchmarks/ace.py RUN [RUN ...]``: folders that ``sparring evaluate MODEL --defense shift ... --threat oblivious --out RUN``
left. Survival: acc(M; x_adv) / acc(M; x), M without its shift. Defense success, as published: acc(M+shift; x_adv) / acc(M; x);
beside it the same over acc(M+shift; x). Ratios of accuracies over all images; they may exceed 100 % (check C5). The
paper's Table 3 (ResNet-18, lambda 0 / 10 / 100; defense success) is printed beside ours: another network and training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sparring.verdict.read import load_evaluation

PUBLISHED = {"pgd": "0.0 / 32.1 / 98.3", "cw": "85.4 / - / 99.2"}  # FACTS 0.7; PGD's norm is not stated (fn. 1: l2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    args = parser.parse_args()
    table = Table(title="ACE: percent, ratio of accuracies over all images")
    for name in (
        "run",
        "threat",
        "attack",
        "defense",
        "n",
        "survival",
        "defense success",
        "over acc(M+shift)",
        "published",
    ):
        table.add_column(name, justify="left" if name in ("run", "threat", "attack", "defense") else "right")
    for run in args.runs:
        cells = load_evaluation(run).cells
        bare = {(c.threat, c.attack): c for c in cells if c.defense == "none"}
        for c in cells:
            if c.defense == "none":
                continue
            without = bare[c.threat, c.attack]
            clean = without.clean_accuracy
            rates = (without.robust_accuracy / clean, c.robust_accuracy / clean, c.robust_accuracy / c.clean_accuracy)
            published = PUBLISHED.get(c.attack.partition(":")[0], "")
            words = [run.name, c.threat, c.attack, c.defense, str(c.n), *(f"{100 * r:.1f}" for r in rates), published]
            table.add_row(*words)
    Console(width=190).print(table)


if __name__ == "__main__":
    main()
