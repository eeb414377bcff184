"""The licence of a base, from its own model card, where that can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

KEYS = ("license", "license_name", "license_link")


def base_licence(base: str) -> dict[str, Any]:
    """The licence keys of the base's card; empty where it has none or cannot be reached.

    The card is read from the Hub's cache, else fetched into it: a few kilobytes.
    """
    card = _card(base)
    if card is None:
        return {}
    from huggingface_hub import ModelCard
    from yaml import YAMLError

    try:
        data = ModelCard(card.read_text(encoding="utf-8"), ignore_metadata_errors=True).data
    except (ValueError, OSError, YAMLError):
        return {}
    values = {key: getattr(data, key, None) for key in KEYS}
    return {key: value for key, value in values.items() if isinstance(value, str)}


def _card(base: str) -> Path | None:
    from huggingface_hub import (
        get_hf_file_metadata,
        hf_hub_download,
        hf_hub_url,
        try_to_load_from_cache,
    )
    from huggingface_hub.errors import HTTPError

    try:
        known = try_to_load_from_cache(base, "README.md")
        if isinstance(known, str):
            return Path(known)
        # Asked once: the download tries again for 23 s where there is no network.
        get_hf_file_metadata(hf_hub_url(base, "README.md"), timeout=5)
        return Path(hf_hub_download(base, "README.md", etag_timeout=5))
    except (HTTPError, OSError, ValueError):  # the last where it is no id of the Hub
        return None
