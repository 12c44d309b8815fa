"""Damage of every kind to every file of a run: a resumed run ends with the undamaged one's numbers, a report names what it cannot count."""

from __future__ import annotations

import json
import os
import shutil
import stat
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

import sparring
from sparring.attacks.attack import Attack
from sparring.attacks.engine import Outcome
from sparring.checks.controls import CLASSES, images
from sparring.core.errors import SparringError
from sparring.evaluation.records.rows import read_rows
from sparring.evaluation.records.seal import BLANK, seal
from sparring.report.page import write_report

pytestmark = pytest.mark.usefixtures("brief")
IMAGES, BLOCK = 10, 6


def evaluate(out: Path, **changes):
    """A small run of two blocks: a deterministic system, a random one, a run that two cells share."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, CLASSES)).eval()
    x = images(IMAGES)
    with torch.no_grad():
        y = model(x).argmax(1)
    settings = {"attacks": ["pgd:eps=8/255,steps=3"], "draws": 2, "block": BLOCK, **changes}
    return sparring.evaluate(model, (x, y), ["gauss:std=0.05"], ["oblivious", "adaptive"], out=out, **settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, brief) -> Path:
    """An undamaged run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    evaluate(folder)
    return folder


@pytest.fixture
def run(whole, tmp_path, monkeypatch) -> Path:
    """A copy of it to be damaged; the checks, which have nothing to do with folders, are left out."""
    monkeypatch.setattr("sparring.conduct.evaluation.run_checks", lambda *_, **__: [])
    return Path(shutil.copytree(whole, tmp_path / "run"))


def numbers(result) -> tuple:
    return [c.json() for c in result.cells], [c.json() for c in result.closed], result.headlines


def rows_of(folder: Path):
    order = [(c, "ascending") for c in ("defense", "threat", "attack", "view", "draw", "judge", "image")]
    table = read_rows(folder).sort_by(order)
    return {name: list(map(str, table[name].to_pylist())) for name in table.column_names}


FILES = {
    "rows": "rows/*/*.parquet",
    "points": "points/*/*.safetensors",
    "pictures": "pictures/*.safetensors",
    "run.json": "run.json",
}


def pick(folder: Path, kind: str) -> Path:
    """A file of that kind: of rows, some of an attack."""
    for file in sorted(folder.glob(FILES[kind])):
        if kind != "rows" or "adaptive" in pq.read_table(file)["threat"].to_pylist():
            return file
    raise AssertionError(kind)


def flip(file: Path, at: float) -> None:
    content = bytearray(file.read_bytes())
    content[int(at * (len(content) - 1))] ^= 4
    file.write_bytes(content)


def to_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "mine.txt").write_text("precious")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "empty": lambda f: f.write_bytes(b""),
    "truncated": lambda f: os.truncate(f, f.stat().st_size * 2 // 3),
    "one byte short": lambda f: os.truncate(f, f.stat().st_size - 1),
    "flipped at the start": lambda f: flip(f, 0.02),
    "flipped in the middle": lambda f: flip(f, 0.5),
    "flipped at the end": lambda f: flip(f, 0.97),
    "something else": lambda f: f.write_bytes(b"PAR1 is not enough {}"),
    "deleted": lambda f: f.unlink(),
    "a folder": to_folder,
    "unreadable": lambda f: None,
}
KEPT = ("a folder", "unreadable")  # what is there may be whole, or somebody's: it is never replaced


CASES = [  # every damage once while you work, and all of them to every kind of file
    pytest.param(kind, damage, marks=[pytest.mark.slow] * (i % len(FILES) != j))
    for j, kind in enumerate(FILES)
    for i, damage in enumerate(DAMAGE)
]


def deny(monkeypatch, file: Path) -> None:
    """Reading the file is not permitted; the superuser, who may read everything, notices it too."""
    read = Path.read_bytes

    def refused(self: Path) -> bytes:
        if self == file:
            raise PermissionError(13, "Permission denied", str(self))
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", refused)


