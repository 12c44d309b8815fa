"""Spec text: one grammar, round trips, errors that name the field and the nearest match."""

import pytest

import sparring
from sparring.core.errors import SparringError
from sparring.core.registry import ATTACKS, Registry
from sparring.core.spec import convert, parse, show, split, without


@pytest.mark.parametrize(
    "text",
    ["pgd", "pgd:steps=20,eps=8/255", "apgd:loss=dlr,targets=9,norm=l2,eps=0.5", "cw:kappa=10,eps=1", "noise:law=laplace,std=0.02",
     "pgd:eps=2/255,restarts=3,target=least", "pgd:eps=2/255,target=4"],
)  # fmt: skip
def test_attack_specs_round_trip(text):
    made = sparring.attack(text)
    assert sparring.attack(str(made)) == made
    assert str(sparring.attack(str(made))) == str(made)


def test_fractions_and_numbers():
    assert sparring.attack("pgd:eps=8/255").setting.eps == 8 / 255
    assert sparring.attack("pgd:eps=0.5/255").setting.eps == 0.5 / 255
    assert show(8 / 255) == "8/255"
    assert show(0.5) == "0.5"
    assert show(31 / 1000) == "0.031"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pgdd", "did you mean pgd"),
        ("pgd:step=4", "did you mean steps or step_size"),
        ("pgd:steps=many", "steps=many is not valid"),
        ("pgd:steps=2.5", "steps=2.5"),
        ("pgd:loss=hinge", "ce | margin | dlr"),
        ("pgd:norm=l7", "linf | l2"),
        ("ddn:norm=linf", "norm=linf is not supported"),
        ("pgd:eps=-1", "eps must be in [0,1e9]"),
        ("pgd:steps=0", "at least 1"),
        ("pgd:eps=1,eps=2", "given twice"),
        ("pgd:eps=0.2,5", "a value alone comes first"),
        (":eps=1", "empty name"),
    ],
)
def test_bad_attack_specs_say_what_is_wrong(text, says):
    with pytest.raises(SparringError) as error:
        sparring.attack(text)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fc", "'rate' is required"),
        ("cd", "values= or bits="),
        ("cd:values=4,bits=2", "one of the two"),
        ("gauss:sigma=1", "unknown field 'sigma'"),
        ("fc:rate=1.5", "rate must be in [0,1)"),
        ("vote:samples=4+gauss:std=0.1", "comes once and last"),
        ("", "empty defense"),
    ],
)
def test_bad_defense_specs_say_what_is_wrong(text, says):
    with pytest.raises(SparringError) as error:
        sparring.defense(text)
    assert says in str(error.value)


def test_lists_of_specs_split_at_the_right_commas():
    assert split("pgd:eps=8/255,steps=40,fgsm,cw:steps=5") == ["pgd:eps=8/255,steps=40", "fgsm", "cw:steps=5"]
    assert split("oblivious,adaptive") == ["oblivious", "adaptive"]
    assert split("fc:rate=0.5 + gauss:std=0.02", "+") == ["fc:rate=0.5", "gauss:std=0.02"]


def test_a_positional_value_fills_the_first_field():
    assert parse("timm:resnet18").values == {"": "resnet18"}


def test_registry_refuses_duplicates_and_lists_what_it_knows():
    registry = Registry("thing", "sparring.core", "sparring.things")

    @registry("one")
    class One:
        pass

    with pytest.raises(ValueError, match="registered twice"):

        @registry("one")
        class Other:
            pass

    assert registry["one"] is One
    with pytest.raises(SparringError, match="known: one"):
        registry["two"]
    assert "pgd" in list(ATTACKS)


@pytest.mark.parametrize(
    ("text", "rest", "value"),
    [
        ("mnist5k:split=test,limit=16", "mnist5k:split=test", "16"),
        ("mnist5k:limit=16,seed=1", "mnist5k:seed=1", "16"),
        ("mnist5k:limit=16", "mnist5k", "16"),
        ("images.npz,limit=16", "images.npz", "16"),
        ("limit=16", "limit=16", None),
        ("cues:unlimit=3", "cues:unlimit=3", None),
    ],
)
def test_a_text_without_one_of_its_fields(text, rest, value):
    assert without(text, "limit") == (rest, value)


def test_a_field_of_text_may_name_what_is_called_none():
    """``--defense none`` is the undefended system, in a list too; where nothing may stand for a text, none is nothing."""
    assert convert("t", "defense", str, "none") == "none"
    assert convert("t", "defense", tuple[str, ...], ["none", "cd:bits=4"]) == ("none", "cd:bits=4")
    assert convert("t", "weights", str | None, "none") is None
    assert convert("t", "limit", int | None, "none") is None
