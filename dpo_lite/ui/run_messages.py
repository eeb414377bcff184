"""What a button of the Runs tab has said: where it stands, and for how long. No Gradio in here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

PLACES = ("act", "manage")  # under the buttons, and in the fold that renames and deletes

Said = dict[str, Any]


def said(
    html: str, of: str | None, place: str = "act", during: Collection[str] | None = None
) -> Said:
    """A message about a run, of which nothing may be selected any more (None).

    ``during``: the states of the run in which it holds; None: in all.
    """
    return {"html": html, "of": of, "place": place, "during": list(during) if during else None}


def shown(
    message: Said | None, selected: Sequence[str], statuses: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    """The text of each place now: nothing where another run is selected, or it holds no more."""
    texts = dict.fromkeys(PLACES, "")
    if message and message["of"] == next(iter(selected), None):
        state = statuses.get(message["of"], {}).get("state")
        if message["during"] is None or state in message["during"]:
            texts[message["place"]] = message["html"]
    return texts
