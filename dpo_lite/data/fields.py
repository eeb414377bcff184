"""Read the cells of a row: every function returns what was asked for or raises BadRow.

The spellings of data sets are settled here, so that a converter is one expression.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dpo_lite.data.calls import without_ids
from dpo_lite.data.cells import (
    BOOLEANS,
    CALLS,
    decoded,
    first_of,
    is_boolean,
    is_dialogue,
    is_message,
    is_messages,
    is_number,
    role_of,
)
from dpo_lite.data.examples import BadRow, Calling, DataRow, Message, Reason
from dpo_lite.data.faithful import CLOSES, OPENS

MAX_CHARACTERS = 1_000_000
# What pandas makes of messages in a CSV: their repr, which is no JSON.
PYTHON_MESSAGES = re.compile(r"\s*\[?\s*\{\s*'(role|content|from|value)'\s*:")


# --- cells ---------------------------------------------------------------------------------------


def text(row: DataRow, key: str) -> str:
    """The text under ``key``."""
    return _checked(row.get(key), key)


def optional_text(row: DataRow, key: str) -> str:
    """The text under ``key``; empty where it is missing or null."""
    return "" if row.get(key) is None else text(row, key)


def number(row: DataRow, key: str) -> float:
    value = row.get(key)
    if not is_number(value):
        raise BadRow(Reason.MALFORMED, f"{key} is no number")
    return float(value)


def boolean(row: DataRow, key: str) -> bool:
    value = row.get(key)
    if not is_boolean(value):
        raise BadRow(Reason.MALFORMED, f"{key} is neither true nor false")
    return BOOLEANS[value.strip().lower()] if isinstance(value, str) else bool(value)


def items(row: DataRow, key: str) -> list[Any]:
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
    role = role_of(turn)
    if role is None:
        name = first_of(turn, "role", "from")
        shown = repr(name[:40]) if isinstance(name, str) else f"of type {type(name).__name__}"
        raise BadRow(Reason.MALFORMED, f"{what}: unknown role {shown}")
    calls = tool_calls(turn, what) if role == "assistant" else []
    content = first_of(turn, "content", "value")
    if first_of(turn, "role", "from").strip().lower() == CALLS and not calls:
        calls, content = _calls_in(content, what), ""
    if content is None and calls:
        content = ""
    if isinstance(content, list):  # OpenAI's list of parts
        parts = [mapping(part, what) for part in content]
        kinds = [part.get("type") or ("text" if "text" in part else "other") for part in parts]
        if other := next((kind for kind in kinds if kind != "text"), None):
            raise BadRow(Reason.SENSES, f"{what} holds a part of type {other}")
        content = "".join(_checked(part.get("text"), what) for part in parts)
    content = _checked(content, what)
    reasoning = first_of(turn, "reasoning_content", "reasoning", "thinking")
    if role == "assistant" and reasoning and CLOSES not in content:
        reasoning = _checked(reasoning, f"{what}: reasoning").strip()
        content = f"{OPENS}\n{reasoning}\n{CLOSES}\n\n{content.lstrip()}"
    return {"role": role, "content": content, **_beside(turn, role)} | (
        {"tool_calls": calls} if calls else {}
    )


def _beside(turn: Mapping[str, Any], role: str) -> dict[str, str]:
    """Which call a tool's turn answers, where it says so."""
    keys = ("tool_call_id", "name") if role == "tool" else ()
    return {key: turn[key] for key in keys if isinstance(turn.get(key), str) and turn[key]}


def _calls_in(content: Any, what: str) -> list[dict[str, Any]]:
    """ShareGPT's turn of calls: one as JSON text, or a list of several."""
    called = decoded(content)
    calls = called if isinstance(called, list) else [called]
    if not calls or not all(isinstance(call, dict) for call in calls):
        raise BadRow(Reason.MALFORMED, f"{what}: a turn of {CALLS} holds no JSON of a call")
    return tool_calls({"tool_calls": calls}, what)


