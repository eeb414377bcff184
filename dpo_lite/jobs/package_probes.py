"""Which packages are there: in the version that is asked for, and whether they load."""

from __future__ import annotations

import importlib
import sys
import tomllib
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

LOADED = "torch transformers peft bitsandbytes trl datasets".split()  # a training imports them
INSTALLED = "accelerate gradio".split()
OPTIONAL = {
    "flash-linear-attention": "fast layers of Qwen3.5 and other hybrid bases",
    "causal-conv1d": "fast layers of Mamba and other hybrid bases",
    "tensorboard": "run.report_to",
    "trackio": "run.report_to",
    "wandb": "run.report_to",
}
MODULES = {"flash-linear-attention": "fla", "causal-conv1d": "causal_conv1d"}


@dataclass(frozen=True)
class Finding:
    """``todo``: one sentence with what to do. ``wrong``: a training would fail or go badly."""

    name: str
    words: str
    todo: str = ""
    wrong: bool = False


def python(name: str, runs: str) -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(name, f"{version} ({sys.executable})")


def product(name: str, runs: str) -> Finding:
    from dpo_lite import __version__

    return Finding(name, __version__)


def library(name: str, runs: str, loads: bool = True) -> Finding:
    """A library's version, whether it is the one asked for, and whether it can be imported."""
    wanted = _wanted(name)
    install = f'pip install "{name}{wanted}"'
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, "not installed", f"Install {name}: {install}", True)
    if not _suits(version, wanted):
        return Finding(
            name, version, f"dpo_lite is for {name} {wanted}, not {version}: {install}", True
        )
    if loads:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:
            return Finding(
                name,
                f"{version}, which does not load",
                f"{name} fails with {first_line(error)}; install it again: "
                f"pip install --force-reinstall {name}=={version}",
                True,
            )
    return Finding(name, version)


def optional(name: str, runs: str) -> Finding:
    """A package that is used where it is there; a broken one is worse than none."""
    what = OPTIONAL[name]
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, f"not installed ({what})")
    if name in MODULES and find_spec(MODULES[name]):
        try:
            importlib.import_module(MODULES[name])
        except (Exception, SystemExit) as error:
            return Finding(
                name,
                f"{version}, which does not load",
                f"{name} fails with {first_line(error)}; pip uninstall {name}: without it such "
                "layers are slower and right.",
                True,
            )
    return Finding(name, f"{version} ({what})")


def first_line(error: BaseException) -> str:
    text = str(error).strip().partition("\n")[0].rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _wanted(name: str) -> str:
    """The versions that dpo_lite is for, such as ``>=5.20,<6``; empty where nothing says."""
    from packaging.requirements import Requirement

    project = Path(__file__).resolve().parents[2] / "pyproject.toml"
    try:
        if project.is_file():
            lines = tomllib.loads(project.read_text("utf-8"))["project"]["dependencies"]
        else:
            lines = metadata.requires("dpo-lite") or []
    except (OSError, ValueError, KeyError, metadata.PackageNotFoundError):
        return ""
    found = [line for line in map(Requirement, lines) if line.name == name]
    return str(found[0].specifier) if found else ""


def _suits(version: str, wanted: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(wanted).contains(version, prereleases=True)
