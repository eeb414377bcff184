"""Log in on the Hub by a code that is typed there (RFC 8628), as `hf auth login` does.

huggingface_hub asks, waits and keeps the token where its own command keeps it; nothing here holds
it. Its versions before 1.0 have no such way, and what it calls it is no promise: where the pieces
are not there, ``offered`` says so.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dpo_lite.errors import UserError

PIECES = {
    "huggingface_hub.utils._oauth_device": ("request_device_code", "poll_device_token"),
    "huggingface_hub._login": ("_save_oauth_token",),
}
EXPIRED = "The code was not used in time; ask for another one."


@dataclass(frozen=True)
class Code:
    """What is typed where; ``info`` is huggingface_hub's."""

    text: str
    address: str
    info: dict[str, Any]


def offered() -> bool:
    """Whether the installed huggingface_hub can do it."""
    return all(_piece(name) is not None for names in PIECES.values() for name in names)


def ask_code() -> Code:
    """A new code. Raises UserError where the Hub gives none."""
    try:
        info = _piece("request_device_code")()
    except Exception as error:  # of a kind that older versions do not have
        raise UserError(f"The Hub gives no code to log in with: {_first_line(error)}.") from None
    address = str(info.get("verification_uri_complete") or info["verification_uri"])
    if not address.startswith(("https://", "http://127.0.0.1")):
        raise UserError("The Hub names no address to log in at; run `hf auth login`.")
    return Code(str(info["user_code"]), address, dict(info))


def wait_for(code: Code) -> Iterator[None]:
    """Yield after each time that the code was not used yet; ends when somebody is logged in.

    Raises UserError where it is refused or not used in time.
    """
    until = time.monotonic() + float(code.info["expires_in"])
    once = {**code.info, "expires_in": min(code.info["interval"], 5) / 2}  # asked, slept, told
    while time.monotonic() < until:
        try:
            answer = _piece("poll_device_token")(once)
        except Exception as error:
            if getattr(error, "error_code", None) == "expired_token":
                yield
                continue
            raise UserError(f"Nobody was logged in: {_first_line(error)}.") from None
        _save(answer)
        return
    raise UserError(EXPIRED)


def _save(answer: Any) -> None:
    try:
        _piece("_save_oauth_token")(answer)
    except Exception:  # what it says could hold what it was given
        raise UserError("The Hub's answer could not be kept; run `hf auth login`.") from None


def _piece(name: str) -> Any:
    module = next(module for module, names in PIECES.items() if name in names)
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
