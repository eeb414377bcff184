"""A base's weights from the Hub into the cache, said as they come: gigabytes must not be silent."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from tqdm import tqdm
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

from dpo_lite.model.base import base_location
from dpo_lite.model.safetensors_header import files_of_index
from dpo_lite.recipe import ModelSection

WORTH_TELLING = 50e6  # bytes; less is there before it is read


def fetch_weights(section: ModelSection, say: Callable[[str], None]) -> None:
    """Download what of the base's safetensors is not in the cache yet.

    ``say`` is told how much of it is there. What cannot be had is left to the loading of the base,
    which knows why.
    """
    location = base_location(section.base)
    if Path(location).is_dir():
        return
    with contextlib.suppress(OSError, ValueError, HfHubHTTPError, LocalEntryNotFoundError):
        where = {"repo_id": location, "revision": section.revision or "main"}
        names = _weight_files(where)
        missing = [name for name in names if not _cached(name, where)]
        for place, name in enumerate(missing):
            part = f", file {place + 1} of {len(missing)}" if len(missing) > 1 else ""
            words = f"downloading {section.base}{part}"
            huggingface_hub.hf_hub_download(filename=name, tqdm_class=_told(words, say), **where)


def _weight_files(where: dict[str, str]) -> list[str]:
    """The names of the files that hold the weights: one, or those that the index lists.

    The Hub is asked only where the cache does not know.
    """
    if _cached(SAFE_WEIGHTS_NAME, where):
        return []
    index = _cached(SAFE_WEIGHTS_INDEX_NAME, where)
    if not index and huggingface_hub.file_exists(filename=SAFE_WEIGHTS_NAME, **where):
        return [SAFE_WEIGHTS_NAME]
    index = index or huggingface_hub.hf_hub_download(filename=SAFE_WEIGHTS_INDEX_NAME, **where)
    return files_of_index(Path(index))


def _cached(name: str, where: dict[str, str]) -> str | None:
    path = huggingface_hub.try_to_load_from_cache(filename=name, **where)
    return path if isinstance(path, str) else None


def _told(words: str, say: Callable[[str], None]) -> type[tqdm]:
    """A progress bar's class that says in words what others draw."""

    class Told(tqdm):
        def __init__(self, *args, **options):
            super().__init__(*args, **options | {"file": io.StringIO(), "disable": False})

        def display(self, *args, **options) -> None:
            if (self.total or 0) >= WORTH_TELLING:
                say(f"{words}: {self.n / 1e9:.2f} of {self.total / 1e9:.2f} GB")

    return Told
