"""Pictures whose class shows in two ways: the shape of the object and the texture on it. They agree, or they conflict.

Drawn from code, nothing to download: ten shapes, ten textures, random colors, places, sizes and rotations. A network trained
where both agree and asked where they conflict says which of them it reads (the question of Geirhos et al., arXiv:1811.12231).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sparring.core.errors import SparringError
from sparring.core.registry import DATA
from sparring.data.boundary import MAX_BYTES, check_bytes
from sparring.data.images import ImageSet

Field = Callable[..., np.ndarray]


def _polygon(corners: int) -> Field:
    """A regular polygon of circumradius 1."""

    def inside(r: np.ndarray, a: np.ndarray) -> np.ndarray:
        step = 2 * np.pi / corners
        return r * np.cos((a % step) - step / 2) < np.cos(step / 2)

    return inside


def _star(r: np.ndarray, a: np.ndarray) -> np.ndarray:
    part = np.abs((a % (2 * np.pi / 5)) / (2 * np.pi / 5) - 0.5) * 2
    return r < 0.4 + 0.6 * part


# shapes: polar coordinates in units of the object's size -> inside or not
SHAPES: dict[str, Field] = {
    "disc": lambda r, a: r < 0.9,
    "triangle": _polygon(3),
    "square": _polygon(4),
    "star": _star,
    "ring": lambda r, a: (r < 1) & (r > 0.55),
    "cross": lambda r, a: (
        (np.minimum(np.abs(r * np.cos(a)), np.abs(r * np.sin(a))) < 0.27)
        & (np.maximum(np.abs(r * np.cos(a)), np.abs(r * np.sin(a))) < 1)
    ),
    "ellipse": lambda r, a: (r * np.cos(a)) ** 2 + (r * np.sin(a) / 0.42) ** 2 < 1,
    "half": lambda r, a: (r < 1) & (np.sin(a) > -0.15),
    "crescent": lambda r, a: (r < 1) & ((r * np.cos(a) - 0.5) ** 2 + (r * np.sin(a)) ** 2 > 0.55),
    "flower": lambda r, a: r < 0.62 + 0.38 * np.cos(4 * a),
}


def _smooth(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Random values on a coarse grid, drawn out to (size,size)."""
    grid = torch.from_numpy(rng.random((1, 1, cells, cells)))
    return torch.nn.functional.interpolate(grid, size=(size, size), mode="bicubic", align_corners=False)[0, 0].numpy()


# textures: rotated coordinates in pixels, generator, side -> values in [0,1]
TEXTURES: dict[str, Field] = {
    "plain": lambda u, v, rng, n: np.full_like(u, 0.5),
    "fine stripes": lambda u, v, rng, n: np.floor(u / 1.5) % 2,
    "broad stripes": lambda u, v, rng, n: np.floor(u / 4) % 2,
    "fine checks": lambda u, v, rng, n: (np.floor(u / 2) + np.floor(v / 2)) % 2,
    "broad checks": lambda u, v, rng, n: (np.floor(u / 5) + np.floor(v / 5)) % 2,
    "dots": lambda u, v, rng, n: ((u % 5 - 2.5) ** 2 + (v % 5 - 2.5) ** 2 < 2.6).astype(float),
    "grid": lambda u, v, rng, n: ((u % 6 < 1.4) | (v % 6 < 1.4)).astype(float),
    "noise": lambda u, v, rng, n: rng.random(u.shape),
    "clouds": lambda u, v, rng, n: _smooth(rng, n, 7),
    "waves": lambda u, v, rng, n: (np.sin(u * 0.9 + 2 * np.sin(v * 0.55)) + 1) / 2,
}
CLASSES = tuple(f"{s} / {t}" for s, t in zip(SHAPES, TEXTURES, strict=True))


def draw_cue(shape: int, texture: int, rng: np.random.Generator, size: int) -> np.ndarray:
    """(size,size,3) uint8: an object of that shape and texture on a plain background."""
    y, x = np.mgrid[0:size, 0:size] + 0.5
    reach = size * rng.uniform(0.33, 0.46)
    center = size / 2 + rng.uniform(-1, 1, 2) * (size / 2 - reach)
    turn, tilt = rng.uniform(0, 2 * np.pi, 2)
    dx, dy = x - center[0], y - center[1]
    inside = list(SHAPES.values())[shape](np.hypot(dx, dy) / reach, np.arctan2(dy, dx) + turn)
    scale, phase = 32 / size, rng.uniform(0, 20, 2)
    u = scale * (x * np.cos(tilt) + y * np.sin(tilt)) + phase[0]
    v = scale * (y * np.cos(tilt) - x * np.sin(tilt)) + phase[1]
    value = list(TEXTURES.values())[texture](u, v, rng, size)[..., None].clip(0, 1)
    dark, light = rng.uniform(0, 0.35, 3), rng.uniform(0.65, 1, 3)
    image = np.where(inside[..., None], dark + (light - dark) * value, rng.uniform(0.3, 0.7, 3))
    return (image + rng.normal(0, 0.02, image.shape)).clip(0, 1).__mul__(255).round().astype(np.uint8)


def cue_images(split: str = "train", count: int = 5000, size: int = 32, seed: int = 0) -> tuple[ImageSet, Tensor]:
    """Images labeled by shape, and the labels (count,) of their textures: the same in train and test, always another in
    conflict. An image is the same whatever ``count``.
    """
    if split not in ("train", "test", "conflict") or count < 1 or size < 16:
        raise SparringError(
            f"cues: split={split} of train, test, conflict; count={count} at least 1, size={size} at least 16"
        )
    if seed < 0:
        raise SparringError(f"cues: seed={seed}: it must be at least 0")
    check_bytes("cues", 3 * size * size * count, MAX_BYTES)
    number = ("train", "test", "conflict").index(split)
    images, shapes, textures = [], [], []
    for i in range(count):
        rng = np.random.default_rng((seed, number, i))
        shape = int(rng.integers(10))
        texture = (shape + int(rng.integers(1, 10))) % 10 if split == "conflict" else shape
        images.append(draw_cue(shape, texture, rng, size))
        shapes.append(shape)
        textures.append(texture)
    name = f"cues:split={split},count={count},size={size},seed={seed}"
    ids = [f"cues/{seed}/{split}/{i}" for i in range(count)]
    stack = np.stack(images).transpose(0, 3, 1, 2)
    pictures = ImageSet.of(np.ascontiguousarray(stack), np.array(shapes), ids=ids, name=name, classes=CLASSES)
    return pictures, torch.tensor(textures)


@DATA("cues")
def cues(split: str = "train", count: int = 5000, size: int = 32, seed: int = 0) -> ImageSet:
    """Procedural pictures of ten shapes with ten textures: split=train or test (shape and texture belong together) or conflict
    (labels are shapes, textures another class's). Ships as code.
    """
    return cue_images(split, count, size, seed)[0]
