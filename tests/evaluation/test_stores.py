"""Run folders in stores: S3 (a server on this machine) and memory. The rows are those of a run on disk, whoever dies, refuses or shares."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import boto3
import fsspec
import pytest
import s3fs
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer
from s3fs.errors import translate_boto_error

import sparring
from sparring.core.errors import SparringError
from sparring.evaluation.records import claims as claiming
from sparring.evaluation.records.claims import Claims, take
from sparring.evaluation.records.folder import claimed
from sparring.evaluation.records.place import Remote, inside, place_of
from sparring.evaluation.results.status import status_of
from sparring.verdict.images import image_rows
from tests.evaluation.test_growing import attacked, evaluate, numbers, problem  # noqa: F401  (a fixture)
from tests.evaluation.test_several import digest
from tests.faults.commands import say

pytestmark = pytest.mark.usefixtures("brief", "no_checks", "quick")
ROOT = str(Path(__file__).parents[2])


@pytest.fixture(scope="module")
def endpoint():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(endpoint, monkeypatch):
    """A bucket's URL; who gets in is said by the environment, as users do."""
    said = {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret"}
    for name, value in {**said, "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = f"bucket-{uuid4().hex[:12]}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    yield f"s3://{bucket}"
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["s3", "memory"])
def root(request):
    """Where runs are kept."""
    return request.getfixturevalue("s3") if request.param == "s3" else f"memory://{uuid4().hex[:12]}"


@pytest.fixture
def no_checks(monkeypatch):
    monkeypatch.setattr("sparring.conduct.evaluation.run_checks", lambda *_, **__: [])


@pytest.fixture
def quick(monkeypatch):
    """Hearts that beat, and fall silent, in a test's time."""
    monkeypatch.setattr(claiming, "BEAT", 0.5)
    monkeypatch.setattr(claiming, "STALE", 4.0)


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparring.conduct.evaluation.run_checks", lambda *_, **__: [])
        evaluate(problem(20), folder)
    return folder


def names(folder):
    place = place_of(folder)
    return {str(inside(file, place)) for file in place.rglob("*") if file.is_file()}


def test_a_run_in_a_store_is_that_on_disk(root, on_disk, tmp_path, attacked):  # noqa: F811
    out = f"{root}/run"
    made = evaluate(problem(20), out)
    assert digest(out) == digest(on_disk)
    assert names(out) == names(on_disk)
    assert numbers(made) == numbers(sparring.load_evaluation(out)) == numbers(sparring.load_evaluation(on_disk))
    assert str(made.folder) == out
    assert status_of(out).complete
    assert image_rows(out) == image_rows(on_disk)
    sparring.write_report(out, f"{root}/page.html")
    sparring.write_report(on_disk, tmp_path / "page.html")
    assert (
        Remote(f"{root}/page.html").read_bytes().count(b"<img")
        == (tmp_path / "page.html").read_bytes().count(b"<img")
        > 0
    )
    attacked.clear()
    evaluate(problem(20), out)
    assert attacked["points"] == 0
    evaluate(problem(28), out)
    assert attacked["points"] > 0
    shutil.copytree(on_disk, tmp_path / "run")
    evaluate(problem(28), tmp_path / "run")
    assert digest(out) == digest(tmp_path / "run")


KILLED = """
import os, sys
sys.path.insert(0, {root!r})
from sparring.evaluation.records import claims
from sparring.evaluation.records.store import Store
from sparring.evaluation.plan.tiers import JUDGES
import sparring.conduct.asked, sparring.conduct.evaluation
claims.BEAT, claims.STALE = 0.5, 4.0
JUDGES["quick"] = (2, 4)
sparring.conduct.evaluation.run_checks = lambda *_, **__: []
from tests.conftest import mistrusting
from tests.evaluation.test_growing import evaluate, problem
sparring.conduct.asked.run_active_checks = mistrusting
put, count = Store.put_rows, []
def dies(self, *arguments):
    count.append(1)
    if len(count) == {after}:
        os._exit(9)
    put(self, *arguments)
Store.put_rows = dies
result = evaluate(problem(20), {out!r}{more})
print("missing" if result.missing else "whole")
"""


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_once_its_heart_is_silent(s3, on_disk, attacked):  # noqa: F811
    out = f"{s3}/run"
    script = KILLED.format(root=ROOT, after=6, out=out, more="")
    dead = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=200)
    assert dead.returncode == 9, dead.stderr
    assert "not complete" in str(status_of(out)) or "running" in str(status_of(out))
    with pytest.warns(UserWarning, match="to see whether it lives"):
        evaluate(problem(20), out)
    rest = attacked.pop("points")
    evaluate(problem(20), f"memory://{uuid4().hex[:12]}")
    assert 0 < rest < attacked["points"]
    assert digest(out) == digest(on_disk)
    assert names(out) == names(on_disk)