def tool_calls(turn: Mapping[str, Any], what: str) -> list[dict[str, Any]]:
    """The calls of a turn as chat templates take them, arguments given as JSON text parsed."""
    calls = decoded(turn.get("tool_calls")) or []
    if not isinstance(calls, list):
        raise BadRow(Reason.MALFORMED, f"{what}: tool_calls is no list")
    found = []
    for call in calls:
        call = mapping(call, f"{what}: a tool call")
        function = mapping(call.get("function", call), f"{what}: a tool call")
        if not isinstance(function.get("name"), str):
            raise BadRow(Reason.MALFORMED, f"{what}: a tool call without a name")
        arguments = decoded(function.get("arguments") or {})
        if not isinstance(arguments, dict):
            raise BadRow(Reason.MALFORMED, f"{what}: a tool call's arguments are no object")
        arguments = {key: value for key, value in arguments.items() if value is not None}
        own = {"id": call["id"]} if isinstance(call.get("id"), str) and call["id"] else {}
        function = {"name": function["name"], "arguments": arguments}
        found.append({**own, "type": "function", "function": function})
    return found


def messages(row: DataRow, key: str) -> list[Message]:
    """A list of turns, also as JSON text (CSV)."""
    return [message(turn, key) for turn in items(row, key)]


def answer(row: DataRow, key: str) -> str:
    """One assistant turn: as text, as a message, or as a list with one message."""
    value = row.get(key)
    if is_messages(value) or is_message(value):
        value = decoded(value)
    if not isinstance(value, (list, dict)):
        return _checked(value, key)
    turn = message(value[0] if isinstance(value, list) and len(value) == 1 else value, key)
    if turn["role"] != "assistant":
        raise BadRow(Reason.MALFORMED, f"{key} is a turn of the {turn['role']}, not an answer")
    return spoken(turn)


def spoken(turn: Message) -> str:
    """What an answer says, and the tools that it calls."""
    calls = turn.get("tool_calls")
    return Calling(turn["content"], calls) if calls else turn["content"]


def answers_behind_shared_turns(
    chosen: list[Message], rejected: list[Message]
) -> tuple[list[Message], list[str]]:
    """Split two conversations into the turns that they share and the last answer of each."""
    if not chosen or not rejected:
        raise BadRow(Reason.EMPTY_RESPONSE)
    if without_ids(chosen[:-1]) != without_ids(rejected[:-1]):
        raise BadRow(Reason.PROMPTS_DIFFER)
    for turn, key in ((chosen[-1], "chosen"), (rejected[-1], "rejected")):
        if turn["role"] != "assistant":
            raise BadRow(Reason.UNANSWERED, f"{key}: its last turn is of the {turn['role']}")
    return chosen[:-1], [spoken(chosen[-1]), spoken(rejected[-1])]


def turns_before_answer(row: DataRow, key: str) -> list[Message]:
    """A conversation up to its last answer, of which nothing but the role is read."""
    turns = [mapping(turn, key) for turn in items(row, key)]
    places = [place for place, turn in enumerate(turns) if role_of(turn) == "assistant"]
    if not places:
        raise BadRow(Reason.MALFORMED, f"{key} holds no answer")
    return [message(turn, key) for turn in turns[: places[-1]]]


def ending(row: DataRow, key: str) -> str:
    """What of a conversation stands behind its last answer, in words; empty where nothing does."""
    last = role_of(mapping(items(row, key)[-1], key))
    return "" if last == "assistant" else f"{key}: its last turn is of the {last}"


def dialogue(content: str) -> list[Message]:
    """Turn ``\\n\\nHuman: … \\n\\nAssistant: …`` into messages.

    A last ``\\n\\nAssistant:`` with nothing behind it opens the answer and is no turn.
    """
    parts = re.split(r"\n\n(Human|Assistant):", content)
    if parts[0].strip() or len(parts) < 3:
        raise BadRow(Reason.MALFORMED, "not a Human/Assistant dialogue")
    names = {"Human": "user", "Assistant": "assistant"}
    turns = [
        {"role": names[who], "content": words.strip()}
        for who, words in zip(parts[1::2], parts[2::2], strict=True)
    ]
    return turns[:-1] if turns[-1] == {"role": "assistant", "content": ""} else turns


def prompt(row: DataRow, key: str = "prompt") -> list[Message]:
    """A prompt as messages, as a dialogue or as plain text, with the row's ``system`` in front."""
    value = row.get(key)
    if is_messages(value):
        return with_system(row, messages(row, key))
    if is_message(value):
        return with_system(row, [message(value, key)])
    if is_dialogue(value):
        return with_system(row, dialogue(_checked(value, key)))
    return with_system(row, user(text(row, key)))


def with_system(row: DataRow, turns: list[Message]) -> list[Message]:
    """The turns behind the row's ``system``, unless they bring a system turn of their own."""
    system = optional_text(row, "system")
    if not system.strip() or (turns and turns[0]["role"] == "system"):
        return turns
    return [{"role": "system", "content": system}, *turns]


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
