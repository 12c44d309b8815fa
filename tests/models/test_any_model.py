"""Models of other kinds: what they return, where they are computed, which files hold them."""

import io
import json
import subprocess
import sys
import zipfile
from collections import namedtuple
from dataclasses import dataclass
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import sparring
from sparring.attacks.attack import attack
from sparring.checks.base import Context, run_checks
from sparring.core.access import Access
from sparring.core.errors import SparringError
from sparring.core.system import System
from sparring.core.victim import Victim
from sparring.models.classifier import Classifier
from sparring.testing.networks import images

X, Y = images(12), torch.arange(12) % 4


class Net(nn.Module):
    """Four classes of images (3,8,8), with a dropout and a BatchNorm that tell train mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Dropout())
        self.head, self.other = nn.Linear(6 * 36, 4), nn.Linear(6 * 36, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


NET = Net().eval()
with torch.no_grad():
    LABELS = NET(X).argmax(1)


@dataclass
class Record:
    logits: Tensor
    other: Tensor


Pair = namedtuple("Pair", "main aux")


class Answering(nn.Module):
    """The network, its answer put into something."""

    def __init__(self, wrap) -> None:
        super().__init__()
        self.net, self.wrap = NET, wrap
        self.eval()

    def forward(self, x: Tensor) -> object:
        return self.wrap(self.net(x), self.net.other(self.net.body(x)))


ANSWERS = {
    "tuple": (lambda z, a: (z, a[:, 0]), None, "0"),
    "dict": (lambda z, a: {"scores": z, "features": a[:, :, None]}, None, "scores"),
    "logits": (lambda z, a: {"aux": a, "logits": z}, None, "logits"),
    "record": (lambda z, a: Record(z, a), None, "logits"),
    "maps": (lambda z, a: z[:, :, None, None], None, "flattened"),
    "picked": (lambda z, a: (a, z), "1", ""),
    "named": (lambda z, a: Pair(a, z), "aux", ""),
    "named by position": (lambda z, a: Pair(a, z), "1", ""),
}


@pytest.mark.parametrize("name", list(ANSWERS))
def test_logits_are_taken_from_what_a_network_returns(name):
    """The same numbers as of the network itself, and the run says which part was taken."""
    wrap, output, says = ANSWERS[name]
    subject = sparring.Subject.of(sparring.load_model(Answering(wrap), output=output), (X, LABELS))
    assert torch.equal(subject.model(X), NET(X))
    assert says in subject.notes["none"]
    result = sparring.evaluate(
        sparring.load_model(Answering(wrap), output=output), (X, LABELS), attacks=["pgd:eps=4/255,steps=5"]
    )
    plain = sparring.evaluate(NET, (X, LABELS), attacks=["pgd:eps=4/255,steps=5"])
    assert [c.robust_accuracy for c in result.cells] == [c.robust_accuracy for c in plain.cells]


def test_which_of_two_heads_is_never_guessed():
    """An auxiliary head in place of what is deployed would look robust: attacked is not what is judged."""
    two = Answering(lambda z, a: (z, a))
    with pytest.raises(SparringError, match=r"several outputs .*0 \(4, 4\), 1 \(4, 4\).*output=NAME"):
        sparring.evaluate(two, (X, LABELS))
    with pytest.raises(SparringError, match="no output 'head'; it has 0, 1"):
        sparring.evaluate(sparring.load_model(two, output="head"), (X, LABELS))


@pytest.mark.parametrize("wrap", [lambda z, a: (z.argmax(1),), lambda z, a: {}, lambda z, a: [z[:1]]])
def test_an_answer_without_logits_is_one_line(wrap):
    with pytest.raises(SparringError, match="must return logits") as caught:
        sparring.evaluate(Answering(wrap), (X, LABELS))
    assert "\n" not in str(caught.value)


def by_numpy(x):
    with torch.no_grad():
        return NET(torch.from_numpy(x)).numpy()


def labels_by_numpy(x):
    return by_numpy(x).argmax(1)


def digits():
    model = sparring.load_model("mnist_cnn")

    def by_array(x):
        with torch.no_grad():
            return model(torch.from_numpy(x)).numpy()

    return by_array


def labeling():
    return labels_by_numpy


def test_a_function_of_arrays_is_a_black_box():
    """Scores and labels tell the truth; whoever grants gradients is refused in one line, and so is a source of transfer."""
    black = sparring.load_model(by_numpy)
    square = ["square:eps=16/255,steps=40"]
    ours = sparring.evaluate(black, (X, LABELS), threats=["score"], attacks=square)
    plain = sparring.evaluate(NET, (X, LABELS), threats=["score"], attacks=square)
    assert ours.cells[0].robust_accuracy == plain.cells[0].robust_accuracy < 1
    assert not [f for f in ours.findings if f.check == "P10" and not f.ok]
    for threats in (["adaptive"], ["oblivious", "score"], ["white-identity:at=x"]):
        with pytest.raises(SparringError, match="black box that gives SCORES, no GRADIENT") as caught:
            sparring.evaluate(black, (X, LABELS), threats=threats)
        assert "\n" not in str(caught.value)
    with pytest.raises(SparringError, match="black box"):
        sparring.evaluate(NET, (X, LABELS), threats=["transfer"], sources=[black])
    transferred = sparring.evaluate(
        black, (X, LABELS), threats=["transfer"], sources=[NET], attacks=["pgd:eps=16/255,steps=10"]
    )
    assert transferred.cells[0].robust_accuracy < 1


def test_behind_a_defense_it_stays_one():
    with pytest.raises(SparringError, match="black box"):
        sparring.evaluate(sparring.load_model(by_numpy), (X, LABELS), ["gauss:std=0.05+vote:samples=4"], ["adaptive"])
    result = sparring.evaluate(
        sparring.load_model(by_numpy),
        (X, LABELS),
        ["gauss:std=0.02"],
        ["score"],
        ["square:eps=16/255,steps=20"],
        draws="auto",
    )
    assert {c.defense for c in result.cells} == {"none", "gauss:std=0.02"}


def test_labels_alone_are_asked_for_labels_alone():
    """One-hot labels are no scores: a score attack sees no change before the label flips, and would find nothing."""
    black = sparring.load_model("python:tests.models.test_any_model:labeling,classes=4")
    with pytest.raises(SparringError, match="gives LABEL, no SCORES"):
        sparring.evaluate(black, (X, LABELS), threats=["score"], attacks=["square:eps=16/255,steps=20"])
    hop = ["hopskipjump:norm=l2,queries=300"]
    result = sparring.evaluate(black, (X, LABELS), threats=["decision"], attacks=hop)
    plain = sparring.evaluate(NET, (X, LABELS), threats=["decision"], attacks=hop)
    assert [c.robust_accuracy for c in result.cells] == [c.robust_accuracy for c in plain.cells]
    with pytest.raises(SparringError, match="classes=K"):
        sparring.evaluate("python:tests.models.test_any_model:labeling", (X, LABELS), threats=["decision"])


def test_a_call_from_python_refuses_it_too():
    with pytest.raises(SparringError, match="no gradient"):
        sparring.attack("pgd:eps=8/255").run(sparring.load_model(by_numpy), X, LABELS)
    with pytest.raises(SparringError, match="black box"):
        Victim((System(network=sparring.load_model(by_numpy)),), Access.GRADIENT)
    ours, plain = (
        sparring.attack("square:eps=16/255,steps=20").run(m, X, LABELS) for m in (sparring.load_model(by_numpy), NET)
    )
    assert torch.equal(ours.success, plain.success)


def test_doctor_looks_at_a_black_box():
    subject = sparring.Subject.of(sparring.load_model(by_numpy), (X, LABELS))
    findings = run_checks(Context.of(subject, [attack("pgd:eps=8/255"), attack("square:eps=8/255")], "quick", None, 0))
    assert [f.subject for f in findings if f.check == "P9"] == ["none / square"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models")
    batch = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(NET, (X[:2],), dynamic_shapes=batch), path / "net.pt2")
    torch.jit.save(torch.jit.trace(NET, X[:2]), path / "net.pt")
    return path


@pytest.mark.parametrize("spec", ["exported:{}/net.pt2", "torchscript:{}/net.pt"])
def test_a_program_is_attacked_like_the_network_it_was_made_from(spec, folder):
    model = spec.format(folder)
    loaded = sparring.load_model(model)
    assert torch.allclose(loaded(X), NET(X), atol=1e-6)
    ours, plain = (
        sparring.evaluate(m, (X, LABELS), threats=["adaptive"], attacks=["apgd:eps=8/255,steps=10"])
        for m in (model, NET)
    )
    assert ours.cells[0].robust_accuracy == plain.cells[0].robust_accuracy < 1


def test_a_program_in_train_mode_is_refused(tmp_path):
    program = torch.export.export(Net().train(), (X[:2],))
    with pytest.raises(SparringError, match="was exported in train mode"):
        sparring.load_model(program)
    torch.jit.script(Net().train()).save(str(tmp_path / "train.pt"))
    with pytest.raises(SparringError, match="train mode"):
        sparring.load_model(f"torchscript:{tmp_path / 'train.pt'}")


def changed(source, target, change) -> None:
    """A copy of a zip file, each part given through ``change(name, content)``."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


