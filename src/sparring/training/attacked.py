"""HGD's training set (arXiv:1712.02976, sec. 4.1 and app. D): attacked copies of images, on disk in lossless shards.

Members are those of a list (``training/members.py``): by default the clean image, random noise of +-eps, FGSM on each source and on
their ensemble, IFGSM of 2, 4 and 8 steps on the ensemble; eps is drawn per image from whole 255ths, the label attacked is the
source's own prediction. Pixels are rounded to 8 bits, which keeps every linf ball of whole 255ths.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, NotRequired, TypedDict

import torch
from annotated_types import Ge, Le
from safetensors.torch import load_file, save_file
from torch import Tensor

from sparring.attacks.attack import attack
from sparring.attacks.engine import Batch, RunOptions
from sparring.core.errors import SparringError
from sparring.core.noise import Noise, image_keys
from sparring.core.prepare import prepare
from sparring.core.ranges import Seed
from sparring.core.registry import TASKS
from sparring.core.spec import check_ranges, option
from sparring.core.system import System
from sparring.core.victim import Access, Victim
from sparring.data.images import ImageSet
from sparring.models.classifier import Classifier, weights_hash
from sparring.models.load import load_model
from sparring.training.base import Scales, Trained, Training, TrainingSpec, fitting
from sparring.training.loop import Progress
from sparring.training.members import AttackMember, members_of

SHARD = 512
OWN = "hgd"  # the list of the paper's own training set
Level = Annotated[int, Ge(1), Le(255)]  # of 8 bits


@dataclass(frozen=True)
class AttackedConfig:
    """eps of each image: uniform over low..high, in 255ths (the paper: 1..16). ``members``: the list of attacks."""

    low: Level = 1
    high: Level = 16
    seed: Seed = 0
    members: str = OWN

    def __post_init__(self) -> None:
        check_ranges("attacked", self)
        if self.low > self.high:
            raise SparringError(f"attacked: low={self.low} is above high={self.high}; give low <= high, in 255ths")


class Manifest(TypedDict):
    """What decides the pairs, as the folder's manifest.json says it."""

    images: str
    members: list[str]
    sources: list[dict[str, str]]
    eps: list[int]
    seed: int
    list: NotRequired[list[dict[str, object]]]


