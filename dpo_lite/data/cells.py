"""What a cell looks like: the tests by which formats are recognised.

Data sets spell the same things in many ways (``human`` for ``user``, ``value`` for ``content``,
numbers and lists as text). The spellings are settled here and in dpo_lite.data.fields.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from dpo_lite.data.examples import ROLES

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
CALLS = "function_call"  # ShareGPT's turn that calls tools: its words are the call, as JSON
ROLE_NAMES = {role: role for role in ROLES} | {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "developer": "system",
    "observation": "tool",
    "ipython": "tool",
    CALLS: "assistant",
}
BOOLEANS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_number(value: Any) -> bool:
    """A finite number, also as text (CSV), but no bool."""
    try:
        return not isinstance(value, bool) and math.isfinite(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def is_boolean(value: Any) -> bool:
    """A bool, also as 0/1 or as text (CSV)."""
    if isinstance(value, str):
        return value.strip().lower() in BOOLEANS
    return isinstance(value, (int, float)) and value in (0, 1)


def is_message(value: Any) -> bool:
    """One turn, also as JSON text (CSV)."""
    turn = decoded(value)
    return isinstance(turn, dict) and _are_turns([turn], beyond_doubt=isinstance(value, str))


def is_messages(value: Any) -> bool:
    """A list of turns, also as JSON text (CSV)."""
    turns = decoded(value)
    return isinstance(turns, list) and _are_turns(turns, beyond_doubt=isinstance(value, str))


def _are_turns(turns: list[Any], beyond_doubt: bool) -> bool:
    """JSON text must be turns beyond doubt: an answer may well be JSON with a ``role`` in it."""
    return bool(turns) and all(
        isinstance(turn, dict)
        and first_of(turn, "role", "from") is not None
        and (not beyond_doubt or (role_of(turn) and first_of(turn, "content", "value") is not None))
        for turn in turns
    )


def is_dialogue(value: Any) -> bool:
    """Anthropic's plain text: turns that begin with ``\\n\\nHuman:`` or ``\\n\\nAssistant:``."""
    return isinstance(value, str) and value.startswith(HUMAN)


def turns_in(value: Any) -> int:
    """How many turns a list of messages has; 0 where it is none."""
    return len(decoded(value)) if is_messages(value) else 0


def weightless(turns: Any) -> set[int]:
    """Places of the turns that are not to be learned, by OpenAI's ``weight: 0``."""
    turns = decoded(turns)
    return {
        place
        for place, turn in enumerate(turns if isinstance(turns, list) else [])
        if isinstance(turn, dict) and is_number(turn.get("weight")) and float(turn["weight"]) == 0
    }


def list_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A test for a list, also as JSON text (CSV), of at least one item, all of which pass."""

    def test(value: Any) -> bool:
        values = decoded(value)
        return isinstance(values, list) and bool(values) and all(map(holds, values))

    return test


def object_with(*keys: str) -> Callable[[Any], bool]:
    """A test for an object, also as JSON text (CSV), in which these keys are not null."""

    def test(value: Any) -> bool:
        members = decoded(value)
        return isinstance(members, dict) and all(members.get(key) is not None for key in keys)

    return test


def kind_of(value: Any) -> str:
    """What a cell is, in words."""
    tests = {
        "empty": lambda v: v is None,
        "a list of messages": is_messages,
        "one message": is_message,
        "a Human/Assistant dialogue": is_dialogue,
        "text": is_text,
        "true or false": lambda v: isinstance(v, bool),
        "a number": is_number,
        "a list of texts": list_of(is_text),
        "a list of numbers": list_of(is_number),
        "a list": lambda v: isinstance(v, list),
        "an object": lambda v: isinstance(v, dict),
    }
    return next((words for words, holds in tests.items() if holds(value)), type(value).__name__)


def decoded(value: Any) -> Any:
    """The list or object that stands there as JSON text (CSV), else the value as it is."""
    if not isinstance(value, str) or value[:64].lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def role_of(turn: Mapping[str, Any]) -> str | None:
    name = first_of(turn, "role", "from")
    return ROLE_NAMES.get(name.strip().lower()) if isinstance(name, str) else None


def first_of(value: Mapping[str, Any], *names: str) -> Any:
    """The first of the names that is not null (Arrow fills the other spellings with nulls)."""
    return next((value[name] for name in names if value.get(name) is not None), None)
