"""What is said while a run goes on, by a clock that the tests turn."""

from __future__ import annotations

import pytest

from sparring.cli.output import Bar, duration
from sparring.evaluation.run.pace import FLOOR, Pace
from tests.faults.test_folders import evaluate


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def said(capsys):
    clock = Clock()
    bar = Bar(clock=clock)

    def say(seconds: float, *step) -> str:
        """What is printed when it is so many seconds after the start and this step was the last."""
        clock.now = 100.0 + seconds
        if step:
            bar(*step)
        bar.show()
        return capsys.readouterr().err

    return say


def test_from_the_first_second_on_it_is_said_what_goes_on(said):
    assert said(0.5) == ""
    assert said(1) == "starting\n"
    assert said(2, 0, 1, "loading the model") == "loading the model\n"
    assert said(3) == ""
    assert said(40, 0, 1, "checking: P1 pixel range") == "checking: P1 pixel range\n"
    assert said(41, 0, 1000, "none | adaptive | pgd") == "begins: none | adaptive | pgd\n"


def test_the_first_estimate_comes_soon_and_then_one_every_half_minute(said):
    said(100, 0, 1000, "a")
    assert said(105, 50, 1000, "a") == ""
    assert said(110, 105, 1000, "a") == ""
    assert said(111, 110, 1000, "b") == "11 % done, about 89 s left: b\n", "not since the start of the process"
    assert said(140, 400, 1000, "b") == ""
    assert said(142, 420, 1000, "b") == "42 % done, about 58 s left: b\n"
    assert said(173, 430, 800, "c") == "54 % done, about 63 s left: c\n", "the total may change"


def test_a_long_step_is_no_slowness_of_those_before_it(said):
    """6, 25, 44 hours were announced while an attack of many steps said nothing of itself."""
    said(10, 0, 1000, "a")
    said(14, 40, 1000, "a")
    assert said(21, 40, 1000, "b") == "4 % done, about 89 s left: b\n"
    assert said(52, 40, 1000, "b") == "4 % done, about 58 s left: b\n"
    assert said(142, 40, 1000, "b") == "4 % done: b\n"
    assert said(173, 500, 1000, "b") == "50 % done, about 3 min left: b\n"


def test_each_step_of_a_recipe_is_measured_for_itself(said):
    """Hours were announced for the minutes of a late step: its share was held against the time of all before it."""
    said(10, 0, 1000, "step 1")
    said(21, 500, 1000, "step 1")
    said(1000, 1000, 1000, "step 1")
    assert said(1001, 0, 1, "step 2") == ""
    assert said(1010, 0, 500, "step 2") == ""
    assert said(1035, 100, 500, "step 2") == "20 % done, about 2 min left: step 2\n", "100 s of this step's speed"


def test_what_a_resumed_job_has_done_before_is_not_its_speed(said):
    said(10, 900, 1000, "a")
    assert said(21, 911, 1000, "a").startswith("91 % done, about 89 s left")


def test_a_quick_job_says_nothing(capsys):
    with Bar() as bar:
        bar(1, 1, "done")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("seconds", "words"), [(7.4, "7 s"), (99, "99 s"), (240, "4 min"), (48600, "13.5 h")])
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_an_expensive_run_is_not_expected_to_cost_its_worst_case():
    """13.5 hours were announced for four minutes: nearly all images fall early."""
    heard = []
    pace = Pace(100, {"cheap": 20, "dear": 5000}, {"cheap": True, "dear": True}, 200, lambda *x: heard.append(x))
    assert pace.total() == 100 * 5020 + 200
    pace.settled("cheap", 100, "")
    pace.finished("cheap", slice(0, 100), 0, 300, 5, "")
    assert pace.spent == 300, "what was counted, not what was planned"
    assert pace.total() == 300 + 200 + 100 * 5000 * 0.05
    pace.finished("dear", slice(0, 50), 50, 50 * 7, 0, "")
    assert pace.expected("dear") == 7
    assert pace.total() == 650 + 200 + 50 * 7
    assert heard[-1][:2] == (650, 1200)


def test_what_never_ends_early_is_expected_to_cost_all():
    early = {"a": True, "b": False, "c": True, "d": True}
    alike = {"a": "pgd", "b": "pgd", "c": "square", "d": "fgsm"}
    pace = Pace(10, {"a": 20, "b": 50, "c": 50, "d": 4}, early, 0, None, {r: (alike[r], early[r]) for r in early})
    pace.finished("d", slice(0, 10), 10, 40, 0, "")
    assert pace.expected("b") == 50
    assert pace.expected("c") == 50 * FLOOR


def test_what_an_attack_cost_elsewhere_is_what_it_is_expected_to_cost():
    pace = Pace(10, {"a": 20, "b": 50}, {"a": True, "b": True}, 0, None, {"a": "pgd", "b": "pgd"})
    pace.finished("a", slice(0, 10), 10, 60, 8, "")
    assert pace.expected("b") == 50 * 0.3, "not the 0.8 that survived"


def test_what_is_on_disk_is_no_work():
    pace = Pace(10, {"a": 20}, {"a": True}, 40, None)
    for _ in range(2):
        pace.on_disk("a", slice(0, 5))
        pace.judge(("cell", "a", 0), 20, "", made=False)
    assert (pace.spent, pace.total()) == (0, 5 * 20 + 20)


@pytest.mark.slow
def test_an_evaluation_ends_at_its_total_and_a_resumed_one_has_none(tmp_path):
    steps: list[tuple[int, int, str]] = []
    for resumed in (False, True):
        steps.clear()
        evaluate(tmp_path / "run", progress=lambda *step: steps.append(step))
        measured = [s for s in steps if s[1] > 1]
        assert all(0 <= done <= total for done, total, _ in steps)
        assert any(text.startswith("loading the model") for _, _, text in steps)
        assert any(text.startswith("checking: P1 ") for _, _, text in steps)
        assert any("blocks of rows are kept" in text for _, _, text in steps) == resumed
        assert (not resumed) == (len(measured) > 0 and measured[-1][0] == measured[-1][1])
    assert {done for done, _, _ in steps} == {0}
