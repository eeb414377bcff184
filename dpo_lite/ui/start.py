"""Which model, which data, which card: the recipe that is proposed for the answers. No Gradio."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dpo_lite.data.files import Reading, file_kind
from dpo_lite.data.sources import BUILTIN_FOLDER
from dpo_lite.errors import UserError
from dpo_lite.files import NAME
from dpo_lite.memory.cards import card_named
from dpo_lite.names import is_function
from dpo_lite.recipe import Recipe, library
from dpo_lite.recipe.edit import UNSET, inline, set_key
from dpo_lite.recipe.library import Entry
from dpo_lite.recipe.other_task import OF_A_TASK
from dpo_lite.runs.folder import Run
from dpo_lite.tasks import TASKS, sections_of_tasks
from dpo_lite.tasks.spec import DEMONSTRATIONS, PROMPTS, UNPAIRED
from dpo_lite.ui.form import check_text
from dpo_lite.ui.recipe_draft import Draft, open_draft, with_data

THIS_MACHINE = "this machine"
PLAIN = """# {base} on data of your own

task: {task}

model:
  base: {base}
  quantization: nf4

adapter: {{r: 16, alpha: 32, targets: all-linear}}

data:
  train: {source}

train:
  lr: {lr}
  batch_size: 16
  epochs: 1
"""
# Rates as the shipped recipes of real models have them; demonstrations bear more.
RATES = {"sft": "1.0e-4", "reward": "5.0e-5"}
# Keys of a task's own that fit no other, or whose default is another there.
OF_ONE_TASK = ("reference", *OF_A_TASK, "train.engine")


@dataclass(frozen=True)
class Fit:
    """Whether a recipe fits a card: by the smallest card that its head names."""

    fits: bool
    needs: float  # GB; 0 is any computer


def card_memory(card: str | None, here: float) -> float:
    """GB of a card as the menu has it; ``here`` is this machine's, 0 for none. Raises UserError."""
    if card in (None, "", THIS_MACHINE):
        return here
    return card_named(card)[0]


def fit(entry: Entry, memory: float) -> Fit:
    """A card that calls itself 12 GB has a little less than 12 GiB; a tenth is let by."""
    needs = library.gigabytes(entry.card)
    return Fit(needs <= 1.1 * memory, needs)


def by_fit(entries: Sequence[Entry], memory: float) -> tuple[list[Entry], list[Entry]]:
    """Recipes that fit a card, the first of all first and then the largest that fits; the rest,
    the smallest first."""
    fitting = [entry for entry in entries if fit(entry, memory).fits]
    others = [entry for entry in entries if not fit(entry, memory).fits]
    fitting.sort(key=lambda e: (e.name != library.FIRST, -library.gigabytes(e.card), e.name))
    return fitting, others


def models(entries: Sequence[Entry], memory: float) -> list[tuple[str, str]]:
    """The bases of the recipes as a menu has them, (shown, base): what fits first, then the rest
    with what it needs."""
    fitting, others = by_fit(entries, memory)
    shown: dict[str, str] = {}
    for entry in [*fitting, *others]:
        needs = "" if entry in fitting else f"  (needs {library.gigabytes(entry.card):g} GB)"
        if entry.recipe:
            shown.setdefault(entry.base, entry.base + needs)
    return [(words, base) for base, words in shown.items()]


def sources(folder: Path) -> list[str]:
    """Data to choose from: the builtin ones, and what was uploaded, the newest first."""
    builtin = sorted(f"builtin:{path.parent.name}" for path in BUILTIN_FOLDER.glob("*/data"))
    kept = [path for path in (folder / "data").glob("*") if file_kind(path) and path.is_file()]
    kept = [path for path in kept if path.with_suffix("") not in kept]  # what stands beside a file
    kept.sort(key=lambda path: -path.stat().st_mtime_ns)
    return [*map(str, kept), *builtin]


def task_for(format_name: str, now: str) -> str:
    """The task that data of a format are for; the one at hand where they suit it."""
    pairs = TASKS[now].pairs[0] if now in TASKS else ""
    if format_name == PROMPTS:
        return "ppo"
    if format_name.startswith("sft-"):
        return now if pairs in DEMONSTRATIONS else "sft"
    if format_name.startswith("kto"):
        return now if pairs == UNPAIRED else "kto"
    return "dpo" if pairs == UNPAIRED or pairs in DEMONSTRATIONS else now


def with_task(text: str, task: str) -> str:
    """The text for another task: without the keys that the old one alone has."""
    for section in sections_of_tasks():
        if section not in TASKS[task].sections:
            text = set_key(text, section, UNSET)
    for key in OF_ONE_TASK:
        text = set_key(text, key, UNSET)
    return set_key(text, "task", task)


