"""The contract suites through the pytest plug-in: the toy package passes, and every test of every suite fails on something broken."""

from __future__ import annotations

import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from tests.plugins.machine import HERE, TOYS, contracts, environment, install

pytestmark = pytest.mark.slow

# for every kind one broken thing with the test that notices it, and what the test says
NOTICED = [
    ("TestAttacks::test_points_stay_in_ball_and_box[boaster]", r"tensor\(1\.5000\) <= 1"),
    ("TestAttacks::test_an_answer_does_not_depend_on_company_order_or_slots[neighborly-never]", "slots=1"),
    ("TestAttacks::test_the_seed_decides_and_nothing_of_the_users_changes[neighborly]", "global generator is left"),
    ("TestAttacks::test_only_the_declared_access_is_used[liar]", "grants LABEL, the attack asked for GRADIENT"),
    ("TestDefenses::test_declared_randomness_is_the_behavior[careless]", "global generator is left alone"),
    ("TestDefenses::test_every_declared_backward_gives_a_gradient[careless]", "AssertionError: default"),
    (
        "TestThreats::test_points_that_join_a_pool_are_judged_on_what_is_deployed[swapped]",
        r"seat\.judge\.id == system\.system\(\)\.id",
    ),
    ("TestThreats::test_it_needs_what_it_says[swapped]", "IndexError: tuple index out of range"),
    ("TestThreats::test_dominance_is_transitive[biased]", "inherit its own points"),
    ("TestThreats::test_a_coin_flip_is_reported_as_080[swapped-0.0]", r"assert 0\.2\d+ == 1\.0"),
    ("TestChecks::test_it_fires[silly]", "any\\("),
    ("TestChecks::test_it_stays_silent[Z1]", r"call \d"),
    ("TestModels::test_images_become_logits[moody]", "drop the softmax"),
    ("TestData::test_a_limit_takes_the_first_and_keeps_their_ids[glaring]", "image ids are not unique"),
    ("TestAnalyses::test_the_seed_decides[rambling]", "first == again"),
    ("TestTasks::test_it_trains_and_leaves_its_card[forgetful]", "progress is reported"),
]


def results(folder, *words: str, code: int) -> dict[str, str]:
    """CLASS::TEST[SPEC] -> what it failed with, "" where it passed."""
    file = folder / "results.xml"
    contracts(environment(HERE), *words, f"--junit-xml={file}", code=code, cwd=folder)
    found = {}
    for case in ElementTree.parse(file).getroot().iter("testcase"):
        assert case.find("skipped") is None
        faults = [fault for fault in case if fault.tag in ("failure", "error")]
        name = f"{case.attrib['classname'].rpartition('.')[2]}::{case.attrib['name']}"
        found[name] = "\n".join(f"{f.attrib['message']}\n{f.text}" for f in faults)
    return found


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> dict[str, str]:
    return results(tmp_path_factory.mktemp("broken"), "--sparring", "broken_plugin", code=1)


def test_the_toy_package_keeps_every_contract(tmp_path):
    """By its module's name: what the module's decorators enrol. The rest of it is enrolled by entry points, see below."""
    found = results(tmp_path, "--sparring", "toy_plugin", code=0)
    assert {name.partition("::")[0] for name in found} == {"TestThreats", "TestChecks"}
    assert all("[toy-seat" in name or "[T1" in name for name in found)


def test_every_test_of_every_suite_can_fail(broken):
    asked = {name.partition("[")[0] for name in broken}
    failed = {name.partition("[")[0] for name, fault in broken.items() if fault}
    assert asked == failed
    assert {name.partition("::")[0] for name in failed} == {
        "TestAttacks",
        "TestDefenses",
        "TestThreats",
        "TestChecks",
        "TestModels",
        "TestData",
        "TestAnalyses",
        "TestTasks",
    }


@pytest.mark.parametrize(("name", "says"), NOTICED)
def test_a_suite_notices_what_is_broken(broken, name, says):
    assert re.search(says, broken[name]), broken[name]


def test_an_installed_distribution_is_asked_for_all_that_it_enrols(tmp_path):
    """Under either spelling of its name; with fields where they are given; beside tests of the user's own."""
    install(tmp_path, "toy-plugin", TOYS)
    install(tmp_path, "torn", {"sparring.analyses": {"torn": "nowhere:nothing"}})
    where, own = environment(tmp_path, HERE), tmp_path / "test_own.py"
    own.write_text("def test_own():\n    pass\n")
    words = ("--sparring", "Toy.Plugin", "--sparring-spec", "toy-step:steps=3", "test_own.py", "-n", "0")
    said = contracts(where, *words, cwd=tmp_path)
    count = re.search(r"(\d+) passed", said)
    assert count
    listed = contracts(where, *words, "--collect-only", "-q", cwd=tmp_path).splitlines()
    assert len([line for line in listed if "::" in line]) == int(count[1])
    names = {name for points in TOYS.values() for name in points} - {"toy-step"} | {"toy-step:steps=3", "test_own"}
    assert all(any(name in line for line in listed) for name in names)
    assert not any("[toy-step]" in line for line in listed)
    only = contracts(where, *words[:2], "--pyargs", "sparring.testing.contracts", "--collect-only", "-q", cwd=tmp_path)
    assert len([line for line in only.splitlines() if "::" in line]) == int(count[1]) - 1, "nothing twice"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--sparring", "nowhere"], "nowhere is no installed distribution and cannot be imported"),
        (["--sparring", "json"], "the plug-in json enrols nothing"),
        (["--sparring", "nowhere.py"], "not a Python file that exists"),
        (["--sparring", "toy_plugin", "--sparring-spec", "pgd:steps=3"], "pgd is enrolled by none of toy_plugin"),
        (["--sparring-spec", "pgd:steps=3"], "name the plug-in"),
    ],
)
def test_a_bad_option_is_one_line(words, says, tmp_path):
    said = contracts(environment(HERE), *words, code=4, cwd=tmp_path)
    assert f"ERROR: {says}" in said or says in said
    assert "Traceback" not in said


def test_nobody_who_does_not_ask_waits_for_torch(tmp_path):
    """The plug-in is loaded in every pytest run of everybody who has sparring; by the entry point, by name, and by both at once."""
    (tmp_path / "test_own.py").write_text(
        "import sys\n\ndef test_own():\n    assert 'sparring.testing.plugin' in sys.modules\n"
        "    assert not {'torch', 'numpy', 'sparring.core'} & set(sys.modules)\n"
    )
    points = {"pytest11": {"sparring.testing.plugin": "sparring.testing.plugin"}}
    install(tmp_path, "sparring-again", points)
    for words in ([], ["-p", "sparring.testing.plugin"]):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, "test_own.py"]
        done = subprocess.run(command, env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
