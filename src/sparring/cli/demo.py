"""``sparring demo``: the main job on a model and images that come inside PyPI packages."""

from __future__ import annotations

from pathlib import Path

from sparring.cli.output import Bar, print_evaluation
from sparring.conduct import evaluate
from sparring.report.page import write_report

MODEL, DATA, CLEAN = "lite0", "imagenet20", 0.8
DEFENSES = ("cd:bits=4", "gauss:std=0.03", "fc:rate=0.5+cd:bits=5")  # deterministic, random, a combination
THREATS = ("oblivious", "adaptive")
# side by side: the nearest error (what the channels paper recovers from) and a fixed budget (what it does not)
ATTACKS = ("deepfool", "pgd:eps=4/255,steps=8,step_size=0.25,loss=margin")
DRAWS = 2


def run_demo(out: Path, seed: int, as_json: bool) -> None:
    """Evaluate, print, write OUT/report.html. Resumes if interrupted."""
    page = out / "report.html"
    with Bar() as bar:
        result = evaluate(
            MODEL,
            DATA,
            DEFENSES,
            THREATS,
            ATTACKS,
            out=out / "run",
            seed=seed,
            draws=DRAWS,
            expect_clean=CLEAN,
            progress=bar,
        )
    write_report([out / "run"], page)
    print_evaluation(result, as_json, page)