def harm(monkeypatch, file: Path, damage: str) -> None:
    DAMAGE[damage](file)
    if damage == "unreadable":
        deny(monkeypatch, file)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "damage"), CASES)
def test_a_resumed_run_heals_or_says_what_to_do(kind, damage, run, whole, monkeypatch):
    file = pick(run, kind)
    harm(monkeypatch, file, damage)
    if damage in KEPT:
        with pytest.raises(SparringError, match=r"cannot be read: .*; make it readable or move it away") as error:
            evaluate(run)
        assert str(file) in str(error.value)
        assert "\n" not in str(error.value)
        assert damage != "a folder" or (file / "mine.txt").read_text() == "precious"
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        result = evaluate(run)
    named = [str(w.message) for w in said if file.name in str(w.message)]
    assert len(named) == (damage != "deleted"), "damage is said once, what is merely missing is made"
    assert numbers(result) == numbers(sparring.load_evaluation(whole))
    assert (result.missing, result.damaged) == ("", ())
    assert rows_of(run) == rows_of(whole)
    if (kind, damage) != ("points", "deleted"):  # rows are enough
        assert {f.relative_to(run) for f in run.rglob("*") if f.name != "run.json.damaged"} == {
            f.relative_to(whole) for f in whole.rglob("*")
        }
    assert numbers(sparring.load_evaluation(run)) == numbers(result)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "damage"), CASES)
