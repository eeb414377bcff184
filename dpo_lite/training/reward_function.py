"""A Python function that rewards answers, called as TRL calls its reward functions.

It gets lists of the same length and returns a number per completion,

    def shorter_is_better(prompts, completions, **columns):
        return [-len(text.split()) for text in completions]

``columns`` are those of the data that are no prompt: at present ``chosen_markers`` and
``rejected_markers``. What it does wrong is told with the row of the data that it did it on.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from dpo_lite.errors import UserError

COLUMNS = ("chosen_markers", "rejected_markers")
SHOWN = 60  # letters of a prompt, or of a wrong value, in a sentence
Function = Callable[..., Sequence[float]]
Decode = Callable[[Sequence[int]], str]


def function_file(reward: str) -> Path:
    """The file that holds the function, in or under the current folder."""
    file = reward.rpartition(":")[0]
    path = Path(file).resolve()
    if not path.is_relative_to(Path.cwd()) or not path.is_file():
        raise UserError(f"ppo.reward: there is no file {file} in or under the current folder.")
    return path


def function_print(reward: str) -> str:
    """A hash of its file, for a resumed run must be rewarded by the same code."""
    return hashlib.sha256(function_file(reward).read_bytes()).hexdigest()


def load_function(reward: str) -> Function:
    """The function that ``file.py:function`` names; what its file imports may lie beside it."""
    path = function_file(reward)
    file, _, name = reward.rpartition(":")
    module = _module(file, path, path.read_bytes())
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError(f"ppo.reward: {file} has no function {name}.")
    return function


@functools.cache
def _module(file: str, path: Path, code: bytes) -> ModuleType:
    """The file as a module, run once as long as its ``code`` is the same: it may load a model."""
    spec = importlib.util.spec_from_file_location(f"ppo_reward_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module there
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError(f"ppo.reward: {file} does not load: {error!r}.") from error
    return module


def called(
    function: Function, name: str, examples: Sequence[dict[str, Any]], decode: Decode
) -> torch.Tensor:
    """The function's rewards of all answers of the examples, in their order: (A,), fp32.

    Raises UserError, with the row where there is one, where it fails or does not return a finite
    number per answer.
    """
    answers = [(example, decode(ids)) for example in examples for ids in example["response_ids"]]
    found, error = _returned(function, answers)
    if error is not None:
        place = _that_fails(function, answers)
        where = "" if place is None else f" on {_row(answers[place][0])}"
        raise UserError(f"ppo.reward: {name} failed{where}: {error!r}.") from error
    if isinstance(found, str | bytes) or not isinstance(found, Iterable):
        raise UserError(
            f"ppo.reward: {name} must return a list with a number for each of the"
            f" {len(answers)} completions, not {_shown(found)}."
        )
    values = list(found)
    if len(values) != len(answers):
        raise UserError(
            f"ppo.reward: {name} must return a number for each of the {len(answers)} completions"
            f" that it is given ({_row(answers[0][0])} and on); it returned {len(values)}."
        )
    return torch.tensor(
        [_number(value, name, example) for value, (example, _) in zip(values, answers, strict=True)]
    )


def _returned(
    function: Function, answers: Sequence[tuple[dict[str, Any], str]]
) -> tuple[Any, Exception | None]:
    """What it returns for these answers, or what it raises."""
    columns = [column for column in COLUMNS if column in answers[0][0]]
    arguments = {
        "prompts": [example["prompt"] for example, _ in answers],
        "completions": [text for _, text in answers],
    } | {column: [example[column] for example, _ in answers] for column in columns}
    try:
        found = function(**arguments)
        # A generator runs only when it is read.
        listed = isinstance(found, Iterable) and not isinstance(found, str | bytes)
        return (list(found) if listed else found), None
    except Exception as error:
        return None, error


def _that_fails(function: Function, answers: Sequence[tuple[dict[str, Any], str]]) -> int | None:
    """The first answer that it fails on by itself, if there is one."""
    return next((n for n, own in enumerate(answers) if _returned(function, [own])[1]), None)


def _number(value: Any, name: str, example: dict[str, Any]) -> float:
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(
            f"ppo.reward: {name} must return a finite number for each completion, and gave"
            f" {_shown(value)} on {_row(example)}."
        )
    return number


def _row(example: dict[str, Any]) -> str:
    number = f"row {example['row']} " if "row" in example else ""
    prompt = " ".join(str(example["prompt"]).split())
    return f"{number}('{prompt[:SHOWN]}{'…' * (len(prompt) > SHOWN)}')"


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # somebody else's code
        text = ""
    return text if text and len(text) <= SHOWN else f"a {type(value).__name__}"
