"""A recipe is run, resumed, judged and reported; its file is refused by field."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest

from sparring.core.errors import SparringError
from sparring.recipes.expand import Expanded
from sparring.recipes.judging import judge
from sparring.recipes.load import load_recipe
from sparring.recipes.numbers import Replay, replays_of
from sparring.recipes.reading import Reader
from sparring.recipes.replay import plan, replay
from sparring.recipes.steps import Folders, check
from sparring.report.replays import markdown, stale

TOY = Path(__file__).parent / "toy" / "table1.toml"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """40 gray images whose label is whether they are bright."""
    folder = tmp_path_factory.mktemp("data")
    x = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8)) // 4 + 96 * (np.arange(40) % 2)[:, None, None, None]
    np.savez(folder / "toy.npz", x=x.astype(np.uint8), y=np.arange(40) % 2)
    return folder


@pytest.fixture(scope="module")
def out(data, tmp_path_factory, brief) -> Path:
    """A folder in which the toy was run."""
    folder = tmp_path_factory.mktemp("out")
    replay(str(TOY), out=folder, data_dir=data)
    return folder


def edited(tmp_path: Path, old: str, new: str) -> str:
    """The toy's file with a change."""
    text = TOY.read_text()
    assert old in text
    file = tmp_path / "toy" / "table1.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text.replace(old, new, 1))
    return str(file)


def test_it_trains_evaluates_analyzes_and_writes_rows_with_provenance(out):
    recipe = load_recipe(str(TOY))
    (replayed,) = replays_of(recipe, out)
    steps = replayed.provenance["steps"]
    assert [s["kind"] for s in steps] == 2 * ["train", "train", "evaluate", "evaluate", "analyze", "analyze"]
    assert replayed.provenance["command"] == "sparring recipe run toy/table1 --scale small"
    assert replayed.provenance["seeds"] == [0, 1]
    text = (out / "toy" / "table1.small.json").read_text()
    assert str(out) not in text, "no path of this machine"
    assert not replayed.absent
    assert {n.labels for n in replayed.numbers} == {
        (net, threat) for net in ("plain", "smooth") for threat in ("clean", "ignores", "farther")
    }
    ignores = [n for n in replayed.numbers if n.labels == ("plain", "ignores") and n.seat == "paper" and n.seed == 0]
    assert len(ignores[0].columns) == 2, "the mean of two attacks"
    assert ignores[0].value == pytest.approx(50 * sum(c.top.mean() for c in ignores[0].columns))


def test_a_cell_is_the_number_that_the_evaluation_prints(out):
    import sparring

    (replayed,) = replays_of(load_recipe(str(TOY)), out)
    printed = sparring.load_evaluation(out / "toy.small" / "table1" / "attacked-plain-s0")
    for number in replayed.numbers:
        if number.seat == "paper" and number.seed == 0 and number.labels == ("plain", "farther"):
            cell = next(
                c
                for c in printed.cells
                if (c.defense, c.threat, c.attack) == ("cd:bits=4", "oblivious", "fgsm:eps=0.3")
            )
            assert number.value == pytest.approx(100 * cell.robust_accuracy)
            assert number.interval == (100 * cell.ci_low, 100 * cell.ci_high)


def test_a_share_of_images_has_chance_in_it_whatever_the_cell_says(out, tmp_path):
    """A cell may be of an analysis for some labels (exact) and of an evaluation for others."""
    recipe = load_recipe(edited(tmp_path, '[cell]\nstep = "attacked"', '[cell]\nexact = true\nstep = "attacked"'))
    address = Expanded.of(recipe, "small").addresses[0]
    assert address.exact
    assert not Reader(Folders(out, ""), "%").number(address).exact


def test_what_is_done_is_not_done_again(out, data):
    before = {f: f.stat().st_mtime_ns for f in out.rglob("*.safetensors")}
    assert all(step.done for step in plan(str(TOY), out=out, data_dir=data))
    replay(str(TOY), out=out, data_dir=data)
    assert {f: f.stat().st_mtime_ns for f in out.rglob("*.safetensors")} == before


