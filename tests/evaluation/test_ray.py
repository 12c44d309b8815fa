"""Workers on a Ray cluster: the rows are those of one process, whoever dies; what cannot be done is named, and nothing stands in its place."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import sparring
from sparring.conduct import crew
from sparring.conduct.helper import Order
from sparring.core.errors import SparringError
from sparring.evaluation.results.status import status_of
from tests.evaluation.test_several import digest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray", reason="extra scale (ray) is not installed")

ROOT = str(Path(__file__).parents[2])
QUIET = {"include_dashboard": False, "log_to_driver": False, "object_store_memory": 10**8}
# nothing survives: no check and no attack follows
ARGUMENTS: dict[str, Any] = {"model": "mnist_cnn", "data": "mnist5k:split=test,limit=20", "defenses": ["gauss:std=0.1"]}
ARGUMENTS |= {"draws": 2, "threats": ["adaptive"], "attacks": ["pgd:eps=0.5,steps=10", "fgsm:eps=0.5"], "block": 4}


@pytest.fixture(scope="module", autouse=True)
def ended():
    yield
    ray.shutdown()


@pytest.fixture
def local():
    """A cluster of two CPUs on this machine, which stays for the tests that follow."""
    if not ray.is_initialized():
        ray.init(address="local", num_cpus=2, **QUIET)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "run"
    sparring.evaluate(**ARGUMENTS, out=folder)
    return folder


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def helpers(pid: int) -> list[int]:
    """Processes of the helpers that a process has begun on this machine, through Ray's own."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    processes = [
        (int(own), int(parent), name) for own, parent, name in (line.split(None, 2) for line in listed.splitlines())
    ]
    family = {pid}
    for _ in range(3):  # raylet, helper
        family |= {own for own, parent, _ in processes if parent in family}
    return [own for own, _, name in processes if own in family and name.startswith("ray::Helper")]


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_two_workers_write_the_rows_of_one_process(local, alone, tmp_path):
    said: list[tuple[int, int]] = []
    out = tmp_path / "run"
    result = sparring.evaluate(
        **ARGUMENTS, out=out, engine="ray", workers=2, progress=lambda done, total, _: said.append((done, total))
    )
    assert digest(out) == digest(alone)
    assert len(digest(out)) > 100
    assert not result.missing
    assert result.headlines
    assert all(done <= total for done, total in said)
    running = record(out)["running"]
    assert (running["engine"], running["workers"], running["retries"]) == ("ray", 2, 0)
    assert sum(running["nodes"].values()) == running["devices"]["cpu"] >= 1
    assert "tf32_matmul" in running["precision"]
    assert not (out / "claims").exists()
    sparring.write_report([out], tmp_path / "page.html")
    assert "Made on ray by 2 workers" in (tmp_path / "page.html").read_text()
    assert ray.is_initialized()  # a cluster that was there stays


def test_the_order_of_blocks_changes_no_row(local, alone, tmp_path, monkeypatch):
    class Shuffled(crew.Queue):
        def __init__(self, costs):
            super().__init__(costs)
            random.Random(1).shuffle(self.waiting)

    monkeypatch.setattr(crew, "Queue", Shuffled)
    sparring.evaluate(**ARGUMENTS, out=tmp_path / "run", engine="ray", workers=2)
    assert digest(tmp_path / "run") == digest(alone)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes as Linux shows them")
def test_a_worker_killed_after_its_first_block_is_made_anew(local, alone, tmp_path, monkeypatch):
    killed: list[int] = []
    worked = crew.Crew._worked

    def then_kill(self, hand, answer):
        worked(self, hand, answer)
        if not killed:
            self._enlist()  # it is at its second block
            for pid in helpers(os.getpid()):
                killed.append(pid)
                os.kill(pid, signal.SIGKILL)

    monkeypatch.setattr(crew.Crew, "_worked", then_kill)
    sparring.evaluate(**ARGUMENTS, out=tmp_path / "run", engine="ray", workers=1)
    assert killed
    assert digest(tmp_path / "run") == digest(alone)
    assert record(tmp_path / "run")["running"]["retries"] == 1


