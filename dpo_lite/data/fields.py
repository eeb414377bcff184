"""Read the cells of a row: every function returns what was asked for or raises BadRow.

Data sets spell the same things in many ways (``human`` for ``user``, ``value`` for ``content``,
numbers as text). The spellings are settled here, so that a converter is one expression.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from dpo_lite.data.examples import ROLES, BadRow, Message, Reason

Row = Mapping[str, Any]
HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
MAX_CHARACTERS = 1_000_000
# What pandas makes of messages in a CSV: their repr, which is no JSON.
PYTHON_MESSAGES = re.compile(r"\s*\[?\s*\{\s*'(role|content|from|value)'\s*:")
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
}
BOOLEANS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


# --- what a cell looks like: the tests by which formats are recognised ---------------------------


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
    return _are_turns([decoded(value)], beyond_doubt=isinstance(value, str))


def is_messages(value: Any) -> bool:
    """A list of turns, also as JSON text (CSV)."""
    turns = decoded(value)
    return isinstance(turns, list) and _are_turns(turns, beyond_doubt=isinstance(value, str))


def _are_turns(turns: list[Any], beyond_doubt: bool) -> bool:
    """JSON text must be turns beyond doubt: an answer may well be JSON with a ``role`` in it."""
    return bool(turns) and all(
        isinstance(turn, dict)
        and _key(turn, "role", "from") is not None
        and (not beyond_doubt or (_role(turn) and _key(turn, "content", "value") is not None))
        for turn in turns
    )


def is_dialogue(value: Any) -> bool:
    """Anthropic's plain text: turns that begin with ``\\n\\nHuman:`` or ``\\n\\nAssistant:``."""
    return isinstance(value, str) and value.startswith(HUMAN)


def turns_in(value: Any) -> int:
    """How many turns a list of messages has; 0 where it is none."""
    return len(decoded(value)) if is_messages(value) else 0


