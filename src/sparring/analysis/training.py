"""How trainings went: their loss and accuracy by epoch, and the accuracy on images that none of them saw (defective paper, Fig. 14)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from sparring.analysis.base import Comparison, analysis
from sparring.analysis.panel import Curves, Grid, Panel, per_image
from sparring.core.errors import SparringError
from sparring.core.spec import parse
from sparring.models.weights import read_card
from sparring.subject import Subject

QUANTITIES = ("loss", "validation_loss", "validation_accuracy")


@analysis("training")
@dataclass(frozen=True, kw_only=True)
class TrainingCurves(Comparison):
    """Loss and accuracy by epoch of networks that ``sparring train classifier`` trained, from the cards beside their weights (the curves are of training images
    and of those held out), with their accuracy on the images given (Luo et al., arXiv:1911.08432, Fig. 14).
    """

    example: ClassVar[str] = (
        "training trained:plain.safetensors trained:defective.safetensors --data test.npz --png c.png"
    )

    def compare(self, subjects: Sequence[Subject]) -> Panel:
        data: dict[str, object] = {}
        lines: dict[str, dict[str, list[tuple[float, float]]]] = {quantity: {} for quantity in QUANTITIES}
        rows: list[list[object]] = []
        for number, subject in enumerate(subjects, 1):
            fields, images = parse(subject.model.name).values, subject.images
            weights = fields.get("weights") or fields.get("")
            if not weights:
                raise SparringError(
                    f"training: {subject.model.name} names no weights file, beside which its curve would lie; give trained:FILE"
                )
            card = read_card(weights)
            said = {q: [(row["epoch"], row[q]) for row in card["curve"] if q in row] for q in QUANTITIES}
            name = f"{number}: {card['model'].partition(':')[0]}"
            with torch.no_grad():
                right = torch.cat([subject.prepared.model(x).argmax(1) for x in images.x.split(256)]) == images.y
            accuracy = per_image(images.ids, right.double().tolist(), "share")
            data[subject.model.name] = {**{q: dict(points) for q, points in said.items()}, "accuracy": accuracy}
            last = [said[q][-1][1] if said[q] else float("nan") for q in QUANTITIES]
            rows.append([subject.model.name, len(card["curve"]), *last, float(right.double().mean())])
            for quantity in QUANTITIES:
                lines[quantity][name] = said[quantity]
        head = ["network", "epochs", *QUANTITIES, f"accuracy on n={len(subjects[0].images)}"]
        pictures = [Curves(quantity.replace("_", " "), lines[quantity], "epoch", quantity) for quantity in QUANTITIES]
        return Panel("how the networks were trained", data, [Grid("last epoch", head, rows)], curves=pictures)
