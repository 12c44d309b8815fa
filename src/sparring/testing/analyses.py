"""The contract of analyses."""

from __future__ import annotations

import json
from dataclasses import MISSING
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sparring.analysis.base import Analysis, Comparison, analyze
from sparring.analysis.drawing import draw
from sparring.analysis.panel import Panel
from sparring.core.errors import SparringError
from sparring.core.registry import ANALYSES
from sparring.core.spec import helps, parse, signature
from sparring.models.classifier import Classifier
from sparring.testing.networks import conv_classifier, pictures
from sparring.testing.words import names_source


class AnalysisContract:
    """What every analysis does, by its name and the options that its spec text gives. Subclass it and parametrize ``spec``.

    ``options``: override it to give an analysis options that are cheap to compute.
    """

    kind: ClassVar[str] = "analyses"

    def options(self, spec: str) -> dict[str, Any]:
        """The options that it is asked with."""
        return dict(parse(spec).values)

    def model(self, spec: str) -> Classifier:
        """The classifier of 32x32 images that it is asked about."""
        return conv_classifier()

    def ask(self, spec: str, **more: Any) -> Panel:
        """Its answer about ``model``."""
        entry = ANALYSES[parse(spec).name]
        given = {"data": pictures(), "limit": 4} if entry.needs_data else {}
        return analyze(entry.spec_name, self.model(spec), **given, **{**self.options(spec), **more})

    def test_it_is_declared(self, spec: str) -> None:
        """A docstring with its source, a line of help for every field, a seed, an example that is its own, and defaults for every field
        but a defense that it needs.
        """
        name = parse(spec).name
        entry = ANALYSES[name]
        assert issubclass(entry, Analysis)
        assert entry.many == issubclass(entry, Comparison)
        assert names_source(entry.__doc__)
        assert all(helps(entry).values())
        assert signature(entry)["seed"][1] == 0
        assert entry.example.split()[0] == name
        required = [k for k, (_, default) in signature(entry).items() if default is MISSING]
        assert required == (["defense"] if entry.needs_defense else [])

    def test_its_panel_is_json_with_provenance_and_pictures(self, spec: str, tmp_path: Path) -> None:
        name, panel = parse(spec).name, self.ask(spec)
        answer = json.loads(json.dumps(panel.json(), allow_nan=False))
        assert answer["data"]
        assert answer["tables"] or answer["text"]
        assert str(panel).startswith(panel.title)
        about = answer["provenance"]
        assert about["analysis"] == name
        assert about["options"]["seed"] == about["seed"] == 0
        assert about["models"][0]["name"] == self.model(spec).name
        assert len(about["models"][0]["hash"]) == len(about["data"]["hash"]) == 64
        assert {"sparring", "torch"} <= set(about)
        assert bool(panel.maps or panel.curves or panel.sheets) == ANALYSES[name].pictures
        if ANALYSES[name].pictures:
            files = draw(panel, tmp_path / "new" / "p.png")
            assert len(files) == len(panel.maps) + len(panel.curves) + len(panel.sheets)
            assert all(f.read_bytes()[:4] == b"\x89PNG" for f in files)
        else:
            with pytest.raises(SparringError, match="no picture"):
                draw(panel, tmp_path / "p.png")

    def test_the_seed_decides(self, spec: str) -> None:
        first, again = self.ask(spec, seed=3).json(), self.ask(spec, seed=3).json()
        assert first == again
        assert first["provenance"]["seed"] == 3
