"""Ensembles of HGD-protected models (HGD, appendix C): denoisers and models wired by a small TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sparring.core.errors import SparringError
from sparring.core.registry import DEFENSES
from sparring.core.spec import named_by, spec_text
from sparring.defenses.base import Defended, joined
from sparring.defenses.learned import load_network
from sparring.models.classifier import weights_hash
from sparring.models.load import load_model, require_trained
from sparring.models.trained import MeanLogits


class Member(nn.Module):
    """The mean image of the denoisers (none: the image itself), then the mean logits of the models."""

    def __init__(self, denoisers: list[nn.Module], models: list[nn.Module]) -> None:
        super().__init__()
        self.denoisers, self.models = nn.ModuleList(denoisers), nn.ModuleList(models)

    def forward(self, x: Tensor) -> Tensor:
        u = torch.stack([d(x) for d in self.denoisers]).mean(0) if len(self.denoisers) else x
        return torch.stack([m(u) for m in self.models]).mean(0)


@DEFENSES("hgd-ensemble")
@dataclass(frozen=True)
class HGDEnsemble:
    """Several denoisers and models wired together (HGD, app. C and Table 9). It replaces the evaluated classifier; the
    oblivious attacker sees the same models without their denoisers.

    ``file``: TOML with one ``[[member]]`` for each term whose logits are averaged: ``denoisers = [WEIGHTS, ...]`` (their images
    are averaged; may be empty) and ``models = [SPEC, ...]`` (their logits are averaged). The paper's (LGD1>A)&(LGD2>B) is two
    members of one denoiser and one model each.
    """

    file: str

    def install(self, system: Defended) -> Defended:
        if system.stages:
            raise SparringError(f"hgd-ensemble replaces the classifier and comes first, not after {system.name}")
        members = self._members()
        with named_by(self.file):
            return self._wired(system, members)

    def _wired(self, system: Defended, members: list[dict[str, list[str]]]) -> Defended:
        models: dict[str, nn.Module] = {}
        for member in members:
            for spec in member["models"]:
                models.setdefault(spec, require_trained(load_model(spec)).requires_grad_(False))
        network = MeanLogits(
            [
                Member([load_network(d, "dunet") for d in m.get("denoisers", [])], [models[s] for s in m["models"]])
                for m in members
            ]
        ).eval()
        bare = MeanLogits([Member([], [models[s] for s in m["models"]]) for m in members]).eval()
        return replace(
            system, network=network, bare=bare, id=weights_hash(network), name=joined(system.name, spec_text(self))
        )

    def _members(self) -> list[dict[str, list[str]]]:
        try:
            content = tomllib.loads(Path(self.file).read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise SparringError(f"hgd-ensemble: {self.file} is not a readable TOML file ({error})") from None
        members = content.get("member", [])
        for member in members:
            if (
                set(member) - {"denoisers", "models"}
                or not _texts(member.get("denoisers", []))
                or not _texts(member.get("models"))
                or not member["models"]
            ):
                raise SparringError(
                    f"hgd-ensemble: {self.file}: a [[member]] has models = [SPEC, ...] and may have denoisers = [WEIGHTS, ...]"
                )
        if not members:
            raise SparringError(f"hgd-ensemble: {self.file} has no [[member]]")
        return members


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