def pickled(name, content):
    if not name.endswith("sample_inputs/model.pt"):
        return content
    buffer = io.BytesIO()
    torch.save((Bomb(),), buffer)
    return buffer.getvalue()


def with_text(old, new):
    return lambda name, content: content.replace(old, new) if name.endswith("models/model.json") else content


EVIL = {
    "pickle": (pickled, "pickled code"),
    "operator": (with_text(b"torch.ops.aten.relu.default", b"torch.hub.load"), "the operator 'torch.hub.load'"),
    "expression": (with_text(b"Symbol('", b"print('ran') or Symbol('"), "the expression"),
    "guards": (with_text(b'"guards_code": []', b'"guards_code": ["print()"]'), "guards in Python"),
}


@pytest.mark.parametrize("name", list(EVIL))
def test_a_program_that_carries_code_is_not_loaded(name, folder, tmp_path):
    change, says = EVIL[name]
    changed(folder / "net.pt2", tmp_path / "evil.pt2", change)
    with pytest.raises(SparringError, match=says):
        sparring.load_model(f"exported:{tmp_path / 'evil.pt2'}")


def test_a_script_that_writes_files_is_not_loaded(tmp_path):
    class Writing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            torch.save(x, "never")
            return x.flatten(1)

    torch.jit.script(Writing().eval()).save(str(tmp_path / "writing.pt"))
    with pytest.raises(SparringError, match="touches files"):
        sparring.load_model(f"torchscript:{tmp_path / 'writing.pt'}")