def list_of(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """A test for a list, also as JSON text (CSV), of at least one item, all of which pass."""

    def test(value: Any) -> bool:
        found = decoded(value)
        return isinstance(found, list) and bool(found) and all(map(holds, found))

    return test


def object_with(*keys: str) -> Callable[[Any], bool]:
    """A test for an object, also as JSON text (CSV), in which these keys are not null."""

    def test(value: Any) -> bool:
        found = decoded(value)
        return isinstance(found, dict) and all(found.get(key) is not None for key in keys)

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


# --- cells ---------------------------------------------------------------------------------------


def decoded(value: Any) -> Any:
    """The list or object that stands there as JSON text (CSV), else the value as it is."""
    if not isinstance(value, str) or value[:64].lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def text(row: Row, key: str) -> str:
    """The text under ``key``."""
    return _checked(row.get(key), key)


def optional_text(row: Row, key: str) -> str:
    """The text under ``key``; empty where it is missing or null."""
    return "" if row.get(key) is None else text(row, key)


def number(row: Row, key: str) -> float:
    value = row.get(key)
    if not is_number(value):
        raise BadRow(Reason.MALFORMED, f"{key} is no number")
    return float(value)


def boolean(row: Row, key: str) -> bool:
    value = row.get(key)
    if not is_boolean(value):
        raise BadRow(Reason.MALFORMED, f"{key} is neither true nor false")
    return BOOLEANS[value.strip().lower()] if isinstance(value, str) else bool(value)


def items(row: Row, key: str) -> list[Any]:
    """A list, also as JSON text (CSV)."""
    value = decoded(row.get(key))
    if not isinstance(value, list):
        raise BadRow(Reason.MALFORMED, f"{key} is no list")
    return value


def mapping(value: Any, what: str) -> dict[str, Any]:
    """An object, also as JSON text (CSV)."""
    value = decoded(value)
    if not isinstance(value, dict):
        raise BadRow(Reason.MALFORMED, f"{what} is no object")
    return value


# --- conversations -------------------------------------------------------------------------------


def user(content: str) -> list[Message]:
    return [{"role": "user", "content": content}]


def message(value: Any, what: str) -> Message:
    """A turn in OpenAI's (role, content) or ShareGPT's (from, value) spelling."""
    turn = mapping(value, what)
    role = _role(turn)
    if role is None:
        name = _key(turn, "role", "from")
        shown = repr(name[:40]) if isinstance(name, str) else f"of type {type(name).__name__}"
        raise BadRow(Reason.MALFORMED, f"{what}: unknown role {shown}")
    for extra in ("tool_calls", "reasoning_content", "thinking"):
        if turn.get(extra):
            raise BadRow(Reason.MALFORMED, f"{what}: {extra} beside the text is not supported")
    content = _key(turn, "content", "value")
    if isinstance(content, list):  # OpenAI's list of parts
        parts = [mapping(part, what) for part in content]
        if any((part.get("type") or "text") != "text" for part in parts):
            raise BadRow(Reason.NOT_TEXT, f"{what} holds more than text")
        content = "".join(_checked(part.get("text"), what) for part in parts)
    return {"role": role, "content": _checked(content, what)}


def messages(row: Row, key: str) -> list[Message]:
    """A list of turns, also as JSON text (CSV)."""
    return [message(turn, key) for turn in items(row, key)]


def answer(row: Row, key: str) -> str:
    """One assistant turn: as text, as a message, or as a list with one message."""
    value = row.get(key)
    if is_messages(value) or is_message(value):
        value = decoded(value)
    if not isinstance(value, (list, dict)):
        return _checked(value, key)
    turn = message(value[0] if isinstance(value, list) and len(value) == 1 else value, key)
    if turn["role"] != "assistant":
        raise BadRow(Reason.MALFORMED, f"{key} is a turn of the {turn['role']}, not an answer")
    return turn["content"]


def answers_behind_shared_turns(
    chosen: list[Message], rejected: list[Message]
) -> tuple[list[Message], list[str]]:
    """Split two conversations into the turns that they share and the last answer of each."""
    if not chosen or not rejected:
        raise BadRow(Reason.EMPTY_RESPONSE)
    if chosen[:-1] != rejected[:-1]:
        raise BadRow(Reason.PROMPTS_DIFFER)
    if {chosen[-1]["role"], rejected[-1]["role"]} != {"assistant"}:
        raise BadRow(Reason.MALFORMED, "the conversation does not end with an answer")
    return chosen[:-1], [chosen[-1]["content"], rejected[-1]["content"]]


def turns_before_answer(row: Row, key: str) -> list[Message]:
    """A conversation up to its last answer, of which nothing but the role is read."""
    turns = [mapping(turn, key) for turn in items(row, key)]
    places = [place for place, turn in enumerate(turns) if _role(turn) == "assistant"]
    if not places:
        raise BadRow(Reason.MALFORMED, f"{key} holds no answer")
    return [message(turn, key) for turn in turns[: places[-1]]]


def dialogue(content: str) -> list[Message]:
    """Turn ``\\n\\nHuman: … \\n\\nAssistant: …`` into messages.

    A last ``\\n\\nAssistant:`` with nothing behind it opens the answer and is no turn.
    """
    parts = re.split(r"\n\n(Human|Assistant):", content)
    if parts[0].strip() or len(parts) < 3:
        raise BadRow(Reason.MALFORMED, "not a Human/Assistant dialogue")
    names = {"Human": "user", "Assistant": "assistant"}
    turns = [
        {"role": names[who], "content": said.strip()}
        for who, said in zip(parts[1::2], parts[2::2], strict=True)
    ]
    return turns[:-1] if turns[-1] == {"role": "assistant", "content": ""} else turns


def prompt(row: Row, key: str = "prompt") -> list[Message]:
    """A prompt as messages, as a dialogue or as plain text, with the row's ``system`` in front."""
    value = row.get(key)
    if is_messages(value):
        return with_system(row, messages(row, key))
    if is_message(value):
        return with_system(row, [message(value, key)])
    if is_dialogue(value):
        return with_system(row, dialogue(_checked(value, key)))
    return with_system(row, user(text(row, key)))


def with_system(row: Row, turns: list[Message]) -> list[Message]:
    """The turns behind the row's ``system``, unless they bring a system turn of their own."""
    system = optional_text(row, "system")
    if not system.strip() or (turns and turns[0]["role"] == "system"):
        return turns
    return [{"role": "system", "content": system}, *turns]


def _role(turn: Mapping[str, Any]) -> str | None:
    name = _key(turn, "role", "from")
    return ROLE_NAMES.get(name.strip().lower()) if isinstance(name, str) else None


def _key(value: Mapping[str, Any], *names: str) -> Any:
    """The first of the names that is not null (Arrow fills the other spellings with nulls)."""
    return next((value[name] for name in names if value.get(name) is not None), None)


def _checked(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise BadRow(Reason.NOT_TEXT, f"{what} is {'missing' if value is None else 'no text'}")
    if len(value) > MAX_CHARACTERS:
        raise BadRow(Reason.TOO_LARGE, f"{what} has {len(value):,} characters")
    if PYTHON_MESSAGES.match(value):
        raise BadRow(
            Reason.MALFORMED, f"{what} is messages written by Python; write them with json.dumps"
        )
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        raise BadRow(Reason.NOT_TEXT, f"{what} holds half a character") from None
    return value
