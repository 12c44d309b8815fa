"""``evaluate``: the product of defenses, threats and attacks, run, judged and written down; resumable at any moment."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparring.attacks.base import Attack, attack
from sparring.core.errors import SparringError
from sparring.core.geometry import NORMS, distance, within
from sparring.core.noise import Noise, image_keys
from sparring.core.victim import System
from sparring.data.images import ImageSet
from sparring.data.sources import check_against, load_data
from sparring.defenses.base import Defended, defense
from sparring.evaluation.checks.base import Context, Finding, run_checks
from sparring.evaluation.judge import Judge
from sparring.evaluation.lattice import truncate
from sparring.evaluation.plan import (
    DRAWS,
    JUDGES,
    TIERS,
    Cell,
    Plan,
    Run,
    make_plan,
    time_per_call,
    with_budgets,
)
from sparring.evaluation.results import (
    CLEAN,
    CellResult,
    ClosedResult,
    Rows,
    all_cells,
    all_closed,
    headline,
    strongest,
)
from sparring.evaluation.store import Store, read_rows, read_run
from sparring.models.classifier import Classifier, weights_hash
from sparring.models.load import load_model
from sparring.models.prepare import Prepared, prepare
from sparring.threats import Options

PREFLIGHT_IMAGES = {"quick": 32, "standard": 128, "thorough": 128}
CHECK_BUDGET = 32 * 3072 * 8  # input elements of the preflight subset: large images get fewer of them
BLOCK = 256
PICTURES = 6


@dataclass(frozen=True)
class Evaluation:
    """What came out: results, findings and the folder they are kept in. ``plan`` and ``seconds`` of a dry run only."""

    cells: list[CellResult]
    closed: list[ClosedResult]
    findings: list[Finding]
    folder: Path | None
    tier: str
    plan: Plan | None = None
    seconds: float = 0.0

    @property
    def headlines(self) -> list[str]:
        """One sentence per defense and ball, about the strongest threat that was run."""
        return [headline(r, self.tier) for r in strongest(self.closed)]

    def json(self) -> dict[str, Any]:
        return {
            "cells": [c.json() for c in self.cells],
            "closed": [c.json() for c in self.closed],
            "checks": [asdict(f) for f in self.findings],
        }


@dataclass(frozen=True)
class SetUp:
    """A model, prepared, with its images and defended systems: everything before the first attack."""

    model: Classifier
    prepared: Prepared
    images: ImageSet
    systems: dict[str, Defended]
    others: list[Defended]
    classes: int
    keys: Tensor = field(repr=False, default_factory=lambda: torch.zeros(0))

    def context(
        self, attacks: Sequence[Attack], tier: str, expected_clean: float | None, seed: int
    ) -> Context:
        """What the preflight checks look at: the first images of the set, every defended system."""
        count = max(4, min(PREFLIGHT_IMAGES[tier], CHECK_BUDGET // self.images.x[0].numel()))
        part = slice(0, min(count, len(self.images)))
        return Context(
            model=self.model, network=self.prepared.model, x=self.images.x[part], y=self.images.y[part], ids=self.images.ids[part],
            systems=list(self.systems.values()), attacks=attacks, expected_clean=expected_clean, all_x=self.images.x, all_y=self.images.y, seed=seed,
        )  # fmt: skip


def set_up(model: str | nn.Module, data: Any, defenses: Sequence[str], *, sources: Sequence[str | nn.Module] = (), limit: int | None = None,
           seed: int = 0, skip_bad: bool = False, device: str | None = None) -> SetUp:  # fmt: skip
    """Load, check against each other, prepare and install. Raises SparringError for anything that does not fit.

    ``seed`` here draws nothing: a subset is drawn by the data spec's own seed=.
    """
    images = load_data(data, limit=limit, skip_bad=skip_bad)
    classifier = load_model(model)
    base, prepared, classes = _install(classifier, images, device)
    check_against(images, None, None, classes)
    names = list(dict.fromkeys(["none", *defenses]))
    systems = {}
    for name in names:
        system = defense(name).install(base)
        systems[name] = system
    others = [_install(load_model(s), images, device)[0] for s in sources]
    return SetUp(classifier, prepared, images, systems, others, classes, image_keys(images.ids))


def _install(classifier: Classifier, images: ImageSet, device: str | None) -> tuple[Defended, Prepared, int]:
    check_against(images, classifier.channels, classifier.size)
    example = images.x[:4]
    try:
        with torch.no_grad():
            z = classifier(example)
    except RuntimeError as error:
        raise SparringError(
            f"{classifier.name} cannot take images of shape {tuple(example.shape[1:])}: {str(error).splitlines()[0]}"
        ) from None
    if not isinstance(z, Tensor) or z.dim() != 2 or len(z) != len(example) or z.shape[1] < 2:
        shape = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
        raise SparringError(
            f"{classifier.name} must return logits (B,K) with K >= 2, got {shape} for {len(example)} images"
        )
    prepared = prepare(classifier, example)
    if device:
        prepared.model.to(device)
    return Defended(prepared.model, id=weights_hash(classifier)), prepared, z.shape[1]


def evaluate(
    model: str | nn.Module,
    data: Any,
    defenses: Sequence[str] = (),
    threats: Sequence[str] = ("oblivious", "adaptive"),
    attacks: Sequence[str | Attack] = (),
    *,
    eps: Sequence[float] = (),
    sources: Sequence[str | nn.Module] = (),
    tier: str = "quick",
    out: str | Path | None = None,
    seed: int = 0,
    slots: int = 64,
    limit: int | None = None,
    draws: int | None = None,
    expect_clean: float | None = None,
    amp: bool = False,
    skip_bad: bool = False,
    device: str | None = None,
    block: int = BLOCK,
    dry_run: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> Evaluation:
    """Robust accuracy of ``model`` behind each of ``defenses`` (the undefended model is always added), per threat.

    model, data, defenses, threats, attacks: spec texts (or a module, tensors). eps: budgets for attacks without their
    own. sources: other models for transfer. tier: quick, standard or thorough. out: run folder, resumed if it exists.
    draws: EOT draws per gradient. progress(done, total, text) counts images through runs.

    Raises SparringError for bad input, a failed fatal check, or an output folder of another configuration.
    """
    if tier not in TIERS:
        raise SparringError(f"tier={tier} is not one of {', '.join(TIERS)}")
    if slots < 1 or block < 1:
        raise SparringError("slots must be at least 1")
    made = set_up(model, data, defenses, sources=sources, limit=limit, skip_bad=skip_bad, device=device)
    chosen = with_budgets([attack(a) for a in (attacks or TIERS[tier])], eps, made.images.x.shape[1:])
    judge = Judge(*JUDGES[tier], seed=seed)
    options = Options(draws or DRAWS[tier], amp)
    plan = make_plan(
        made.systems,
        threats,
        chosen,
        others=made.others,
        options=options,
        judge=judge,
        seed=seed,
        data_hash=made.images.hash,
        classes=made.classes,
    )
    if dry_run:
        forward, gradient = time_per_call(made.prepared.model, made.images.x)
        cost = plan.cost()
        seconds = (
            cost["backwards"] * gradient
            + (cost["forwards"] - cost["backwards"] + cost["judge_forwards"]) * forward
        ) * len(made.images)
        return Evaluation([], [], [], None, tier, plan, seconds)
    findings = run_checks(made.context(chosen, tier, expect_clean, seed))
    stopped = [f for f in findings if f.stops]
    if stopped:
        more = f" (and {len(stopped) - 1} more; see sparring doctor)" if len(stopped) > 1 else ""
        raise SparringError(f"check {stopped[0].check} failed: {stopped[0].message}{more}")

    identity = {
        "model": made.model.name, "weights": weights_hash(made.model), "data": made.images.hash, "defenses": list(made.systems), "threats": list(threats),
        "attacks": [str(a) for a in chosen], "sources": [o.id for o in made.others], "tier": tier, "seed": seed, "draws": options.draws, "amp": amp,
        "judge": [judge.select, judge.draws], "block": block,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(out or scratch, identity)
        ring = _Ring(made, plan, store, slots, block, progress)
        start = time.time()
        facts = _facts(made, plan, findings)
        store.write_run(**facts, complete=False)
        ring.run()
        store.write_run(**facts, complete=True, seconds=round(time.time() - start, 1), slots=slots)
        result = load_evaluation(store.folder)
    return result if out else Evaluation(result.cells, result.closed, result.findings, None, tier)


def _facts(made: SetUp, plan: Plan, findings: list[Finding]) -> dict[str, Any]:
    return {
        "model_note": made.prepared.note,
        "data_name": made.images.name,
        "images": len(made.images),
        "class_names": list(made.images.classes),
        "lattice": made.images.lattice,
        "classes": made.classes,
        "worst_case_cost_per_image": plan.cost(),
        "checks": [asdict(f) for f in findings],
        "skipped": [asdict(s) for s in plan.skipped],
        "surrogates": {
            name: [
                {
                    "stage": s.name,
                    "variants": list(s.surrogate.backward),
                    "random": s.surrogate.random,
                    "why": s.surrogate.why,
                }
                for s in d.stages
            ]
            for name, d in made.systems.items()
        },
        "attacks_resolved": {
            str(r.attack): {**vars(r.attack.method), **vars(r.attack.setting)} for r in plan.runs.values()
        },
        "seats": {
            f"{c.defense} / {c.threat}": {
                "source": c.seat.source,
                "access": c.seat.access.name,
                "stop": c.seat.stop,
            }
            for c in plan.cells
        },
    }


def load_evaluation(folder: str | Path) -> Evaluation:
    """An ``Evaluation`` from a run folder: all numbers are computed anew from its rows."""
    record = read_run(folder)
    rows = Rows(
        read_rows(folder),
        [text for field in ("defenses", "threats", "attacks") for text in record["identity"][field]],
    )
    findings = [
        Finding(**{**f, "value": float(f["value"]), "threshold": float(f["threshold"])})
        for f in record["checks"]
    ]
    return Evaluation(all_cells(rows), all_closed(rows), findings, Path(folder), record["identity"]["tier"])


class _Ring:
    """Runs a plan block by block: each run attacks the block's images once, each cell judges the points on its system."""

    def __init__(
        self,
        made: SetUp,
        plan: Plan,
        store: Store,
        slots: int,
        block: int,
        progress: Callable[[int, int, str], None] | None,
    ) -> None:
        self.made, self.plan, self.store, self.slots, self.progress = made, plan, store, slots, progress
        count = len(made.images)
        self.blocks = [slice(i, min(i + block, count)) for i in range(0, count, block)]
        # progress is counted in network calls, so that the ETA is honest about expensive runs
        self.weight = {r.id: max(1, sum(r.cost(plan.classes))) for r in plan.runs.values()}
        judged = sum(plan.judge.cost(c.seat.judge) * 2 * len(c.runs) for c in plan.cells)
        self.total = int(count * (sum(self.weight.values()) + judged))
        self.spent = 0
        self.device = next((p.device for p in made.prepared.model.parameters()), torch.device("cpu"))

    def run(self) -> None:
        for number, rows in enumerate(self.blocks):
            for defended in self.made.systems:
                self._judge_clean(defended, number, rows)
            for cell in self.plan.cells:
                self._judge_cell(cell, number, rows)
        self._pictures()

    def _pictures(self) -> None:
        """A few clean / adversarial / defended images per cell with a finite ball, for the report (which runs nothing)."""
        rows = slice(0, min(PICTURES, len(self.made.images), self.blocks[0].stop))
        x, _, keys = self._batch(rows)
        for cell in self.plan.cells:
            points = self.store.points(cell.runs[0].id, 0)
            if cell.seat.average or points is None:
                continue
            adversarial = points["x"][rows].to(self.device)
            defended = adversarial
            with torch.no_grad():
                noise = Noise.of(self.plan.judge.seed, "judge", keys).repeat(1)
                for i, part in enumerate(cell.seat.judge.parts):
                    defended = part.forward(defended, noise.child(f"stage{i}"))
            content = {
                "clean": x.cpu(),
                "adversarial": adversarial.cpu(),
                "defended": defended.clamp(0, 1).cpu(),
            }
            about = {"defense": cell.defense, "threat": str(cell.threat), "attack": str(cell.attack), "run": cell.runs[0].id,
                     "images": json.dumps(self.made.images.ids[rows])}  # fmt: skip
            name = self._cell_id(
                cell.defense, str(cell.threat), str(cell.attack), cell.seat.judge, [r.id for r in cell.runs]
            )
            self.store.put_pictures(name, content, about)

    def _say(self, amount: float, text: str) -> None:
        self.spent += int(amount)
        if self.progress:
            self.progress(min(self.spent, self.total), self.total, text)

    def _batch(self, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
        return (
            self.made.images.x[rows].to(self.device),
            self.made.images.y[rows].to(self.device),
            self.made.keys[rows].to(self.device),
        )

    def _attack(self, run: Run, number: int, rows: slice, text: str) -> dict[str, Tensor]:
        found = self.store.points(run.id, number)
        count, weight = rows.stop - rows.start, self.weight[run.id]
        if found is not None:
            return found
        x, y, keys = self._batch(rows)
        skip = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        if run.white:  # a deterministic white seat: what is wrong when clean needs no attack
            first = run.view.victim.systems[0]
            skip = ~self.plan.judge.score(System(first.network, first.parts, first.readout), x, y, keys).first
        done = 0

        def advance(settled: int) -> None:
            nonlocal done
            done += settled
            self._say(settled * weight, text)

        live = ~skip
        outcome = run.attack.on(run.view.victim, x[live], y[live], keys[live], stop=run.stop, slots=self.slots, seed=run.seed,
                                reparam=run.view.reparam, progress=advance)  # fmt: skip
        self._say((count - done) * weight, text)
        columns = {
            k: getattr(outcome, k) for k in outcome.__dataclass_fields__ if k not in ("distance", "margin")
        }
        full = {
            "x": x.clone(), "success": skip.clone(), **{k: torch.zeros(len(x), dtype=torch.int64, device=x.device) for k in columns if k not in ("x", "success")},
        }  # fmt: skip
        for k, v in columns.items():
            full[k][live] = v
        full = {k: v.cpu() for k, v in full.items()}
        self.store.put_points(run.id, number, full)
        return full

    def _judge_cell(self, cell: Cell, number: int, rows: slice) -> None:
        name = self._cell_id(
            cell.defense, str(cell.threat), str(cell.attack), cell.seat.judge, [r.id for r in cell.runs]
        )
        text = f"{cell.defense} | {cell.threat} | {cell.attack}"
        if self.store.has_rows(name, number):
            self._say(0, text)
            return
        tables = []
        for run in cell.runs:
            points = self._attack(run, number, rows, text)
            tables.append(self._rows_of(cell, run, points, rows))
            self._say((rows.stop - rows.start) * 2 * self.plan.judge.cost(cell.seat.judge), text)
        if (
            not cell.seat.pooled and not cell.seat.average
        ):  # judged elsewhere than the deployed system: it needs its own clean rows
            tables.append(self._clean_rows(cell.defense, f"for {cell.threat}", cell.seat.judge, rows))
        self.store.put_rows(name, number, {k: sum((t[k] for t in tables), []) for k in tables[0]})

    def _judge_clean(self, name: str, number: int, rows: slice) -> None:
        system = self.made.systems[name].system()
        cell = self._cell_id(name, CLEAN, "none", system, [])
        if not self.store.has_rows(cell, number):
            self.store.put_rows(cell, number, self._clean_rows(name, "none", system, rows))

    def _clean_rows(self, name: str, attack_text: str, system: System, rows: slice) -> dict[str, list[Any]]:
        fixed = {
            "defense": name,
            "threat": CLEAN,
            "attack": attack_text,
            "view": "",
            "run": CLEAN,
            "norm": "linf",
            "eps": 0.0,
            "pooled": attack_text == "none",
            "averaged": False,
        }
        x = self._batch(rows)[0]
        zero = torch.zeros(len(x), dtype=torch.int64)
        costs = {
            k: zero
            for k in (
                "forwards",
                "backwards",
                "job",
                "first_hit",
                "best_hit",
                "nonfinite_gradients",
                "zero_gradients",
            )
        }
        return self._judged(fixed, system, {"x": x, "success": zero.bool(), **costs}, rows)

    def _rows_of(self, cell: Cell, run: Run, points: dict[str, Tensor], rows: slice) -> dict[str, list[Any]]:
        eps = cell.attack.setting.eps
        fixed = {
            "defense": cell.defense, "threat": str(cell.threat), "attack": str(cell.attack), "view": run.view.name, "run": run.id, "norm": cell.attack.norm,
            "eps": float("inf") if eps is None else eps, "pooled": cell.seat.pooled, "averaged": bool(cell.seat.average),
        }  # fmt: skip
        return self._judged(fixed, cell.seat.judge, points, rows)

    def _judged(
        self, fixed: dict[str, Any], system: System, points: dict[str, Tensor], rows: slice
    ) -> dict[str, list[Any]]:
        """Rows of one set of points: feasibility in float64, float and 8-bit scores on the deployed system."""
        clean, y, keys = self._batch(rows)
        x = points["x"].to(self.device)
        judge, count = self.plan.judge, len(x)
        score = judge.score(system, x, y, keys)
        lattice = self.made.images.lattice
        if lattice and fixed["run"] != CLEAN:
            labels = judge.labels(system, truncate(x, clean), keys)
            k8, label8 = (labels == y).sum(0), labels[0]
        else:
            k8, label8 = score.k, score.label
        delta = x - clean
        inside = within(
            delta, torch.full((count,), fixed["eps"], dtype=torch.float64, device=x.device), fixed["norm"]
        )
        box = (x.flatten(1).amin(1) >= -1e-7) & (x.flatten(1).amax(1) <= 1 + 1e-7)
        columns = {
            "image": list(self.made.images.ids[rows]), "y": y, "random": [system.random] * count, "source_fooled": points["success"], "feasible": inside & box,
            "correct": score.first, "p_select": score.p_select, "margin": score.margin, "k": score.k, "draws": [judge.draws_for(system)] * count,
            "label": score.label, "lattice": [lattice] * count, "k_8bit": k8, "label_8bit": label8,
            **{n: distance(delta.double(), n) for n in NORMS},  # type: ignore[arg-type]
            **{k: points[k] for k in ("forwards", "backwards", "job", "first_hit", "best_hit", "nonfinite_gradients", "zero_gradients")},
        }  # fmt: skip
        plain = {k: v.tolist() if isinstance(v, Tensor) else v for k, v in columns.items()}
        return {**{k: [v] * count for k, v in fixed.items()}, **plain}

    def _cell_id(
        self, defense_text: str, threat_text: str, attack_text: str, system: System, runs: list[str]
    ) -> str:
        key = json.dumps(
            [
                defense_text,
                threat_text,
                attack_text,
                system.id,
                system.frozen,
                runs,
                asdict(self.plan.judge),
                self.made.images.hash,
            ]
        )
        return hashlib.sha256(key.encode()).hexdigest()[:20]
