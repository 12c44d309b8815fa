"""The contract of training tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sparring.core.errors import SparringError
from sparring.core.registry import TASKS
from sparring.core.spec import helps, parse
from sparring.data.images import ImageSet
from sparring.testing.networks import pictures
from sparring.testing.words import names_source
from sparring.training.base import Schedule, Trained, Training, schedule_fields, train
from sparring.training.loop import LoopConfig


class TaskContract:
    """What every training task does, by its name and the options that its spec text gives. Subclass it and parametrize ``spec``.

    ``options``: override it to give a task the models and files that it needs.
    """

    kind: ClassVar[str] = "tasks"

    def options(self, spec: str) -> dict[str, Any]:
        """The options that it is trained with."""
        return dict(parse(spec).values)

    def images(self) -> ImageSet:
        """Twelve images of 32x32 pixels in four classes."""
        images = pictures(12)
        return ImageSet.of(images.x, [i % 4 for i in range(12)])

    def train(self, spec: str, out: Path, **more: Any) -> Trained:
        """One epoch, or the whole of a task without a loop."""
        name = parse(spec).name
        loop = {"epochs": 1, "batch": 8} if TASKS[name].scales else {}
        return train(name, data=self.images(), out=out, **{**loop, **self.options(spec), **more})

    def out(self, spec: str, folder: Path, stem: str = "made") -> Path:
        """Where it writes: a weights file, or a folder for a task without a loop."""
        return folder / (f"{stem}.safetensors" if TASKS[parse(spec).name].scales else stem)

    def test_it_is_declared(self, spec: str) -> None:
        """A docstring with its source, a line of help for every field, an example that is its own; every scale is a valid configuration."""
        name = parse(spec).name
        entry = TASKS[name]
        assert issubclass(entry, Training)
        assert names_source(entry.__doc__)
        assert all(helps(entry).values())
        assert entry.example.split()[0] == name
        assert set(entry.scales) == set() or {"small", "paper"} <= set(entry.scales)
        for scale in entry.scales:
            assert isinstance(Schedule(scale=scale).config(entry.scales), LoopConfig)
            assert Schedule(scale=scale, epochs=7, lr=0.5).config(entry.scales).epochs == 7
        assert set(schedule_fields(entry)) >= {"seed"}

    def test_it_trains_and_leaves_its_card(self, spec: str, tmp_path: Path) -> None:
        """What it made is where it was asked to be and is named; the card is JSON, with the settings and the curve of a loop."""
        pytest.importorskip("accelerate", reason="extra train is not installed")
        out, steps = self.out(spec, tmp_path), []
        made = self.train(spec, out, seed=2, progress=lambda *step: steps.append(step))
        assert out.exists()
        assert steps, "progress is reported"
        assert str(out) in made.text
        json.dumps(dict(made.card), allow_nan=False)
        if TASKS[parse(spec).name].scales:
            assert "evaluate it as: " in made.text
            assert made.card["config"]["seed"] == 2
            assert len(made.card["curve"]) == 1
            assert json.loads(out.with_suffix(".json").read_text()) == json.loads(json.dumps(made.card))
            with pytest.raises(SparringError, match="exists"):
                self.train(spec, out, seed=2)

    def test_the_seed_decides(self, spec: str, tmp_path: Path) -> None:
        """The same seed gives the same bytes, whatever the global generator did."""
        pytest.importorskip("accelerate", reason="extra train is not installed")
        made = []
        for stem in ("first", "again"):
            out = self.out(spec, tmp_path / stem)
            self.train(spec, out, seed=2)
            files = sorted(p for p in ([out] if out.is_file() else out.rglob("*")) if p.suffix == ".safetensors")
            made.append([p.read_bytes() for p in files])
        assert made[0] == made[1]
