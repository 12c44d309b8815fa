"""Rows of a complete run in few large files, and what stands beside them: each row is there, and counts once."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

import sparring
from sparring.conduct import evaluation
from sparring.core.errors import SparringError
from sparring.evaluation.records import rows as stored
from sparring.evaluation.records.rows import blocks_before
from sparring.evaluation.records.seal import write_whole
from sparring.evaluation.results.load import load_rows
from sparring.evaluation.results.status import status_of
from sparring.evaluation.results.table import RowTable
from sparring.evaluation.run.ring import Ring
from tests.evaluation.test_growing import attacked, evaluate, numbers, problem  # noqa: F401  (a fixture)
from tests.evaluation.test_several import digest

pytestmark = pytest.mark.usefixtures("brief", "no_checks")


@pytest.fixture
def no_checks(monkeypatch):
    monkeypatch.setattr("sparring.conduct.evaluation.run_checks", lambda *_, **__: [])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A run in small files."""
    folder = tmp_path_factory.mktemp("small") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparring.conduct.evaluation.run_checks", lambda *_, **__: [])
        evaluate(problem(20), folder)
    return folder


@pytest.fixture
def many(monkeypatch):
    """Few files are many, and few rows fill a large one."""
    monkeypatch.setattr(stored, "MANY", 3)
    monkeypatch.setattr(stored, "MOST", 60)
    monkeypatch.setattr(stored, "GROUP", 16)


@pytest.fixture
def run(small, tmp_path):
    return Path(shutil.copytree(small, tmp_path / "run"))


def files(folder):
    return sorted(folder.glob("rows/*.parquet")), sorted(folder.glob("rows/*/*.parquet"))


def test_a_complete_run_is_gathered_and_says_the_same(small, run, attacked, many):  # noqa: F811
    before = len(files(run)[1])
    again = evaluate(problem(20), run)
    assert attacked["points"] == 0
    large, left = files(run)
    assert 1 < len(large) < before
    assert not left
    assert not [folder for folder in (run / "rows").iterdir() if folder.is_dir()]
    assert digest(run) == digest(small)
    assert numbers(again) == numbers(sparring.load_evaluation(small))
    assert status_of(run).calls == status_of(small).calls > 0
    assert status_of(run).files_done == status_of(small).files_done == status_of(run).files
    stamps = {file: file.read_bytes() for file in large}
    evaluate(problem(20), run)
    assert attacked["points"] == 0
    assert {file: file.read_bytes() for file in files(run)[0]} == stamps


def test_a_gathered_run_grows(run, tmp_path, attacked, many):  # noqa: F811
    evaluate(problem(20), run)
    evaluate(problem(28), run, defenses=("gauss:std=0.05", "cd:bits=4"))
    assert not files(run)[1]
    made = attacked.pop("points")
    other = tmp_path / "never gathered"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "MANY", 10_000)
        evaluate(problem(20), other)
        attacked.clear()
        evaluate(problem(28), other, defenses=("gauss:std=0.05", "cd:bits=4"))
    assert made == attacked["points"]
    assert digest(run) == digest(other)


@pytest.mark.parametrize("number", [0, -1])
def test_a_damaged_large_file_is_named_and_its_blocks_are_made_anew(number, small, run, many):
    evaluate(problem(20), run)
    file = files(run)[0][number]
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.write_bytes(content)
    torn = sparring.load_evaluation(run)
    assert f"rows/{file.name} is damaged" in torn.missing
    assert not torn.verdicts
    assert any(file.name in line for line in status_of(run).damaged)
    with pytest.warns(UserWarning, match="what it held is made anew"):
        healed = evaluate(problem(20), run)
    assert not healed.missing
    assert digest(run) == digest(small)