DRIVER = """
import sys, sparring
sys.path.insert(0, {root!r})
from tests.evaluation.test_ray import ARGUMENTS
sparring.evaluate(**ARGUMENTS, out={out!r}, engine="ray", workers=2)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes as Linux shows them")
def test_workers_die_with_the_driver_and_the_same_command_goes_on(alone, tmp_path):
    ray.shutdown()
    out = tmp_path / "run"
    code = DRIVER.format(root=ROOT, out=str(out))
    first = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 180
    while not list(out.glob("rows/*/*.parquet")) and time.monotonic() < end:
        time.sleep(0.05)
    begun = helpers(first.pid)
    first.kill()
    first.wait()
    assert begun
    assert list(out.glob("rows/*/*.parquet"))
    assert not record(out)["complete"]
    while alive(begun) and time.monotonic() < end:
        time.sleep(0.2)
    assert not alive(begun)
    subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL, timeout=120)
    assert digest(out) == digest(alone)
    assert record(out)["complete"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes as Linux shows them")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_says_how_to_resume_and_leaves_nothing_running(tmp_path, number, code):
    """It comes while the first process waits inside Ray's C code, which had made a SystemError of it."""
    out = tmp_path / "run"
    words = ["evaluate", "mnist_cnn", "--data", "mnist5k:split=test,limit=128", "--defense", "gauss:std=0.2"]
    words += ["--draws", "64", "--threat", "adaptive", "--attack", "pgd:eps=0.1,steps=1000"]
    words += ["--out", str(out), "--engine", "ray", "--workers", "2"]
    command = [sys.executable, "-m", "sparring.cli", *words]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job would ignore it
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heard)
    try:
        end = time.monotonic() + 180
        while not list(out.glob("claims/*/*.claim")) and time.monotonic() < end:
            time.sleep(0.1)
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        said = process.communicate(timeout=60)[1]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == code
    assert "this resumes" in said
    assert "unexpected" not in said


@pytest.mark.slow
def test_a_machine_that_goes_away_costs_nothing_but_time(alone, tmp_path):
    from ray.cluster_utils import Cluster

    ray.shutdown()
    out = tmp_path / "run"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **QUIET_NODE})
    other = cluster.add_node(num_cpus=1, **QUIET_NODE)
    seen: list[str] = []

    def progress(done, total, text):
        if "2 at work" in text and not seen:
            seen.append(text)
            threading.Thread(target=cluster.remove_node, args=(other, False)).start()

    try:
        sparring.evaluate(**ARGUMENTS, out=out, engine="ray", address=cluster.address, workers=2, progress=progress)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert seen
    assert digest(out) == digest(alone)
    assert record(out)["complete"]


QUIET_NODE = {"include_dashboard": False, "object_store_memory": 10**8}

MODULE = """
import os, signal
from pathlib import Path
import torch
import sparring

MARKED = sparring.load_data("mnist5k:split=test,limit=20").x[18]
HERE = Path(__file__).parent

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = sparring.load_model("mnist_cnn")

    def forward(self, x):
        driver = int((HERE / "driver").read_text())
        how = (HERE / "poison").read_text() if (HERE / "poison").exists() else ""
        if how and os.getpid() != driver and any(torch.equal(image, MARKED) for image in x):
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("the eighteenth is poison")
        return self.inner(x)

def make():
    return Network().eval()

def unequal():
    torch.manual_seed(int(os.getpid() == int((HERE / "driver").read_text())))
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)).eval()
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """The current folder, with a module of a user's own in it that behaves otherwise in this process; its name."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / "driver").write_text(str(os.getpid()))
    monkeypatch.chdir(tmp_path)
    return name


@pytest.mark.slow
@pytest.mark.parametrize("how", ["raise", "kill"])
def test_a_poison_block_fails_alone_and_is_tried_again_by_the_same_command(local, tmp_path, own_module, how):
    arguments = {**ARGUMENTS, "model": f"python:{own_module}:make", "defenses": ["cd:bits=4"], "out": tmp_path / "run"}
    (tmp_path / "poison").write_text(how)
    torn = sparring.evaluate(**arguments, engine="ray", workers=2)
    assert torn.missing.startswith("1 of 5 blocks failed")
    assert ("poison" if how == "raise" else "died") in torn.missing
    assert "16 of 20 images" in torn.missing
    assert not torn.headlines
    assert not torn.verdicts
    assert {r.n for r in torn.closed} == {16}
    (block, why), *others = record(tmp_path / "run")["failed"].items()
    assert not others
    assert record(tmp_path / "run")["running"]["retries"] == 2
    assert f"block {block} failed: {why}" in str(status_of(tmp_path / "run"))
    sparring.write_report([tmp_path / "run"], tmp_path / "page.html")
    assert "1 of 5 blocks failed" in (tmp_path / "page.html").read_text()
    (tmp_path / "poison").unlink()
    whole = sparring.evaluate(**arguments, engine="ray", workers=2)
    assert not whole.missing
    assert whole.headlines
    assert "failed" not in record(tmp_path / "run") or not record(tmp_path / "run")["failed"]


