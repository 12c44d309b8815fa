"""Reading and writing weights without ever running code from a file."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sparring.core.errors import SparringError

Card = dict[str, Any]  # what is said of weights in the JSON file beside them


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors file, or of a torch file read with ``weights_only=True``. Nothing is unpickled.

    Raises SparringError for a missing, damaged or code-carrying file.
    """
    path = Path(path)
    require_file(path, "weights file")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise SparringError(f"weights file {path} is not a readable safetensors file ({error})") from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        raise SparringError(
            f"weights file {path} is damaged or carries pickled code, which is never run; save tensors only, best as .safetensors"
        ) from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise SparringError(f"weights file {path} holds no table of tensors; save model.state_dict()")
    return state


def require_file(path: str | Path, what: str) -> Path:
    """The path, if a file is there. Raises SparringError, which calls it ``what``."""
    if not Path(path).is_file():
        fault = "is no file: name the file itself" if os.path.lexists(path) else "does not exist"
        raise SparringError(f"{what} {path} {fault}")
    return Path(path)


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Fill ``module`` from a file; every parameter must be there and fit."""
    state = read_weights(path)
    own = module.state_dict()
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own]
    wrong = [k for k in own if k in state and own[k].shape != state[k].shape]
    for keys, fault in ((missing, "lacks"), (unexpected, "has unknown"), (wrong, "has another shape of")):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise SparringError(f"weights file {path} {fault} {keys[0]}{more}; it belongs to another architecture")
    module.load_state_dict(state, strict=False)


PRETRAINED = "pretrained"  # as weights: those that the model's library has
RANDOM = "random"  # as weights: the untrained network, which must be asked for by this word


def fill(module: nn.Module, weights: str | None) -> None:
    """Fill ``module`` from the file ``weights``; None or "random" leave it untrained. Raises SparringError for an empty text."""
    if weights is not None and not weights.strip():
        raise SparringError("weights= is empty (an unset shell variable?); give weights=FILE, or weights=random")
    if weights not in (None, RANDOM):
        load_weights(module, weights)


def save_weights(module: nn.Module, path: Path, card: Mapping[str, object]) -> None:
    """Write ``path`` (.safetensors) and its JSON card beside it, each atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({k: v.detach().cpu().contiguous() for k, v in module.state_dict().items()}, partial)
    umask = os.umask(0)
    os.umask(umask)
    partial.chmod(0o666 & ~umask)  # safetensors writes for the owner alone; a weights file is a file like its card
    partial.replace(path)
    text = path.with_suffix(".json.partial")
    text.write_text(json.dumps(card, indent=2) + "\n")
    text.replace(path.with_suffix(".json"))


def read_card(path: str | Path) -> Card:
    """The JSON card beside a weights file. Raises SparringError where there is none."""
    require_file(path, "weights file")
    card = Path(path).with_suffix(".json")
    try:
        return json.loads(card.read_text())
    except (OSError, ValueError) as error:
        raise SparringError(f"weights file {path} has no readable card {card} beside it ({error})") from None


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Build a network reproducibly without touching the caller's global random state."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
