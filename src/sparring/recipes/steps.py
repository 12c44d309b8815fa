"""The steps of a recipe by their specs only: as commands, checked against the registries, run, and whether they are done."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sparring.analysis.base import analyze
from sparring.analysis.drawing import draw
from sparring.attacks.attack import attack
from sparring.conduct import evaluate
from sparring.core.columns import Json
from sparring.core.errors import SparringError
from sparring.core.registry import ANALYSES, DATA, DEFENSES, MODELS, TASKS, Registry
from sparring.core.spec import check_fields, named_by, parse, show, signature, split, without
from sparring.data.sources import OF_ANY
from sparring.evaluation.plan.spec import EvaluationSpec
from sparring.evaluation.records.files import read_run
from sparring.evaluation.records.seal import write_text
from sparring.evaluation.results.closed import UNDEFENDED
from sparring.evaluation.results.table import CLEAN
from sparring.evaluation.run.pace import Progress
from sparring.evaluation.run.save import make_images
from sparring.recipes.expand import DATA as DATA_NAME
from sparring.recipes.expand import OUT as OUT_NAME
from sparring.recipes.expand import Address, Expanded, Step
from sparring.recipes.recipe import Settings, Value
from sparring.subject import Subject
from sparring.threats import threat
from sparring.training.base import schedule_fields, train
from sparring.verdict.command import Command

ASKED = ".asked.json"


@dataclass(frozen=True)
class Folders:
    """Where data lies (``data``: what ${DATA} stands for, "" where nobody said) and where steps write (``out``)."""

    out: Path
    data: str

    @classmethod
    def of(cls, out: str | Path, data_dir: str | Path | None = None) -> Folders:
        """``data_dir``: default the environment variable SPARRING_DATA."""
        return cls(Path(out), str(data_dir) if data_dir else os.environ.get("SPARRING_DATA", ""))

    def place(self, text: str) -> str:
        """A text with its folders. Raises SparringError where it needs the data's and nobody said where that is."""
        if DATA_NAME in text and not self.data:
            raise SparringError(f"{text} needs a data folder; give --data-dir DIR, or set SPARRING_DATA")
        return text.replace(DATA_NAME, self.data).replace(OUT_NAME, str(self.out))

    def asked(self, step: Step) -> Settings:
        """A step's fields with their folders."""
        return {name: self._placed(value) for name, value in step.asked.items()}

    def _placed(self, value: Value | list[str] | None) -> Value | list[str] | None:
        if isinstance(value, list):
            return [self.place(text) for text in value]
        return self.place(value) if isinstance(value, str) else value

    def _unplaced(self, text: str) -> str:
        """A text without this machine's folders."""
        text = text.replace(str(self.out), OUT_NAME)
        return text.replace(self.data, DATA_NAME) if self.data else text

    def output(self, step: Step) -> Path:
        """The file or folder that a step writes."""
        path = self.out / step.place
        return path.with_name(f"{path.name}.json") if step.kind == "analyze" else path

    def is_done(self, step: Step) -> bool:
        """Has it been run to its end? Raises SparringError where what lies there was made for another step."""
        note = self.note_of(step)
        if not note.exists():
            return False
        try:
            said: Json = json.loads(note.read_text())
            asked, seconds, done = said["asked"], float(said["seconds"]), said["done"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SparringError(f"{note} is damaged ({error}); remove it and {self.output(step)}") from None
        if asked != _identity(step):
            raise SparringError(
                f"{self.output(step)} was made for another step ({asked}); remove it with {note.name}, or choose another --out"
            )
        return bool(done) and seconds > 0 and self.output(step).exists()

    def note_of(self, step: Step) -> Path:
        output = self.output(step)
        return output.with_name(f"{output.name}{ASKED}")

    def note(self, step: Step, seconds: float, done: bool) -> None:
        """Write down what is asked, how long it took until now, and whether it is done."""
        note = self.note_of(step)
        note.parent.mkdir(parents=True, exist_ok=True)
        spent = json.loads(note.read_text())["seconds"] if note.exists() else 0.0
        content = {"asked": _identity(step), "seconds": round(spent + seconds, 1), "done": done}
        write_text(note, json.dumps(content, indent=1) + "\n")

    def facts(self, step: Step) -> Json:
        """Of a step that is done: what was asked, how long it took, and the hashes that decide its numbers."""
        said: Json = json.loads(self.note_of(step).read_text())
        facts: Json = {"place": step.place, **said["asked"], "seconds": said["seconds"]}
        if step.kind == "evaluate":
            record = read_run(self.output(step))
            facts |= {name: record["identity"][name] for name in ("weights", "data", "code", "judge")}
            facts["draws"] = {self._unplaced(name): count for name, count in record["identity"]["draws"].items()}
            failed = [c for c in record["checks"] if not c["ok"] and c["severity"] in ("FATAL", "FAIL")]
            lines = [
                f"{c['check']} of {c['defense'] or 'all'} | {c['threat'] or 'all'}: {c['message']}" for c in failed
            ]
            facts["doubts"] = [self._unplaced(line) for line in lines]
        elif step.kind == "analyze":
            told: Json = json.loads(self.output(step).read_text())["provenance"]
            facts |= {"weights": [model["hash"] for model in told["models"]], "data": told["data"]["hash"]}
        if pictures := self.pictures(step):
            facts["pictures"] = list(pictures)
        return facts

    def pictures(self, step: Step) -> dict[str, Path]:
        """The pictures that a step has left, by the names that they get beside the rows."""
        output = self.output(step)
        if step.kind == "attack":
            images: list[Json] = json.loads((output / "table.json").read_text())["images"]
            files: list[str] = [image["file"] for image in images]
            return {f"{output.name}-{file}": output / file for file in files}
        if "png" not in step.asked:
            return {}
        names: list[str] = json.loads(output.read_text())["pictures"]
        return {name: output.with_name(name) for name in names}


def _identity(step: Step) -> Json:
    return {"kind": step.kind, "name": step.name, "seed": step.seed, "fields": step.asked}


def as_spec(step: Step, asked: Settings) -> EvaluationSpec:
    """What a step evaluates. The paper's attacks alone: those that failed checks would ask for are none of its cells, and may cost days; what the checks
    doubt is told beside the numbers.
    """
    return EvaluationSpec.of(**{"no_follow_up": True, **asked}, seed=step.seed)


def command(step: Step, folders: Folders) -> str:
    """The step as an ordinary ``sparring`` command."""
    asked = folders.asked(step)
    if step.kind == "evaluate":
        spec = as_spec(step, asked)
        return Command({**spec.passed(), "objects": []}).evaluate("--out", str(folders.output(step)))
    models = asked.pop("model", []) if step.kind == "analyze" else []
    if step.kind == "attack":
        models = [str(asked.pop("model"))]
    named = [step.name] if step.name else []
    words = ["sparring", step.kind, *named, *(models if isinstance(models, list) else [])]
    for name, value in {**asked, "seed": step.seed}.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value is not None and value is not False and value not in ("", []):
            words += [flag, ",".join(value) if isinstance(value, list) else show(value)]
    tail = ["--json"] if step.kind == "analyze" else ["--out", str(folders.output(step))]
    text = shlex.join([*words, *tail])
    return f"{text} > {shlex.quote(str(folders.output(step)))}" if step.kind == "analyze" else text


def check(step: Step, expanded: Expanded) -> None:
    """Raise SparringError, by the step, where a spec in it names what is not there or does not fit; no file is looked at."""
    with named_by(f"recipe {expanded.recipe.id}"):
        try:
            _checks(step)
        except SparringError as error:
            raise SparringError(f"recipe {expanded.recipe.id}, step {step.id}: {error}") from None


def check_cells(expanded: Expanded) -> None:
    """Raise SparringError where a cell is read of a threat, an attack or a defense that its evaluation does not run. Of what a step leaves to its defaults
    only the name is checked.
    """
    steps = {step.place: step for step in expanded.steps if step.kind == "evaluate"}
    for address in expanded.addresses:
        table = "cell" if address.seat == "paper" else f"cell.{address.seat}"
        for name, at in ((table, address), ("cell.divisor", address.divisor)):
            if at and at.place in steps:
                try:
                    _check_cell(name, at, steps[at.place])
                except SparringError as error:
                    where = f"recipe {expanded.recipe.id}, scale {expanded.scale_name}, {'/'.join(address.labels)}"
                    raise SparringError(f"{where}: {error}") from None


def _check_cell(table: str, at: Address, step: Step) -> None:
    read: tuple[tuple[str, tuple[str, ...], Callable[[str], object]], ...] = (
        ("threat", () if at.threat in ("", CLEAN) else (at.threat,), threat),
        ("attack", () if at.threat == CLEAN else at.attacks, attack),
        ("defense", () if at.defense in ("", UNDEFENDED) else (at.defense,), _defense),
    )
    for field, texts, resolve in read:
        run = step.asked.get(f"{field}s")
        for text in texts:
            if not isinstance(run, list):
                _ = resolve(text)
            elif text not in run and str(parse(text)) not in map(str, map(parse, run)):
                there = ", ".join(run) or "none"
                raise SparringError(
                    f"{table}.{field}: {text} is none of the {field}s that step {step.id} runs ({there})"
                )


def _checks(step: Step) -> None:
    asked = dict(step.asked)
    said = without(str(asked.get("data", "")), "limit")[1]
    if said and str(asked.get("limit", said)) != said:
        raise SparringError(
            f"limit={said} is in the data's text, and limit is {asked['limit']} beside it; give one of them"
        )
    if step.kind == "evaluate":
        spec = as_spec(step, asked)
        for text in (spec.model, *spec.sources):
            _named(MODELS, text)
        for text in spec.defenses:
            _defense(text)
        for text in spec.threats:
            threat(text)
        for text in spec.attacks:
            if not attack(text).bounded:
                raise SparringError(f"{text}: a recipe writes eps= in the attack, so that a cell names its ball")
        _named(DATA, str(spec.data))
        return
    if step.kind == "attack":
        _named(MODELS, str(asked["model"]))
        _named(DATA, str(asked["data"]))
        _defense(str(asked["defense"]))
        attack(str(asked["attack"]))
        return
    own = ("data", "limit") if step.kind == "train" else ("data", "limit", "model", "png")
    given = {k: v for k, v in asked.items() if k not in own}
    entry = (TASKS if step.kind == "train" else ANALYSES)[step.name]
    known = {**signature(entry), **(schedule_fields(entry) if step.kind == "train" else {})}
    check_fields(step.name, {**given, "seed": step.seed}, known)
    if asked.get("data"):
        _named(DATA, str(asked["data"]))
    models = asked.get("model", [])
    for text in models if isinstance(models, list) else [models]:
        _named(MODELS, str(text))


def _defense(text: str) -> None:
    for part in split(text, "+"):
        _named(DEFENSES, part)


def _named(registry: Registry, text: str) -> None:
    """A spec names an entry and its fields. A path alone is data, too."""
    spec = parse(text)
    if registry is DATA and spec.name not in registry:
        if "/" not in text and not text.startswith(DATA_NAME):
            _ = registry[spec.name]
        return
    entry = registry[spec.name]
    skip = OF_ANY if registry is DATA else ("weights",) if spec.values.get("weights") == "random" else ()
    check_fields(spec.name, {k: v for k, v in spec.values.items() if k not in skip}, signature(entry))


def do(step: Step, folders: Folders, workers: int, progress: Progress | None, recipe: str) -> None:
    """Run a step to its end. What it left when it was stopped is gone on with."""
    if folders.is_done(step):
        return
    if folders.output(step).exists() and not folders.note_of(step).exists():
        raise SparringError(f"{folders.output(step)} exists and no recipe made it; remove it, or choose another --out")
    folders.note(step, 0.0, False)
    start, done = time.time(), False
    try:
        with named_by(f"recipe {recipe}"):
            _do(step, folders.asked(step), folders.output(step), workers, progress)
        done = True
    finally:
        folders.note(step, max(0.1, time.time() - start), done)


def _do(step: Step, asked: Settings, output: Path, workers: int, progress: Progress | None) -> None:
    if step.kind == "train":
        output.parent.mkdir(parents=True, exist_ok=True)
        if not output.is_file():  # else it was stopped between the last byte and its note
            train(step.name, **_typed(asked), seed=step.seed, out=output, progress=progress)
    elif step.kind == "evaluate":
        result = evaluate(as_spec(step, asked), out=output, workers=workers, progress=progress)
        if result.missing:
            raise SparringError(f"{output}: {result.missing}")
    elif step.kind == "attack":
        if not output.is_dir():  # likewise
            given = _typed(asked)
            subject = Subject.of(given["model"], given["data"], [given["defense"]], limit=given.get("limit"))
            how = {"seed": step.seed, "to_end": given.get("to_end", False), "progress": progress}
            make_images(subject, given["attack"], output, given["defense"], **how)
    else:
        if progress:
            progress(0, 1, f"analyzing {step.name}")
        _analyze(step.name, _typed(asked), step.seed, output)


def _analyze(name: str, asked: Json, seed: int, output: Path) -> None:
    given = dict(asked)
    png = given.pop("png", None)
    panel = analyze(name, given.pop("model"), seed=seed, **given)
    output.parent.mkdir(parents=True, exist_ok=True)
    content = {k: v for k, v in panel.json().items() if k != "sheets"}
    if png:
        content["pictures"] = [file.name for file in draw(panel, png)]
    write_text(output, json.dumps(content) + "\n")


def _typed(asked: Settings) -> Json:
    """Without what was left open."""
    return {k: v for k, v in asked.items() if v is not None}
