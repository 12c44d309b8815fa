"""Adversarial images on disk: a float tensor and an 8-bit PNG per image, reloaded and re-scored before anything is
claimed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save

from sparring.attacks.attack import Attack
from sparring.attacks.attack import attack as make_attack
from sparring.attacks.engine import Batch, RunOptions
from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.core.geometry import NORMS, distance
from sparring.evaluation.judge import Judge
from sparring.evaluation.plan.budgets import tiny, with_budgets
from sparring.evaluation.plan.tiers import DRAWS
from sparring.evaluation.records.seal import explained
from sparring.evaluation.run.lattice import lattice_points
from sparring.subject import Subject
from sparring.threats import Options, Seat, threat


def refuse_taken(folder: Path) -> None:
    """Raise SparringError for a folder that is not empty."""
    if folder.is_dir() and any(folder.iterdir()):
        raise SparringError(f"output folder {folder} is not empty; choose another --out")
    if os.path.lexists(folder) and not folder.is_dir():
        raise SparringError(f"output {folder} is a file; choose a folder")


def make_images(
    subject: Subject,
    attack: str,
    out: str | Path,
    defense: str = "none",
    *,
    seed: int = 0,
    slots: int = 64,
    to_end: bool = False,
    inspect: Callable[[Subject, Attack], Sequence[Json]] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Json:
    """Attack a subject through the declared surrogates of one of its defenses (its first variant), save, reload, re-score on the deployed
    system.

    Writes images.safetensors (x, y), NNNNN.png, table.json. Returns the summary: per image norms and labels of the
    reloaded tensor and of the reloaded PNG. ``to_end``: the attack spends its steps, where it else stops at the first point that fools, which may be
    far inside its ball. ``inspect``: what it says of the subject and the attack before these meet is kept as "checks".
    Raises SparringError for a folder that is not empty.
    """
    folder = Path(out)
    refuse_taken(folder)
    method = with_budgets([make_attack(attack)], (), subject.images.shape)[0]
    for *_, text in tiny([method], subject.images.shape):
        warnings.warn(text, stacklevel=2)
    checks = inspect(subject, method) if inspect else ()
    seat = threat("adaptive").seat(subject.systems[defense], options=Options(DRAWS["quick"]))
    view, x, y = seat.views[0], subject.images.x, subject.images.y
    done = 0

    def advance(settled: int) -> None:
        nonlocal done
        done += settled
        if progress:
            progress(done, len(x), str(method))

    stop = "never" if to_end else seat.stop
    outcome = method.on(view.victim, Batch(x, y, subject.keys), RunOptions(stop, slots, seed, view.reparam, advance))
    stored = outcome.x
    if subject.images.lattice:
        eps = torch.full_like(outcome.distance, method.budget) if math.isfinite(method.budget) else outcome.distance
        stored = lattice_points(view.victim, outcome, x, y, subject.keys, eps, method.norm, seed)[0]
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        with explained(folder):
            about = {"defense": defense, "attack": str(method), "seed": seed, "to_end": to_end, "checks": list(checks)}
            return _saved(partial, folder, subject, seat, outcome.x, stored, about)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _saved(
    partial: Path, folder: Path, subject: Subject, seat: Seat, points: torch.Tensor, stored: torch.Tensor, about: Json
) -> Json:
    """Write the points, and those ``stored`` in 8 bits, to ``partial``, reload and judge what is there, and rename it to ``folder``; the summary."""
    x, y, seed = subject.images.x, subject.images.y, about["seed"]
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / "images.safetensors").write_bytes(save({"x": points.contiguous(), "y": y}))
    for i, image in enumerate(stored):
        array = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(partial / f"{i:05d}.png")

    reloaded = load_file(partial / "images.safetensors")["x"]
    from_png = torch.stack([_read(partial / f"{i:05d}.png") for i in range(len(x))])
    judge = Judge(seed=seed)
    clean, tensor, png = (judge.score(seat.judge, z, y, subject.keys) for z in (x, reloaded, from_png))
    images = []
    for i, name in enumerate(subject.images.ids):
        norms = {n: float(distance((reloaded[i : i + 1] - x[i : i + 1]).double(), n)[0]) for n in NORMS}  # type: ignore[arg-type]
        images.append(
            {
                "id": name,
                "file": f"{i:05d}.png",
                "y": int(y[i]),
                "clean_label": int(clean.label[i]),
                "label": int(tensor.label[i]),
                "png_label": int(png.label[i]),
                **norms,
                "png_linf": float((from_png[i] - x[i]).abs().max()),
            }
        )
    summary = {
        "model": subject.model.name,
        **about,
        "n": len(x),
        "clean_accuracy": float(clean.first.double().mean()),
        "accuracy": float(tensor.first.double().mean()),
        "png_accuracy": float(png.first.double().mean()),
        "sha256": hashlib.sha256((partial / "images.safetensors").read_bytes()).hexdigest(),
        "images": images,
    }
    (partial / "table.json").write_text(json.dumps(summary, indent=2) + "\n")
    if folder.exists():
        folder.rmdir()
    partial.replace(folder)
    return summary


def _read(file: Path) -> torch.Tensor:
    with Image.open(file) as image:
        array = np.asarray(image)
    array = array[..., None] if array.ndim == 2 else array
    return torch.from_numpy(array.transpose(2, 0, 1).copy()).float() / 255