def test_a_stopped_run_goes_on(out, data, tmp_path):
    """Killed between two steps, or within one: the rest is made, and the numbers are the same."""
    shutil.copytree(out, tmp_path / "out")
    here = tmp_path / "out" / "toy.small"
    shutil.rmtree(here / "table1" / "attacked-smooth-s1")
    (here / "table1" / "attacked-smooth-s1.asked.json").unlink()
    note = here / "trained" / "net-plain-s0.safetensors.asked.json"
    note.write_text(json.dumps({**json.loads(note.read_text()), "seconds": 100.0, "done": False}))
    (tmp_path / "out" / "toy" / "table1.small.json").unlink()
    again = replay(str(TOY), out=tmp_path / "out", data_dir=data)
    (before,) = replays_of(load_recipe(str(TOY)), out)
    assert [n.json() for n in again.numbers] == [n.json() for n in before.numbers]
    assert (tmp_path / "out" / "toy" / "table1.small.json").exists()
    assert again.provenance["seconds"] > 100, "what was spent before counts"


def test_steps_of_another_text_are_never_taken_for_these(out, data, tmp_path):
    other = edited(tmp_path, "epochs = 2", "epochs = 3")
    with pytest.raises(SparringError, match="was made for another step"):
        replay(other, out=out, data_dir=data)


def test_weights_that_no_recipe_made_are_not_taken_for_its_own(data, tmp_path):
    foreign = tmp_path / "toy.small" / "trained" / "net-plain-s0.safetensors"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"somebody's")
    with pytest.raises(SparringError, match="exists and no recipe made it"):
        replay(str(TOY), out=tmp_path, data_dir=data)
    assert foreign.read_bytes() == b"somebody's"


def test_each_step_begins_unmeasured(out, data):
    """Who listens counts each step for itself."""
    said: list[tuple[int, int, str]] = []
    replay(str(TOY), out=out, data_dir=data, progress=lambda *told: said.append(told))
    steps = Expanded.of(load_recipe(str(TOY)), "small").steps
    begun = [(0, 1, f"step {n} of {len(steps)}, {step.id}: begins") for n, step in enumerate(steps, 1)]
    assert [told for told in said if told[2].endswith(": begins")] == begun


def test_only_some_steps_leave_no_rows_and_say_what_is_absent(data, tmp_path):
    partial = replay(str(TOY), out=tmp_path, data_dir=data, only=["net"])
    assert partial.numbers == ()
    assert set(partial.absent.values()) == {"its step has not been run"}
    assert not (tmp_path / "toy" / "table1.small.json").exists()
    with pytest.raises(SparringError, match="no step 'nets'; did you mean net"):
        replay(str(TOY), out=tmp_path, data_dir=data, only=["nets"])


def test_a_dry_run_prints_ordinary_commands(data, tmp_path):
    steps = plan(str(TOY), out=tmp_path, data_dir=data)
    assert not any(tmp_path.iterdir())
    train = f"sparring train classifier --data {data}/toy.npz --model small_cnn --smoothing 0 --epochs 2 --batch 16 --seed 0"
    assert steps[0].command == f"{train} --out {tmp_path}/toy.small/trained/net-plain-s0.safetensors"
    assert "sparring evaluate trained:" in steps[2].command
    assert "--attack fgsm:eps=0.02 --attack bim:eps=0.02,steps=3 --attack fgsm:eps=0.3" in steps[2].command
    assert steps[4].command.startswith("sparring analyze pixels trained:")


def test_the_paper_scale_resolves():
    recipe = load_recipe(str(TOY))
    expanded = Expanded.of(recipe, "paper")
    for step in expanded.steps:
        check(step, expanded)
    assert {a.defense for a in expanded.addresses} == {"cd:bits=6"}


def test_a_twin_has_a_seed_of_its_own(tmp_path):
    recipe = load_recipe(edited(tmp_path, 'task = "classifier"', 'task = "classifier"\ntwin = 10'))
    steps = Expanded.of(recipe, "small").steps
    assert [(s.kind, s.seed) for s in steps if s.kind == "train"] == [("train", 10)] * 2 + [("train", 11)] * 2
    assert {s.seed for s in steps if s.kind == "evaluate"} == {0, 1}


def test_what_is_trained_for_a_label_may_be_named_from_anywhere(tmp_path):
    recipe = load_recipe(edited(tmp_path, "trained:${trained.net}", "trained:${trained.net.smooth}"))
    steps = [s for s in Expanded.of(recipe, "small").steps if s.seed == 1]
    trained = [s.place for s in steps if s.kind == "train"]
    assert [s.asked["model"] for s in steps if s.kind == "evaluate"] == ["trained:${OUT}/" + trained[1]] * 2


def test_the_report_is_made_from_rows_alone(out):
    recipe = load_recipe(str(TOY))
    page = markdown("toy", [(recipe, replays_of(recipe, out))])
    assert "small: 2 cores, not the paper's scale" in page
    assert "| plain | published | 99.5 | lost | 0 |" in page
    assert "Claims 1 of the paper: 1 " in page
    assert page.count("clean accuracy is high") == 2, "in the paper's seat and in the adaptive one"
    assert stale(recipe, replays_of(recipe, out)[0]) == ""


