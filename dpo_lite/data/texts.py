"""The texts of an example before it has ids: as plain text, as bare answers, as a search."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from dpo_lite.data.cells import ASSISTANT, HUMAN
from dpo_lite.data.examples import BadRow, Example, Message, Reason, calls_of

NAMES = ("name", "tool_call_id")  # what a tool's turn may have beside its words


def all_texts(example: Example) -> list[str]:
    """All that the row brings and the model reads, to look for special tokens in it."""
    beside = [turn["tool_calls"] for turn in example.prompt if turn.get("tool_calls")]
    beside += [calls for answer in example.responses if (calls := calls_of(answer))]
    beside += [example.template] if example.template else []
    beside += [turn[key] for turn in example.prompt for key in NAMES if key in turn]
    return [turn["content"] for turn in example.prompt] + example.responses + [*map(_json, beside)]


def told_apart(answer: str) -> str:
    """Equal for equal answers: their words and calls, whatever white space and ids they have."""
    calls = calls_of(answer)
    if not calls:
        return answer.strip()
    return answer.strip() + _json([{k: call[k] for k in call if k != "id"} for call in calls])


def bare_answer(answer: str) -> str:
    """The answer without white space around it; the indentation of code's first line stays."""
    lines = answer.strip("\r\n").rstrip().split("\n")
    indented = len(lines) > 1 and lines[0][:1] in (" ", "\t") and lines[1][:1] in (" ", "\t")
    return "\n".join(lines) if indented else answer.strip()


def any_of(marks: set[str]) -> re.Pattern[str]:
    """Finds any of the special tokens in a text; the longest first."""
    marks = {mark for mark in marks if mark.strip()}
    return re.compile("|".join(map(re.escape, sorted(marks, key=lambda mark: (-len(mark), mark)))))


def raw_texts(example: Example) -> tuple[str, list[str]]:
    """Plain text: a prompt as it is, a dialogue with its speakers.

    A space at the end of a prompt moves to the responses: tokens hold their space in front, and
    the model has never seen one that stands alone.
    """
    messages = example.prompt
    calling = [turn.get("tool_calls") for turn in messages] + [*map(calls_of, example.responses)]
    if example.template.get("tools") or any(calling):
        raise BadRow(Reason.TEMPLATE, "tools need a chat template, and this is plain text")
    if len(messages) == 1 and not example.dialogue:
        prompt = messages[0]["content"]
        bare = prompt.rstrip(" \t")
        return bare, [prompt[len(bare) :] + answer for answer in example.responses]
    speakers = {
        "user": HUMAN + " ",
        "assistant": ASSISTANT + " ",
        "system": "",
        "tool": "\n\nTool: ",
    }
    turns = "".join(speakers[turn["role"]] + turn["content"] for turn in messages)
    return turns + ASSISTANT, [" " + answer.strip() for answer in example.responses]


def fold_system(messages: list[Message]) -> list[Message]:
    """Put a system turn in front of the user's words, for templates that know none."""
    system, first, *rest = messages
    words = system["content"].strip() + "\n\n" + first["content"]
    return [{"role": first["role"], "content": words}, *rest]


def with_calls_spelt(example: Example) -> Example:
    """The example with its calls of tools as JSON text, to be looked at without a base."""
    prompt = [
        {**turn, "content": f"{turn['content']}\n{_json(calls)}".strip(), "tool_calls": None}
        if (calls := turn.get("tool_calls"))
        else turn
        for turn in example.prompt
    ]
    answers = [
        f"{answer}\n{_json(calls)}".strip() if (calls := calls_of(answer)) else answer
        for answer in example.responses
    ]
    return replace(example, prompt=prompt, responses=answers, template={})


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
