"""The docs site says everything that there is."""

from __future__ import annotations

import re
from pathlib import Path

from sparring.core.registry import REGISTRIES

DOCS = Path(__file__).parents[2] / "docs"


def test_every_kind_and_every_page_has_its_place():
    index = (DOCS / "index.md").read_text()
    for kind in REGISTRIES:
        assert f"\nreference/{kind}\n" in index, f"docs/index.md does not lead to the reference of {kind}"
    for page in (*DOCS.glob("*.md"), *DOCS.glob("tutorials/*.md")):
        name = str(page.relative_to(DOCS).with_suffix(""))
        assert name == "index" or re.search(rf"^{name}$", index, re.M), f"docs/index.md does not lead to {name}"