def test_a_number_that_a_check_doubts_is_never_shown_without_it(out):
    """``brief`` has a check that trusts no gradient."""
    recipe = load_recipe(str(TOY))
    (replayed,) = replays_of(recipe, out)
    assert any(line.startswith("S1 of cd:bits=4 | adaptive") for line in replayed.doubts)
    assert "- Doubted by S1 of cd:bits=4" in markdown("toy", [(recipe, [replayed])])


def test_rows_of_an_earlier_text_say_so(out, tmp_path):
    changed = load_recipe(edited(tmp_path, "limit=24", "limit=25"))
    assert "earlier text" in stale(changed, replays_of(changed, out)[0])


def test_rows_come_back_as_they_were(out):
    recipe = load_recipe(str(TOY))
    (replayed,) = replays_of(recipe, out)
    said = json.loads((out / "toy" / "table1.small.json").read_text())["claims"]
    assert [v.json() for v in judge(recipe, replayed.numbers)] == [
        {**v, "comparisons": tuple(v["comparisons"])} for v in said
    ]


def test_damaged_rows_are_one_line(out, tmp_path):
    file = tmp_path / "x.json"
    file.write_text((out / "toy" / "table1.small.json").read_text()[:-20])
    with pytest.raises(SparringError, match="is no result of sparring recipe run"):
        Replay.read(file)


REFUSED = [
    ('status = "A"', 'status = "A"\ncolour = "red"', "colour: Extra inputs"),
    ('status = "A"', 'status = "E"', "status: Input should be"),
    ("[[train]]\n", "[[train]]\nwhat = 1\n", "train.0.what: Extra inputs"),
    ('for = ["net"]', 'for = ["nets"]', "net.for: nets is none of net, threat"),
    ("[[train]]\n", '[[train]]\nwithout = { net = ["dull"] }\n', "net.without.net: dull is none of plain, smooth"),
    ("[[train]]\n", '[[train]]\nwithout = { threat = ["clean"] }\n', "net.without: threat is none of net"),
    ('plain = [99.5, "lost", 0]', "plain = [99.5, 0]", "published.values/plain: write the 3 numbers of threat"),
    ("smooth = [98", 'smooth = ["?"', "published.values/smooth/clean: '?' is no number"),
    ('a = { threat = "clean" }', 'a = { threat = "cleen" }', "claim clean: threat: cleen is none of clean, ignores"),
    ('test = "at_least"', 'test = "atleast"', "claim.0.test: Input should be"),
    ("value = 101", "", "claim clean: at_least needs a value"),
    ("[scale.small]", "[scale.middle]", "scale.middle"),
]


@pytest.mark.parametrize(("old", "new", "line"), REFUSED, ids=[line for _, _, line in REFUSED])
def test_a_file_is_refused_by_field(old, new, line, tmp_path):
    with pytest.raises(SparringError, match="recipe") as error:
        load_recipe(edited(tmp_path, old, new))
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_training_is_left_out_for_some_labels(tmp_path):
    name = edited(tmp_path, "[[train]]\n", '[[train]]\nwithout = { net = ["smooth"] }\n')
    all_of, some = (Expanded.of(load_recipe(n), "small").steps for n in (str(TOY), name))
    left = [s.place for s in all_of if s not in some]
    assert left == [f"toy.small/trained/net-smooth-s{seed}.safetensors" for seed in (0, 1)]


@pytest.mark.parametrize(
    ("table", "kind"), [("[[train]]", "train"), ("[[evaluate]]", "evaluate"), ("[[analyze]]", "analyze")]
)
def test_a_step_is_run_at_its_scales_alone(table, kind, tmp_path):
    recipe = load_recipe(edited(tmp_path, table, f'{table}\nscales = ["paper"]'))
    small, paper = (Expanded.of(recipe, scale).steps for scale in ("small", "paper"))
    assert {s.kind for s in paper} == {"train", "evaluate", "analyze"}
    assert {s.kind for s in small} == {"train", "evaluate", "analyze"} - {kind}