def test_a_folder_without_processor_is_told_what_is_missing(tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(SparringError, match=r"has no preprocessor_config.json, .*processor.save_pretrained"):
        sparring.load_model(f"hf:{tmp_path}")


def test_weights_are_no_program(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pt")
    with pytest.raises(SparringError, match=r"holds no program \(torch.save writes weights alone\)"):
        sparring.load_model(f"torchscript:{tmp_path / 'weights.pt'}")


def test_what_makes_a_model_is_to_be_called():
    with pytest.raises(SparringError, match="if it makes the model, call it"):
        sparring.load_model(cast(Any, lambda: nn.Identity()))
    with pytest.raises(SparringError, match="got the class Identity: call it"):
        sparring.load_model(cast(Any, nn.Identity))


@pytest.mark.parametrize("kind", ["exported", "torchscript", "onnx"])
def test_what_is_no_such_file_is_one_line(kind, tmp_path):
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
    (tmp_path / "text").write_text("hello")
    for name in ("text", "absent"):
        with pytest.raises(SparringError) as caught:
            sparring.load_model(f"{kind}:{tmp_path / name}")
        assert "\n" not in str(caught.value)


def onnx_of(path, *, batch, outputs=("logits",)):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    shapes = ({0: torch.export.Dim("batch")},) if batch is None else None
    network = NET if len(outputs) == 1 else Answering(lambda z, a: (a, z))
    example = (X[: batch or 2],)
    torch.onnx.export(
        network,
        example,
        path,
        dynamo=True,
        dynamic_shapes=shapes,
        output_names=list(outputs),
        external_data=False,
        verbose=False,
    )
    return f"onnx:{path}"


@pytest.mark.parametrize("batch", [None, 1, 5])
def test_an_onnx_file_is_a_black_box(batch, tmp_path):
    """Also one that was written for a fixed number of images."""
    model = onnx_of(tmp_path / "net.onnx", batch=batch)
    loaded = sparring.load_model(model)
    assert torch.allclose(loaded(X), NET(X), atol=1e-5)
    assert (loaded.size, loaded.channels) == (8, 3)
    with pytest.raises(SparringError, match="black box"):
        sparring.evaluate(model, (X, LABELS))
    square = ["square:eps=16/255,steps=30"]
    results = [sparring.evaluate(m, (X, LABELS), threats=["score"], attacks=square) for m in (model, NET)]
    assert results[0].cells[0].robust_accuracy == results[1].cells[0].robust_accuracy < 1


def test_outputs_and_statistics_of_an_onnx_file(tmp_path):
    model = onnx_of(tmp_path / "two.onnx", batch=None, outputs=("aux", "main"))
    with pytest.raises(SparringError, match=r"several outputs \(aux, main\)"):
        sparring.load_model(model)
    loaded = sparring.load_model(f"{model},output=main,mean=0.5+0.4+0.3,std=0.5+0.25+0.2")
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in ([0.5, 0.4, 0.3], [0.5, 0.25, 0.2]))
    assert torch.allclose(loaded(X), NET((X - mean) / std), atol=1e-4)
    with pytest.raises(SparringError, match=r"mean=a\+b is no list of numbers"):
        sparring.load_model(f"{model},output=main,mean=a+b")


PROCESSOR = {
    "do_normalize": True,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.25],
    "size": {"shortest_edge": 36},
    "crop_size": {"height": 32, "width": 32},
    "do_center_crop": True,
    "resample": 3,
    "image_processor_type": "ViTImageProcessor",
}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"num_channels": 3, "embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    network = transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=4, **sizes)).eval()
    path = tmp_path_factory.mktemp("hf")
    network.save_pretrained(path)
    return path, network


