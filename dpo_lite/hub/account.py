"""Who is logged in on the Hub, and where that token may write."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from dpo_lite.errors import UserError

NOBODY = "Nobody is logged in on the Hub; run `hf auth login` or set HF_TOKEN, with write access."
NEW_TOKEN = "make one with write access under Settings, Access Tokens, on the Hub"


@dataclass(frozen=True)
class Account:
    """The names that a token stands for; the token itself is in none of them."""

    name: str
    organisations: tuple[str, ...]
    role: str  # "write", "read" or "fineGrained"
    writes_to: tuple[str, ...]  # users, organisations and repositories that it may write to
    source: str  # where the token was found, in words

    def permission(self) -> str:
        """What the token may do, in words."""
        if not self.writes_to:
            return "this token can only read"
        return f"this token may write to {', '.join(self.writes_to)}"

    def fault(self, repo: str) -> str | None:
        """Why this account cannot write to ``repo``, in one sentence; None where it may."""
        owner = repo.partition("/")[0]
        if self.role == "read":
            return f"The token of {self.name} ({self.source}) can only read; {NEW_TOKEN}."
        if owner in self.writes_to or repo in self.writes_to:
            return None
        if owner == self.name or owner in self.organisations:
            return (
                f"The token of {self.name} ({self.source}) may not write to {repo}; {NEW_TOKEN}, "
                "or give the one you have that permission."
            )
        places = ", ".join([self.name, *self.organisations])
        return f"{owner} is neither you nor an organisation of yours; you may publish as {places}."


def who() -> Account:
    """Ask the Hub whose token this is. Raises UserError where there is none or it is not valid."""
    from huggingface_hub import HfApi, get_token

    if get_token() is None:
        raise UserError(NOBODY)
    return account(HfApi().whoami(), token_source())


def account(answer: dict[str, Any], source: str) -> Account:
    """An ``Account`` from the Hub's answer to whoami."""
    name = answer["name"]
    organisations = tuple(org["name"] for org in answer.get("orgs") or [])
    token = (answer.get("auth") or {}).get("accessToken") or {}
    role = token.get("role", "write")
    if role != "fineGrained":
        may = (name, *organisations) if role == "write" else ()
        return Account(name, organisations, role, may, source)
    scoped = (token.get("fineGrained") or {}).get("scoped") or []
    may = tuple(
        part["entity"]["name"]
        for part in scoped
        if "repo.write" in part.get("permissions", ()) and part.get("entity", {}).get("name")
    )
    return Account(name, organisations, role, may, source)


def token_source() -> str:
    """Where huggingface_hub takes the token from, in words."""
    if os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN"):
        return "from HF_TOKEN"
    return "from `hf auth login`"
