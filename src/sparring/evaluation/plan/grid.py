"""The grid: the product defense x threat x attack, minus what the access rules out, and what it will cost.

Decided before any compute. Two cells that attack the same source in the same way share one run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from sparring.attacks.attack import Attack
from sparring.core.errors import SparringError
from sparring.core.victim import Access
from sparring.defenses.base import Defended
from sparring.evaluation.judge import Judge
from sparring.evaluation.plan.cell import Cell, Run, runs_of
from sparring.evaluation.plan.stages import in_stages
from sparring.evaluation.records.estimate import Estimate, PlannedCell
from sparring.threats import Options, Seat, Threat, threat


@dataclass(frozen=True)
class Skipped:
    """A cell the access rules out, and why."""

    defense: str
    threat: str
    attack: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """Cells to run, cells ruled out, the distinct runs, and the judge."""

    cells: tuple[Cell, ...]
    skipped: tuple[Skipped, ...]
    runs: dict[str, Run]
    judge: Judge
    classes: int
    values: int  # numbers in an image
    survivors: bool = False  # attacks look only at what those before them left

    def cost_of(self, run: Run) -> tuple[int, int]:
        """(forwards, backwards) of an image that survives everything."""
        return run.cost(self.classes, self.values)

    def rows_per_image(self, systems: int) -> int:
        """Rows that an image has once everything has run: one a run and cell, one clean row for each of the ``systems``, and one for
        each cell that is judged elsewhere.
        """
        return systems + sum(len(c.runs) + c.seat.judged_elsewhere for c in self.cells)

    def cost(self) -> dict[str, float]:
        """Worst case per image: forwards and backwards of attacks, forwards of the judge."""
        costs = [self.cost_of(r) for r in self.runs.values()]
        judged = sum(self.judge.cost(c.seat.judge) * 2 * len(c.runs) for c in self.cells)
        return {
            "forwards": sum(f for f, _ in costs),
            "backwards": sum(b for _, b in costs),
            "judge_forwards": judged,
        }

    def estimate(self, seconds: tuple[float, float], images: int) -> Estimate:
        """What a dry run says. seconds: of one forward and of one gradient of an image."""
        forward, gradient = seconds
        cost = self.cost()
        plain = cost["forwards"] - cost["backwards"] + cost["judge_forwards"]
        parts: dict[tuple[str, str, str, str, float], list[Run]] = {}
        for cell in self.cells:
            names = cell.defense, str(cell.threat), str(cell.attack), str(cell.attack.norm), cell.attack.budget
            parts.setdefault(names, []).extend(cell.runs)
        cells = []
        for names, runs in parts.items():
            costs = [self.cost_of(r) for r in runs]
            ids = tuple(r.id for r in runs)
            cells.append(PlannedCell(*names, ids, sum(f for f, _ in costs), sum(b for _, b in costs)))
        total = (cost["backwards"] * gradient + plain * forward) * images
        return Estimate(tuple(cells), tuple(asdict(s) for s in self.skipped), cost, total)


def make_plan(
    defenses: dict[str, Defended],
    threats: Sequence[str],
    attacks: Sequence[Attack],
    *,
    others: Sequence[Defended] = (),
    options: Mapping[str, Options] | None = None,
    judge: Judge,
    seed: int,
    classes: int,
    values: int,
    survivors: bool = False,
) -> Plan:
    """The product. ``attacks`` have their budgets; ``defenses`` and their ``options`` by spec text; ``survivors``: each attacks what those before it left."""
    cells: list[Cell] = []
    skipped: list[Skipped] = []
    distinct: dict[tuple[str, object], Threat] = {}  # of two that say the same the first
    for kind in map(threat, threats):
        distinct.setdefault((kind.name, kind.filled), kind)
    for name, defended in defenses.items():
        for kind in distinct.values():
            text = str(kind)
            seat = kind.seat(defended, others, (options or {}).get(name))
            for attack in attacks:
                reason = _ruled_out(attack, seat)
                if reason:
                    skipped.append(Skipped(name, text, str(attack), reason))
                    continue
                cells.append(Cell(name, kind, attack, seat, tuple(runs_of(seat, attack, seed))))
    cells = in_stages(cells, seed) if survivors else cells
    cells = [_warmed(c, cells) if c.seat.warm else c for c in cells]
    runs = {r.id: r for c in cells for r in c.runs}
    if not cells:
        reasons = sorted({s.reason for s in skipped}) or ["no defense, threat or attack was given"]
        raise SparringError(f"nothing to run: {'; '.join(reasons)}")
    return Plan(tuple(cells), tuple(skipped), runs, judge, classes, values, survivors)


def _warmed(cell: Cell, cells: Sequence[Cell]) -> Cell:
    """A cell of the decision threat whose attacks begin at another threat's points against the same defense."""
    if cell.attack.method.needs is not Access.LABEL:
        return cell
    found = [c for c in cells if c.defense == cell.defense and c.threat.name == cell.seat.warm]
    if not found:
        raise SparringError(f"{cell.threat}: no attack of the threat {cell.seat.warm} is in this evaluation; add it")
    source = found[0].runs[0]
    runs = (
        replace(r, warm=source, id=hashlib.sha256(f"{r.id}/{source.id}".encode()).hexdigest()[:20]) for r in cell.runs
    )
    return replace(cell, runs=tuple(runs))


def _ruled_out(attack: Attack, seat: Seat) -> str:
    needs: Access = attack.method.needs
    if needs > seat.access:
        return f"{attack.name} needs {needs.name} access, the threat {seat.threat} grants {seat.access.name}"
    if needs is Access.NONE and seat.access is not Access.NONE:
        return f"{attack.name} asks nothing: it belongs in the noise threat"
    return ""
