"""What the first process of a cluster decides by itself: which block is next, when one is given up, which options fit. Ray is not needed."""

from __future__ import annotations

import json
from typing import Any

import pytest

import sparring
from sparring.conduct.engine import Engine
from sparring.conduct.queue import IN_VAIN, Queue
from sparring.core.errors import SparringError
from sparring.evaluation.run.pace import Pace
from sparring.testing.networks import linear_net
from tests.evaluation.test_growing import problem


def test_the_longest_block_is_first_and_one_that_failed_comes_after_the_others():
    queue = Queue({"a": 2, "b": 9, "c": 5})
    assert queue.take() == "b"
    assert not queue.fault("b", "it died")
    assert [queue.take() for _ in range(4)] == ["c", "a", "b", None]


def test_a_block_is_given_up_after_three_tries_and_no_other_is_lost():
    queue = Queue({"bad": 2, "good": 1})
    while (block := queue.take()) is not None:
        queue.finish(block) if block == "good" else queue.fault(block, "it raised")
    assert (queue.done, queue.failed, queue.retries) == ({"good"}, {"bad": "it raised"}, 2)


def test_where_all_fail_the_rest_is_not_begun():
    queue, begun = Queue({str(i): 1.0 for i in range(100)}), 0
    while (block := queue.take()) is not None:
        begun += 1
        queue.fault(block, "no space left on device")
    assert queue.hopeless
    assert len(queue.failed) == IN_VAIN
    assert begun < 300


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"engine": "dask"}, "not one of processes, ray"),
        ({"address": "auto"}, "an option of engine=ray"),
        ({"gpus_per_worker": 1.0}, "an option of engine=ray"),
        ({"engine": "ray", "address": "ray://head:10001"}, "write auto or HOST:PORT"),
        ({"engine": "ray", "gpus_per_worker": 1.5}, "a part of one GPU"),
        ({"engine": "ray", "gpus_per_worker": -1.0}, "gpus_per_worker"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, why):
    given = {"engine": "processes", "address": None, "gpus_per_worker": None, "runtime_env": None, **options}
    with pytest.raises(SparringError, match=why):
        Engine.of(**given, device=None)


def test_a_gpu_device_asks_one_gpu_a_worker():
    first, part = (Engine.of("ray", None, gpus, None, "cuda") for gpus in (None, 0.25))
    assert first
    assert part
    assert (first.gpus, part.gpus) == (1.0, 0.25)


@pytest.mark.parametrize("content", ["[]", "{}", '{"worker_process_setup_hook": "mine.setup"}', "no json"])
def test_a_runtime_environment_brings_files_and_names_no_code(content, tmp_path):
    file = tmp_path / "env.json"
    file.write_text(content)
    with pytest.raises(SparringError, match="runtime environment"):
        Engine.of("ray", None, None, file, None)
    file.write_text(json.dumps({"env_vars": {"A": "1"}}))
    assert Engine.of("ray", None, None, file, None)


def test_objects_cannot_be_rebuilt_elsewhere():
    fields: dict[str, Any] = {"threats": ["adaptive"], "attacks": ["fgsm:eps=0.1"], "engine": "ray"}
    with pytest.raises(SparringError, match="workers are given spec texts"):
        sparring.evaluate(linear_net(), problem(8), **fields)


def test_what_others_did_of_a_block_is_learned_from():
    """After one of two blocks the other is expected to cost what that cost, and 3 calls of a block at work count as done."""
    said: list[tuple[int, int]] = []
    pace = Pace(20, {"r": 100.0}, {"r": True}, 40.0, lambda done, total, _: said.append((done, total)))
    pace.beside(slice(0, 10), 70.0, {"r": (50.0, 1)}, "")
    pace.elsewhere = 3.0
    pace.say("")
    assert said[-1] == (73, 70 + 50 + 20)
