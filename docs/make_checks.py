"""Write docs/checks.md from the docstrings of the checks: ``python docs/make_checks.py``."""

import inspect
from pathlib import Path

from sparring.core.registry import CHECKS

SCOPE = {
    "J": "judge validity: its failure voids every number",
    "A": "attack quality: its failure means real accuracy may be lower",
}

sections = [
    "# Checks",
    "",
    "Those with P are run before every evaluation and by `sparring doctor`; those with S, PL, C3, X5, X13 and G3 ask the system once more about the images that "
    "count as robust; the rest read the rows of a run once it is whole. "
    "Made from the docstrings by `python docs/make_checks.py`.",
    "",
]
for name in sorted(CHECKS, key=lambda n: (n.rstrip("0123456789"), int(n.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ") or 0))):
    check = CHECKS[name]
    sections += [
        f"## {name} {check.title}",
        "",
        f"{check.severity}, {SCOPE[check.scope]}.",
        "",
        inspect.cleandoc(check.doc),
        "",
    ]
Path(__file__).with_name("checks.md").write_text("\n".join(sections))
