"""What somebody else's code says, as a hash: their attack, defense or network is another one once its code is another.

The package's own code has its own hash (``evaluation.records.provenance.code_hash``); torch's is told by its version.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import CodeType, FunctionType, MethodType

import numpy as np
from torch import Tensor, nn

from sparring.core.spec import values_of

KNOWN = ("sparring", "torch", "builtins", "abc", "typing", "collections", "dataclasses", "functools")


def code_of(*things: object) -> str:
    """sha256 of the code behind classes, functions (with their defaults and closures) and objects (by their class); "" where all of it is
    known. Code of an imported file counts whole; of a script or a prompt only the functions themselves, so that an edit beside them is none.

    Helper modules that such code imports are not looked into.
    """
    words = [word for thing in things for word in _words(thing, 0)]
    return hashlib.sha256("\n".join(words).encode()).hexdigest() if words else ""


def code_of_network(network: nn.Module) -> str:
    """``code_of`` of the classes of all modules of a network, and of what replaced a module's own methods."""
    replaced = [v for m in network.modules() for v in vars(m).values() if isinstance(v, FunctionType | MethodType)]
    return code_of(*dict.fromkeys(type(m) for m in network.modules()), *replaced)


def _words(thing: object, depth: int) -> Iterator[str]:
    if depth > 5:  # a closure of a closure of ...
        return
    if isinstance(thing, MethodType):
        thing = thing.__func__
    if isinstance(thing, FunctionType):
        if _known(thing.__module__):
            return
        yield _file(thing.__module__) or _code(thing.__code__)
        kept = [cell.cell_contents for cell in thing.__closure__ or () if _filled(cell)]
        for value in [*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values(), *kept]:
            yield from _value(value, depth)
        return
    cls: type = thing if isinstance(thing, type) else type(thing)
    for owner in cls.__mro__:
        if not _known(owner.__module__):
            yield owner.__qualname__
            yield _file(owner.__module__) or "".join(_members(owner))


def _value(value: object, depth: int) -> Iterator[str]:
    if isinstance(value, nn.Module):
        for name, tensor in value.state_dict().items():
            yield name + _bytes(tensor.detach().cpu().float().numpy())
        for owner in dict.fromkeys(type(m) for m in value.modules()):
            yield from _words(owner, depth + 1)
    elif isinstance(value, Tensor | np.ndarray):
        yield _bytes(value.detach().cpu().float().numpy() if isinstance(value, Tensor) else value)
    elif isinstance(value, FunctionType | MethodType | type):
        yield from _words(value, depth + 1)
    elif depth <= 5 and isinstance(value, tuple | list | dict):
        yield f"{type(value).__name__} of {len(value)}"
        for part in [*value.keys(), *value.values()] if isinstance(value, dict) else value:
            yield from _value(part, depth + 1)
    elif depth <= 5 and is_dataclass(value):  # its repr is for looking at, and may leave things out
        yield from _words(value, depth + 1)
        yield from _value(values_of(value), depth + 1)
    elif isinstance(value, str | bytes | int | float | complex | tuple | list | dict | None):
        yield repr(value)
    else:
        yield from _words(value, depth + 1)


def _filled(cell: object) -> bool:
    try:
        return hasattr(cell, "cell_contents")
    except ValueError:
        return False


def _known(module: str | None) -> bool:
    return (module or "").partition(".")[0] in KNOWN


def _file(module: str | None) -> str:
    """sha256 of the file of an imported module; "" of a script and of what was typed at a prompt."""
    path = vars(sys.modules[module]).get("__file__") if module in sys.modules and module != "__main__" else None
    return _bytes(Path(path).read_bytes()) if path and Path(path).suffix == ".py" and Path(path).is_file() else ""


def _members(owner: type) -> Iterator[str]:
    for name, value in sorted(vars(owner).items()):
        plain = value.__func__ if isinstance(value, staticmethod | classmethod) else value
        if isinstance(plain, FunctionType):
            yield name + _code(plain.__code__)
        elif isinstance(plain, int | float | str | tuple):
            yield f"{name}={plain!r}"


def _code(code: CodeType) -> str:
    constants = [_code(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return f"{code.co_code.hex()}{constants}{code.co_names}"


def _bytes(content: bytes | np.ndarray) -> str:
    return hashlib.sha256(
        content if isinstance(content, bytes) else np.ascontiguousarray(content).tobytes()
    ).hexdigest()
