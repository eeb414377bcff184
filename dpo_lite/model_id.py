"""Names of models and data: which of them others can load."""

from pathlib import Path


def is_public(name: str) -> bool:
    """Whether ``name`` reads as an id on the Hub: neither builtin nor a path on this machine."""
    return not (name.startswith(("builtin:", ".", "/", "~")) or Path(name).exists())
