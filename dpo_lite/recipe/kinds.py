"""Kinds of values that many keys share, and what a value can be at all.

Bounds are where no recipe is meant any more: a number beyond them is a slip, a unit that was
mixed up or an attack, and would be told by a traceback, by a run without end or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

MAX_DEPTH = 20  # lists and mappings in one another
MAX_ENTRIES = 20_000  # values in a recipe, all together
MAX_TEXT = 100_000  # letters of one value
MAX_LETTERS = 200_000  # of all: what is written must be no larger than what is read
MAX_NAMED = 80  # letters of a key in a sentence
MAX_ROWS = 10**12
MAX_UPDATES = 10**7
TINY = 1e-8  # below it a weight or a learning rate is nothing in fp32


def _one_line(text: str) -> str:
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise PydanticCustomError("one_line", "must be one line without control characters")
    return _something(text)


def _something(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("string_too_short", "must not be empty")
    return text


# A path, an id or a name; and a text of several lines, such as a prompt.
Line = Annotated[str, Field(min_length=1, max_length=4000), AfterValidator(_one_line)]
Words = Annotated[str, Field(min_length=1, max_length=MAX_TEXT), AfterValidator(_something)]


def impossible(values: Any) -> str | None:
    """Why no recipe can hold these values, naming the key; None where all are plain ones.

    Plain are text, numbers, true and false, nothing, and lists and mappings of such: what YAML and
    JSON both hold and give back unchanged.
    """
    letters = 0
    for count, (key, depth, value) in enumerate(_walk(values)):
        if fault := _fault(value, depth):
            return f"{key[:MAX_NAMED]}: {fault}" if key else fault
        letters += len(value) if isinstance(value, str) else 0
        if count >= MAX_ENTRIES or letters > MAX_LETTERS:
            return (
                f"a recipe has at most {MAX_ENTRIES:,} values and {MAX_LETTERS:,} letters; data"
                " belong in a file of their own"
            )
    return None


def _walk(values: Any) -> Iterator[tuple[str, int, Any]]:
    """Everything in nested values with its recipe's key; without recursion, which has a limit."""
    waiting = [("", 0, values)]
    while waiting:
        key, depth, value = waiting.pop()
        yield key, depth, value
        if depth > MAX_DEPTH:
            return
        if isinstance(value, Mapping):
            for name, inner in value.items():
                yield key, depth, name
                shown = name if isinstance(name, str) and name.isidentifier() else "?"
                inside = f"{key}.{shown}" if depth == 1 else key if depth else shown
                waiting.append((inside, depth + 1, inner))
        elif isinstance(value, list | tuple):
            waiting += [(key, depth + 1, inner) for inner in value]


def _fault(value: Any, depth: int) -> str | None:
    if depth > MAX_DEPTH:
        return f"lists and mappings lie in one another at most {MAX_DEPTH} deep"
    if isinstance(value, str):
        return _fault_of_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be a finite number, not {value}"
    if isinstance(value, int) and value.bit_length() > 1000:
        return "must be a number of at most 300 digits"
    if value is None or isinstance(value, bool | int | float | list | tuple | Mapping | BaseModel):
        return None
    return f"must be text, a number, a list or a mapping, not a {type(value).__name__}"


def _fault_of_text(text: str) -> str | None:
    if len(text) > MAX_TEXT:
        return f"must be a text of at most {MAX_TEXT:,} letters, not {len(text):,}"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "must be text that can be written in UTF-8, without half of a surrogate pair"
    return None
