"""Several processes on one run folder: the rows are those of one, whoever dies, steals or comes later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import sparring
from sparring.conduct import evaluation
from sparring.conduct.shards import Shard
from sparring.conduct.workers import Split, Workers, cut, split
from sparring.core.errors import SparringError
from sparring.evaluation.records.claims import Claims, me
from sparring.evaluation.records.rows import read_rows
from sparring.evaluation.results.status import status_of
from sparring.evaluation.run import ring
from sparring.testing.networks import linear_net
from tests.evaluation.test_growing import numbers, problem

ARGUMENTS: dict[str, Any] = {
    "model": "mnist_cnn",
    "data": "mnist5k:split=test,limit=20",
    "defenses": ["gauss:std=0.2"],
    "draws": 2,
}
ARGUMENTS |= {"threats": ["adaptive"], "attacks": ["pgd:eps=0.1,steps=3", "fgsm:eps=0.1"], "block": 6}


def digest(folder):
    """All rows of a run in one order; as texts, since nan is not itself."""
    return sorted(json.dumps(row, sort_keys=True) for row in read_rows(folder).to_pylist())


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    sparring.evaluate(**ARGUMENTS, out=folder)
    return folder


def test_two_workers_write_the_rows_of_one(alone, tmp_path, monkeypatch):
    monkeypatch.setattr("sparring.conduct.workers.LEAST", 6)
    seen: list[tuple[int, int]] = []
    result = sparring.evaluate(
        **ARGUMENTS, out=tmp_path / "run", workers=2, progress=lambda done, total, _: seen.append((done, total))
    )
    assert digest(tmp_path / "run") == digest(alone)
    assert numbers(result) == numbers(sparring.load_evaluation(alone))
    assert all(done <= total for done, total in seen)
    assert not (tmp_path / "run" / "claims").exists()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["running"]["workers"] == 2
    sparring.write_report([tmp_path / "run"], tmp_path / "page.html")
    assert "Made by 2 workers" in (tmp_path / "page.html").read_text()


SHARD = """
import sys, torch, sparring
torch.set_num_threads({threads})
sys.path.insert(0, {root!r})
from tests.evaluation.test_several import ARGUMENTS
result = sparring.evaluate(**ARGUMENTS, out={out!r}, shard="{shard}/2")
print("missing" if result.missing else "whole")
"""


@pytest.mark.slow
def test_two_shards_that_know_nothing_of_each_other_write_the_rows_of_one(alone, tmp_path):
    root, out = str(Path(__file__).parents[2]), str(tmp_path / "run")
    texts = [SHARD.format(root=root, out=out, shard=i, threads=torch.get_num_threads()) for i in range(2)]
    started = [subprocess.Popen([sys.executable, "-c", t], stdout=subprocess.PIPE, text=True) for t in texts]
    said = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert any("whole" in text for text in said)
    mine, theirs = (
        [row for row in digest(folder) if '"check": ""' in row]  # a test's own process mistrusts other checks
        for folder in (tmp_path / "run", alone)
    )
    assert len(theirs) > 100
    assert mine == theirs
    assert not sparring.load_evaluation(tmp_path / "run").missing


def dies(*_):
    os._exit(9)


def test_a_worker_that_dies_costs_nothing_but_time(alone, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "_help", dies)
    with pytest.warns(UserWarning, match="worker 1 failed"):
        sparring.evaluate(**ARGUMENTS, out=tmp_path / "run", workers=2)
    assert digest(tmp_path / "run") == digest(alone)


KILLED = """
import sys, torch, sparring
sys.path.insert(0, {root!r})
from tests.evaluation.test_several import ARGUMENTS
if __name__ == "__main__":
    sparring.evaluate(**ARGUMENTS, out={out!r}, workers=2)
