"""Rows that also show or play something: their words alone are not what was asked.

Pictures, video and sound stand in columns of their own, as parts of a turn, or behind a mark in the
question (LLaVA's <image>, which LLaMA-Factory and ms-swift take over). None is trained on here.
"""

from __future__ import annotations

import re

from dpo_lite.data.cells import decoded
from dpo_lite.data.examples import BadRow, DataRow, Message, Reason

COLUMNS = ("images", "image", "videos", "video", "audios", "audio")
# At a question's start or end or on a line of its own: elsewhere it may be a word about HTML.
MARK = re.compile(
    r"\A\s*<(image|video|audio)>|^[ \t]*<(image|video|audio)>[ \t]*$|<(image)>\s*\Z", re.MULTILINE
)


def refuse_other_senses(row: DataRow, prompt: list[Message]) -> None:
    """Raises BadRow where the row brings a picture, video or sound, or its question marks one."""
    for name in COLUMNS:
        if name in row and decoded(row[name]) not in (None, "", [], {}, False):
            raise BadRow(Reason.SENSES, f"the column {name}")
    for turn in prompt:
        found = MARK.search(turn["content"]) if turn["role"] == "user" else None
        kind = next(filter(None, found.groups())) if found else ""
        if found and f"</{kind}>" not in turn["content"]:
            raise BadRow(Reason.SENSES, f"<{kind}> in the question")