@pytest.mark.parametrize("stop", ["before the first is written", "between two", *range(0, 30, 7)])
def test_wherever_gathering_stops_every_row_counts_once(stop, small, run, many, monkeypatch):
    """A crash at any write or removal: nothing is lost or counted twice, as it stands and once it has gone on."""
    unlink, count = Path.unlink, [0]

    def writes(file, content):
        count[0] += 1
        if file.parent.name == "rows" and count[0] > (1 if stop == "between two" else 0):
            raise KeyboardInterrupt
        write_whole(file, content)

    def removes(self, missing_ok=False):
        if self.suffix == ".parquet" and not self.name.startswith("."):
            count[0] += 1
            if count[0] > stop:
                raise KeyboardInterrupt
        unlink(self, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        if isinstance(stop, int):
            patch.setattr(Path, "unlink", removes)
        else:
            patch.setattr(stored, "write_whole", writes)
        with pytest.raises(KeyboardInterrupt):
            evaluate(problem(20), run)
    assert digest(run) == digest(small)
    assert numbers(sparring.load_evaluation(run)) == numbers(sparring.load_evaluation(small))
    assert not evaluate(problem(20), run).missing
    assert digest(run) == digest(small)


def test_what_was_made_anew_beside_a_large_file_counts_instead_of_that(small, run, many, monkeypatch):
    """Points were lost: their rows are made again in a small file, and the older ones in the large file count no more."""
    evaluate(problem(20), run)
    for file in sorted(run.glob("points/*/*"))[:2]:
        file.write_bytes(b"spoiled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "MANY", 10_000)
        with pytest.warns(UserWarning, match="made anew"):
            evaluate(problem(20), run)
    assert digest(run) == digest(small)

    unlink = Path.unlink

    def stops(self, missing_ok=False):
        if self.suffix == ".parquet":
            raise KeyboardInterrupt
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(stored, "MANY", 0)
    before = len(files(run)[0])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stops)
        with pytest.raises(KeyboardInterrupt):
            evaluate(problem(20), run)
    assert len(files(run)[0]) > before, "a large file that replaces others stands beside them"
    assert digest(run) == digest(small)
    evaluate(problem(20), run)
    assert digest(run) == digest(small)


def test_a_full_disk_while_rows_are_gathered_is_one_line(small, run, many, monkeypatch):
    write = Path.write_bytes

    def full(self, content):
        if self.parent.name == "rows":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return write(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(SparringError, match="No space left on device; free some space; the same command resumes"):
            evaluate(problem(20), run)
    assert digest(run) == digest(small)
    evaluate(problem(20), run)
    assert not files(run)[1]


def test_results_are_those_of_rows_read_at_once(small, run, many):
    """Column by column and in small codes: every value is that of the whole table."""
    evaluate(problem(20), run)
    lazily, whole = load_rows(run), RowTable(stored.read_rows(run))
    assert lazily.size == whole.size
    for name in (*lazily.texts.names, *lazily.columns.names):
        assert list(map(str, lazily[name].tolist())) == list(map(str, whole[name].tolist())), name


def test_status_decodes_no_row(run, monkeypatch):
    for method in ("column", "encoded", "table"):
        monkeypatch.setattr(stored.RowFile, method, lambda *_: pytest.fail("rows are read"))
    assert status_of(run).calls > 0


@pytest.mark.parametrize("how", ["lost", "damaged"])
@pytest.mark.parametrize("gathered", [False, True])
def test_a_record_that_is_lost_of_a_run_that_grew_is_written_anew_from_its_rows(
    how,
    gathered,
    run,
    attacked,  # noqa: F811
    monkeypatch,
):
    """Its blocks are not those that the same command would cut: they are what the rows say."""
    monkeypatch.setattr(stored, "MANY", 3 if gathered else 10_000)
    evaluate(problem(28), run)
    before, blocks = digest(run), blocks_before(run)
    assert [len(names) for names in blocks] == [8, 8, 4, 8]
    file = run / "run.json"
    file.unlink() if how == "lost" else file.write_text("{")
    assert blocks_before(run) == blocks
    attacked.clear()
    if how == "lost":
        again = evaluate(problem(28), run)
    else:
        with pytest.warns(UserWarning, match=r"kept in run.json.damaged"):
            again = evaluate(problem(28), run)
    assert attacked["points"] == 0
    assert not again.missing
    assert digest(run) == before


def test_rows_that_are_spoiled_while_shards_run_are_made_anew(small, tmp_path, monkeypatch):
    """By the process that gives the verdict, whoever had made them."""
    out, helped = tmp_path / "run", Ring.help

    def spoil(self, claims, first=0):
        helped(self, claims, first)
        sorted(out.glob("rows/*/*.parquet"))[3].write_bytes(b"spoiled")

    monkeypatch.setattr(Ring, "help", spoil)
    with pytest.warns(UserWarning, match="is made anew"):
        result = evaluate(problem(20), out, shard="0/1")
    assert not result.missing
    assert result.verdicts
    assert digest(out) == digest(small)


def test_a_smaller_shard_does_not_overwrite_the_record_of_a_larger_one(tmp_path, monkeypatch):
    """The larger one writes while the smaller one attacks."""
    out, helped, begun = tmp_path / "run", Ring.help, []

    def beside(self, claims, first=0):
        if not begun:
            begun.append(1)
            assert not evaluate(problem(20), out, shard="0/2").missing
        helped(self, claims, first)

    monkeypatch.setattr(Ring, "help", beside)
    with pytest.raises(SparringError, match=r"has grown beyond this run meanwhile \(data\)"):
        evaluate(problem(12), out, shard="1/2")
    record = json.loads((out / "run.json").read_text())
    assert record["images"] == 20
    monkeypatch.undo()
    monkeypatch.setattr(evaluation, "run_checks", lambda *_, **__: [])
    whole = evaluate(problem(20), out)
    assert not whole.missing
    assert whole.verdicts


def test_blocks_that_were_cut_otherwise_are_made_anew_and_removed(small, run, attacked):  # noqa: F811
    """Two processes had cut the same images into other blocks, and one record was written over the other's."""
    record = json.loads((run / "run.json").read_text())
    names = [name for block in record["blocks"] for name in block]
    (run / "run.json").unlink()
    shutil.rmtree(run / "rows")
    record["blocks"] = [names[:5], names[5:]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparring.conduct.planned.blocks_before", lambda _: record["blocks"])
        evaluate(problem(20), run)
    other = [file.relative_to(run) for file in run.glob("rows/*/*.parquet")]
    shutil.copytree(small, run, dirs_exist_ok=True)
    assert sparring.load_evaluation(run).missing
    with pytest.warns(UserWarning, match="rows of images that this run has in other blocks; it is removed"):
        healed = evaluate(problem(20), run)
    assert not healed.missing
    assert healed.verdicts
    assert not [file for file in other if (run / file).exists()]
    assert digest(run) == digest(small)
