"""Whether this process holds a part of the base's weights alone, the others of its launch the rest.

A fact of the process, also where it works by itself for a while and knows of no others. Who divides
them (dpo_lite.model.sharding, at the word of dpo_lite.training.ranks) says so here and takes it
back; whoever asks need not load torch for it.
"""

from __future__ import annotations

NO_ROOM = (
    "Memory ran out in one process, and what the others gather it would miss: with divided weights"
    " a run does not go on from there; lower data.max_length or train.batch_size, or launch it on"
    " more cards."
)

_divided = False


def divided() -> bool:
    """Whether processes must pass through the model alike, so that none may try again alone."""
    return _divided


def note_divided(now: bool) -> None:
    global _divided
    _divided = now