"""


def _children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(text) for text in listed.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ps as Linux has it")
def test_workers_end_with_the_process_that_started_them(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED.format(root=str(Path(__file__).parents[2]), out=str(tmp_path / "run")))
    main = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    start = time.monotonic()
    while (
        len(_children(main.pid)) < 2 and time.monotonic() - start < 60
    ):  # the worker, and the tracker of what they share
        time.sleep(0.1)
    children = _children(main.pid)
    main.kill()
    main.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() - start < 90:
        time.sleep(0.2)
    assert children
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_a_shard_leaves_what_another_is_at_and_takes_what_the_dead_left(alone, tmp_path, monkeypatch):
    """Another process is at the second block; later its heart is silent."""
    out = tmp_path / "run"
    names: list[str] = []
    helped = ring.Ring.help

    def beside(self, claims, first=0):
        if not names:
            names.append(self.blocks.id(self.blocks.slices[1]))
            (claims.folder / f"{names[0]}.claim").write_text("1 elsewhere")
        helped(self, claims, first)

    monkeypatch.setattr(ring.Ring, "help", beside)
    first = sparring.evaluate(**ARGUMENTS, out=out, shard="0/2")
    assert "14 of 20 images" in first.missing
    state = status_of(out)
    assert (state.blocks_done, state.blocks, state.images_done, state.complete) == (3, 4, 14, False)
    assert list(state.working.values()) == ["1 elsewhere"]
    assert sparring.evaluate(**ARGUMENTS, out=out, shard="1/2").missing
    claim = next((out / "claims").glob("*/*.claim"))
    os.utime(claim, (0, 0))
    assert not sparring.evaluate(**ARGUMENTS, out=out, shard="1/2").missing
    assert digest(out) == digest(alone)
    assert status_of(out).complete
    assert "complete: 20 of 20 images, 4 of 4 blocks" in str(status_of(out))


def test_a_claim_is_one_processs_and_lives_as_long_as_it(tmp_path):
    mine, other = Claims(tmp_path, "plan"), Claims(tmp_path, "plan")
    with mine.taken("block") as first:
        assert first
        assert list(other.held()) == ["block"]
        with other.taken("block") as second:
            assert not second
    with other.taken("block") as second:
        assert second
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (mine.folder / "block.claim").write_bytes(me().replace(str(os.getpid()), str(dead.pid)).encode())
    assert not mine.held()
    with mine.taken("block") as again:
        assert again
    mine.finish("block")
    assert mine.finished("block")
    assert not Claims(tmp_path, "a larger plan").finished("block")


def test_a_heartbeat_keeps_a_claim_alive(tmp_path, monkeypatch):
    monkeypatch.setattr("sparring.evaluation.records.claims.BEAT", 0.05)
    claims = Claims(tmp_path, "plan")
    with claims.taken("block"):
        file = tmp_path / "claims" / "plan" / "block.claim"
        os.utime(file, (0, 0))
        time.sleep(0.5)
        assert file.stat().st_mtime > 0


@pytest.mark.parametrize(("field", "value"), [("max_time", 1e-9), ("max_forwards", 300)])
def test_a_budget_of_the_run_stops_it_where_it_can_go_on(alone, tmp_path, field, value, monkeypatch):
    if field == "max_time":  # the set-up takes its time as well: only attacks are counted here
        monkeypatch.setattr("sparring.conduct.evaluation.run_checks", lambda *_, **__: [])
        told = []

        def limited(progress, seconds, calls):
            def stops(done, total, text):
                told.append(text)
                if "pgd" in text:
                    raise evaluation.Spent("stopped after 0 s, as asked")

            return stops

        monkeypatch.setattr("sparring.conduct.evaluation.limited", limited)
    torn = sparring.evaluate(**ARGUMENTS, out=tmp_path / "run", **{field: value})
    assert torn.missing.startswith("stopped after")
    assert not torn.headlines
    monkeypatch.undo()
    sparring.evaluate(**ARGUMENTS, out=tmp_path / "run")
    assert digest(tmp_path / "run") == digest(alone)


def test_no_time_at_all_is_one_line(tmp_path):
    with pytest.raises(SparringError, match="before anything was attacked"):
        sparring.evaluate(**ARGUMENTS, out=tmp_path / "run", max_time=1e-9)


def test_a_folder_that_was_not_compared_with_what_is_asked_says_nothing_of_it(alone):
    """Stopped while it loads: the numbers of the folder's own configuration were printed for another model, attack and data."""
    before = (alone / "run.json").read_bytes()
    other = {**ARGUMENTS, "attacks": ["pgd:eps=0.3,steps=10"], "seed": 5}
    with pytest.raises(SparringError, match="before anything was attacked"):
        sparring.evaluate(**other, out=alone, max_time=1e-9)
    assert (alone / "run.json").read_bytes() == before


