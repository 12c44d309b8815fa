"""The training room: resume, frozen parts, tap losses, the attacked set."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import sparring
from sparring.core.errors import SparringError
from sparring.data.images import ImageSet
from sparring.defenses.base import Defended
from sparring.defenses.learned import build_network
from sparring.models.classifier import Classifier, weights_hash
from sparring.models.weights import read_weights
from sparring.training.attacked import AttackedConfig, AttackedSet, OnlineSet, make_attacked
from sparring.training.classifier import augmented, train_classifier
from sparring.training.frontends import Denoising, Reconstruction, StructureToSignal, Tapped
from sparring.training.loop import LoopConfig, train
from tests.fresh import HANG, fresh

NET = {"kind": "dunet", "width": 0.05, "levels": 3}
SEGNET = {"kind": "segnet", "stages": [[4, 4], [6, 6]]}


def images(count: int = 40, size: int = 8) -> ImageSet:
    """Smooth random images: there is something to learn about them."""
    coarse = torch.rand(count, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    x = nn.functional.interpolate(coarse, (size, size), mode="bilinear").mul(255).to(torch.uint8)
    return ImageSet.of(x, (x.float().mean((1, 2, 3)) > 127).long())


def target(seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    network = nn.Sequential()
    network.add_module("features", nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU()))
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flat", nn.Flatten())
    network.add_module("linear", nn.Linear(6, 2))
    return Classifier(network.eval(), (0.5,) * 3, (0.25,) * 3, name=f"tiny{seed}")


@pytest.fixture
def attacked(tmp_path) -> AttackedSet:
    return make_attacked(images(), [target(0), target(1)], tmp_path / "attacked", AttackedConfig())


def test_the_attacked_set_is_the_papers_mix_inside_its_balls(attacked):
    assert attacked.members == (
        "clean",
        "random",
        "fgsm-0",
        "fgsm-1",
        "fgsm-all",
        "ifgsm2-all",
        "ifgsm4-all",
        "ifgsm8-all",
    )
    assert len(attacked) == 8 * 40
    noisy, clean, _ = attacked.batch(torch.arange(len(attacked)))
    moved = ((noisy - clean) * 255).abs().flatten(1).amax(1).round().reshape(8, 40)
    assert (moved[0] == 0).all()
    assert (moved[1:] >= 1).all()
    assert (moved[1:] <= 16).all()
    assert len(moved[1].unique()) > 8, "eps is drawn per image"
    system = Tapped(target(0))
    with torch.no_grad():
        before = system(images().x)[0].argmax(1)
        flips = [float((system(m)[0].argmax(1) != before).double().mean()) for m in noisy.reshape(8, 40, 3, 8, 8)]
        assert flips[2] > flips[1], "an attack fools its source more often than noise"


def test_a_missing_shard_is_an_error_never_the_clean_image(attacked, tmp_path):
    """USER_ASKS, HGD: missing adversarial files fell back to the clean image with a printed line."""
    (tmp_path / "attacked" / "fgsm-0-00000.safetensors").unlink()
    with pytest.raises(SparringError, match="missing or damaged"):
        AttackedSet(tmp_path / "attacked", images())
    again = make_attacked(images(), [target(0), target(1)], tmp_path / "attacked", AttackedConfig())
    assert torch.equal(again.attacked, attacked.attacked), "made again, the same"
    with pytest.raises(SparringError, match="other images"):
        AttackedSet(tmp_path / "attacked", images(41))
    with pytest.raises(SparringError, match="other images, sources or settings"):
        make_attacked(images(), [target(0)], tmp_path / "attacked", AttackedConfig())


@pytest.mark.slow
@pytest.mark.parametrize("tap", ["pixel", "feature", "logits", "label"])
def test_each_tap_is_its_formula_and_leaves_the_target_frozen(attacked, tap, tmp_path):
    classifier = target()
    before = weights_hash(classifier)
    task = Denoising(attacked, classifier, build_network(NET), tap, {"network": NET}, flip=False)
    index = torch.arange(100, 110)
    noisy, clean, y = attacked.batch(index)
    task.mode(task.network, False)
    with torch.no_grad():
        loss, right = task.losses(task.network, index, 0, False)
        out = task.network(noisy)
        features = classifier.network.get_submodule("features")
        at = lambda x: features((x - 0.5) / 0.25)  # noqa: E731
        expected = {
            "pixel": (out - clean).abs().mean((1, 2, 3)),
            "feature": (at(out) - at(clean)).abs().mean((1, 2, 3)),
            "logits": (classifier(out) - classifier(clean)).abs().mean(1),
            "label": nn.functional.cross_entropy(classifier(out), y, reduction="none"),
        }[tap]
    assert torch.allclose(loss, expected, atol=1e-6)
    assert (right is None) == (tap == "pixel")
    card = train(task, LoopConfig(epochs=3, batch=32, lr=0.005), tmp_path / "d.safetensors")
    assert weights_hash(classifier) == before
    assert not any(p.requires_grad for p in classifier.parameters())
    assert card["curve"][-1]["loss"] < card["curve"][0]["loss"]


def test_the_second_stage_moves_the_decoder_alone(tmp_path):
    network = build_network(SEGNET)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    train(
        StructureToSignal(images(), target(), network, {"network": SEGNET}),
        LoopConfig(epochs=1, batch=16),
        tmp_path / "s.safetensors",
    )
    after = read_weights(tmp_path / "s.safetensors")
    same = {k for k in before if torch.equal(before[k], after[k])}
    assert {k for k in before if k.startswith("encoder")} <= same, "weights and BatchNorm statistics"
    assert not {k for k in before if k.startswith("decoder") and "weight" in k} & same
    spec = f"s2snet:weights={tmp_path / 's.safetensors'}"
    assert sparring.defense(spec).install(Defended(target())).stages[0].name == "s2snet"


def test_an_autoencoder_learns_to_copy(tmp_path):
    card = train(
        Reconstruction(images(60), build_network(SEGNET), {"network": SEGNET}),
        LoopConfig(epochs=10, batch=8, lr=0.01),
        tmp_path / "a.safetensors",
        log=f"tensorboard:{tmp_path / 'board'}",
    )
    assert list((tmp_path / "board").rglob("events*")), "TensorBoard"
    losses = [row["loss"] for row in card["curve"]]
    assert losses[-1] < 0.75 * losses[0]
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert [float(r["loss"]) for r in rows] == losses
    assert card["data_hash"] == images(60).hash
    assert card["network"] == SEGNET


@pytest.mark.slow
def test_killed_at_any_time_the_curve_and_weights_come_out_the_same(tmp_path):
    """kill -9 twice in the middle; the resumed run ends as the uninterrupted one."""
    script = textwrap.dedent("""
        import os, signal, sys, torch
        sys.path.insert(0, sys.argv[3])
        from tests.training.test_frontends import SEGNET, images
        from sparring.defenses.learned import build_network
        from sparring.training.frontends import Reconstruction
        from sparring.training.loop import LoopConfig, train
        out, die = sys.argv[1], int(sys.argv[2])
        seen = 0
        def progress(done, total, text):
            global seen
            seen += 1
            if die and seen == die:
                os.kill(os.getpid(), signal.SIGKILL)
        config = LoopConfig(epochs=4, batch=2, lr=0.005, ema=0.9, schedule="plateau")
        train(Reconstruction(images(), build_network(SEGNET), {"network": SEGNET}), config, out, progress)
    """)

    root = str(Path(__file__).parents[2])

    def run(name: str, die: int) -> int:
        done = fresh("-c", script, tmp_path / name, str(die), root)
        assert done.returncode in (0, -9), done.stderr
        return done.returncode

    assert run("whole.safetensors", 0) == 0
    assert run("cut.safetensors", 3) == -9
    assert not (tmp_path / "cut.safetensors").exists()
    assert run("cut.safetensors", 4) == -9
    assert run("cut.safetensors", 0) == 0
    whole, cut = (read_weights(tmp_path / f"{n}.safetensors") for n in ("whole", "cut"))
    assert all(torch.equal(whole[k], cut[k]) for k in whole)
    whole, cut = (json.loads((tmp_path / f"{n}.json").read_text())["curve"] for n in ("whole", "cut"))
    assert [{**row, "seconds": 0} for row in whole] == [{**row, "seconds": 0} for row in cut]
    assert not (tmp_path / "cut.resume").exists()


def test_a_resume_file_of_other_settings_is_refused(tmp_path):
    (tmp_path / "a.resume").write_bytes(b"nonsense")
    task = Reconstruction(images(), build_network(SEGNET), {"network": SEGNET})
    with pytest.raises(SparringError, match="damaged"):
        train(task, LoopConfig(epochs=1), tmp_path / "a.safetensors")
    torch.save({"identity": "another"}, tmp_path / "a.resume")
    with pytest.raises(SparringError, match="other settings or data"):
        train(task, LoopConfig(epochs=1), tmp_path / "a.safetensors")


def test_the_kept_epoch_is_the_one_with_the_least_validation_loss(tmp_path):
    task = Reconstruction(images(), build_network(SEGNET), {"network": SEGNET})
    card = train(task, LoopConfig(epochs=5, batch=8, lr=0.02), tmp_path / "a.safetensors")
    best = min(row["validation_loss"] for row in card["curve"])
    order = torch.from_numpy(np.random.default_rng(0).permutation(40))[:4].sort().values
    with torch.no_grad():
        kept = task.losses(task.network, order, 0, False)[0].double().mean()
    assert float(kept) == pytest.approx(best, rel=1e-5)


def test_augmentation_crops_and_flips_each_image_by_itself():
    x = torch.rand(64, 1, 6, 6)
    torch.manual_seed(0)
    out = augmented(x)
    padded = nn.functional.pad(x, (4, 4, 4, 4))
    for i in range(64):
        windows = padded[i, 0].unfold(0, 6, 1).unfold(1, 6, 1).flatten(0, 1)
        assert any(torch.equal(out[i, 0], w) or torch.equal(out[i, 0], w.flip(-1)) for w in windows)


def test_joint_ace_trains_and_loads_by_its_spec(tmp_path):
    out = tmp_path / "ace.safetensors"
    x = images(20, 32)
    made = train_classifier(x, LoopConfig(epochs=1, batch=10), out, model="ace_resnet:depth=8,lam=10", augment=True)
    spec = json.loads(out.with_suffix(".json").read_text())["model"].replace("ace.safetensors", str(out))
    loaded = sparring.load_model(spec)
    with torch.no_grad():
        assert torch.allclose(loaded(x.x), made(x.x), atol=1e-5)


@pytest.mark.slow
def test_two_processes_share_each_batch_and_reach_the_same_curve(tmp_path):
    """Data-parallel through Accelerate: gradients are averaged over processes, so the curve is one process's."""
    script = tmp_path / "go.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from tests.training.test_frontends import images\n"
        "from sparring.training.classifier import train_classifier\n"
        "from sparring.training.loop import LoopConfig\n"
        "train_classifier(images(44), LoopConfig(epochs=2, batch=8), sys.argv[1])\n"
    )
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    fresh(script, "one.safetensors", cwd=tmp_path, env=env, check=True)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", str(script), "two.safetensors"]
    subprocess.run(launch, check=True, cwd=tmp_path, env=env, timeout=HANG, capture_output=True)
    one, two = (json.loads((tmp_path / f"{n}.json").read_text())["curve"] for n in ("one", "two"))
    assert [r["validation_loss"] for r in one] == pytest.approx([r["validation_loss"] for r in two], rel=1e-4)
    assert [r["loss"] for r in one] == pytest.approx([r["loss"] for r in two], rel=1e-4)


def test_no_image_is_both_trained_on_and_held_out(attacked, tmp_path):
    from sparring.training.loop import _Training

    task = Denoising(attacked, target(), build_network(NET), "pixel", {"network": NET})
    made = _Training(task, LoopConfig(epochs=1), tmp_path / "d.safetensors", None, None)
    held, rest = {int(i) % 40 for i in made.held}, {int(i) % 40 for i in made.rest}
    assert not held & rest
    assert len(made.held) == 8 * 4
    assert len(made.held) + len(made.rest) == len(attacked)


def test_pairs_made_online_are_those_on_disk(attacked):
    online = OnlineSet(images(), [target(0), target(1)], AttackedConfig())
    index = torch.arange(0, len(attacked), 7)
    for mine, theirs in zip(online.batch(index), attacked.batch(index), strict=True):
        assert torch.equal(mine, theirs)
    assert online.hash == attacked.hash