@pytest.mark.slow
def test_two_shards_on_a_store_write_the_rows_of_one(s3, on_disk):
    out = f"{s3}/run"
    texts = [KILLED.format(root=ROOT, after=-1, out=out, more=f", shard='{i}/2'") for i in range(2)]
    started = [
        subprocess.Popen([sys.executable, "-c", t], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for t in texts
    ]
    said = [process.communicate(timeout=400) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert any("whole" in text for text, _ in said)
    asked, alone = ([row for row in digest(folder) if '"check": ""' in row] for folder in (out, on_disk))
    assert asked == alone  # what follows costs less in a test's own process
    assert not sparring.load_evaluation(out).missing
    assert not [name for name in names(out) if "claim" in name or "lock" in name]


@pytest.mark.parametrize(
    ("number", "code"), [(1, errno.EACCES), (2, 121), (4, errno.ENOSPC), (9, errno.EIO), (14, errno.ENOSPC)]
)
def test_a_store_that_refuses_is_one_line_and_the_same_command_resumes(number, code, root, on_disk, monkeypatch):
    out, count = f"{root}/run", [0]
    kind = type(fsspec.filesystem(root.partition("://")[0]))
    pipe = kind.pipe_file

    def refused(self, path, value, **how):
        beats = ".lock" in path and count[0] > 0  # what a heart says at any time, and nobody waits for
        count[0] += not beats
        if count[0] == number and not beats:
            raise OSError(code, os.strerror(code))
        return pipe(self, path, value, **how)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "pipe_file", refused)
        with pytest.raises(SparringError, match=rf"cannot write {root}/run") as error:
            evaluate(problem(20), out)
    assert "\n" not in str(error.value)
    assert not [name for name in names(out) if "lock" in name]
    evaluate(problem(20), out)
    assert digest(out) == digest(on_disk)


def test_an_error_of_the_server_itself_is_one_line(s3, on_disk, monkeypatch):
    """500 to every PUT after the third, as the client's own library tells it."""
    out, count = f"{s3}/run", [0]
    call = s3fs.S3FileSystem._call_s3

    async def fails(self, method, *arguments, **fields):
        count[0] += method == "put_object"
        if count[0] > 3 and method == "put_object":
            said = {"Error": {"Code": "InternalError", "Message": "We encountered an internal error."}}
            raise translate_boto_error(ClientError(said, "PutObject"))
        return await call(self, method, *arguments, **fields)

    with monkeypatch.context() as patch:
        patch.setattr(s3fs.S3FileSystem, "_call_s3", fails)
        with pytest.raises(SparringError, match=r"internal error.*the same command resumes"):
            evaluate(problem(20), out)
    evaluate(problem(20), out)
    assert digest(out) == digest(on_disk)


def test_what_no_store_has_is_one_line(s3, monkeypatch):
    with pytest.raises(
        SparringError, match=r"cannot write s3://no-such-bucket.*does not exist.*make it, or choose another place"
    ):
        evaluate(problem(20), "s3://no-such-bucket/run")
    with pytest.raises(SparringError, match=r"holds no run.json"):
        sparring.load_evaluation(f"{s3}/nothing")
    with pytest.raises(SparringError, match="nix:// is no store that fsspec knows"):
        evaluate(problem(20), "nix://a/b")
    with pytest.raises(SparringError, match=r"write a place in a store as a text: s3://"):
        evaluate(problem(20), Path(f"{s3}/run"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(SparringError, match="credentials"):
        evaluate(problem(20), f"{s3}/run")


def test_a_library_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    fsspec.filesystem("memory")  # another is still there
    with pytest.raises(
        SparringError, match=r"s3:// needs a package that is not installed .*pip install 'sparring\[s3\]'"
    ):
        place_of("s3://bucket/run")


def test_a_store_that_cannot_say_who_was_first_has_one_process(tmp_path):
    for fields in ({"shard": "0/2"}, {"workers": 2}):
        with pytest.raises(SparringError, match="leave shard and workers out, or choose s3://"):
            evaluate(problem(20), "memory://one/run", **fields)


def test_a_store_that_overlooks_the_condition_is_noticed(s3, monkeypatch):
    pipe = s3fs.S3FileSystem.pipe_file
    monkeypatch.setattr(s3fs.S3FileSystem, "pipe_file", lambda self, path, value, mode="": pipe(self, path, value))
    with pytest.raises(SparringError, match="cannot say which of several"), claimed(place_of(f"{s3}/run"), shared=True):
        pass


def test_who_lives_keeps_a_folder_and_who_is_silent_loses_it(root):
    folder = place_of(f"{root}/run")
    with claimed(folder):
        with (
            pytest.warns(UserWarning, match="lives"),
            pytest.raises(SparringError, match="is in use by process"),
            claimed(folder),
        ):
            pass
        assert (folder / ".lock").exists()
    assert not (folder / ".lock").exists()
    (folder / ".lock").write_bytes(b"1 elsewhere")
    with pytest.warns(UserWarning, match="lives"), claimed(folder):
        assert (folder / ".lock").read_text() != "1 elsewhere"


def test_those_who_share_and_one_alone_exclude_each_other(s3):
    folder = place_of(f"{s3}/run")
    with claimed(folder, shared=True):
        with pytest.warns(UserWarning, match="lives"), pytest.raises(SparringError, match="is in use"), claimed(folder):
            pass
        (folder / ".lock.other.1").write_bytes(b"1 other")
    (folder / ".lock.other.1").unlink()
    with (
        claimed(folder),
        pytest.warns(UserWarning, match="lives"),
        pytest.raises(SparringError, match="is in use"),
        claimed(folder, shared=True),
    ):
        pass


def test_a_silent_claim_is_taken_over_and_a_beating_one_is_not(root):
    mine, other = Claims(place_of(root), "plan"), Claims(place_of(root), "plan")
    with mine.taken("block") as first:
        assert first
        end = time.monotonic() + claiming.STALE + 1
        while time.monotonic() < end:
            with other.taken("block") as second:
                assert not second
            time.sleep(0.5)
        assert list(other.held()) == ["block"]
    file = mine.folder / "block.claim"
    assert not file.exists()
    file.write_bytes(b"1 elsewhere")
    assert not take(file, lambda: claiming.silent(file))
    time.sleep(claiming.STALE + 1.5)  # S3 counts in whole seconds
    assert not other.held()
    with mine.taken("block") as again:
        assert again


@pytest.mark.slow
def test_the_command_line_takes_a_store(s3, tmp_path):
    words = ["mnist_cnn", "--data", "mnist5k:split=test,limit=6", "--attack", "fgsm:eps=0.1", "--threat", "oblivious"]
    run = say(tmp_path, "evaluate", *words, "--out", f"{s3}/run", "--html", f"{s3}/page.html")
    assert run.code == 0, run.err
    assert f"{s3}/run" in run.out
    for command in (["report", f"{s3}/run", "--images", f"{s3}/images.csv"], ["status", f"{s3}/run"]):
        told = say(tmp_path, *command)
        assert told.code == 0, told.err
    assert not list(tmp_path.iterdir()), "nothing is on disk"
    assert {"page.html", "images.csv", "run/run.json"} <= names(s3)
    refused = say(tmp_path, "evaluate", *words, "--out", "s3://no-such-bucket/run")
    assert refused.code == 2
    assert refused.err.count("error: ") == 1
    assert say(tmp_path, "evaluate", *words, "--save-config", f"{s3}/c.toml").code == 2
