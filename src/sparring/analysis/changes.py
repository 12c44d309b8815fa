"""What a defense changes of an image: the values of the change, its length and its spectrum (the channels paper, Fig. 1 and 7, C.5 and C.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from scipy import stats
from torch import Tensor

from sparring.analysis.base import Analysis, analysis, attacked
from sparring.analysis.panel import Grid, Map, Panel, Sheet, per_image
from sparring.core.errors import SparringError
from sparring.core.noise import Noise
from sparring.core.ranges import Count
from sparring.core.spec import option
from sparring.defenses.base import Defended
from sparring.subject import Subject

ADVERSARIAL = "adversarial"  # the points before any defense
SHOWN = 4  # images that are drawn
BATCH = 64  # images that go through a defense at once
LAWS = {"uniform": stats.uniform, "normal": stats.norm, "laplace": stats.laplace}


@analysis("changes")
@dataclass(frozen=True, kw_only=True)
class Changes(Analysis):
    """The change C(x) - x of each defense: its L2 length, its mean absolute value over channels and pixels in units of [0,1] (``l1``), the
    histogram of its values with the law (uniform, normal, Laplace) whose likelihood is highest, for how many images each law is, and a mean log
    spectrum (channels paper, arXiv:1905.10907, Fig. 10 and 12). With an attack, C(x_adv) - x, how far what comes out is from the clean image, and for
    how many images the network then says their label (Fig. 1, 7 and 11). ``l1`` is then the denoising loss of HGD (arXiv:1712.02976, Table 2), whose
    own scale the paper does not say. Of several attacks an image counts with their mean.
    """

    needs_defense: ClassVar[bool] = True
    limit: ClassVar[int | None] = 20
    example: ClassVar[str] = (
        "changes MODEL --data test.npz --defense cd:bits=4 --defense laplace:eps=0.01 --png changes.png"
    )

    defense: tuple[str, ...] = option(help="defenses that are compared")
    attack: tuple[str, ...] = option(
        (), help="let adversarial images of these attacks in, made on the undefended model, in place of the clean ones"
    )
    source: str = option("", help="another model, on which the attacks are made instead")
    victim: Literal["undefended", "defended"] = option(
        "undefended", help="on what the attacks are made: the undefended model, or the model behind each defense"
    )
    spectrum: Literal["change", "image"] = option(
        "change", help="of what the spectrum is drawn: the change, or the image that comes out"
    )
    bins: Count = option(81, help="of the histogram, between the largest values")

    def __post_init__(self) -> None:
        super().__post_init__()
        known = self.victim == "defended"
        if self.source and known:
            raise SparringError("changes: source and victim say on what attacks are made; give one of them")
        if (self.source or known) and not self.attack:
            raise SparringError("changes: source and victim are about attacks; give attack")

    @property
    def defenses(self) -> Sequence[str]:
        return self.defense

    @property
    def sources(self) -> Sequence[str]:
        return (self.source,) if self.source else ()

    def panel(self, subject: Subject) -> Panel:
        x, ids = subject.images.x, list(subject.images.ids)
        points = [attacked(subject, a, self.seed, *subject.others[:1]) for a in self.attack] or [x]
        sheet = {"clean": x[:SHOWN]}
        data: dict[str, object] = {}
        rows: list[list[object]] = []
        maps: list[Map] = []
        for name, asked in {**({ADVERSARIAL: "none"} if self.attack else {}), **{d: d for d in self.defense}}.items():
            system = subject.systems[asked]
            if self.victim == "defended":
                points = [attacked(subject, a, self.seed, system) for a in self.attack]
            behind = [self._behind(system, p, subject.keys) for p in points]
            out = torch.stack([pixels for pixels, _ in behind])  # (attacks,N,C,H,W)
            change = (out - x).double()
            lengths, law = change.flatten(2).norm(dim=2).mean(0), likeliest(change.flatten())
            l1, of_each = change.abs().flatten(2).mean(2).mean(0), [likeliest(c.flatten()) for c in change.unbind(1)]
            reach = float(change.abs().max())
            histogram = torch.histc(change, self.bins, -reach, reach) if reach else torch.zeros(self.bins)
            about: dict[str, object] = {
                "l2": per_image(ids, lengths.tolist()),
                "l1": per_image(ids, l1.tolist()),
                "law": law,
                "reach": reach,
                "std": float(change.std()),
                "histogram": histogram,
            }
            laws = {known: per_image(ids, [float(one == known) for one in of_each], "share") for known in LAWS}
            if self.attack:
                right = torch.stack([labels == subject.images.y for _, labels in behind]).double().mean(0)
                about["right"] = per_image(ids, right.tolist(), "share")
            data[name] = about | laws
            rows.append([name, float(lengths.mean()), float(l1.mean()), float(change.std()), reach, law])
            sheet[name] = out[0, :SHOWN].clamp(0, 1)
            drawn = (change if self.spectrum == "change" else out).flatten(0, 1)
            maps.append(
                Map(f"{name}: mean log spectrum of the {self.spectrum}", spectrum(drawn), "frequency", "frequency")
            )
        victim = "the model behind each" if self.victim == "defended" else self.source
        by = f", attacked by {', '.join(self.attack)}{victim and f' on {victim}'}" if self.attack else ""
        title = f"what defenses change of n={len(x)} images of {subject.images.name}{by}"
        table = Grid(title, ["defense", "mean L2", "mean |change|", "std", "largest", "likeliest law"], rows)
        return Panel(title, data, [table], maps, sheets=[Sheet("what comes out", sheet)])

    def _behind(self, system: Defended, points: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """What comes out of the stages (N,C,H,W), and the labels (N,) that the system says."""
        pixels: list[Tensor] = []
        labels: list[Tensor] = []
        for part, own in zip(points.split(BATCH), keys.split(BATCH), strict=True):
            noise, out = Noise.of(self.seed, "changes", own), part
            with torch.no_grad():
                for i, stage in enumerate(system.stages):
                    out = stage(out, noise.child(f"stage{i}"))
                pixels.append(out)
                labels.append(system.system().scores(part, noise).argmax(1))
        return torch.cat(pixels), torch.cat(labels)


def likeliest(values: Tensor) -> str:
    """Which of the uniform, the normal and the Laplace law, fitted, makes the values (n,) likeliest; "none" where all are the same."""
    sample = values[:: max(1, len(values) // 20_000)].numpy()
    if sample.std() == 0:
        return "none"
    return max(LAWS, key=lambda law: float(LAWS[law].logpdf(sample, *LAWS[law].fit(sample)).sum()))


def spectrum(change: Tensor) -> Tensor:
    """(H,W) log of 1 + the mean magnitude over images and channels of the Fourier coefficients, the lowest in the middle."""
    return torch.fft.fftshift(torch.fft.fft2(change).abs().mean((0, 1))).log1p().float()
