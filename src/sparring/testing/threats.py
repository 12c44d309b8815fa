"""The contract of threats, with the null control (PROTOCOL B4): a coin-flip defense is reported as a coin flip."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from torch import Tensor, nn

from sparring.attacks.attack import Attack, attack
from sparring.core.errors import SparringError
from sparring.core.noise import image_keys
from sparring.core.prepare import Prepared
from sparring.core.registry import THREATS
from sparring.core.victim import Access
from sparring.data.images import ImageSet
from sparring.defenses.base import Defended, defense
from sparring.evaluation.judge import Judge
from sparring.evaluation.plan.grid import make_plan
from sparring.evaluation.plan.partition import Partition
from sparring.evaluation.records.rows import read_rows
from sparring.evaluation.records.store import Store
from sparring.evaluation.results.cells import all_cells
from sparring.evaluation.results.closed import all_closed
from sparring.evaluation.results.table import RowTable
from sparring.evaluation.run.ring import Ring
from sparring.models.classifier import Classifier
from sparring.subject import Subject
from sparring.testing.networks import CLASSES, coin_system, linear_net
from sparring.threats import Options, Seat, threat

# attacks that a seat of each grade takes, short enough for a test
ATTACKS = {
    Access.NONE: ("noise",),
    Access.LABEL: ("boundary:queries=100,tries=2",),
    Access.SCORES: ("square:steps=20",),
    Access.GRADIENT: ("pgd:steps=4", "fgsm"),
}


def ring_results(
    system: Defended,
    x: Tensor,
    y: Tensor,
    threats: Sequence[str],
    attacks: Sequence[Attack],
    folder: Path,
    others: Sequence[Defended] = (),
) -> tuple[list[Any], list[Any]]:
    """Cells and closed results of one system, through the real ring, judge and store."""
    images = ImageSet.of(x, y)
    subject = Subject(
        Classifier(nn.Identity().eval()),
        Prepared(nn.Identity(), 0, 0.0, ""),
        images,
        {"none": system.drop(), system.name: system},
        list(others),
        CLASSES,
        {},
        image_keys(images.ids),
    )
    plan = make_plan(
        subject.systems,
        threats,
        attacks,
        others=others,
        options=dict.fromkeys(subject.systems, Options(draws=4)),
        judge=Judge(10, 20),
        seed=0,
        classes=CLASSES,
        values=images.values,
    )
    blocks = Partition.of(subject.images, 128)
    Ring(subject, plan, Store(folder, {}, blocks.names), 64, blocks, None).go()
    rows = RowTable(read_rows(folder), threats={t: threat(t).facts() for t in threats})
    return all_cells(rows), all_closed(rows)


class ThreatContract:
    """What every threat does, by its spec text. Subclass it and parametrize ``spec``.

    ``others``: override it where the threat needs particular models beside the defended one.
    """

    kind: ClassVar[str] = "threats"

    def others(self, spec: str, system: Defended) -> list[Defended]:
        """Models that share no weights with ``system``."""
        return [Defended(linear_net(seed=7), id="other")]

    def seat(self, spec: str, behind: str) -> tuple[Seat, Defended]:
        """The seat against a small network behind a defense, and that system."""
        system = defense(behind).install(Defended(linear_net(), id="a"))
        return threat(spec).seat(system, self.others(spec, system)), system

    def test_it_is_declared(self, spec: str) -> None:
        """Its text round trips; its declaration says what it means and shows; a run folder remembers it as plain values."""
        made = threat(spec)
        assert str(threat(str(made))) == str(made) == spec
        assert made.kind.__doc__
        assert made.kind.shows
        assert json.loads(json.dumps(made.facts())) == made.facts()

    @pytest.mark.parametrize("behind", ["none", "cd:bits=3+gauss:std=0.1"])
    def test_its_seat_names_its_source_and_grants_what_is_declared(self, spec: str, behind: str) -> None:
        seat, _ = self.seat(spec, behind)
        assert seat.views
        assert seat.access == threat(spec).kind.grants
        assert all(view.victim.access == seat.access for view in seat.views)
        assert len({view.id for view in seat.views}) == len(seat.views), "views differ"
        assert seat.source
        assert seat.threat == spec

    def test_points_that_join_a_pool_are_judged_on_what_is_deployed(self, spec: str) -> None:
        """They are inherited by stronger threats, which must mean the same system; nor may a lucky draw end an attack on it."""
        seat, system = self.seat(spec, "cd:bits=3+gauss:std=0.1")
        if seat.pooled:
            assert seat.judge.id == system.system().id
            assert all(view.judge is None for view in seat.views)
            assert seat.stop == "never", "no early stop on a random target"

    def test_it_needs_what_it_says(self, spec: str) -> None:
        """Where --sources must hold something this is declared and said; else none are needed."""
        base = Defended(linear_net(), id="a")
        if threat(spec).kind.needs:
            with pytest.raises(SparringError, match="--sources"):
                threat(spec).seat(base)
        else:
            assert threat(spec).seat(base).views

    def test_dominance_is_transitive(self, spec: str) -> None:
        """Whose points it inherits is registered, grants no more than it does itself, and does not lead back to it."""
        kind = threat(spec).kind
        over, waiting = {kind.name}, list(kind.over)
        while waiting:
            name = waiting.pop()
            assert name in THREATS, f"over={name} is no threat"
            assert name != kind.name, "it would inherit its own points"
            assert THREATS[name].grants <= kind.grants
            waiting += [n for n in THREATS[name].over if n not in over]
            over.add(name)
        assert kind.dominated == over
        assert all(THREATS[name].dominated <= over for name in over)

    @pytest.mark.parametrize("eps", [0.0, 8 / 255])
    def test_a_coin_flip_is_reported_as_080(self, spec: str, eps: float, tmp_path: Path) -> None:
        """A lucky draw must not end an attack, and a lucky iterate must not count: 0.80 at eps 0 and at eps 8/255."""
        system, x, y = coin_system(0.8)
        others = self.others(spec, system)
        made = threat(spec)
        attacks = [attack(a).with_eps(eps) for a in ATTACKS[made.kind.grants]]
        cells, closed = ring_results(system, x, y, [spec], attacks, tmp_path / "run", others)
        mine = [c for c in cells if c.defense == "coin"]
        assert len(mine) >= len(attacks), "it takes the attacks that its access allows"
        for c in mine:
            if not made.seat(system, others).judge.has_noise:  # judged without the coin: the classifier is always right
                assert c.robust_accuracy == 1.0
            else:
                assert c.ci_low <= 0.8 <= c.ci_high, f"{c.attack}: {c.robust_accuracy} in [{c.ci_low}, {c.ci_high}]"
                assert abs(c.robust_accuracy - 0.8) < 0.03
        for c in closed:
            if c.defense == "coin":
                assert c.ci_low <= 0.8 <= c.ci_high
