"""Optional packages: imported when first needed, with a message that names the extra to install."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from sparring.core.errors import SparringError


def need(module: str, extra: str) -> ModuleType:
    """Import a module of an optional extra, or say which extra to install."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise SparringError(f"{package} is not installed ({error}); run: pip install 'sparring[{extra}]'") from None