UNRESOLVED = [
    ("cd:bits=4", "cd:bit=4", "step attacked: cd: unknown field"),
    (
        'threat = "oblivious", attack = "fgsm:eps=0.3"',
        'threat = "obliviuos", attack = "fgsm:eps=0.3"',
        "unknown threat",
    ),
    ("fgsm:eps=0.02,", "fgsm,", "a recipe writes eps= in the attack"),
    ("${images},limit", "${pictures},limit", "pictures is none of"),
    ('model = "small_cnn"', 'model = "python:os:system"', "names code to import"),
    ("epochs = 2", "epoch = 2", "step net: classifier: unknown field 'epoch'"),
    ('data = "${images}"\noptions', 'data = "${DATA}/$x"\noptions', "x is none of"),
    ('images = "${DATA}/toy.npz"', 'images = "${images}"', "is none of"),
    ('step = "attacked"', 'step = "attakced"', "cell.step: attakced is no evaluation"),
    ('status = "A"', 'status = "A"\nmetric = "acuracy"', "unknown metric 'acuracy'"),
    ('task = "classifier"', 'task = "clasifier"', "unknown training task"),
    (
        '${images}"\nlimit = 4',
        '${images},limit=2"\nlimit = 4',
        "step white: limit=2 is in the data's text, and limit is 4",
    ),
    ("trained:${trained.net}", "trained:${trained.net.rough}", "trained.net.rough is none of"),
]


@pytest.mark.parametrize(("old", "new", "line"), UNRESOLVED, ids=[line for _, _, line in UNRESOLVED])
def test_a_step_is_refused_before_anything_runs(old, new, line, data, tmp_path):
    with pytest.raises(SparringError) as error:
        replay(edited(tmp_path, old, new), out=tmp_path / "out", data_dir=data)
    assert line in str(error.value)
    assert not (tmp_path / "out").exists()


def test_what_cannot_run_yet_is_refused_with_what_is_missing(tmp_path):
    name = edited(tmp_path, 'status = "A"', 'status = "C"\nmissing = "a second toy"')
    with pytest.raises(SparringError, match="toy/table1 cannot run yet: a second toy"):
        replay(name, out=tmp_path / "out")


def test_data_without_a_folder_is_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("SPARRING_DATA", raising=False)
    with pytest.raises(SparringError, match="give --data-dir DIR, or set SPARRING_DATA"):
        replay(str(TOY), out=tmp_path / "out")


def test_labels_are_replaced_and_dropped_by_a_scale(tmp_path):
    text = '[scale.small.axes.threat]\nfarther = false\nignores = { attack = "fgsm:eps=0.01" }\n\n[scale.small.texts]'
    recipe = load_recipe(edited(tmp_path, "[scale.small.texts]", text))
    assert tomllib.loads(TOY.read_text())["axes"]["threat"]["farther"]
    addresses = Expanded.of(recipe, "small").addresses
    assert {a.labels[1] for a in addresses} == {"clean", "ignores"}
    assert {(a.threat, a.attacks) for a in addresses if a.seat == "paper" and a.labels[1] == "ignores"} == {
        ("oblivious", ("fgsm:eps=0.01",))
    }
    assert Folders.of(tmp_path).out == tmp_path


def test_pictures_stand_beside_the_rows_and_are_named(data, tmp_path):
    """Of an analysis and of an attack; an entry of a list stands for all labels, so that the attack is run once."""
    drawing = load_recipe(str(TOY.with_name("figure1.toml")))
    replayed = replay(drawing, out=tmp_path, data_dir=data)
    folder = tmp_path / "toy" / "figure1.small"
    assert sorted(replayed.pictures) == sorted(f.name for f in folder.iterdir())
    assert all((folder / name).read_bytes()[:4] == b"\x89PNG" for name in replayed.pictures)
    assert [len(s["pictures"]) for s in replayed.provenance["steps"]] == [4, 2, 2], (
        "three spectra and a sheet; two images"
    )
    page = markdown("toy", [(drawing, replays_of(drawing, tmp_path))])
    assert "![points-coarse-s0-00001.png](toy/figure1.small/points-coarse-s0-00001.png)" in page
    said = [step.command for step in plan(drawing, out=tmp_path, data_dir=data)]
    assert "--defense cd:bits=2,cd:bits=5" in said[0]
    assert f"--png {tmp_path}/toy.small/figure1/changes-s0.png" in said[0]
    assert said[1].startswith("sparring attack small_cnn:weights=random")
    assert all(step.done for step in plan(drawing, out=tmp_path, data_dir=data))


def test_what_neither_counts_nor_draws_is_refused(tmp_path):
    file = tmp_path / "toy" / "figure1.toml"
    file.parent.mkdir()
    file.write_text(TOY.with_name("figure1.toml").read_text().replace("png = true", "").partition("[[attack]]")[0])
    with pytest.raises(SparringError, match=r"write \[cell\], a step that draws"):
        load_recipe(str(file))
