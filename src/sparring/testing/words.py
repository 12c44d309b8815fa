"""What documentation has to say, in one place for every kind."""

from __future__ import annotations

import re

SOURCE = re.compile(r"arXiv:\d{4}\.\d{5}|doi:|https?://|\bpaper\b|Source:")


def names_source(doc: str | None) -> bool:
    """Whether a docstring says where a thing comes from: a paper, an address, or a line "Source: ..."."""
    return SOURCE.search(doc or "") is not None
