"""What a process that breaks off tells the others of its launch, and where they find it.

It stands in the launch's store, a small server that the first process keeps: readable there when
the one that wrote it is gone.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from dpo_lite.errors import UserError

PATIENCE = timedelta(seconds=3)  # with a process that broke off and has yet to say why


def leave_words(store: Any, words: str) -> bool:
    """Say why the launch ends; whether this process is the first that does."""
    try:
        if store.add("faults", 1) > 1:
            return False
        store.set("fault", words)
    except RuntimeError:  # the store went with the process that has told
        return False
    return True


def left_words(store: Any) -> str | None:
    """What a process said that broke off, where one did."""
    try:
        store.wait(["fault"], PATIENCE)
        return store.get("fault").decode()
    except RuntimeError:
        return None


@contextmanager
def all_there(store: Any) -> Iterator[None]:
    """Where another process is not there any more, say why."""
    try:
        yield
    except RuntimeError as error:
        words = left_words(store)
        if words is None:
            words = "Another process of this launch ended without a word; look at what it printed."
        raise UserError(words) from error


def portable(error: Exception | None) -> Exception | None:
    """An error that can be told to others, of the same kind wherever that can be had."""
    try:
        return pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
