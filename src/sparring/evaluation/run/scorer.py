"""``Scorer``: what the judge says of points, written as rows: feasibility, and float and 8-bit scores on the deployed system."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sparring.attacks.engine import Outcome
from sparring.core.columns import OUTCOME, STOPS
from sparring.core.geometry import NORMS, distance, within
from sparring.core.noise import Noise
from sparring.core.system import System
from sparring.core.victim import Access
from sparring.evaluation.judge import Judge, Score
from sparring.evaluation.plan.cell import Cell, Run
from sparring.evaluation.results.table import CLEAN
from sparring.evaluation.run.lattice import truncate
from sparring.subject import Subject

SPARED = STOPS.index("broken before")


class Scorer:
    """Asks ``judge`` about a subject's images. What it is asked of the clean images of a block it remembers until ``forget``."""

    def __init__(self, subject: Subject, judge: Judge) -> None:
        self.subject, self.judge = subject, judge
        self.device = next((p.device for p in subject.prepared.model.parameters()), torch.device("cpu"))
        self.sources: dict[tuple[str, int], Tensor] = {}  # is a source right on the clean images of a block
        self.clean: dict[tuple[str, int | None], Score] = {}  # what the judge says of these, by system

    def forget(self) -> None:
        """Go on to another block."""
        self.sources.clear()
        self.clean.clear()

    def rows_of(self, cell: Cell, run: Run, points: dict[str, Tensor], rows: slice) -> dict[str, list[Any]]:
        """The points of a cell's run, judged on the view's own system or the seat's."""
        judge = run.view.judge or cell.seat.judge
        fixed = {
            "defense": cell.defense,
            "threat": str(cell.threat),
            "attack": str(cell.attack),
            "view": run.view.name,
            "run": run.id,
            "norm": cell.attack.norm,
            "eps": cell.attack.budget,
            "pooled": cell.seat.pooled,
            "averaged": cell.seat.averaged,
            "kind": cell.attack.method.kind,
            "start": cell.attack.method.starts_at,
            "draw": run.view.draw,
            "judge": judge.id[:16],
            "access": cell.attack.method.needs.name.lower(),
            "check": cell.check,
        }
        return self._judged(fixed, judge, points, rows, self._source_right(run, rows))

    def clean_rows(self, name: str, system: System, rows: slice, deployed: bool = True) -> dict[str, list[Any]]:
        """The clean images on a system: the deployed one, or the judge of a threat that has another."""
        fixed = {
            "defense": name,
            "threat": CLEAN,
            "attack": "none",
            "view": "",
            "run": CLEAN,
            "norm": "linf",
            "eps": 0.0,
            "pooled": deployed,
            "averaged": False,
            "kind": "",
            "start": "",
            "draw": 0,
            "judge": system.id[:16],
            "access": "",
            "check": "",
        }
        x = self.batch(rows)[0]
        zero = torch.zeros(len(x), dtype=torch.int64)
        untouched = Outcome.unseen(x).put(job=zero, first_hit=zero, best_hit=zero)
        return self._judged(fixed, system, dict(untouched.items()), rows)

    def batch(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Images (n,C,H,W), labels (n,) and noise keys (n,) of some rows, on the device."""
        return (
            self.subject.images.pixels(rows).to(self.device),
            self.subject.images.y[rows].to(self.device),
            self.subject.keys[rows].to(self.device),
        )

    def _source_right(self, run: Run, rows: slice) -> Tensor:
        """(n,) bool: is what the attack looked at right on the clean images? One deployed answer of it."""
        name = (run.view.id, rows.start)
        if name not in self.sources:
            x, y, keys = self.batch(rows)
            asked = replace(run.view.victim, access=Access.LABEL)
            self.sources[name] = asked.labels(x, Noise.of(self.judge.seed, "source", keys)) == y
        return self.sources[name]

    def _clean_score(self, system: System, rows: slice) -> Score:
        """What the judge says of the clean images of a block."""
        asked = system.id, system.frozen
        if asked not in self.clean:
            self.clean[asked] = self.judge.score(system, *self.batch(rows))
        return self.clean[asked]

    def _judged(
        self,
        fixed: dict[str, Any],
        system: System,
        points: dict[str, Tensor],
        rows: slice,
        source_right: Tensor | None = None,
    ) -> dict[str, list[Any]]:
        """Rows of one set of points: feasibility in float64, float and 8-bit scores on the deployed system."""
        clean, y, keys = self.batch(rows)
        x = points["x"].to(self.device)
        judge, count = self.judge, len(x)
        # what was spared is the clean image, of which the judge has spoken
        asked = points["stopped"].to(x.device) != SPARED
        score = self._clean_score(system, rows) if fixed["run"] == CLEAN or not bool(asked.all()) else None
        if fixed["run"] != CLEAN and bool(asked.any()):
            attacked = judge.score(system, x[asked], y[asked], keys[asked])
            score = attacked if score is None else score.put(asked, attacked)
        assert score is not None
        lattice = self.subject.images.lattice
        k8, label8, plain = score.k.clone(), score.label.clone(), score.k.clone()
        if lattice and fixed["run"] != CLEAN and bool(asked.any()):
            stored = points["x_8bit"].to(x.device).to(x.dtype) / 255
            labels = judge.labels(system, stored[asked], keys[asked])
            k8[asked], label8[asked] = (labels == y[asked]).sum(0), labels[0]
            # most points are not refined: judge the plainly truncated ones again only where they differ
            plain, truncated = k8.clone(), truncate(x, clean)
            other = (truncated != stored).flatten(1).any(1) & asked
            if bool(other.any()):
                plain[other] = (judge.labels(system, truncated[other], keys[other]) == y[other]).sum(0)
        delta = x - clean
        inside = within(delta, torch.full((count,), fixed["eps"], dtype=torch.float64, device=x.device), fixed["norm"])
        box = (x.flatten(1).amin(1) >= -1e-7) & (x.flatten(1).amax(1) <= 1 + 1e-7)
        columns = {
            "image": list(self.subject.images.ids[rows]),
            "y": y,
            "random": [system.random] * count,
            "source_fooled": points["success"],
            "feasible": inside & box,
            "correct": score.first,
            "p_select": score.p_select,
            "margin": score.margin,
            "k": score.k,
            "draws": [judge.draws_for(system)] * count,
            "label": score.label,
            "lattice": [lattice] * count,
            "k_8bit": k8,
            "label_8bit": label8,
            "k_truncated": plain,
            "source_clean": score.first if source_right is None else source_right,
            "clean_l2": distance(clean.double(), "l2"),
            "size": [clean[0].numel()] * count,
            **{n: distance(delta.double(), n) for n in NORMS},
            **{c.stored: points[c.name] for c in OUTCOME if c.stored not in ("", "source_fooled")},
        }
        listed = {k: v.tolist() if isinstance(v, Tensor) else v for k, v in columns.items()}
        return {**{k: [v] * count for k, v in fixed.items()}, **listed}
