"""What a variable shows when somebody looks at it: one line under 120 characters that says what it is, and no array."""

import inspect
from dataclasses import MISSING

import pytest
import torch

import sparring
from sparring.checks.controls import images, linear_net
from sparring.core.code import code_of
from sparring.core.registry import ATTACKS, DEFENSES, REGISTRIES, THREATS
from sparring.core.shown import shown
from sparring.core.spec import signature
from sparring.core.victim import Access, Victim
from sparring.subject import Subject
from sparring.threats.base import threat

X, NET = images(8), linear_net(scale=0.05)
Y = NET(X).argmax(1)
ASKS = {"cd": "bits=4", **dict.fromkeys(("gauss", "laplace", "sign", "uniform"), "std=0.1")}  # one of two fields


@pytest.fixture(scope="module")
def evaluation():
    return sparring.evaluate(NET, (X, Y), ["cd:bits=4"], ["oblivious", "adaptive"], ["pgd:eps=0.02,steps=10"])


@pytest.fixture(scope="module")
def examples(evaluation):
    """One of each class that ``sparring`` names, and of what they hold."""
    subject = Subject.of(NET, (X, Y), ["cd:bits=4"])
    attack, composed = sparring.attack("pgd:eps=0.02,steps=3"), sparring.defense("cd:bits=4+vote:samples=3")
    public = {
        "Attack": attack,
        "Evaluation": evaluation,
        "EvaluationSpec": sparring.EvaluationSpec.of(model=NET, data=(X, Y), attacks=[attack]),
        "ImageSet": sparring.load_data((X, Y)),
        "Panel": sparring.analyze("norms", NET, (X, Y), attack="pgd:eps=0.1,steps=3"),
        "SparringError": sparring.SparringError("a line"),
        "Subject": subject,
    }
    system = subject.systems["cd:bits=4"].system()
    parts = [*evaluation.cells, *evaluation.closed, *evaluation.findings, *evaluation.verdicts]
    more = [system, subject.systems["cd:bits=4"], composed, attack.run(NET, X, Y), Victim((system,), Access.GRADIENT)]
    return public, [*parts, *more]


def require_short(thing):
    text = repr(thing)
    assert 0 < len(text) < 120, text
    assert "\n" not in text
    assert "tensor(" not in text
    assert "array(" not in text
    return text


def test_every_public_class_has_an_example(examples):
    classes = {
        name for name in sparring.__all__ if inspect.isclass(vars(sparring).get(name) or getattr(sparring, name))
    }
    assert set(examples[0]) == classes


def test_public_objects_show_themselves_in_a_line(examples):
    public, parts = examples
    for thing in [*public.values(), *parts]:
        text = require_short(thing)
        assert text.startswith(type(thing).__name__), "it says what it is"
        assert "object at 0x" not in text


def test_a_line_says_what_decides(evaluation, examples):
    """The word before the number, so that no number is read without it; the attack's spec; the images' number."""
    text = repr(evaluation)
    for verdict in evaluation.verdicts:
        assert verdict.word.replace("_", " ") in repr(verdict)
        assert f"{verdict.defense} {verdict.word.replace('_', ' ')}" in text
    assert "pgd:steps=3,eps=0.02" in repr(examples[0]["Attack"])
    assert "8 images" in repr(examples[0]["ImageSet"])
    assert "cd:bits=4" in repr(examples[0]["Subject"])
    assert all("robust at most" in repr(number) for number in evaluation.closed)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, registry in REGISTRIES.items() for name in registry])
def test_registered_things_show_themselves_in_a_line(kind, name):
    require_short(REGISTRIES[kind][name])


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_show_their_spec(name):
    if all(default is not MISSING for _, default in signature(ATTACKS[name]).values()):
        attack = sparring.attack(name)
        assert str(attack)[:60] in require_short(attack)


@pytest.mark.parametrize("name", DEFENSES)
def test_defenses_show_themselves_in_a_line(name):
    if all(default is not MISSING for _, default in signature(DEFENSES[name]).values()):
        require_short(sparring.defense(":".join(filter(None, (name, ASKS.get(name))))))


@pytest.mark.parametrize("name", THREATS)
def test_threats_show_their_spec(name):
    if all(default is not MISSING for _, default in THREATS[name].fields.values()):
        assert name in require_short(threat(name))


def test_a_long_one_ends_in_dots_on_one_line():
    text = shown(object(), "a\nb", "x" * 500)
    assert text.startswith("object(a b, xxx")
    assert len(text) == 119
    assert text.endswith("...)")


def test_what_is_left_out_of_a_line_still_identifies():
    """Own code that holds things is known by what they are, not by how they show themselves."""

    def defense_of(members):
        return lambda x: (x, members)

    one, other = (sparring.EvaluationSpec.of(model="m", data=f"{'long' * 60}{i}") for i in (1, 2))
    assert repr(one) == repr(other)
    assert code_of(defense_of([one])) != code_of(defense_of([other]))
    assert code_of(defense_of([torch.zeros(9000)])) != code_of(
        defense_of([torch.zeros(9000).index_fill(0, torch.tensor(4500), 1)])
    )
    assert code_of(defense_of({"a": 1})) != code_of(defense_of({"a": 2}))
