"""A conversation that several models lead side by side, turn by turn.

Each goes on with its own words, or all go on from the one answer that was preferred. Only answers
to the very same messages are a pair to learn from: once the models have gone ways of their own,
their answers are judged one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dpo_lite.errors import UserError

Messages = list[dict[str, str]]
GOOD, BAD_ANSWER = "good", "bad"


@dataclass(frozen=True)
class Turn:
    """``asked``: the messages before the answer of each column, system prompt and user's words
    included. ``columns``: the answers as the worker gives them; ``edited``: whose words are not the
    model's any more. ``best``: the preferred column; ``thumbs``: good or bad, by column."""

    user: str
    asked: list[Messages]
    columns: list[dict[str, Any]]
    best: int | None = None
    thumbs: dict[int, str] = field(default_factory=dict)
    edited: frozenset[int] = frozenset()

    @property
    def whole(self) -> bool:
        """Whether all have answered to the end."""
        return all("fingerprint" in column for column in self.columns)

    @property
    def is_pair(self) -> bool:
        """Whether one answer can be preferred: other words to the same messages."""
        texts = {column["text"] for column in self.columns}
        return self.whole and len(texts) > 1 and all(m == self.asked[0] for m in self.asked)


@dataclass(frozen=True)
class Chat:
    run: str = ""
    labels: tuple[str, ...] = ()
    system: str = ""
    turns: tuple[Turn, ...] = ()


def messages(chat: Chat, user: str, place: int, together: bool) -> Messages:
    """What a column is asked: all before, with its own answers or, ``together``, the preferred.

    Raises UserError where the answer to go on from was not chosen.
    """
    asked: Messages = [{"role": "system", "content": chat.system}] if chat.system.strip() else []
    for turn in chat.turns:
        chosen = place
        if together and len(turn.columns) > 1 and len({c["text"] for c in turn.columns}) > 1:
            if turn.best is None:
                raise UserError(
                    "Prefer one answer first: the conversation goes on from it. Or let each go on"
                    " with its own words."
                )
            chosen = turn.best
        answer = {"role": "assistant", "content": turn.columns[chosen]["text"]}
        asked += [{"role": "user", "content": turn.user}, answer]
    return [*asked, {"role": "user", "content": user}]


def asked_next(chat: Chat, user: str, together: bool) -> list[Messages]:
    """The messages for every column; raises UserError where nothing can be asked."""
    if not user.strip():
        raise UserError("Type what you want to say first.")
    if chat.turns and not chat.turns[-1].whole:
        raise UserError("The last answer was broken off: regenerate it, or begin a new chat.")
    return [messages(chat, user, place, together) for place in range(len(chat.labels))]


def groups(asked: Sequence[Messages]) -> list[list[int]]:
    """The columns that are asked the same, which answer in one pass."""
    found: list[list[int]] = []
    for place, own in enumerate(asked):
        same = next((group for group in found if asked[group[0]] == own), None)
        if same is None:
            found.append([place])
        else:
            same.append(place)
    return found


def with_turn(chat: Chat, turn: Turn) -> Chat:
    return replace(chat, turns=(*chat.turns, turn))


def last_changed(chat: Chat, **changes: Any) -> Chat:
    """The chat with another last turn."""
    return replace(chat, turns=(*chat.turns[:-1], replace(chat.turns[-1], **changes)))


def turn_changed(chat: Chat, number: int, **changes: Any) -> Chat:
    turns = list(chat.turns)
    turns[number] = replace(turns[number], **changes)
    return replace(chat, turns=tuple(turns))


def without_last(chat: Chat) -> Chat:
    return replace(chat, turns=chat.turns[:-1])


def edited(chat: Chat, place: int, text: str) -> Chat:
    """The last turn with other words of one column; what was said of the old ones goes.

    Only the last: what came after an earlier answer was an answer to it.
    """
    turn = chat.turns[-1]
    if not text.strip():
        raise UserError("An answer has words; write some, or leave it as it was.")
    columns = [dict(column) for column in turn.columns]
    columns[place] |= {"text": text, "tokens": None, "reward": None}
    thumbs = {other: said for other, said in turn.thumbs.items() if other != place}
    return last_changed(
        chat, columns=columns, best=None, thumbs=thumbs, edited=turn.edited | {place}
    )


def vote_columns(turn: Turn, places: Sequence[int]) -> list[dict[str, str]]:
    """Columns as votes keep them; words that somebody wrote are no model's."""
    return [
        {
            "label": turn.columns[i]["label"] + (" (edited)" if i in turn.edited else ""),
            "fingerprint": "edited" if i in turn.edited else turn.columns[i]["fingerprint"],
            "answer": turn.columns[i]["text"],
        }
        for i in places
    ]
