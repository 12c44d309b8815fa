"""Classifiers that torch cannot differentiate: plain functions of numpy arrays (an API, another library), and ONNX files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparring.core.access import Access, BlackBox
from sparring.core.code import code_of
from sparring.core.errors import SparringError, one_line
from sparring.core.extras import need
from sparring.core.ranges import Classes
from sparring.core.registry import MODELS
from sparring.models.classifier import Classifier, statistic
from sparring.models.weights import require_file

Arrays = Callable[[np.ndarray], object]  # images (B,C,H,W) float32 in [0,1] -> scores (B,K) or labels (B,)


class Outside(BlackBox):
    """A plain function of numpy images. With ``classes`` it answers labels (B,), and only their change can be seen. A copy is the thing itself:
    a session or a connection is not copied.
    """

    def __init__(self, function: Arrays, identity: str, classes: int | None = None) -> None:
        super().__init__(Access.SCORES if classes is None else Access.LABEL)
        self.function, self.identity, self.classes = function, identity, classes

    def __deepcopy__(self, memo: dict[int, object]) -> Outside:
        return self

    def extra_repr(self) -> str:
        return f"{self.identity}, classes={self.classes}"

    def forward(self, x: Tensor) -> Tensor:
        answer = np.asarray(self.function(x.detach().cpu().numpy()))
        if self.classes is not None:
            return _one_hot(answer, len(x), self.classes).to(x.device)
        if answer.ndim == 1:
            raise SparringError(
                f"a function of images must answer scores (B,K), got {answer.shape}; if these are labels, say of how many: classes=K"
            )
        return torch.from_numpy(np.array(answer, dtype=np.float32)).to(x.device)


def _one_hot(labels: np.ndarray, count: int, classes: int) -> Tensor:
    """Labels (B,) as scores (B,K)."""
    if labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise SparringError(
            f"with classes={classes} a function of images answers labels: {count} whole numbers, got {labels.dtype} {labels.shape}"
        )
    if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
        raise SparringError(f"labels {labels.min()}..{labels.max()} are not of classes={classes} (0..{classes - 1})")
    return F.one_hot(torch.from_numpy(labels.astype(np.int64)), classes).float()


def outside(function: Arrays, name: str, classes: int | None = None) -> Classifier:
    """A classifier of a plain function: scores and labels can be asked of it, gradients cannot."""
    return Classifier(Outside(function, code_of(function)[:16], classes), name=name)


Ask = Callable[[list[str], dict[str, np.ndarray]], list[np.ndarray]]  # outputs, inputs by name -> outputs


@MODELS("onnx")
def onnx_model(
    path: str,
    output: str | None = None,
    mean: str = "0",
    std: str = "1",
    classes: Classes | None = None,
) -> Classifier:
    """An ONNX file in ONNX Runtime, a black box: threats that ask scores or labels (extra ``onnx``). output: which of its outputs, where there are
    several. mean, std: what it expects subtracted and divided, one per channel joined by +, where it has not got that inside. classes: where it answers labels.
    """
    file = require_file(path, "ONNX file")
    runtime = need("onnxruntime", "onnx")
    settings = runtime.SessionOptions()
    settings.log_severity_level = 3
    try:
        session = runtime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise SparringError(f"ONNX file {path} cannot be loaded ({one_line(error)})") from None
    inputs, names = session.get_inputs(), [o.name for o in session.get_outputs()]
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        got = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
        raise SparringError(f"ONNX file {path} must have one input of float32 images (B,C,H,W), it has {got}")
    if output is None and len(names) > 1 and "logits" not in names:
        raise SparringError(f"ONNX file {path} has several outputs ({', '.join(names)}); pick one with output=NAME")
    chosen = output or ("logits" if "logits" in names else names[0])
    if chosen not in names:
        raise SparringError(f"ONNX file {path} has no output {chosen!r}; it has {', '.join(names)}")
    batch, channels, height, width = (n if isinstance(n, int) else None for n in inputs[0].shape)
    function = _in_batches(session.run, inputs[0].name, chosen, batch)
    identity = f"{hashlib.sha256(file.read_bytes()).hexdigest()[:16]} {chosen}"
    network = Outside(function, identity, classes)
    size = height if height == width else None
    return Classifier(
        network, statistic("mean", mean), statistic("std", std), name=f"onnx:{path}", channels=channels, size=size
    )


def _in_batches(ask: Ask, name: str, output: str, batch: int | None) -> Arrays:
    """Images as the file takes them; one that was written for a fixed number of images gets as many, the last ones again where too few are left."""

    def answer(x: np.ndarray) -> np.ndarray:
        if batch is None:
            return ask([output], {name: x})[0]
        answers = []
        for start in range(0, len(x), batch):
            part = x[start : start + batch]
            filled = np.concatenate([part, np.repeat(part[-1:], batch - len(part), 0)])
            answers.append(ask([output], {name: filled})[0][: len(part)])
        return np.concatenate(answers)

    return answer
