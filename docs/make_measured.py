"""Write the tables of docs/measured.md that have rows from docs/measured/NAME.json: ``python docs/make_measured.py``.

A file holds ``command``, ``commit``, ``date``, ``machine``, ``columns`` and ``rows`` (a list of texts or numbers each). In the document its table stands
between ``<!-- rows: NAME -->`` and ``<!-- end -->``; whatever stands there is replaced.
"""

import json
import re
from pathlib import Path

HERE = Path(__file__).parent
BLOCK = re.compile(r"<!-- rows: (\w+) -->\n.*?<!-- end -->\n", re.DOTALL)


def table_of(name: str, folder: Path) -> str:
    """A file's rows as a marked Markdown table under what made them."""
    content = json.loads((folder / f"{name}.json").read_text())
    for row in content["rows"]:
        if len(row) != len(content["columns"]):
            raise ValueError(f"{name}.json: a row of {len(row)} entries under {len(content['columns'])} columns")
    lines = [
        f"<!-- rows: {name} -->",
        f"`{content['command']}` at {content['commit']}, {content['date']}, {content['machine']}.",
        "",
        f"| {' | '.join(content['columns'])} |",
        "|" + "---|" * len(content["columns"]),
        *(f"| {' | '.join(map(str, row))} |" for row in content["rows"]),
        "<!-- end -->",
    ]
    return "\n".join(lines) + "\n"


def made_from_rows(document: str, folder: Path) -> str:
    """The document with every marked table made anew."""
    return BLOCK.sub(lambda block: table_of(block[1], folder), document)


def typed_lines(document: str) -> list[str]:
    """The lines with a digit that no row holds."""
    return [line for line in BLOCK.sub("", document).splitlines() if re.search(r"\d", line)]


if __name__ == "__main__":
    page = HERE / "measured.md"
    page.write_text(made_from_rows(page.read_text(), HERE / "measured"))
