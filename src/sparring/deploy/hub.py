"""Weights with what is known of them on the Hugging Face Hub: written to a folder, pushed from it, pulled and verified. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from sparring.core.errors import SparringError, one_line
from sparring.core.extras import need
from sparring.core.spec import Spec, named_by, parse
from sparring.models.classifier import weights_hash
from sparring.models.load import load_model
from sparring.models.trained import card_spec
from sparring.models.weights import Card, read_card, read_weights

WEIGHTS, CARD, README = "sparring.safetensors", "sparring.json", "README.md"
HUB = "hub"  # the key of a card under which it says what was pushed
NAME = re.compile(r"[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*/[A-Za-z0-9_]+([.-][A-Za-z0-9_]+)*")
TOKEN = re.compile(r"hf_[A-Za-z0-9]{8,}")
Answer = TypeVar("Answer")


class Api(Protocol):
    """What we ask of huggingface_hub's HfApi."""

    def repo_exists(self, repo_id: str) -> bool: ...
    def list_repo_files(self, repo_id: str) -> list[str]: ...
    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> object: ...
    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> object: ...
    def hf_hub_download(self, repo_id: str, filename: str, *, local_dir: str) -> str: ...


@dataclass(frozen=True)
class Release:
    """Weights and their card: what is pushed, beside its README."""

    weights: Path
    card: Card


def release_of(weights: Path) -> Release:
    """Weights by themselves, with the card that ``sparring train`` wrote. Raises SparringError for a file that is none."""
    if weights.suffix != ".safetensors":
        raise SparringError(f"{weights}: what is pushed is a run folder or a .safetensors file of sparring train")
    card_spec(weights)  # it says which model it is of
    return Release(weights, read_card(weights))


def evaluated_release(run: Path, model: str, judged: str) -> Release:
    """The weights file of the ``model`` spec that a run's record names, if its content is what was ``judged`` (``weights_hash``). Raises SparringError where
    the spec names none, or other weights lie there now: a verdict is about the weights that it was made of.
    """
    spec = parse(model)
    files = {k: Path(v) for k, v in spec.values.items() if v.endswith(".safetensors") and Path(v).is_file()}
    if len(files) != 1:
        raise SparringError(
            f"the run's model {model} names no weights file that is here; evaluate trained:FILE.safetensors, and push from the same folder"
        )
    ((field, weights),) = files.items()
    with named_by(run / "run.json"):
        network = load_model(model)
    if weights_hash(network) != judged:
        raise SparringError(
            f"{weights} holds other weights than the run was made of; push the run beside its own weights"
        )
    if weights.with_suffix(".json").exists():
        return Release(weights, read_card(weights))
    return Release(weights, {"model": str(Spec(spec.name, {k: v for k, v in spec.values.items() if k != field}))})


def write_release(release: Release, facts: Mapping[str, object], readme: str, folder: Path) -> list[Path]:
    """Write the folder that is pushed: weights, the card with ``facts`` and the weights' digest, README; its files. Raises SparringError where
    there is something already.
    """
    _refuse_replacing(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(release.weights, folder / WEIGHTS)
    card = {**release.card, HUB: {**facts, "sha256": _digest(folder / WEIGHTS)}}
    (folder / CARD).write_text(without_tokens(json.dumps(card, indent=2)) + "\n")
    (folder / README).write_text(without_tokens(readme))
    return [folder / name for name in (README, CARD, WEIGHTS)]


def push(folder: Path, repo: str, private: bool) -> str:
    """Push a folder that ``write_release`` wrote as one commit; the repository's address. Raises SparringError where the repository holds what is not
    ours, and for whatever the Hub refuses.
    """
    require_name(repo)
    api = _api()
    if _asked(repo, lambda: api.repo_exists(repo)):
        files = set(_asked(repo, lambda: api.list_repo_files(repo))) - {".gitattributes"}
        if files and CARD not in files:
            raise SparringError(f"{repo} holds files that sparring did not push; choose another name")
    _asked(repo, lambda: api.create_repo(repo, private=private, exist_ok=True))
    message = "Weights, their card and what is known of their robustness"
    _asked(repo, lambda: api.upload_folder(repo_id=repo, folder_path=str(folder), commit_message=message))
    return f"https://huggingface.co/{repo}"


def pull(repo: str, out: Path) -> Path:
    """Bring what ``push`` pushed to the folder ``out``; its weights file, which ``trained:FILE`` loads.

    Raises SparringError for a repository without our card, for weights that are not those that the card names, for a card whose model is elsewhere, and
    where something is there already; nothing is left then.
    """
    require_name(repo)
    _refuse_replacing(out)
    api = _api()
    files = _asked(repo, lambda: api.list_repo_files(repo))
    if CARD not in files or WEIGHTS not in files:
        raise SparringError(f"{repo} holds no {CARD} and {WEIGHTS}: sparring did not push it, so nothing was pulled")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".pull-") as fresh:
        names = [name for name in (README, CARD, WEIGHTS) if name in files]
        paths = {
            name: Path(_asked(repo, lambda name=name: api.hf_hub_download(repo, name, local_dir=fresh)))
            for name in names
        }
        expected = _digest_of(repo, paths[CARD])
        if _digest(paths[WEIGHTS]) != expected:
            raise SparringError(f"{repo}: {WEIGHTS} is not what its card says (sha256 {expected[:12]}...): not pulled")
        read_weights(paths[WEIGHTS])
        _require_own(repo, read_card(paths[WEIGHTS]))
        card_spec(paths[WEIGHTS])
        complete = Path(fresh) / "complete"
        complete.mkdir()
        for name, path in paths.items():
            shutil.copyfile(path, complete / name)
        if out.exists():
            out.rmdir()  # it is empty
        complete.replace(out)
    return out / WEIGHTS


def require_name(repo: str) -> None:
    """Raise SparringError for what is no name of a repository."""
    if not NAME.fullmatch(repo):
        raise SparringError(
            f"{without_tokens(repo)!r} is no repository's name; write owner/name, of letters, digits, - _ and . between these"
        )


def _require_own(repo: str, card: Card) -> None:
    """Raise SparringError for a card whose model would be fetched from elsewhere, or read from a place of this machine that the user did not name."""
    spec = parse(str(card.get("model", "")))
    for field, value in spec.values.items():
        if field != "weights" and re.search(r"[:/\\~]", value):
            raise SparringError(
                f"{repo}: the model of its {CARD} is elsewhere ({spec.name}:{f'{field}=' * bool(field)}{value}), so nothing was pulled"
            )


def without_tokens(text: str) -> str:
    """A text without tokens of the Hub, wherever they came from."""
    return TOKEN.sub("hf_***", text)


def _refuse_replacing(folder: Path) -> None:
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise SparringError(f"{folder} is there already; delete it or choose another --out")


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest_of(repo: str, card: Path) -> str:
    """The digest in a card."""
    try:
        return str(json.loads(card.read_text())[HUB]["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        raise SparringError(f"{repo}: its {CARD} is no card of sparring push, so nothing was pulled") from None


def _api() -> Api:
    return need("huggingface_hub", "hub").HfApi()


def _asked(repo: str, ask: Callable[[], Answer]) -> Answer:
    """An answer of the Hub; what it refuses is one line, in which no token stands."""
    try:
        return ask()
    except Exception as error:
        raise SparringError(f"{repo}: the Hub says {without_tokens(one_line(error))}") from None
