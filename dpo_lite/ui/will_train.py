"""What stands beside Launch: which model learns from which data, and for how long. No Gradio."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from dpo_lite.data.files import PLAIN, Reading
from dpo_lite.data.sources import BUILTIN_FOLDER, Source, read_source
from dpo_lite.errors import UserError
from dpo_lite.names import last_name
from dpo_lite.recipe import Recipe, library, load_recipe
from dpo_lite.report.words import counted
from dpo_lite.tasks import TASKS

MOST_ROWS = 200_000  # that are counted while somebody waits
# Sections whose keys change for how long a run goes; `run`, `eval` and `hub` do not, or hardly.
OF_TIME = ("task", "reference", "model", "adapter", "data", "train", "ppo", "rlhf")
NAMED = {
    "dpo": "DPO, preferences",
    "sft": "SFT, demonstrations",
    "kto": "KTO, thumbs up and down",
    "reward": "a reward model",
    "ppo": "PPO, rewards of its own answers",
    "rlhf": "SFT, a reward model, PPO and DPO in a row",
}


def words(recipe: Recipe, origin: str = "", time: str = "") -> str:
    """``Qwen3-4B on clean.jsonl, 58 rows, about 25 min``; what is not known is left out.

    ``time`` as a check found it; without it the head of the shipped recipe ``origin`` says it,
    where nothing differs that the time depends on.
    """
    data = " + ".join(source_name(part.source) for part in recipe.data.sources)
    reading = Reading(recipe.data.encoding, tuple(recipe.data.leave_out))
    counts = [row_count(part.source, reading) for part in recipe.data.sources]
    rows = ""
    if all(count is not None for count in counts):
        read = [min(count, recipe.data.limit or count) for count in counts]
        more = " or more" if MOST_ROWS in counts and not recipe.data.limit else ""
        rows = counted(sum(read), "row") + more
    parts = [f"{model_name(recipe.model.base)} on {data}", rows, time or head_time(recipe, origin)]
    return ", ".join(part for part in parts if part)


def task_words(recipe: Recipe) -> str:
    """The task in a few words, for whoever does not know its abbreviation."""
    return NAMED.get(recipe.task, TASKS[recipe.task].description)


def model_name(base: str) -> str:
    """A base without its owner or folder: ``Qwen3-4B``; a builtin one as it is."""
    if base.startswith("builtin:"):
        return f"the builtin model {base.partition(':')[2]}"
    return base.rstrip("/").rpartition("/")[2] or base


def source_name(source: str) -> str:
    """A source without owner and folder: ``clean.jsonl``, ``ultrafeedback_binarized:train``."""
    if source.startswith("builtin:"):
        return f"the builtin data {source.partition(':')[2]}"
    return last_name(source)


def head_time(recipe: Recipe, origin: str) -> str:
    """For how long the shipped recipe says that it goes, where this one goes as long; else ''."""
    if not origin:
        return ""
    shipped = load_recipe(origin)
    if any(key.partition(".")[0] in OF_TIME for key, _, _ in library.difference(shipped, recipe)):
        return ""
    path = library.RECIPES_FOLDER / f"{origin}.yaml"
    return library.head(path.read_text(encoding="utf-8")).get("time", "")


def local_source(source: str, reading: Reading = PLAIN) -> Source | None:
    """A source that lies on this machine; None for one of the Hub. Raises UserError as reading."""
    folder = source.rpartition(":")[0] or source
    here = source.startswith("builtin:") or Path(source).exists() or Path(folder).exists()
    return read_source(source, None, reading) if here else None


def row_count(source: str, reading: Reading = PLAIN) -> int | None:
    """How many rows a source on this machine has, at most MOST_ROWS; None where it is not known."""
    try:
        return _counted(source, stamp(source), reading)
    except (UserError, OSError):
        return None


@lru_cache(maxsize=64)
def _counted(source: str, stamp: tuple[Any, ...], reading: Reading) -> int | None:
    found = local_source(source, reading)
    return None if found is None else sum(bool(row) for row in islice(found.rows(), MOST_ROWS))


def stamp(source: str) -> tuple[Any, ...]:
    """Changes when the file does, so that it is counted again."""
    if source.startswith("builtin:"):
        return (str(BUILTIN_FOLDER),)
    for name in (source, source.rpartition(":")[0]):
        if name and Path(name).is_file():
            facts = Path(name).stat()
            return (facts.st_mtime_ns, facts.st_size)
        if name and Path(name).is_dir():
            return tuple((p.name, p.stat().st_mtime_ns) for p in sorted(Path(name).iterdir()))
    return ()
