"""Who made a run: versions, machine, the code itself; and what folders of earlier editions did not say."""

from __future__ import annotations

import hashlib
import platform
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

import torch

from sparring.core.columns import Json
from sparring.core.spec import parse
from sparring.version import __version__

MAKES_POINTS = (
    "core",
    "data",
    "models",
    "attacks",
    "defenses",
    "threats",
    "subject.py",
    "evaluation/judge.py",
    "evaluation/plan",
    "evaluation/records",
    "evaluation/run",
)
PACKAGES = ("torch", "numpy", "scipy", "safetensors", "pyarrow", "pydantic", "timm", "torchvision")


@cache
def code_hash() -> str:
    """sha256 of the source of all that makes points and rows: after an upgrade an old folder is another configuration, never resumed."""
    root = files("sparring")
    digest = hashlib.sha256(__version__.encode())
    for room in MAKES_POINTS:
        place = Path(str(root.joinpath(room)))
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def made_by(record: Json) -> str:
    """Which code made a run, in words, or "" where it is the code that asks."""
    if record["identity"].get("code") == code_hash():
        return ""
    before = record["environment"]["sparring"]
    if before == __version__:
        return f"made by other code than this (sparring {before}, the same version with edited source)"
    return f"made by other code than this (sparring {before}; this is {__version__})"


@cache
def _installed() -> dict[str, str]:
    """The versions of the packages that are there."""
    versions: dict[str, str] = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def environment() -> Json:
    """Versions, machine, threads: what a reader needs to judge whether a number would come out again."""
    return {
        "sparring": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": _installed(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "tf32": bool(torch.backends.cuda.matmul.allow_tf32),
    }


# who inherited whose points when folders did not say so themselves
FIRST_EDITION = {
    "twin": ["oblivious", "transfer"],
    "score": ["decision"],
    "adaptive": ["score", "decision", "twin", "oblivious", "transfer", "white-exact", "white-identity"],
    "known-w": [
        "adaptive",
        "fixed-w",
        "score",
        "decision",
        "twin",
        "oblivious",
        "transfer",
        "white-exact",
        "white-identity",
    ],
}


def threat_facts(record: Json) -> dict[str, Json]:
    """Facts of a run's threats by their text, see ``results.ThreatFacts``; older folders get those of their time."""
    if "threats" in record:
        return record["threats"]
    names = {text: parse(text).name for text in record["identity"]["threats"]}
    old = {
        t: {"name": n, "dominated": [n, *FIRST_EDITION.get(n, ())], "merges": n == "adaptive"} for t, n in names.items()
    }
    return {
        t: {**facts, "pictured": facts["name"] in ("oblivious", "adaptive", "transfer")} for t, facts in old.items()
    }
