"""Whether a rendered conversation says what its row says: each turn whole, once and in its order.

A chat template is a program that nobody checks: one has no branch for tool turns and passes over
them, another cuts reasoning off every answer. What is trained must stand in the row, and what
stands in the row must be trained or the row be dropped with a reason.

Known and allowed: white space at the ends of a text and around the marks of reasoning is set
anew; reasoning of earlier turns that say something else too is left out, as reasoning models are
to be asked; a system turn may stand elsewhere (some templates put it into the last question); text
may be spelt as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from dpo_lite.data.examples import Message

OPENS, CLOSES = "<think>", "</think>"
MARKS = re.compile(r"</?think>")
SHOWN = 40


def left_out(text: str, turns: Sequence[Message]) -> str | None:
    """A clause about the first turn whose words the text does not hold in their place, or None."""
    place = 0
    for turn in turns:
        start = 0 if turn["role"] == "system" else place
        missing, end = _missing(text, start, _pieces(turn["content"]))
        if turn["role"] == "assistant" and CLOSES in turn["content"]:
            spoken = turn["content"].rpartition(CLOSES)[2]
            if turn is not turns[-1] and (spoken.strip() or turn.get("tool_calls")):
                without = _missing(text, start, _pieces(spoken))
                # A thought that was left out may be found in a later turn that says the same.
                if missing or (not without[0] and without[1] < end):
                    missing, end = without
        if not missing:
            missing, _ = _missing(text, start, _called(turn))
        if missing:
            shown = missing if len(missing) <= SHOWN else missing[: SHOWN - 1] + "…"
            return f"it leaves out words of a turn of the {turn['role']}: {shown!r}"
        if turn["role"] != "system":
            place = end
    return None


def _missing(text: str, place: int, pieces: Sequence[str]) -> tuple[str, int]:
    """The first piece that does not stand behind ``place``, in order; and where the last ends."""
    for piece in pieces:
        found = ((text.find(spelt, place), spelt) for spelt in _spellings(piece))
        start, spelt = next((found for found in found if found[0] >= 0), (-1, ""))
        if start < 0:
            return piece, place
        place = start + len(spelt)
    return "", place


def _spellings(piece: str) -> Iterator[str]:
    """The text as it is, and as it stands inside of JSON."""
    yield piece
    for ascii in (False, True):
        yield json.dumps(piece, ensure_ascii=ascii)[1:-1]


def _pieces(content: str) -> list[str]:
    """What white space of a template's own may stand between."""
    return [piece.strip() for piece in MARKS.split(content) if piece.strip()]


def _called(turn: Message) -> list[str]:
    """The words of a turn's tool calls: which functions, and the texts given to them."""
    words: list[str] = []
    for call in turn.get("tool_calls") or []:
        function = call.get("function", call)
        words.append(str(function.get("name", "")))
        words += [text.strip() for text in _texts(function.get("arguments")) if text.strip()]
    return words


def _texts(value: Any) -> list[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in inner for text in _texts(part)]


def tools_left_out(text: str, tools: Sequence[Any]) -> str | None:
    """A clause where the text does not describe the row's tools: their names and those of what is
    given to them, and what is said about both, each word of it."""
    for words in (words for tool in tools for words in _described(tool)):
        if any(spelt in text for spelt in _spellings(words)):
            continue
        missing = next((w for w in words.split() if _missing(text, 0, [w])[0]), None)
        if missing:
            return f"it leaves out words of the row's tools: {missing!r}"
    return None


def _described(schema: Any) -> Iterator[str]:
    """The texts of a tool's JSON schema that a model needs to know it by."""
    if isinstance(schema, list):
        for part in schema:
            yield from _described(part)
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key in ("name", "description") and isinstance(value, str):
            yield value.strip()
        elif key == "properties" and isinstance(value, dict):
            for name, inner in value.items():
                yield name
                yield from _described(inner)
        else:
            yield from _described(value)


class Roles:
    """Which turns a template renders, by their roles alone: tried once for every sequence of them.

    Turns that call tools are tried with their calls, for some templates show a tool's answer only
    behind one. Words are looked for in each row too, but short ones ("19") may stand in a text by
    chance. ``render``: messages → text with an open answer; its errors are the row's own affair.
    """

    def __init__(self, render: Callable[[list[Message]], str], faults: tuple[type[Exception], ...]):
        self.render, self.faults = render, faults
        self.known: dict[tuple[str, ...], str | None] = {}

    def fault(self, turns: Sequence[Message]) -> str | None:
        """A clause about the first turn that is passed over or said twice, or None."""
        roles = tuple(turn["role"] + "+" * bool(turn.get("tool_calls")) for turn in turns)
        if roles not in self.known:
            self.known[roles] = self._try(turns)
        return self.known[roles]

    def _try(self, turns: Sequence[Message]) -> str | None:
        words = [f"Xqz{place}zqX" for place in range(len(turns))]
        marked = [{**turn, "content": word} for turn, word in zip(turns, words, strict=True)]
        try:
            text = self.render(marked)
        except self.faults:
            return None
        for turn, word in zip(turns, words, strict=True):
            if text.count(word) == 0 and turn.get("tool_calls"):
                continue  # words beside a call: whether there are any is the row's affair
            if text.count(word) != 1:
                does = "says twice" if word in text else "passes over"
                return f"it {does} a turn of the {turn['role']}"
        return None
