"""What a format is: columns with a test for each, and who reads a row that passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from dpo_lite.data.cells import (
    is_boolean,
    is_dialogue,
    is_message,
    is_messages,
    is_number,
    is_text,
    list_of,
    object_with,
    turns_in,
)
from dpo_lite.data.examples import DataRow, Ranked


class Test(NamedTuple):
    """What a cell must be, in words for the user; one that takes null makes its column optional."""

    words: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True, eq=False)
class Format:
    """``needs``: column -> test, where ``a|b`` is one of two columns. ``lacks``: columns whose
    presence means that it is another format. ``grouped``: one labelled response a row, to be
    paired with others of the same prompt. ``ask`` reads the prompt and looks at no answer.
    """

    name: str
    description: str
    needs: Mapping[str, Test]
    convert: Callable[[DataRow], Ranked]
    ask: Callable[[DataRow], Ranked]
    lacks: tuple[str, ...] = ()
    grouped: bool = False

    def matches(self, row: DataRow) -> bool:
        return not self.unmet(row) and not self.barred(row)

    def unmet(self, row: DataRow) -> list[str]:
        """The columns whose need this row does not meet."""
        return [
            names
            for names, test in self.needs.items()
            if not any(test.holds(row.get(name)) for name in names.split("|"))
        ]

    def barred(self, row: DataRow) -> list[str]:
        return [name for name in self.lacks if row.get(name) is not None]

    def needed(self) -> list[str]:
        return [names for names, test in self.needs.items() if not test.holds(None)]

    @property
    def why(self) -> str:
        """What it is recognised by, in words."""
        tests = [(names, self.needs[names].words) for names in self.needed()]
        return ", ".join(f"{names.replace('|', ' or ')} is {words}" for names, words in tests)


def column_words(names: Iterable[str]) -> str:
    """Column names as the user reads them; ``a|b`` is one of two."""
    return ", ".join(" or ".join(f"`{one}`" for one in name.split("|")) for name in names)


# --- the tests -----------------------------------------------------------------------------------

TEXT = Test("text", lambda v: is_text(v) and not is_messages(v) and not is_message(v))
DIALOGUE = Test("a Human/Assistant dialogue", is_dialogue)
NUMBER = Test("a number", is_number)
NUMBERS = Test("a list of numbers", list_of(is_number))
FLAG = Test("true or false", is_boolean)
MESSAGE = Test("one message", is_message)
MESSAGES = Test("a list of messages", is_messages)
CONVERSATION = Test("a list of two or more messages", lambda v: turns_in(v) > 1)
NO_TURNS = Test("nothing or text", lambda v: not is_messages(v))
EITHER = Test("text or a list of messages", lambda v: is_text(v) or is_messages(v))
REPLY = Test("text or messages", lambda v: EITHER.holds(v) or is_message(v))
ANSWER = Test(
    "text or a list of one message",
    lambda v: turns_in(v) == 1 or (TEXT.holds(v) and not is_dialogue(v)),
)
RESPONSES = Test("a list of texts or messages", list_of(REPLY.holds))
ROUNDS = Test("text or a list of texts", lambda v: is_text(v) or list_of(is_text)(v))
SUMMARIES = Test("a list of summaries", list_of(object_with("text")))
RANKED = Test("a list of ranked answers", list_of(object_with("answer", "rank")))
RATED = Test("a list of rated completions", list_of(object_with("response", "annotations")))
INPUT = Test("an object with messages", object_with("messages"))
POST = Test("a post or an article", lambda v: any(object_with(k)(v) for k in ("post", "article")))
