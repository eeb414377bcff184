"""From a row to its prompt alone: one function per way of writing it. Answers are not looked at.

Every reader returns a Ranked without responses or raises BadRow. What a prompt is laid out like is
said here once; the converters put the answers behind it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from dpo_lite.data.cells import ASSISTANT, decoded
from dpo_lite.data.examples import BadRow, DataRow, Message, Ranked, Reason
from dpo_lite.data.fields import (
    dialogue,
    ending,
    items,
    mapping,
    messages,
    optional_text,
    prompt,
    text,
    turns_before_answer,
    user,
    with_system,
)

Reader = Callable[[DataRow], Ranked]
RESERVED = {  # arguments of the renderer, which are not a row's to set
    "conversation",
    "chat_template",
    "tokenize",
    "add_generation_prompt",
    "continue_final_message",
}


# --- readers -------------------------------------------------------------------------------------


def alone(read: Callable[[DataRow], list[Message]]) -> Reader:
    """A reader of formats that have nothing for the chat template."""
    return lambda row: Ranked(read(row), [])


def templated(read: Callable[[DataRow], list[Message]]) -> Reader:
    """A reader of formats whose rows may bring arguments of the chat template."""
    return lambda row: Ranked(read(row), [], template=template(row))


def column(key: str) -> Reader:
    """The prompt is a column: text, a dialogue or messages."""
    return alone(lambda row: prompt(row, key))


def turns(key: str) -> Reader:
    """The prompt is a whole list of messages."""
    return templated(lambda row: with_system(row, messages(row, key)))


def conversation(*keys: str) -> Reader:
    """The prompt is what stands before the last answer; of several columns the first that is."""

    def read(row: DataRow) -> Ranked:
        key = next((key for key in keys if row.get(key) is not None), keys[0])
        asked = with_system(row, turns_before_answer(row, key))
        return Ranked(asked, [], template=template(row), behind=ending(row, key))

    return read


def openai_input(row: DataRow) -> Ranked:
    asked = mapping(row.get("input"), "input")
    return Ranked(messages(asked, "messages"), [], template=template(asked))


# --- how a prompt is laid out --------------------------------------------------------------------


def before_last_answer(row: DataRow) -> list[Message]:
    """The turns of the dialogue ``chosen`` up to its last ``Assistant:``."""
    return with_system(row, dialogue(text(row, "chosen").rpartition(ASSISTANT)[0]))


def post(row: DataRow) -> list[Message]:
    """A post or an article, laid out as in the data's own paper (Stiennon et al. 2020)."""
    info = mapping(row.get("info"), "info")
    if info.get("post"):
        forum = optional_text(info, "subreddit").removeprefix("r/")
        asked = f"SUBREDDIT: r/{forum}\n\n" if forum else ""
        asked += f"TITLE: {info['title']}\n\n" if optional_text(info, "title") else ""
        asked += f"POST: {text(info, 'post')}"
    else:
        asked = f"Article:\n{text(info, 'article')}"
    return user(f"{asked}\n\nTL;DR:")


def marked_turns(row: DataRow) -> list[Message]:
    """HelpSteer2: the turns after the first stand behind marks."""
    first, *rest = re.split(r"<extra_id_1>(User|Assistant)\n", text(row, "prompt"))
    asked = user(first.strip())
    for who, words in zip(rest[::2], rest[1::2], strict=True):
        asked.append({"role": who.lower(), "content": words.strip()})
    return asked


def instruction(row: DataRow) -> list[Message]:
    """Alpaca's instruction and input, behind the rounds of ``history``."""
    parts = [text(row, "instruction"), optional_text(row, "input")]
    before = []
    for item in items(row, "history") if row.get("history") is not None else []:
        if not isinstance(item, list) or len(item) != 2:
            raise BadRow(Reason.MALFORMED, "history is no list of (question, answer)")
        pair = dict(zip(("question", "answer"), item, strict=True))
        before += user(text(pair, "question"))
        before.append({"role": "assistant", "content": text(pair, "answer")})
    return with_system(row, [*before, *user("\n".join(part for part in parts if part))])


def only_round(row: DataRow, key: str) -> str:
    """The one text of a list of rounds, which may be JSON text; or the text itself."""
    rounds = decoded(row.get(key))
    if not isinstance(rounds, list) or not all(isinstance(r, (str, type(None))) for r in rounds):
        return text(row, key)
    if len(rounds) != 1:
        raise BadRow(Reason.PROMPTS_DIFFER, f"{key} has {len(rounds)} rounds")
    return text({key: rounds[0]}, key)


# --- what stands beside it -----------------------------------------------------------------------


def template(row: DataRow) -> dict[str, Any] | None:
    """What the row has for the chat template: its tools and further arguments."""
    tools = _plain(row.get("tools"), "tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadRow(Reason.MALFORMED, "tools is no list of objects")
    key = "chat_template_kwargs"
    arguments = mapping(_plain(row.get(key), key) or {}, key)
    if not RESERVED.isdisjoint(arguments):
        raise BadRow(Reason.MALFORMED, f"{key} sets {', '.join(RESERVED & set(arguments))}")
    return ({"tools": tools} if tools else {}) | arguments or None


def _plain(value: Any, what: str) -> Any:
    """A JSON value without the nulls with which Arrow fills absent keys."""

    def without_nulls(members: dict[str, Any]) -> dict[str, Any]:
        return {key: inner for key, inner in members.items() if inner is not None}

    try:
        spelt = json.dumps(decoded(value), ensure_ascii=False)
        spelt.encode()  # half of a surrogate pair is an error here
        return json.loads(spelt, object_hook=without_nulls)
    except (TypeError, ValueError, RecursionError):
        raise BadRow(Reason.MALFORMED, f"{what} is no JSON value") from None
