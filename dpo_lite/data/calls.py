"""Which call a tool's answer belongs to, said in each conversation in the same way.

Chat templates match them by id; where a row has none, some take every call for the one that was
meant and name the last. Rows without ids answer their calls in order, so ids are given by order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

from dpo_lite.data.examples import Message


def matched(turns: Sequence[Message]) -> list[Message]:
    """The turns, with an id for each call and each tool turn that has none."""
    found: list[Message] = []
    open_ids: deque[str] = deque()
    count = 0
    for turn in turns:
        if turn.get("tool_calls"):
            calls = []
            for call in turn["tool_calls"]:
                calls.append({"id": f"call{count:05d}", **call})  # nine characters: Mistral's rule
                count += 1
            open_ids = deque(call["id"] for call in calls)
            turn = {**turn, "tool_calls": calls}
        elif turn["role"] == "tool" and open_ids:
            own = turn.get("tool_call_id")
            if own in open_ids:
                open_ids.remove(own)
            elif own is None:
                turn = {**turn, "tool_call_id": open_ids.popleft()}
        found.append(turn)
    return found


def without_ids(turns: Sequence[Message]) -> list[Message]:
    """The same turns whatever ids their calls were given, to compare conversations by."""
    return [
        {key: _without_id(value) for key, value in turn.items() if key != "tool_call_id"}
        for turn in turns
    ]


def _without_id(value: Any) -> Any:
    return (
        [{k: v for k, v in c.items() if k != "id"} for c in value] if type(value) is list else value
    )
