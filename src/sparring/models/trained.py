"""Models by their weights alone: the card beside a weights file says which network it fills."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.registry import MODELS
from sparring.core.spec import Spec, named_by, parse
from sparring.models.classifier import Classifier
from sparring.models.load import load_model
from sparring.models.weights import read_card


def card_spec(weights: str | Path) -> str:
    """The full model spec of a weights file that ``sparring train classifier`` wrote, wherever the file lies now."""
    text = read_card(weights).get("model")
    if not isinstance(text, str):
        raise SparringError(f"the card of {weights} names no model; it is no classifier of sparring train")
    spec = parse(text)
    return str(Spec(spec.name, {**spec.values, "weights": str(weights)}))


@MODELS("trained")
def trained(weights: str) -> Classifier:
    """The classifier of a weights file that ``sparring train classifier`` wrote: ``trained:W.safetensors``."""
    text = card_spec(weights)
    with named_by(Path(weights).with_suffix(".json")):
        return load_model(text)


class MeanLogits(nn.Module):
    """Images -> mean logits of the members."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([m(x) for m in self.members]).mean(0)


@MODELS("ensemble")
def ensemble(members: str) -> Classifier:
    """Averaged logits of several trained classifiers, such as the defective paper's ensembles of masks (EN).

    ``members``: weights files with cards, joined by ;.
    """
    files = [m for m in members.split(";") if m]
    if len(files) < 2:
        raise SparringError(f"members={members}: give at least two weights files, joined by ;")
    models = [trained(f) for f in files]
    return Classifier(
        MeanLogits(models).eval(), name=f"ensemble:{len(models)}", channels=models[0].channels, size=models[0].size
    )
