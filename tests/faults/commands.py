"""The command line as a user runs it, in this process: what it says and how it ends."""

from __future__ import annotations

import contextlib
import io
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from sparring.cli import main

FACTORY = """
import torch
from torch import nn

def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).eval()
"""
MODEL = "python:faulty:plain"
EVALUATE = ("evaluate", MODEL, "--data", "data.npz", "--threat", "adaptive")
ATTACKED = (*EVALUATE, "--attack", "fgsm:eps=4/255")
IMAGES = ("attack", MODEL, "--data", "data.npz", "--out", "images")


@dataclass(frozen=True)
class Said:
    """What a command left: its exit code and both streams."""

    code: int
    out: str
    err: str


def say(folder: Path, *words: str) -> Said:
    """Run ``sparring WORDS`` in ``folder`` through its real entry; anything but a clean exit is raised as it comes."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "argv", ["sparring", *words])
        patch.setattr(warnings, "showwarning", warnings.showwarning)
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Said(code, out.getvalue(), err.getvalue())


def refused(folder: Path, *words: str) -> str:
    """The one line with which a command is refused: exit code 2, nothing on stdout."""
    said = say(folder, *words)
    assert said.code == 2, f"exit code {said.code}\n{said.out}\n{said.err}"
    assert said.out == ""
    assert len(said.err.splitlines()) == 1, said.err
    assert said.err.startswith("error: ")
    assert "report" not in said.err or "bug" not in said.err
    return said.err.removeprefix("error: ").rstrip("\n")


def furnish(folder: Path) -> Path:
    """A folder with a model and six images of 8x8 pixels."""
    (folder / "faulty.py").write_text(FACTORY)
    rng = np.random.default_rng(0)
    np.savez(folder / "data.npz", x=rng.integers(0, 256, (6, 3, 8, 8), dtype=np.uint8), y=np.arange(6) % 4)
    return folder