@pytest.mark.slow
@pytest.mark.parametrize(("block", "code", "said"), [(4, 3, "1 of 5 blocks failed"), (20, 2, "each block failed")])
def test_a_failed_block_is_exit_code_3(local, tmp_path, own_module, monkeypatch, capsys, block, code, said):
    from sparring.cli import main

    (tmp_path / "poison").write_text("raise")
    (tmp_path / "run.toml").write_text(f"block = {block}\nthreats = ['adaptive']\nattacks = ['fgsm:eps=0.5']")
    words = ["evaluate", f"python:{own_module}:make", "--data", ARGUMENTS["data"], "--config", "run.toml"]
    monkeypatch.setattr(sys, "argv", ["sparring", *words, "--out", "run", "--engine", "ray", "--workers", "2"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    assert said in "".join(capsys.readouterr())


def test_unequal_weights_are_refused_by_machine(local, tmp_path, own_module):
    arguments = {**ARGUMENTS, "model": f"python:{own_module}:unequal", "expect_clean": 0.1}
    with pytest.raises(SparringError, match=r"the worker on .* has other weights than this process"):
        sparring.evaluate(**arguments, out=tmp_path / "run", engine="ray", workers=1)
    assert not list((tmp_path / "run").glob("rows/*/*.parquet"))


def test_another_arithmetic_is_refused(local, tmp_path):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(SparringError, match="multiplies float32 otherwise"):
            sparring.evaluate(**ARGUMENTS, out=tmp_path / "run", engine="ray", workers=1)
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_mixture_of_devices_is_a_warning(local, tmp_path, monkeypatch):
    """No GPU is needed: this process only says that it has one."""
    monkeypatch.setattr(crew, "device_name", lambda _: "a GPU of another maker")
    with pytest.warns(UserWarning, match="works on cpu, others or this process on a GPU of another maker"):
        sparring.evaluate(**ARGUMENTS, out=tmp_path / "run", engine="ray", workers=1)


def test_a_worker_that_does_not_see_the_folder_writes_nothing(local, tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "PATIENCE", 0.1)
    monkeypatch.setattr(crew, "Order", lambda **told: Order(**{**told, "folder": str(tmp_path / "elsewhere")}))
    with pytest.raises(SparringError, match="does not see this run's"):
        sparring.evaluate(**ARGUMENTS, out=tmp_path / "run", engine="ray", workers=1)
    assert not (tmp_path / "elsewhere").exists()


def test_an_old_copy_of_the_run_on_another_disk_is_not_this_run(local, alone, tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "PATIENCE", 0.1)
    monkeypatch.setattr(crew, "Order", lambda **told: Order(**{**told, "folder": str(alone)}))
    with pytest.raises(SparringError, match="does not see this run's"):
        sparring.evaluate(**ARGUMENTS, out=tmp_path / "run", engine="ray", workers=1)


@pytest.mark.slow
def test_a_runtime_environment_brings_a_users_own_module(tmp_path, monkeypatch):
    """The module is found by this process alone; without the environment each worker says that it lacks it."""
    ray.shutdown()
    package = tmp_path / "mine" / "brought_network"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import sparring\n\ndef make():\n    return sparring.load_model('mnist_cnn')\n"
    )
    (tmp_path / "env.json").write_text(json.dumps({"py_modules": [str(package)]}))
    monkeypatch.syspath_prepend(tmp_path / "mine")
    arguments = {
        **ARGUMENTS,
        "model": "python:brought_network:make",
        "out": tmp_path / "run",
        "engine": "ray",
        "workers": 1,
    }
    with pytest.raises(SparringError, match=r"the worker on .*brought_network"):
        sparring.evaluate(**arguments)
    assert not sparring.evaluate(**arguments, runtime_env=tmp_path / "env.json").missing


def test_no_cluster_at_an_address_is_one_line(tmp_path, monkeypatch):
    ray.shutdown()

    def absent(*_, **__):  # somebody else's may be there
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "init", absent)
    with pytest.raises(SparringError, match="no cluster of this Ray answers at auto"):
        sparring.evaluate(**ARGUMENTS, out=tmp_path / "run", engine="ray", address="auto")