def test_a_classifier_of_transformers_has_its_processors_statistics(pretrained):
    path, network = pretrained
    (path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    loaded = sparring.load_model(f"hf:{path}")
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(PROCESSOR[k]).reshape(1, 3, 1, 1) for k in ("image_mean", "image_std"))
    assert torch.allclose(loaded(x), network((x - mean) / std).logits, atol=1e-6)
    assert loaded.size == 32
    assert str(loaded.fitting) == "shorter side to 36 (bicubic), center 32x32"
    result = sparring.evaluate(loaded, (x, loaded(x).argmax(1)), attacks=["pgd:eps=2/255,steps=3"], expect_clean=1.0)
    assert result.closed


WRONG = {
    "BGR": {"do_flip_channel_order": True},
    "does not bring pixels": {"rescale_factor": 1 / 127.5},
    "names no image_mean": {"image_mean": None},
}


@pytest.mark.parametrize("says", list(WRONG))
def test_a_processor_that_mean_and_std_cannot_say_is_refused(says, pretrained):
    path, _ = pretrained
    settings = {k: v for k, v in {**PROCESSOR, **WRONG[says]}.items() if v is not None}
    (path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(SparringError, match=says):
        sparring.load_model(f"hf:{path}")


def test_a_head_that_nobody_trained_is_refused(pretrained, tmp_path):
    """transformers draws what a checkpoint lacks, and only warns."""
    _, network = pretrained
    network.resnet.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    with pytest.raises(SparringError, match="would be random"):
        sparring.load_model(f"hf:{tmp_path}")


def test_the_command_line_refuses_gradients_of_a_black_box_with_code_2():
    command = [
        sys.executable,
        "-m",
        "sparring",
        "evaluate",
        "python:tests.models.test_any_model:digits",
        "--data",
        "mnist5k:limit=4",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "black box" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_classifier_of_somebody_elses_channels_is_said_before_its_outputs():
    with pytest.raises(SparringError, match=r"1 channel\(s\), the model takes 3"):
        sparring.evaluate(Classifier(NET, channels=3), (X[:, :1], LABELS))


@pytest.mark.parametrize(
    ("file", "spec"),
    [("a/net.pt2", "exported:a/net.pt2"), ("net.onnx", "onnx:net.onnx"), ("w.safetensors", "trained:w")],
)
def test_a_bare_file_is_told_how_it_is_named(file, spec):
    with pytest.raises(SparringError, match=f"named by what loads it: {spec}"):
        sparring.load_model(file)
