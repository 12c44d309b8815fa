"""What channels undo of a PGD that stops at its first success, by the length of its step: why the channels paper's Table 3 has 84 to 89 % there.

``SPARRING_DATA=DIR python benchmarks/first_success.py [--limit 100]``: robust accuracy in percent behind the levels of that table's PGD row, under ``oblivious``, with
the median linf distance at which the undefended network is fooled; last, FMN, whose points lie nearest.
"""

from __future__ import annotations

import argparse
import os

import sparring

DEFENSES = ("none", "fc:rate=0.1", "cd:bits=5", "uniform:eps=0.01", "gauss:eps=0.02")  # the last two of their range
STEPS = (0.01, 0.003, 0.001, 0.0003)  # of pixels in [0,1]; the paper's is .01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=int, default=100)
    limit = parser.parse_args().limit
    folder = os.environ["SPARRING_DATA"]
    model, data = f"cifar_resnet20:weights={folder}/cifar10_resnet20.safetensors", f"{folder}/cifar10_test_0-699.npz"
    tried = {
        f"PGD, steps of {step}": (f"bim:eps=0.3,steps=100,step_size={step / 0.3:.5f}", ":stop=first") for step in STEPS
    }
    tried["FMN (nearest)"] = ("fmn:norm=linf,steps=100", "")
    print("attack", "fooled", "distance", *DEFENSES, sep=" | ")
    for name, (attack, stop) in tried.items():
        result = sparring.evaluate(
            model, f"{data},limit={limit}", DEFENSES, [f"oblivious{stop}"], [attack], no_follow_up=True
        )
        cells = {c.defense: c for c in result.cells}
        source = cells["none"]
        shares = (f"{100 * cells[d].robust_accuracy:.1f}" for d in DEFENSES)
        print(
            name,
            f"{100 * source.source_fooled:.0f}",
            f"{255 * source.median_norm:.2f}/255",
            *shares,
            sep=" | ",
            flush=True,
        )


if __name__ == "__main__":
    main()