def test_a_report_counts_what_is_whole_and_names_the_rest(kind, damage, run, whole, monkeypatch, tmp_path):
    file = pick(run, kind)
    block = pq.read_table(file).num_rows if kind == "rows" else 0
    harm(monkeypatch, file, damage)
    if kind == "run.json":
        says = "holds no run.json" if damage == "deleted" else "cannot be read|is damaged"
        with pytest.raises(SparringError, match=says) as error:
            sparring.load_evaluation(run)
        assert "\n" not in str(error.value)
        return
    result, name = sparring.load_evaluation(run), str(file.relative_to(run))
    write_report([run], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    if kind == "rows":
        assert block
        assert {c.n for c in (*result.cells, *result.closed)} in ({BLOCK}, {IMAGES - BLOCK})
        assert result.headlines == []
        assert "images have been through every attack" in result.missing
        assert "Incomplete." in page
    else:
        assert numbers(result) == numbers(sparring.load_evaluation(whole))
        assert result.missing == ""
    named = kind != "points" and damage != "deleted"
    assert [line.partition(" is ")[0] for line in result.damaged] == ([name] if named else [])
    assert (name in page) == named


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rows", "points", "pictures"])
def test_a_whole_file_in_the_wrong_place_is_damage(kind, run, whole):
    """A copy of another block's file has a right checksum, and would be counted twice."""
    first, second = sorted(run.glob(FILES[kind]))[:2]
    shutil.copy(second, first)
    result = sparring.load_evaluation(run)
    if kind != "points":
        assert "it was written as" in result.damaged[0]
    with pytest.warns(UserWarning, match="it was written as"):
        result = evaluate(run)
    assert numbers(result) == numbers(sparring.load_evaluation(whole))


def test_rows_of_another_run_are_never_counted(run, whole, tmp_path):
    """A block with an attack that this run has not made an image whole that lacked one of its own."""
    evaluate(tmp_path / "other", attacks=["pgd:eps=2/255,steps=3"])
    for folder in (tmp_path / "other" / "rows").iterdir():
        if not (run / "rows" / folder.name).exists():
            shutil.copytree(folder, run / "rows" / folder.name)
    torn = sparring.load_evaluation(run)
    assert all("belongs to another run" in line for line in torn.damaged)
    assert torn.damaged
    assert torn.headlines == []
    assert numbers(torn)[:2] == numbers(sparring.load_evaluation(whole))[:2]


def test_a_lost_record_never_adopts_rows_of_another_configuration(run):
    (run / "run.json").unlink()
    with pytest.raises(SparringError, match="its rows are of another configuration"):
        evaluate(run, attacks=["pgd:eps=2/255,steps=3"])
    assert not (run / "run.json").exists()


def test_a_record_of_somebody_else_is_not_written_over(tmp_path):
    (tmp_path / "run.json").write_text('{"laps": 3}')
    (tmp_path / "shoes.txt").write_text("new")
    with pytest.raises(SparringError, match=r"shoes.txt is none of a sparring run's files"):
        evaluate(tmp_path)
    assert {f.name: f.read_text() for f in tmp_path.iterdir()} == {"run.json": '{"laps": 3}', "shoes.txt": "new"}


def test_a_damaged_record_is_kept_beside_the_new_one(run):
    (run / "run.json").write_text("{")
    with pytest.warns(UserWarning, match=r"what was there is kept in run.json.damaged"):
        evaluate(run)
    assert (run / "run.json.damaged").read_text() == "{"


def test_rows_are_judged_again_when_their_points_come_out_differently(run, monkeypatch):
    """Rows of old points beside rows of new ones of the same run were a mixture."""
    folder = next(f for f in (run / "points").iterdir() if len(_cells_of(run, f.name)) > 1)
    one, *others = _cells_of(run, folder.name)
    points = sorted(folder.iterdir())[0]
    before = {c: _points_of(c / f"{points.stem}.parquet")[folder.name] for c in (one, *others)}
    points.unlink()
    (one / f"{points.stem}.parquet").unlink()
    on = Attack.on

    def moved(self: Attack, *given: Any) -> Outcome:
        outcome = on(self, *given)
        return outcome.put(x=outcome.x * 0.999)

    monkeypatch.setattr("sparring.conduct.evaluation.asked_of", lambda *a: ([], []))  # checks attack, too
    monkeypatch.setattr(Attack, "on", moved)
    evaluate(run)
    after = {c: _points_of(c / f"{points.stem}.parquet")[folder.name] for c in (one, *others)}
    assert len(set(before.values())) == len(set(after.values())) == 1
    assert before[one] != after[one]


def _cells_of(run: Path, points: str) -> list[Path]:
    return [c for c in sorted((run / "rows").iterdir()) if points in _points_of(sorted(c.iterdir())[0])]


def _points_of(rows: Path) -> dict[str, str]:
    return json.loads((pq.read_schema(rows).metadata or {})[b"sparring"])["points"]


def test_folders_without_checksums_are_still_read(run, whole):
    """What an earlier edition wrote: the same files, none of which says what it is."""
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({k: v for k, v in record.items() if k not in ("format", "checksum")}))
    for file in run.glob(FILES["rows"]):
        pq.write_table(pq.read_table(file).replace_schema_metadata(None), file)
    old = sparring.load_evaluation(run)
    assert numbers(old) == numbers(sparring.load_evaluation(whole))
    pick(run, "rows").write_bytes(b"PAR1")
    torn = sparring.load_evaluation(run)
    assert "it is no table of rows" in torn.damaged[0]
    assert torn.headlines == []


def test_an_old_folder_that_lost_a_whole_cell_counts_nothing(run):
    """It says of no image how many rows that should have."""
    record = json.loads((run / "run.json").read_text())
    drop = ("format", "checksum", "rows_per_image")
    (run / "run.json").write_text(json.dumps({k: v for k, v in record.items() if k not in drop}))
    assert sparring.load_evaluation(run).headlines
    for file in sorted(run.glob(FILES["rows"])):  # an old run had no follow-up
        if set(pq.read_table(file)["check"].to_pylist()) != {""}:
            file.unlink()
    shutil.rmtree(pick(run, "rows").parent)
    torn = sparring.load_evaluation(run)
    assert (torn.cells, torn.headlines) == ([], [])


def test_metrics_of_a_torn_run_are_not_given_in_silence(run):
    pick(run, "rows").unlink()
    with pytest.warns(UserWarning, match=f"of {IMAGES} images have been through every attack"):
        sparring.evaluation.results.load.load_rows(run)


def test_all_files_of_a_run_have_one_permission(whole):
    modes = {stat.S_IMODE(f.stat().st_mode) for f in whole.rglob("*") if f.is_file()}
    mask = os.umask(0)
    os.umask(mask)
    assert modes == {0o666 & ~mask}


