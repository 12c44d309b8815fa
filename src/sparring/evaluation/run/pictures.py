"""Pictures of a few images of each system and threat: clean, attacked, and as the network behind the defense sees them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from sparring.core.noise import Noise
from sparring.core.system import System
from sparring.evaluation.plan.grid import Plan
from sparring.evaluation.plan.partition import Partition
from sparring.evaluation.records.store import Store
from sparring.evaluation.results.exhibits import Exhibit
from sparring.subject import Subject


class Album:
    """Draws exhibits from stored points, for the report, which runs nothing; nothing is attacked for it. ``images``: ids of all that may be asked for."""

    def __init__(self, subject: Subject, plan: Plan, store: Store, blocks: Partition, images: Collection[str]) -> None:
        self.subject, self.plan, self.store, self.blocks = subject, plan, store, blocks
        self.device = next((p.device for p in subject.prepared.model.parameters()), torch.device("cpu"))
        self.place = {
            name: (block, rows.start + i)
            for block, rows in enumerate(blocks.slices)
            for i, name in enumerate(blocks.images.ids[rows])
            if name in images
        }

    def put(self, defense: str, threat: str, exhibits: Sequence[Exhibit]) -> None:
        """Store the pictures of a system and threat, unless they are there. An exhibit whose points are gone has none, and then what is there stays."""
        judges = {
            (str(c.attack), run.id): c.seat.judge
            for c in self.plan.cells
            if (c.defense, str(c.threat)) == (defense, threat)
            for run in c.runs
        }
        shown = [e for e in exhibits if (e.attack, e.run) in judges and e.image in self.place]
        made_of = [(e.run, self._block(e)) for e in shown]
        name = hashlib.sha256(json.dumps([defense, threat]).encode()).hexdigest()[:20]
        about = {
            "defense": defense,
            "threat": threat,
            **{f"{field}s": json.dumps([vars(e)[field] for e in shown]) for field in ("image", "attack", "run")},
        }
        if not shown or self.store.has_pictures(name, about, made_of):
            return
        pictures: dict[Exhibit, tuple[Tensor, Tensor, Tensor]] = {}
        for run, block in dict.fromkeys(made_of):  # points of a block are read once
            points = self.store.points(run, block)
            if points is None:
                return
            for exhibit in (e for e in shown if (e.run, self._block(e)) == (run, block)):
                pictures[exhibit] = self._drawn(exhibit, points["x"], judges[exhibit.attack, run])
        clean, adversarial, defended = (torch.cat(part) for part in zip(*(pictures[e] for e in shown), strict=True))
        content = {"clean": clean, "adversarial": adversarial, "defended": defended}
        self.store.put_pictures(name, content, about, made_of)

    def _block(self, exhibit: Exhibit) -> str:
        return self.blocks.id(self.blocks.slices[self.place[exhibit.image][0]])

    def _drawn(self, exhibit: Exhibit, points: Tensor, judge: System) -> tuple[Tensor, Tensor, Tensor]:
        """(1,C,H,W) each: the clean image, the attacked one, and that behind the defense, in the judge's first draw."""
        block, at = self.place[exhibit.image]
        adversarial = points[at - self.blocks.slices[block].start][None].to(self.device)
        noise = Noise.of(self.plan.judge.seed, "judge", self.subject.keys[at : at + 1].to(self.device)).repeat(1)
        defended = adversarial
        with torch.no_grad():
            for i, part in enumerate(judge.parts):
                defended = part.forward(defended, noise.child(f"stage{i}"))
        return self.subject.images.pixels(slice(at, at + 1)), adversarial.cpu(), defended.clamp(0, 1).cpu()
