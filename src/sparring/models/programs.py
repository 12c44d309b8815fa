"""Programs that torch wrote: ``exported:FILE.pt2`` (torch.export) and ``torchscript:FILE.pt``."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from sparring.core.errors import SparringError, one_line
from sparring.core.registry import MODELS
from sparring.models.classifier import Classifier, statistic
from sparring.models.outputs import Chosen
from sparring.models.weights import require_file

OPERATORS = ("torch.ops.aten.", "torch.ops.higher_order.", "_operator.")
# what torch evaluates as Python where it stands in such a file: sizes that are symbols, and sums and products of them
EXPRESSION = re.compile(
    r"(?:Symbol\('[su]\d+'(?:, (?:positive|integer|nonnegative)=True)*\)|Integer\(\d+\)|Add|Mul|Max|Min|[-+*/(), \d])*"
)
TRAINED = {  # operators that behave otherwise in training, and where they say so
    "aten.batch_norm.default": 5,
    "aten.dropout.default": 2,
    "aten.dropout_.default": 2,
    "aten.feature_dropout.default": 2,
    "aten.alpha_dropout.default": 2,
    "aten._native_batch_norm_legit.default": 5,
    "aten.native_batch_norm.default": 5,
    "aten.native_dropout.default": 2,
    "aten.rrelu.default": 3,
}
WRITES = ("torch.save(", "ops.aten.save(", "from_file(")


@MODELS("exported")
def exported_model(path: str, output: str | None = None, mean: str = "0", std: str = "1") -> Classifier:
    """A program that torch.export.save wrote; it is differentiated like any network. Files that hold pickles, Python expressions or operators that
    are not torch's own are refused. output: which part of its answer. mean, std: what it expects subtracted and divided, one per channel joined by +.
    """
    file = require_file(path, "exported program")
    content = file.read_bytes()
    _refuse_code(content, path)
    try:
        program = torch.export.load(io.BytesIO(content))
    except Exception as error:
        raise SparringError(f"exported program {path} cannot be loaded ({one_line(error)})") from None
    network = network_of(program, f"exported:{path}")
    return Classifier(
        Chosen(network, output) if output else network,
        statistic("mean", mean),
        statistic("std", std),
        name=f"exported:{path}",
    )


def network_of(program: ExportedProgram, name: str) -> nn.Module:
    """The network of an exported program, which has no mode of its own: what it was exported in stands in its operators. Raises SparringError for
    one that was exported in train mode.
    """
    for node in program.graph.nodes:
        place = TRAINED.get(str(node.target))
        if place is not None and len(node.args) > place and node.args[place] is True:
            raise SparringError(f"{name}: {node.name} was exported in train mode; export model.eval()")
    network = program.module()
    for module in network.modules():
        module.training = False  # it refuses eval()
    return network


def _refuse_code(content: bytes, path: str) -> None:
    """Raise SparringError for what torch would unpickle, evaluate or look up by name in such a file (torch.export.load does all three)."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            parts = {name: archive.read(name) for name in names if "/data/weights/weight_" not in name}
    except (zipfile.BadZipFile, OSError) as error:
        raise SparringError(
            f"exported program {path} is no file that torch.export.save wrote ({one_line(error)})"
        ) from None
    if not any("/models/" in name for name in names):
        raise SparringError(
            f"exported program {path} is of an older format, which is read by unpickling; export it anew"
        )
    for name, part in parts.items():
        where = Path(name)
        if where.parent.name == "sample_inputs" and part:
            try:
                torch.load(io.BytesIO(part), weights_only=True)
            except Exception:
                raise _carries(path, f"pickled code in {name}") from None
        elif where.suffix == ".json":
            for key, value in _fields(json.loads(part)):
                _refuse_field(path, key, value)
        elif where.suffix in (".pt", ".so") or where.name.startswith(("custom_obj", "opaque_obj")):
            raise _carries(path, name)


def _refuse_field(path: str, key: str, value: object) -> None:
    if key == "use_pickle" and value:
        raise _carries(path, "pickled tensors")
    if key == "expr_str" and not EXPRESSION.fullmatch(str(value)):
        raise _carries(path, f"the expression {str(value)[:60]!r}")
    if key == "guards_code" and value:
        raise _carries(path, "guards in Python")
    if key == "target" and isinstance(value, str) and not value.startswith(OPERATORS):
        raise _carries(path, f"the operator {value[:60]!r}")


def _carries(path: str, what: str) -> SparringError:
    return SparringError(
        f"exported program {path} carries {what}, which could run code and is not loaded; give the network that it was made from"
    )


def _fields(content: object) -> Iterator[tuple[str, object]]:
    """Every (key, value) of a JSON text, at any depth."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield str(key), value
            yield from _fields(value)
    elif isinstance(content, list):
        for value in content:
            yield from _fields(value)


class Scripted(nn.Module):
    """A TorchScript module behind a door of Python."""

    def __init__(self, script: nn.Module) -> None:
        super().__init__()
        self.script = script
        self.training = script.training

    def forward(self, x: Tensor) -> Tensor:
        return self.script(x)


@MODELS("torchscript")
def torchscript_model(path: str, output: str | None = None, mean: str = "0", std: str = "1") -> Classifier:
    """A program that torch.jit.save wrote, on the CPU; it is differentiated like any network. It is a program in torch's own language: one that writes
    or maps files is refused. output: which part of its answer. mean, std: what it expects subtracted and divided.
    """
    file = require_file(path, "TorchScript file")
    content = file.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            code = "".join(archive.read(n).decode() for n in archive.namelist() if n.endswith(".py"))
            if not code:
                raise SparringError(
                    f"TorchScript file {path} holds no program (torch.save writes weights alone); write one with torch.jit.save"
                )
        if called := [word for word in WRITES if word in code]:
            raise SparringError(
                f"TorchScript file {path} calls {called[0]}...): a program that touches files is not loaded"
            )
        script = torch.jit.load(io.BytesIO(content), map_location="cpu")
    except SparringError:
        raise
    except Exception as error:
        raise SparringError(
            f"TorchScript file {path} cannot be loaded ({one_line(error)}); write it with torch.jit.save"
        ) from None
    network = Scripted(script)
    return Classifier(
        Chosen(network, output) if output else network,
        statistic("mean", mean),
        statistic("std", std),
        name=f"torchscript:{path}",
    )