def choose_model(draft: Draft, base: str, entries: Sequence[Entry]) -> Draft:
    """The draft for another base: the shipped recipe of it, or a plain one, with the data that
    were chosen."""
    base = base.strip()
    values = check_text(draft.text)
    if not base or values.value("model.base") == base:
        return draft
    task = str(values.value("task") if values.value("task") is not UNSET else "dpo")
    own = own_data(draft)
    found = next((e for e in entries if e.base == base and e.recipe.task == task), None)
    found = found or next((e for e in entries if e.base == base), None)
    if found is None:
        source = own[0] if own else str(values.value("data.train"))
        rate = RATES.get(task, "5.0e-6")
        text = PLAIN.format(base=inline(base), task=task, source=inline(source), lr=rate)
        new = Draft(draft.picked, text, draft.folder, draft.aside)
        return choose_data(new, source, own[1] if own else [], task) if own else new
    new = open_draft(f"{'own' if found.own else 'shipped'}:{found.name}", draft.folder)
    return choose_data(new, *own, task) if own else new


def choose_data(draft: Draft, source: str, keys: Sequence[str], task: str) -> Draft:
    """The draft with these data, their ``data.…=`` keys, and the task that they are for."""
    text = draft.text
    now = check_text(text).value("task")
    if (now if now is not UNSET else "dpo") != task:
        text = with_task(text, task)
        if "ppo" in TASKS[task].sections:
            text = set_key(text, "ppo.reward", "reward-quickstart-1")
    return replace(draft, text=with_data(text, source, list(keys)))


def reading_keys(reading: Reading) -> list[str]:
    """The overrides that say how a source's files are read."""
    keys = [f"data.encoding={inline(reading.encoding)}"] if reading.encoding else []
    lines = list(reading.leave_out)
    return [*keys, *([f"data.leave_out={inline(lines)}"] if lines else [])]


def repair(fault: str) -> tuple[str, tuple[str, str]] | None:
    """What a button says that gets past a file's fault, and the key and value that do it.

    A broken line is left out by its name; a file that is not UTF-8 is read as Windows writes it in
    Western Europe, which is what most such files are and what the first row then shows.
    """
    if line := re.search(r"data\.leave_out='\[(.+?)\]'", fault):
        return f"Leave out line {line[1].rpartition(':')[2]}", ("data.leave_out", line[1])
    if "say its encoding with data.encoding" in fault and "is not UTF-8" in fault:
        return "Read it as Western European text (cp1252)", ("data.encoding", "cp1252")
    return None


def repaired(text: str, key_value: tuple[str, str]) -> str:
    """The recipe's text with a repair; lines to leave out gather."""
    key, value = key_value
    if key != "data.leave_out":
        return set_key(text, key, value)
    lines = check_text(text).value(key)
    return set_key(text, key, [*(lines if isinstance(lines, list) else []), value])


def own_data(draft: Draft) -> tuple[str, list[str]] | None:
    """The source and its keys where they are not those of the file that the draft comes from."""
    try:
        file = check_text(open_draft(draft.picked, draft.folder).text)
    except UserError:
        return None
    mine = check_text(draft.text)
    source = mine.value("data.train")
    if source is UNSET or source == file.value("data.train") or not isinstance(source, str):
        return None
    about = ("data.columns", "data.format", "data.encoding", "data.leave_out")
    values = {key: mine.value(key) for key in about}
    return source, [f"{key}={inline(v)}" for key, v in values.items() if v is not UNSET]


def missing_reward(
    recipe: Recipe, runs: Path, entries: Sequence[Entry]
) -> tuple[str, Entry | None] | None:
    """What to say, and the recipe to train first, where PPO's reward model is not there yet.

    None where there is nothing to say: the reward is a finished run, a folder, a Python function,
    or reads as an id of the Hub with its owner.
    """
    if "ppo" not in TASKS[recipe.task].sections or TASKS[recipe.task].composed:
        return None
    name = recipe.ppo.reward or ""
    if is_function(name) or (name and Path(name).expanduser().exists()):
        return None
    run = Run(runs / name) if NAME.match(name) else None
    if run is not None and run.path.is_dir():
        state = run.status()["state"]
        if run.adapter.is_dir():
            return None
        return f"The reward model {name} is not ready yet: that run is {state}.", None
    if "/" in name:
        return None
    stem = re.sub(r"-\d+\Z", "", name)
    rewards = [e for e in entries if e.recipe and TASKS[e.recipe.task].head]
    same_base = [e for e in rewards if e.base == recipe.model.base]
    entry = next((e for e in rewards if e.name == stem), None) or next(iter(same_base), None)
    why = f"there is no run {name} yet" if name else "ppo.reward names none yet"
    return f"PPO learns from the judgement of a reward model, and {why}.", entry
