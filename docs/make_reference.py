"""Write a page for each kind of thing that can be named, from the registries and their docstrings: ``python docs/make_reference.py`` (``make docs`` does)."""

from pathlib import Path

from sparring.cli.catalog import Entry, catalog, kinds

ABOUT = {
    "attacks": "What makes adversarial images. [Which one is for what](../attacks.md).",
    "defenses": "What stands before, in or behind a classifier. [Their adaptive attacks](../defenses.md).",
    "threats": "What an attacker knows and may ask. [Their relations](../threats.md).",
    "checks": "What is asked before a number is believed. [When each fires](../checks.md).",
    "masks": "Which pixels an attack may change: its `mask=` field.",
    "models": "Classifiers, and what makes them.",
    "data": "Where images come from.",
    "analyses": "Looks inside: `sparring analyze NAME`.",
    "tasks": "Trainings: `sparring train NAME`.",
    "metrics": "Numbers of the papers, each with its denominator: `sparring report RUN --metric NAME`.",
    "sections": "Parts of the report page.",
}


def page(kind: str) -> str:
    """The page of a kind."""
    return f"# {kind.capitalize()}\n\n{ABOUT.get(kind, '')}\n\n" + "\n".join(map(_entry, catalog(kind)))


def _entry(entry: Entry) -> str:
    fields = entry.get("fields", [])
    lines = [f"## `{entry['name']}`", "", entry["doc"].replace("``", "`"), ""]
    if entry.get("title"):
        lines.insert(2, f"**{entry['title']}**\n")
    if fields:
        lines += ["| field | type | default | range | |", "|---|---|---|---|---|"]
        lines += [f"| {' | '.join(_cell(f.get(k, '')) for k in ('name', 'type', 'default', 'range', 'help'))} |" for f in fields]
    if entry.get("example"):
        lines += ["", "```", entry["example"], "```"]
    return "\n".join(lines) + "\n"


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def write(folder: Path) -> None:
    """All pages."""
    folder.mkdir(exist_ok=True)
    for kind in kinds():
        (folder / f"{kind}.md").write_text(page(kind))


if __name__ == "__main__":
    write(Path(__file__).with_name("reference"))
