"""Every numeric field of every registered thing declares a range, and what is outside it is refused however it comes in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, is_dataclass
from typing import Any, Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import example, given, settings
from hypothesis import strategies as st

import sparring
from sparring.analysis.base import Analysis
from sparring.attacks.attack import MethodAttack, Setting
from sparring.attacks.engine import RunOptions
from sparring.cli.catalog import catalog
from sparring.core.errors import SparringError
from sparring.core.ranges import declared, leaves, number, range_of, takes_numbers
from sparring.core.registry import ANALYSES, ATTACKS, DEFENSES, MODELS, TASKS, THREATS
from sparring.core.spec import Fields, build, check_fields, check_ranges, parse, signature, split
from sparring.defenses.base import defense
from sparring.evaluation.plan.spec import EvaluationSpec
from sparring.threats.base import Options, threat
from sparring.training.base import Schedule, Training
from sparring.training.loop import LoopConfig

KINDS = {"attacks": ATTACKS, "defenses": DEFENSES, "models": MODELS, "analyses": ANALYSES, "tasks": TASKS}
CLASSES = (Setting, RunOptions, Options, Schedule, LoopConfig, EvaluationSpec)
Field = tuple[str, str, str]  # kind, name, field


def known(kind: str, name: str) -> Fields:
    return THREATS[name].fields if kind == "threats" else signature(KINDS[kind][name])


def numeric(*kinds: str) -> list[Field]:
    entries = [(k, n) for k in kinds for n in (THREATS if k == "threats" else KINDS[k])]
    return [(k, n, f) for k, n in entries for f, (t, _) in known(k, n).items() if takes_numbers(t)]


def beyond(annotation: object) -> Iterator[float]:
    """The nearest numbers outside the range of an annotation, and what is no number."""
    for leaf, limits in leaves(annotation):
        if get_origin(leaf) is Literal and all(type(v) is int for v in get_args(leaf)):
            yield 1 + max(get_args(leaf))
        if leaf not in (int, float):
            continue
        kind = int if leaf is int else float
        for limit in limits:
            if isinstance(limit, Ge):
                yield kind(str(limit.ge)) - 1
            elif isinstance(limit, Gt):
                yield kind(str(limit.gt))
            elif isinstance(limit, Le):
                yield 2 * kind(str(limit.le)) + 1
            elif isinstance(limit, Lt):
                yield kind(str(limit.lt))
        yield float("nan")


@pytest.mark.parametrize(("kind", "name", "field"), numeric(*KINDS, "threats"))
def test_every_number_declares_its_range(kind: str, name: str, field: str):
    annotation, default = known(kind, name)[field]
    assert declared(annotation), f"{kind} {name}: {field} declares no range (see core.ranges)"
    if default is not MISSING:
        assert check_fields(name, {field: default}, {field: (annotation, MISSING)}) == {field: default}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_so_do_the_settings_that_all_share(kind: type):
    for field, (annotation, _) in signature(kind).items():
        if takes_numbers(annotation) and (kind, field) != (EvaluationSpec, "eps"):  # its eps are texts or numbers
            assert declared(annotation), f"{kind.__name__}.{field} declares no range"


def texts(kind: str, name: str, field: str) -> Iterator[dict[str, object]]:
    """Options with one number out of its range, and something for every field that must be given."""
    fields = known(kind, name)
    for value in beyond(fields[field][0]):
        needed = {k: _anything(t) for k, (t, d) in fields.items() if d is MISSING and k != field}
        yield {**needed, field: value}


def _anything(annotation: object) -> object:
    kinds = [leaf for leaf, _ in leaves(annotation)]
    some: object = 0.5 if float in kinds else "x"
    return (some,) if get_origin(annotation) is tuple else some


@pytest.mark.parametrize(("kind", "name", "field"), numeric(*KINDS))
def test_out_of_range_in_a_spec(kind: str, name: str, field: str):
    for options in texts(kind, name, field):
        written = ",".join(f"{k}={v[0] if isinstance(v, tuple) else v}" for k, v in options.items())
        with pytest.raises(SparringError, match=rf"{name}: {field}=.*(must be|takes)") as error:
            build(KINDS[kind], f"{name}:{written}")
        assert range_of(known(kind, name)[field][0]) in str(error.value)


@pytest.mark.parametrize(("kind", "name", "field"), numeric("threats"))
def test_out_of_range_in_a_threat(kind: str, name: str, field: str):
    for options in texts(kind, name, field):
        with pytest.raises(SparringError, match=f"{name}: {field}=.*must be"):
            threat(f"{name}:{field}={options[field]}")


def in_python() -> list[Field]:
    return [f for f in numeric("attacks", "defenses", "analyses", "tasks") if is_dataclass(KINDS[f[0]][f[1]])]


@pytest.mark.parametrize(("kind", "name", "field"), in_python())
def test_out_of_range_in_python(kind: str, name: str, field: str):
    for options in texts(kind, name, field):
        with pytest.raises(SparringError, match=f"{field}=.*(must be|takes)"):
            KINDS[kind][name](**options)


def test_a_method_that_checks_nothing_is_checked_where_it_is_used():
    from dataclasses import dataclass

    from sparring.attacks.pgd import PGD

    @dataclass(frozen=True, kw_only=True)
    class Lazy(PGD):
        weight: float = 1.0

        def __post_init__(self) -> None:
            pass

    for bad in (Lazy(step_size=-1.0), Lazy(steps=0), Lazy(weight=float("nan")), Lazy(loss="hinge")):  # type: ignore[arg-type]
        with pytest.raises(SparringError):
            sparring.attack(bad)
        with pytest.raises(SparringError):
            MethodAttack(bad)
    assert sparring.attack(Lazy(weight=-7.0)), "what declares no range must be finite, no more"


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"eps": -1.0}, "eps must be"),
        ({"eps": float("nan")}, "not a finite"),
        ({"restarts": 0}, "restarts must be"),
        ({"restarts": 1.5}, "restarts=1.5 is not valid"),
        ({"targets": -1}, "targets must be"),
        ({"target": -2}, "target must be"),
        ({"target": "nearest"}, "target=nearest is not valid"),
        ({"norm": "l7"}, "norm=l7 is not valid"),
    ],
)
def test_a_setting_in_python(setting: dict[str, Any], says: str):
    with pytest.raises(SparringError, match=says):
        MethodAttack(sparring.attack("pgd").method, Setting(**setting))


def test_a_training_task_and_an_analysis_check_what_has_no_check_of_its_own():
    assert "__post_init__" in vars(Training)
    assert "__post_init__" in vars(Analysis)
    with pytest.raises(SparringError, match=r"lr must be in \(0,10\]"):
        Schedule(lr=-1.0)
    with pytest.raises(SparringError, match="slots must be at least 1"):
        RunOptions(slots=0)
    with pytest.raises(SparringError, match="draws must be at least 1"):
        Options(draws=0)


def test_a_field_that_may_be_infinite_takes_the_word_not_an_overflow():
    known = signature(MODELS["ace_resnet"])
    assert check_fields("ace_resnet", {"lam": "inf"}, known) == {"lam": float("inf")}
    for text in ("1e400", "nan", "-inf", "1e300/1e-300"):
        with pytest.raises(SparringError, match="lam="):
            check_fields("ace_resnet", {"lam": text}, known)


@pytest.mark.parametrize("kind", [*KINDS, "threats"])
def test_the_list_prints_the_range(kind: str):
    for entry in catalog(kind):
        fields = known(kind, entry["name"])
        shown = {f["name"]: f.get("range", "") for f in entry["fields"]}
        assert shown == {name: range_of(annotation) for name, (annotation, _) in fields.items()}


@pytest.mark.parametrize("text", ["40", "-3", "+2", ".5", "5.", "1e-3", "8/255", "0.5/255", "1E3", "-1/-2", "00.10"])
def test_plain_numbers(text: str):
    above, _, below = text.partition("/")
    assert number(text) == float(above) / float(below or 1)


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "1_0", "0x10", "1e", "e5", ".", "+", "--1", "8/", "/255", "8/0", "8/255/1", "8 / 255", "１", "٣", "1,5", "−1", "–1",
     "1e-400", "½", "1j", "True", "infinit", "1.2.3", "8//255", "1e5.5", "\u00a01", "1\n"],
)  # fmt: skip
def test_what_is_no_number(text: str):
    with pytest.raises(ValueError):
        number(text)


ANYTHING = st.one_of(st.text(), st.binary().map(lambda b: b.decode("utf-8", "surrogateescape")))
ALPHABET = st.text(alphabet="pgdfcsm:=,+/.-0123456789 epstn\n\x1b[]$", max_size=40)
NAMED = st.builds("{}:{}".format, st.sampled_from([*ATTACKS, *DEFENSES, *THREATS]), st.one_of(ALPHABET, ANYTHING))
READERS: tuple[Callable[[str], object], ...] = (parse, split, sparring.attack, defense, threat)


@settings(max_examples=400, deadline=None)
@given(st.one_of(ANYTHING, ALPHABET, NAMED))
@example("pgd:eps=" + "9" * 5000)
@example("pgd:steps=" + "9" * 5000)
@example("pgd:steps=1e" + "9" * 50)
@example("pgd:target=" + "0" * 50)
def test_any_text_is_a_spec_or_a_sparring_error(text: str):
    lines: list[str] = []
    for read in READERS:
        try:
            read(text)
        except SparringError as error:
            lines.append(str(error))
    assert all(line.isprintable() for line in lines)


@settings(max_examples=300, deadline=None)
@given(st.one_of(ANYTHING, ALPHABET, NAMED))
def test_parse_to_text_to_parse_is_stable(text: str):
    try:
        spec = parse(text)
    except SparringError:
        return
    assert parse(str(spec)) == spec
    assert str(parse(str(spec))) == str(spec)


SPECS = st.builds(
    lambda name, fields: f"{name}:{','.join(f'{k}={v}' for k, v in fields.items())}" if fields else name,
    st.sampled_from(["pgd", "apgd", "fgsm", "cw", "ddn", "square"]),
    st.dictionaries(
        st.sampled_from(["eps", "steps", "restarts", "step_size", "target", "norm", "targets", "c"]),
        st.one_of(
            st.integers(-2, 300).map(str),
            st.floats(allow_nan=True).map(str),
            st.sampled_from(["linf", "l2", "least", "8/255", "none"]),
        ),
        max_size=4,
    ),
)


@settings(max_examples=400, deadline=None)
@given(SPECS)
def test_an_attack_is_what_its_text_says(text: str):
    try:
        made = sparring.attack(text)
    except SparringError:
        return
    assert str(sparring.attack(str(made))) == str(made)
    check_ranges(made.name, made.method)
