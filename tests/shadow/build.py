"""Build the library that lets a torch for CPUs run fake tensors of a card (backend.cpp)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import torch

SOURCE = Path(__file__).parent / "backend.cpp"


def cannot() -> str | None:
    """Why there can be no shadow card here; None where there can."""
    if torch.version.cuda or torch.version.hip:
        return "this torch has a backend of its own for cards"
    if _compiler() is None or not sys.platform.startswith("linux"):
        return "there is no C++ compiler to build the shadow card with"
    return None


def _compiler() -> str | None:
    return next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)


def build(folder: Path) -> subprocess.CompletedProcess:
    """Compile it to ``backend.so`` in a folder. A compiler takes some seconds."""
    home = Path(torch.__file__).parent
    headers = [home / "include", home / "include/torch/csrc/api/include"]
    libraries = [f"-L{home / 'lib'}", f"-Wl,-rpath,{home / 'lib'}", "-lc10", "-ltorch_cpu"]
    command = [_compiler(), "-shared", "-fPIC", "-std=c++20", *(f"-I{path}" for path in headers)]
    command += [str(SOURCE), "-o", str(folder / "backend.so"), *libraries]
    return subprocess.run(command, capture_output=True, text=True)
