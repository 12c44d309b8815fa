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
from sparring.core.noise import Noise
from sparring.core.ranges import Count
from sparring.core.spec import option
from sparring.subject import Subject

ADVERSARIAL = "adversarial"  # the points before any defense
SHOWN = 4  # images that are drawn
LAWS = {"uniform": stats.uniform, "normal": stats.norm, "laplace": stats.laplace}


@analysis("changes")
@dataclass(frozen=True, kw_only=True)
class Changes(Analysis):
    """The change C(x) - x of each defense: its L2 length, the histogram of its values with the law (uniform, normal, Laplace) whose likelihood is
    highest, for how many images each law is, and a mean log spectrum (channels paper, arXiv:1905.10907, Fig. 10 and 12). With an attack, C(x_adv) - x,
    how far what comes out is from the clean image, and for how many images the network then says their label (Fig. 1, 7 and 11).
    """

    needs_defense: ClassVar[bool] = True
    limit: ClassVar[int | None] = 20
    example: ClassVar[str] = (
        "changes MODEL --data test.npz --defense cd:bits=4 --defense laplace:eps=0.01 --png changes.png"
    )

    defense: tuple[str, ...] = option(help="defenses that are compared")
    attack: str = option(
        "", help="let adversarial images of this attack in, made on the undefended model, in place of the clean ones"
    )
    spectrum: Literal["change", "image"] = option(
        "change", help="of what the spectrum is drawn: the change, or the image that comes out"
    )
    bins: Count = option(81, help="of the histogram, between the largest values")

    @property
    def defenses(self) -> Sequence[str]:
        return self.defense

    def panel(self, subject: Subject) -> Panel:
        x, noise = subject.images.x, Noise.of(self.seed, "changes", subject.keys)
        points = attacked(subject, self.attack, self.seed) if self.attack else x
        sheet = {"clean": x[:SHOWN]}
        data: dict[str, object] = {}
        rows: list[list[object]] = []
        maps: list[Map] = []
        for name, asked in {**({ADVERSARIAL: "none"} if self.attack else {}), **{d: d for d in self.defense}}.items():
            out, system = points, subject.systems[asked]
            for i, stage in enumerate(system.stages):
                out = stage(out, noise.child(f"stage{i}"))
            change = (out - x).double()
            lengths, law = change.flatten(1).norm(dim=1), likeliest(change.flatten())
            ids, of_each = list(subject.images.ids), [likeliest(one.flatten()) for one in change]
            reach = float(change.abs().max())
            histogram = torch.histc(change, self.bins, -reach, reach) if reach else torch.zeros(self.bins)
            about: dict[str, object] = {
                "l2": per_image(ids, lengths.tolist()),
                "law": law,
                "reach": reach,
                "std": float(change.std()),
                "histogram": histogram,
            }
            laws = {known: per_image(ids, [float(one == known) for one in of_each], "share") for known in LAWS}
            if self.attack:
                with torch.no_grad():
                    right = system.system().scores(points, noise).argmax(1) == subject.images.y
                about["right"] = per_image(ids, right.double().tolist(), "share")
            data[name] = about | laws
            rows.append([name, float(lengths.mean()), float(change.std()), reach, law])
            sheet[name] = out[:SHOWN].clamp(0, 1)
            drawn = change if self.spectrum == "change" else out
            maps.append(
                Map(f"{name}: mean log spectrum of the {self.spectrum}", spectrum(drawn), "frequency", "frequency")
            )
        title = f"what defenses change of n={len(x)} images of {subject.images.name}{self.attack and f', attacked by {self.attack}'}"
        table = Grid(title, ["defense", "mean L2", "std", "largest", "likeliest law"], rows)
        return Panel(title, data, [table], maps, sheets=[Sheet("what comes out", sheet)])


def likeliest(values: Tensor) -> str:
    """Which of the uniform, the normal and the Laplace law, fitted, makes the values (n,) likeliest; "none" where all are the same."""
    sample = values[:: max(1, len(values) // 20_000)].numpy()
    if sample.std() == 0:
        return "none"
    return max(LAWS, key=lambda law: float(LAWS[law].logpdf(sample, *LAWS[law].fit(sample)).sum()))


def spectrum(change: Tensor) -> Tensor:
    """(H,W) log of 1 + the mean magnitude over images and channels of the Fourier coefficients, the lowest in the middle."""
    return torch.fft.fftshift(torch.fft.fft2(change).abs().mean((0, 1))).log1p().float()