class _Pairs:
    """(attacked, clean, label) of every member of every image, member by member. ``groups``: which image a pair is of."""

    def __init__(self, images: ImageSet, manifest: Manifest, how: str) -> None:
        self.images, self.members, self.name = images, tuple(manifest["members"]), f"{images.name} attacked {how}"
        self.hash = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.members) * len(self.images)

    @property
    def groups(self) -> Tensor:
        return torch.arange(len(self)) % len(self.images)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(attacked (b,C,H,W), clean (b,C,H,W), label (b,)) of the pairs in ``index`` (b,)."""
        member, image = index // len(self.images), index % len(self.images)
        return self.noisy(member, image), self.images.pixels(image), self.images.y[image]

    def noisy(self, member: Tensor, image: Tensor) -> Tensor:
        raise NotImplementedError


class AttackedSet(_Pairs):
    """Pairs on disk. ``folder`` as ``make_attacked`` left it.

    Raises SparringError where a shard is missing or damaged (never silently the clean image), or belongs to other images.
    """

    def __init__(self, folder: str | Path, images: ImageSet) -> None:
        root = Path(folder)
        try:
            manifest = json.loads((root / "manifest.json").read_text())
        except (OSError, ValueError) as error:
            raise SparringError(
                f"{folder} holds no attacked set ({error}); make one with: sparring train attacked"
            ) from None
        if manifest["images"] != images.hash:
            raise SparringError(f"{folder} was made from other images than {images.name}")
        super().__init__(images, manifest, f"as {folder}")
        shards = range(_shards(len(images)))
        self.attacked = torch.stack([torch.cat([_read(root, m, s) for s in shards]) for m in self.members])

    def noisy(self, member: Tensor, image: Tensor) -> Tensor:
        return self.attacked[member, image].float() / 255


class OnlineSet(_Pairs):
    """The pairs of an ``AttackedSet`` made when they are asked for: nothing on disk, the same pixels at every epoch."""

    def __init__(self, images: ImageSet, sources: Sequence[Classifier], config: AttackedConfig) -> None:
        super().__init__(images, _manifest(images, sources, config), "online")
        self.systems = tuple(System(prepare(s, images.pixels(slice(4))).model) for s in sources)
        self.config, self.listed = config, members_of(config.members, len(sources))

    def noisy(self, member: Tensor, image: Tensor) -> Tensor:
        clean = self.images.pixels(image)
        noisy = torch.empty_like(clean)
        for number in member.unique().tolist():
            rows = (member == number).nonzero()[:, 0]
            ids = [self.images.ids[i] for i in image[rows].tolist()]
            noisy[rows] = _points(self.listed[number], self.systems, clean[rows], ids, self.config).float() / 255
        return noisy


def _manifest(images: ImageSet, sources: Sequence[Classifier], config: AttackedConfig) -> Manifest:
    """What decides the pairs. Raises SparringError where pixels are not 8-bit."""
    if not images.lattice:
        raise SparringError(f"{images.name}: pixels are not whole 255ths; attacked images are stored in 8 bits")
    members = members_of(config.members, len(sources))
    manifest: Manifest = {
        "images": images.hash,
        "members": [m.name for m in members],
        "sources": [{"name": s.name, "hash": weights_hash(s)} for s in sources],
        "eps": [config.low, config.high],
        "seed": config.seed,
    }
    if config.members != OWN:  # whose names say what it is, and whose folders have no such key
        manifest["list"] = [m.model_dump() for m in members]
    return manifest


def make_attacked(
    images: ImageSet,
    sources: Sequence[Classifier],
    folder: str | Path,
    config: AttackedConfig,
    progress: Progress | None = None,
) -> AttackedSet:
    """Write ``folder``: manifest.json and one shard per member and 512 images; shards already there are kept.

    Raises SparringError if the folder belongs to other images, sources or settings, or images are not 8-bit.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    manifest = _manifest(images, sources, config)
    members = members_of(config.members, len(sources))
    file = root / "manifest.json"
    if file.exists() and json.loads(file.read_text()) != manifest:
        raise SparringError(
            f"{folder} holds an attacked set of other images, sources or settings; choose another --out"
        )
    file.write_text(json.dumps(manifest, indent=1) + "\n")
    systems = tuple(System(prepare(s, images.pixels(slice(4))).model) for s in sources)
    total = len(members) * _shards(len(images))
    for number in range(total):
        member, shard = members[number // _shards(len(images))], number % _shards(len(images))
        path = root / f"{member.name}-{shard:05d}.safetensors"
        if not path.exists():
            part = images.at(range(shard * SHARD, min((shard + 1) * SHARD, len(images))))
            points = _points(member, systems, part.x, part.ids, config)
            partial = path.with_suffix(".partial")
            save_file({"x": points}, partial)
            partial.replace(path)
        if progress:
            progress(number + 1, total, f"attacked set: {member.name}")
    return AttackedSet(root, images)


def _shards(count: int) -> int:
    return -(-count // SHARD)


def _read(root: Path, member: str, shard: int) -> Tensor:
    path = root / f"{member}-{shard:05d}.safetensors"
    try:
        return load_file(path)["x"]
    except Exception as error:
        raise SparringError(
            f"attacked set: {path} is missing or damaged ({error}); make it again with: sparring train attacked"
        ) from None


def _points(
    member: AttackMember, systems: tuple[System, ...], clean: Tensor, ids: Sequence[str], config: AttackedConfig
) -> Tensor:
    """(n,C,H,W) uint8."""
    keys = image_keys(ids)
    noise = Noise.of(config.seed, "attacked-set", keys).child(member.name)
    eps = (config.low + noise.choice("eps", config.high - config.low + 1)).float() / 255
    x = clean
    if member.noise:
        x = (clean + eps[:, None, None, None] * noise.sign("sign", clean.shape[1:])).clamp(0, 1)
    elif member.attack:
        victim = Victim(tuple(systems[int(i)] for i in member.sources), Access.GRADIENT, combine="logits")
        label = victim.scores(clean, noise).argmax(1)
        x = attack(member.attack).on(victim, Batch(clean, label, keys, eps), RunOptions("never", seed=config.seed)).x
    points = (x * 255).round()
    moved = (points - clean * 255).abs().flatten(1).amax(1)
    assert bool((moved <= eps * 255 + 0.01).all()), f"{member.name} left its ball: a bug, please report it"
    return points.to(torch.uint8)


@TASKS("attacked")
@dataclass(frozen=True, kw_only=True)
class AttackedImages(Training):
    """HGD's training set (Liao et al., arXiv:1712.02976, sec. 4.1): FGSM and IFGSM images of several sources, clean and noisy ones.
    Trains nothing; writes a folder with manifest.json and lossless shards. Resumes.
    """

    scales: ClassVar[Scales] = {}
    example: ClassVar[str] = "attacked --data train.npz --source cifar_resnet20:weights=W.safetensors --out attacked/"

    source: tuple[str, ...] = option(help="classifiers whose gradients make the images, comma-separated or repeated")
    low: Level = option(1, help="least eps, in 255ths")
    high: Level = option(16, help="largest eps, in 255ths")
    members: str = option(OWN, help="list of attacks: hgd, nips2017, nips2017-five, or FILE.toml")

    def train(self, spec: TrainingSpec) -> Trained:
        if spec.log:
            raise SparringError("attacked: nothing is trained, there is no curve to log; leave log out")
        sources = [fitting(load_model(s), spec.images) for s in self.source]
        config = AttackedConfig(self.low, self.high, spec.schedule.seed, self.members)
        pairs = make_attacked(spec.images, sources, spec.out, config, spec.progress)
        card = {"members": list(pairs.members), "pairs": len(pairs)}
        return Trained(card, f"{spec.out}: {len(pairs)} pairs ({', '.join(pairs.members)})")