def test_a_finished_run_leaves_nothing_but_itself(whole):
    assert {f.name for f in whole.iterdir()} == {"run.json", "rows", "points", "pictures"}


def test_what_killed_processes_left_is_cleaned(run, whole):
    left = [run / ".run.json.1.partial", pick(run, "rows").parent / ".x.parquet.1.partial"]
    for file in left:
        file.write_text("half")
    assert sparring.load_evaluation(run).headlines
    evaluate(run)
    assert not [f for f in left if f.exists()]
    assert rows_of(run) == rows_of(whole)


FOREIGN: dict[str, object] = {
    "images": None,
    "checks": [{"check": "P1"}],
    "checks.0.value": [],
    "checks.0.severity": "BAD",
    "identity.defenses": None,
    "identity.threats": [None],
    "identity.tier": 7,
    "environment.sparring": {},
    "rows_per_image": "x",
    "threats": [],
    "threats.adaptive": {},
    "threats.adaptive.dominated": 7,
    "classes": [None],
    "passed.claims": 0.5,
    "prepared": None,
    "complete": "yes",
}


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "of an earlier edition"])
@pytest.mark.parametrize("place", FOREIGN)
def test_a_record_with_foreign_types_is_one_line_that_names_it(run, place, sealed):
    record = json.loads((run / "run.json").read_text())
    *into, last = place.split(".")
    inner = record
    for key in into:
        inner = inner[int(key) if key.isdigit() else key]
    inner[last] = FOREIGN[place]
    record = (
        {**record, "checksum": BLANK}
        if sealed
        else {k: v for k, v in record.items() if k not in ("checksum", "format")}
    )
    content = json.dumps(record).encode()
    (run / "run.json").write_bytes(seal(content) if sealed else content)
    with pytest.raises(SparringError, match=rf"run\.json is damaged \({place.split('.')[0]}") as error:
        sparring.load_evaluation(run)
    assert "\n" not in str(error.value)


def test_a_record_deeper_than_any_reader_is_one_line(run):
    (run / "run.json").write_text("[" * 100_000)
    with pytest.raises(SparringError, match=r"run\.json is damaged"):
        sparring.load_evaluation(run)


def unsealed(folder: Path) -> None:
    """As an earlier edition left it: no file says what it is."""
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({k: v for k, v in record.items() if k not in ("checksum", "format")}))


@pytest.mark.parametrize("name", ["correct", "k", "image"])
def test_rows_without_a_column_are_damaged_not_counted(run, name):
    unsealed(run)
    file = pick(run, "rows")
    pq.write_table(pq.read_table(file).drop_columns([name]).replace_schema_metadata(None), file)
    with pytest.warns(UserWarning, match="no verdict"):
        result = sparring.load_evaluation(run)
    assert f"{file.relative_to(run)} is damaged: it lacks {name}" in result.missing
    assert not result.headlines


def test_an_unsealed_record_without_what_later_editions_write_has_a_page(run, tmp_path):
    unsealed(run)
    record = json.loads((run / "run.json").read_text())
    later = (
        "data_name",
        "class_names",
        "surrogates",
        "attacks_resolved",
        "seats",
        "skipped",
        "worst_case_cost_per_image",
    )
    (run / "run.json").write_text(json.dumps({k: v for k, v in record.items() if k not in later}))
    with pytest.warns(UserWarning, match="no verdict"):
        write_report([run], tmp_path / "page.html")


@pytest.mark.parametrize("kind", FILES)
def test_a_pipe_in_a_files_place_is_named_and_not_waited_for(run, kind):
    file = pick(run, kind)
    file.unlink()
    os.mkfifo(file)
    says = f"{file.relative_to(run)}.*it is no regular file"
    if kind in ("run.json", "points"):  # a report reads no points
        with pytest.raises(SparringError, match=says):
            evaluate(run)
        return
    result = sparring.load_evaluation(run)
    assert any("it is no regular file" in line for line in (*result.damaged, result.missing))
