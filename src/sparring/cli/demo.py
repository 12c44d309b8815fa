"""``sparring demo``: the main job on a model and images that come inside PyPI packages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sparring.cli.output import Bar, print_evaluation
from sparring.conduct import evaluate
from sparring.evaluation.plan.spec import EvaluationSpec
from sparring.report.page import write_report

MODEL, DATA, IMAGES, CLEAN = "lite0", "imagenet20", 12, 0.75
DEFENSES = ("cd:bits=4", "gauss:std=0.03", "fc:rate=0.5+cd:bits=5")  # deterministic, random, a combination
THREATS = ("oblivious", "adaptive")
# side by side: the nearest error (what the channels paper recovers from) and a fixed budget (what it does not)
ATTACKS = ("deepfool", "pgd:eps=4/255,steps=8,step_size=0.25,loss=margin")
DRAWS = 2


def run_demo(out: Path, seed: int, as_json: bool) -> None:
    """Evaluate, print, write OUT/report.html. A first table comes within a minute, and its run grows to the whole. Resumes if interrupted."""
    run, page = out / "run", out / "report.html"
    whole = EvaluationSpec.of(
        model=MODEL,
        data=DATA,
        defenses=DEFENSES,
        threats=THREATS,
        attacks=ATTACKS,
        limit=IMAGES,
        seed=seed,
        draws=DRAWS,
        expect_clean=CLEAN,
    )
    if not as_json and not (run / "run.json").exists():
        with Bar() as bar:
            part = evaluate(replace(whole, defenses=DEFENSES[:1], attacks=ATTACKS[1:]), out=run, progress=bar)
        print_evaluation(part, as_json)
        print("That was one defense and one attack. The same run grows to three defenses and two attacks.", flush=True)
    with Bar() as bar:
        result = evaluate(whole, out=run, progress=bar)
    write_report([run], page)
    print_evaluation(result, as_json, page)