def test_a_run_that_was_stopped_has_no_verdict(tmp_path):
    torn = sparring.evaluate(**ARGUMENTS, out=tmp_path / "run", shard="0/1", max_forwards=300)
    assert torn.missing.startswith("stopped after")
    assert not torn.verdicts
    assert not torn.headlines


def test_claims_that_somebody_removed_are_made_again(tmp_path):
    claims = Claims(tmp_path, "plan")
    claims.clear()
    with claims.taken("block") as mine:
        assert mine
        claims.clear()
        claims.finish("block")
    assert claims.finished("block")


def test_what_cannot_be_sent_to_another_process_is_named():
    with pytest.raises(SparringError, match="pass spec texts, or workers=1"):
        Workers(Split(2, 1), dies, (lambda: None,), [None])


def test_a_module_that_can_be_sent_is_worked_at_by_two(tmp_path, monkeypatch):
    monkeypatch.setattr("sparring.conduct.workers.LEAST", 6)
    fields: dict[str, Any] = {"defenses": ["cd:bits=4"], "threats": ["adaptive"], "attacks": ["pgd:eps=4/255,steps=2"]}
    two = sparring.evaluate(linear_net(scale=0.1), problem(16), **fields, workers=2)
    assert numbers(two) == numbers(sparring.evaluate(linear_net(scale=0.1), problem(16), **fields))


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        ({"RANK": "3", "WORLD_SIZE": "8"}, Shard(3, 8)),
        ({"SLURM_ARRAY_TASK_ID": "11", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "10"}, Shard(1, 4)),
        ({"JOB_COMPLETION_INDEX": "5"}, Shard(5, 0)),
    ],
)
def test_a_shard_is_what_the_engine_says(environment, shard):
    assert Shard.of("auto", environment) == shard


@pytest.mark.parametrize("text", ["4/4", "1", "-1/2", "a/b", "auto", "1/0"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(SparringError, match="shard="):
        Shard.of(text, {})


def test_shards_begin_apart_and_together_see_all():
    assert [Shard(i, 3).first(9) for i in range(3)] == [0, 3, 6]
    assert [Shard(i, 0).first(4) for i in range(5)] == [0, 1, 2, 3, 0]


def test_blocks_are_cut_for_several_and_never_below_what_fills_a_batch():
    assert [cut(1000, 256, 1), cut(1000, 256, 2), cut(100, 256, 2), cut(10_000, 256, 4)] == [256, 250, 64, 256]


def test_auto_starts_no_second_process_for_little():
    network, x, threads = linear_net(), problem(40).x, torch.get_num_threads()
    assert split("auto", network, x, len(x), seconds=1.0) == Split(1, threads)
    assert split(3, network, x, len(x), seconds=0.0).processes == 3


def test_shards_need_a_folder_that_they_share(tmp_path):
    with pytest.raises(SparringError, match="shard needs an out folder"):
        sparring.evaluate(**ARGUMENTS, shard="0/2")
    with pytest.raises(SparringError, match="no workers of its own"):
        sparring.evaluate(**ARGUMENTS, out=tmp_path / "run", shard="0/2", workers=2)


def test_a_shard_that_multiplies_otherwise_is_refused(tmp_path):
    """Its rows would differ by rounding, and nobody could say which."""
    out = tmp_path / "run"
    sparring.evaluate(**ARGUMENTS, out=out, shard="0/2", max_forwards=400)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(SparringError, match=r"multiplies float32 otherwise \(float32_matmul highest, here high"):
            sparring.evaluate(**ARGUMENTS, out=out, shard="1/2")
    finally:
        torch.set_float32_matmul_precision(before)
