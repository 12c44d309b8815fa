"""The peers' table: AttackBench's optimality in closed form."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
peers = pytest.importorskip("peers")


def test_optimality_is_the_area_above_a_curve_in_shares_of_the_best_ones():
    """Best distances 1, 2 and 4: the areas up to 4 are 3, 2 and 0. The first attack finds the second at 3: 3 + 1 of 5; a failure counts as 4."""
    shares = peers.optimality([[1.0, 3.0, 4.0], [1.0, 2.0, 4.0], [None, 2.0, None], [None, None, None]])
    assert shares == pytest.approx([4 / 5, 1.0, 2 / 5, 0.0])


def test_where_nobody_finds_anything_all_are_as_near():
    assert peers.optimality([[None, None], [None, None]]) == [1.0, 1.0]
