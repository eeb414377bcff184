"""Rows of JSON: an object a line, a list of them, one list in an object, or one behind the other.

Decoded singly, so that a broken value is named by its line and none after it is needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dpo_lite.data.examples import DataRow
from dpo_lite.data.file_text import bad_line, decode, left_out, lines, or_leave_out, reason, whole

JSON_SPACE = re.compile(r"[ \t\n\r]*")
DECODE = json.JSONDecoder()
OBJECT = ()  # what JSON has none of; skimming keeps it in place of each object
SKIM = json.JSONDecoder(object_hook=lambda members: OBJECT)

Values = Iterator[tuple[Any, int]]  # JSON values, and where in the text each begins


def jsonl_rows(path: Path, file: BinaryIO, named: set[int]) -> Iterator[DataRow]:
    for number, line in lines(path, file):
        if number in named:
            yield left_out(path, number, named)
            continue
        line = line.rstrip()
        yield from _objects(path, line, _in_sequence(line, _skip(line, 0)), number)


def json_rows(path: Path, file: BinaryIO, named: set[int]) -> Iterator[DataRow]:
    text = decode(path, whole(path, file)).rstrip()
    yield from _objects(path, text, _json_values(text))


def _objects(path: Path, text: str, values: Values, line: int | None = None) -> Iterator[DataRow]:
    """The ``values`` found in ``text``, which is the file or one line of it."""
    number = line or 1
    try:
        for element, (row, at) in enumerate(values, 1):
            if not isinstance(row, dict):
                number += text.count("\n", 0, at)
                problem = "is no JSON object" + ("" if line else f" (element {element})")
                out = or_leave_out(path, number) if line else ""
                raise bad_line(path, number, f"{problem}; put it right or remove it{out}")
            yield row
    except json.JSONDecodeError as error:
        number += error.lineno - 1
        problem = f"is no valid JSON: {error.msg.rstrip(': ')} (column {error.colno})"
        out = or_leave_out(path, number) if line else ""
        problem = f"{problem}; put that line right or remove it{out}"
        raise bad_line(path, number, problem) from None


def _json_values(text: str) -> Values:
    """The values of a list, of one list in an object, or one after the other; decoded singly.

    Raises JSONDecodeError, as all below.
    """
    at = _skip(text, 0)
    start = _wrapped_list(text, at) if text[at : at + 1] == "{" else at
    if text[start : start + 1] != "[":
        yield from _in_sequence(text, at)
        return
    end = yield from _in_list(text, start)
    if start == at and end < len(text):
        raise json.JSONDecodeError("More text behind the list", text, end)


def _in_sequence(text: str, at: int) -> Values:
    while at < len(text):
        value, end = _value(text, at)
        yield value, at
        at = end


def _in_list(text: str, at: int) -> Values:
    """Returns where the text goes on behind the list."""
    at = _skip(text, at + 1)
    more = text[at : at + 1] != "]"
    while more:
        value, end = _value(text, at)
        yield value, at
        more = text[end : end + 1] == ","
        at = _skip(text, end + 1) if more else end
    if text[at : at + 1] != "]":
        raise json.JSONDecodeError("Expecting a comma or the end of the list", text, at)
    return _skip(text, at + 1)


def _wrapped_list(text: str, at: int) -> int:
    """Where the one list of objects opens in the object at ``at``, or ``at`` if that is a row.

    An object with text behind it is a row, and so is one with two such lists, as chosen and
    rejected messages are. A list without elements counts only where there is no other.
    """
    _, end = _value(text, at, SKIM)
    starts: tuple[list[int], list[int]] = ([], [])  # of empty lists, of lists of objects
    name = _skip(text, at + 1)
    while (
        end == len(text) and text[name : name + 1] == '"'
    ):  # valid: a name, a colon, a value, a comma
        start = _skip(text, _value(text, name)[1] + 1)
        value, behind = _value(text, start, SKIM)
        if isinstance(value, list) and value[:1] in ([], [OBJECT]):
            starts[bool(value)].append(start)
        name = _skip(text, behind + 1)
    lists = starts[True] or starts[False]
    return lists[0] if len(lists) == 1 else at


def _value(text: str, at: int, decoder: json.JSONDecoder = DECODE) -> tuple[Any, int]:
    """The value at ``at`` and where the text goes on behind it."""
    try:
        value, end = decoder.raw_decode(text, at)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError) as error:  # too many digits, or nested too deep
        raise json.JSONDecodeError(reason(error), text, at) from None
    return value, _skip(text, end)


def _skip(text: str, at: int) -> int:
    return JSON_SPACE.match(text, at).end()
