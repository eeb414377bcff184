"""Formats of preference data: a table of (name, columns, converter). No match is an error.

Every converter returns an Example with the preferred response first, or a Dropped with the reason.
The prompt is never guessed from a common prefix of characters: it is a column, the messages before
the last turn, or what stands before the last ``Assistant:`` of a dialogue.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dpo_lite.data.examples import ROLES, Dropped, Example, Message, Reason
from dpo_lite.errors import UserError

Row = dict[str, Any]
Converted = Example | Dropped
HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"


@dataclass(frozen=True)
class Format:
    name: str
    description: str
    columns: frozenset[str]
    matches: Callable[[Row], bool]  # looks at the first row that has all columns
    convert: Callable[[Row, int], Converted]


def detect(columns: list[str], first: Row, wanted: str = "auto") -> Format:
    """Return the one format that the columns and the first row have.

    Raises UserError where none or several match, naming the key that settles it.
    """
    if wanted not in ("auto", "raw"):
        for candidate in FORMATS:
            if candidate.name == wanted:
                missing = candidate.columns - set(columns)
                if missing:
                    raise UserError(
                        f"data.format: {wanted} needs the columns {_list(candidate.columns)}; "
                        f"{_list(missing)} missing; map yours with data.columns."
                    )
                return candidate
        names = [f.name for f in FORMATS]
        close = difflib.get_close_matches(wanted, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}."
        raise UserError(f"data.format: there is no {wanted}; {hint}")
    found = [f for f in FORMATS if f.columns <= set(columns) and f.matches(first)]
    if len(found) == 1:
        return found[0]
    if found:
        names = " and ".join(f.name for f in found)
        raise UserError(f"data: the columns fit {names}; say which with data.format.")
    nearest = max(FORMATS, key=lambda f: len(f.columns & set(columns)) / len(f.columns))
    raise UserError(
        f"data: no known format has the columns {_list(columns)}; the nearest is {nearest.name} "
        f"({_list(nearest.columns)}): map your columns to these with data.columns, for example "
        "data.columns='{prompt: question}'."
    )


def _list(names) -> str:
    return ", ".join(sorted(names))


# --- rules: what the first row looks like ------------------------------------------------------


def _is_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _first_role(value: Any) -> str | None:
    return value[0].get("role") if _is_messages(value) else None


def _is_dialogue(row: Row) -> bool:
    return all(
        isinstance(row[key], str) and row[key].startswith(HUMAN) for key in ("chosen", "rejected")
    )


# --- converters --------------------------------------------------------------------------------


def _from_dialogue(row: Row, number: int) -> Converted:
    """Two dialogues that share all but the last answer."""
    halves = [row[key].rpartition(ASSISTANT) for key in ("chosen", "rejected")]
    if halves[0][0] != halves[1][0]:
        return Dropped(number, Reason.PROMPTS_DIFFER)
    messages = dialogue_messages(halves[0][0])
    if messages is None:
        return Dropped(number, Reason.MALFORMED, "not a Human/Assistant dialogue")
    return _example(messages, [halves[0][2], halves[1][2]], row, number)


def dialogue_messages(text: str) -> list[Message] | None:
    """Turn ``\\n\\nHuman: … \\n\\nAssistant: …`` into messages; None where it is no dialogue."""
    parts = re.split(r"\n\n(Human|Assistant):", text)
    if parts[0].strip() or len(parts) < 3:
        return None
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = zip(parts[1::2], parts[2::2], strict=True)
    return [{"role": roles[who], "content": said.strip()} for who, said in turns]


def _from_messages(row: Row, number: int) -> Converted:
    """``prompt`` is a list of messages, the responses are lists with the answer."""
    prompt = row["prompt"]
    answers = []
    for key in ("chosen", "rejected"):
        turns = row[key]
        if not _is_messages(turns):
            return Dropped(number, Reason.MALFORMED, f"{key} is no list of messages")
        if turns[: len(prompt)] == prompt:  # some data repeat the prompt in the response
            turns = turns[len(prompt) :]
        if len(turns) != 1:
            return Dropped(number, Reason.MALFORMED, f"{key} is more than one turn")
        answers.append(turns[0].get("content"))
    return _example(prompt, answers, row, number)


def _from_conversations(row: Row, number: int) -> Converted:
    """Both columns are whole conversations; all but the last turn is the shared prompt."""
    chosen, rejected = row["chosen"], row["rejected"]
    if not (_is_messages(chosen) and _is_messages(rejected)):
        return Dropped(number, Reason.MALFORMED, "chosen and rejected are no lists of messages")
    if chosen[:-1] != rejected[:-1]:
        return Dropped(number, Reason.PROMPTS_DIFFER)
    for better, worse in (("score_chosen", "score_rejected"), ("chosen-rating", "rejected-rating")):
        if row.get(better) is not None and row.get(better) == row.get(worse):
            return Dropped(number, Reason.TIE)
    answers = [turns[-1].get("content") for turns in (chosen, rejected)]
    return _example(chosen[:-1], answers, row, number)


def _from_strings(row: Row, number: int) -> Converted:
    prompt = row["prompt"]
    if not isinstance(prompt, str):
        return Dropped(number, Reason.NOT_TEXT, "prompt")
    messages = dialogue_messages(prompt.removesuffix(ASSISTANT)) if HUMAN in prompt else None
    if messages is None:
        messages = [{"role": "user", "content": prompt.strip()}]
    if isinstance(row.get("system"), str) and row["system"].strip():
        messages = [{"role": "system", "content": row["system"].strip()}, *messages]
    return _example(messages, [row["chosen"], row["rejected"]], row, number)


def _from_question(row: Row, number: int) -> Converted:
    return _from_strings({**row, "prompt": row["question"]}, number)


def _from_ranking(row: Row, number: int) -> Converted:
    """K responses with scores, higher is better; kept whole, best first."""
    pairs = list(zip(row["scores"] or [], row["responses"] or [], strict=False))
    if len(pairs) != len(row["responses"] or []) or len(pairs) < 2:
        return Dropped(number, Reason.MALFORMED, "responses and scores do not fit together")
    if len({score for score, _ in pairs}) < len(pairs):
        return Dropped(number, Reason.TIE)
    prompt = row["prompt"]
    messages = prompt if _is_messages(prompt) else [{"role": "user", "content": prompt}]
    best_first = [text for _, text in sorted(pairs, key=lambda pair: -pair[0])]
    return _example(messages, best_first, row, number)


def _example(prompt: list[Message], answers: list[Any], row: Row, number: int) -> Converted:
    """Check the texts and build the example."""
    messages = []
    for message in prompt:
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            return Dropped(number, Reason.MALFORMED, f"unknown role {role!r}")
        if not isinstance(content, str):
            return Dropped(number, Reason.NOT_TEXT, "prompt")
        messages.append({"role": role, "content": content})
    if not messages or not messages[-1]["content"].strip():
        return Dropped(number, Reason.EMPTY_PROMPT)
    if not all(isinstance(answer, str) for answer in answers):
        return Dropped(number, Reason.NOT_TEXT, "response")
    answers = [answer.strip() for answer in answers]
    if not all(answers):
        return Dropped(number, Reason.EMPTY_RESPONSE)
    if len(set(answers)) < len(answers):
        return Dropped(number, Reason.IDENTICAL)
    markers = [list(row.get(key) or []) for key in ("chosen_markers", "rejected_markers")]
    return Example(messages, answers, number, *markers)


PAIR = frozenset({"chosen", "rejected"})
FORMATS: tuple[Format, ...] = (
    Format(
        "hh-rlhf",
        "two dialogues `\\n\\nHuman: … \\n\\nAssistant: …`, split at the last `Assistant:`",
        PAIR,
        lambda row: "prompt" not in row and _is_dialogue(row),
        _from_dialogue,
    ),
    Format(
        "trl-conversational",
        "prompt, chosen and rejected as lists of messages, the responses without the prompt",
        PAIR | {"prompt"},
        lambda row: _is_messages(row["prompt"]),
        _from_messages,
    ),
    Format(
        "conversations",
        "chosen and rejected as whole conversations (UltraFeedback-binarized, TRL implicit); a "
        "`prompt` column beside them is ignored",
        PAIR,
        lambda row: (
            not _is_messages(row.get("prompt"))
            and _first_role(row["chosen"]) in ("user", "system")
            and _first_role(row["rejected"]) in ("user", "system")
        ),
        _from_conversations,
    ),
    Format(
        "triples",
        "prompt, chosen and rejected as strings, with or without system",
        PAIR | {"prompt"},
        lambda row: isinstance(row["prompt"], str) and isinstance(row["chosen"], str),
        _from_strings,
    ),
    Format(
        "orca",
        "question, chosen and rejected as strings, with or without system",
        PAIR | {"question"},
        lambda row: "prompt" not in row and isinstance(row["question"], str),
        _from_question,
    ),
    Format(
        "ranking",
        "prompt, responses and scores (higher is better): K responses per prompt",
        frozenset({"prompt", "responses", "scores"}),
        lambda row: isinstance(row["responses"], list),
        _from_ranking,
    ),
)


def formats_table() -> str:
    """The Markdown table of docs/data-formats.md."""
    lines = ["| `data.format` | columns | what it is |", "| --- | --- | --- |"]
    for entry in FORMATS:
        columns = ", ".join(f"`{name}`" for name in sorted(entry.columns))
        lines.append(f"| `{entry.name}` | {columns} | {entry.description} |")
    return "\n".join(lines) + "\n"
