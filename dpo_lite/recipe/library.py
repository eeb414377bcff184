"""The recipes at hand: those that ship and one's own, what each is for, and how they differ.

The head of a recipe's file is a comment that people and programs read:

    # What it is for, in one line
    # card: 12 GB
    # time: 8 to 14 h on a 3060 (estimate)
    # from: qwen3-4b                         (one's own: the shipped recipe that it started as)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dpo_lite.errors import UserError, disk_faults_told
from dpo_lite.files import NAME, write_text
from dpo_lite.recipe.edit import inline
from dpo_lite.recipe.loading import (
    MAX_RECIPE_BYTES,
    OWN_FOLDER,
    RECIPES_FOLDER,
    find_recipe,
    load_recipe,
    recipe_text,
)
from dpo_lite.recipe.replaced import outdated, value_of
from dpo_lite.recipe.schema import Recipe
from dpo_lite.recipe.tables import known_keys

FIRST = "quickstart"


@dataclass(frozen=True)
class Entry:
    """A recipe's file and what its head says; ``recipe`` is None where ``fault`` says why."""

    path: Path
    own: bool
    purpose: str
    card: str
    time: str
    recipe: Recipe | None
    fault: str

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def base(self) -> str:
        return self.recipe.model.base if self.recipe else ""

    @property
    def data(self) -> str:
        parts = self.recipe.data.sources if self.recipe else []
        return " + ".join(part.source for part in parts)


def shipped() -> list[Entry]:
    """The recipes that ship, the quickstart first and then by the size of the card."""
    entries = [_entry(path, own=False) for path in RECIPES_FOLDER.glob("*.yaml")]
    return sorted(entries, key=lambda e: (e.name != FIRST, gigabytes(e.card), e.name))


def own(folder: str | Path = OWN_FOLDER) -> list[Entry]:
    """One's own recipes, the one changed last first. A broken one is listed with its fault."""
    paths = [path for path in Path(folder).glob("*.yaml") if path.is_file()]
    newest = sorted(paths, key=lambda path: (-path.stat().st_mtime_ns, path.name))
    return [_entry(path, own=True) for path in newest]


def names(folder: str | Path = OWN_FOLDER) -> set[str]:
    """What one's own recipes and those that ship are called; none of them is read."""
    mine = {path.stem for path in Path(folder).glob("*.yaml") if path.is_file()}
    return mine | {path.stem for path in RECIPES_FOLDER.glob("*.yaml")}


def save_own(
    text: str, name: str, folder: str | Path = OWN_FOLDER, overwrite: bool = False
) -> Path:
    """Write a recipe's text as one's own; returns its path.

    Raises UserError for a name that is none or that ships, and where the file is there and
    ``overwrite`` is not set.
    """
    path = own_path(name, folder)
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists; overwrite it, or choose another name.")
    if len(text.encode()) > MAX_RECIPE_BYTES:
        raise UserError("The text is over 256 KB; that is not a recipe.")
    with disk_faults_told():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text if text.endswith("\n") else text + "\n")
    return path


def save_as(text: str, where: str, overwrite: bool = False) -> Path:
    """Write a recipe's text to a file, or where it is a bare name as one's own (``save_own``)."""
    if where == Path(where).stem:
        return save_own(text, where, overwrite=overwrite)
    path = Path(where)
    if path.exists() and not overwrite:
        raise UserError(f"{path} exists; choose another name or remove it first.")
    with disk_faults_told():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    return path


def own_path(name: str, folder: str | Path = OWN_FOLDER) -> Path:
    """Where one's own recipe of a name is; the name is checked, so it never leaves the folder."""
    name = name.strip().removesuffix(".yaml")
    if not NAME.match(name):
        raise UserError(
            f"'{name}' is no name for a recipe; use letters, digits, dots, - and _, at most 64."
        )
    if (RECIPES_FOLDER / f"{name}.yaml").exists():
        raise UserError(f"{name} is a recipe that ships; give yours another name.")
    return Path(folder) / f"{name}.yaml"


def free_name(stem: str, folder: str | Path = OWN_FOLDER) -> str:
    """A name that is not taken yet: my-quickstart, my-quickstart-2, …"""
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", f"my-{stem.removeprefix('my-')}")[:56]
    names = {path.stem for path in Path(folder).glob("*.yaml")}
    number = 2
    name = stem
    while name in names:
        name = f"{stem}-{number}"
        number += 1
    return name


def with_origin(text: str, name: str) -> str:
    """The text with a line in its head that names the shipped recipe it comes from."""
    if head(text).get("from") == name:
        return text
    every = text.removesuffix("\n").split("\n")
    lines = [line for line in every if not re.match(r"#\s*from:", line)]
    at = 1 if lines and lines[0].startswith("#") else 0
    return "\n".join([*lines[:at], f"# from: {name}", *lines[at:]]) + "\n"


def renamed(text: str, old: str, new: str) -> str:
    """The text with the commands in its head naming ``new`` where they named the recipe ``old``."""
    name = re.compile(rf"(?<= )(recipes/)?{re.escape(old)}(\.yaml)?(?= |$)")
    lines = text.splitlines(keepends=True)
    for place, line in enumerate(lines):
        if not line.startswith("#"):
            break
        if re.match(r"#\s*(python -m dpo_lite|dpo-lite) (train|check|plan) ", line):
            lines[place] = name.sub(lambda found: new, line.rstrip("\n"), count=1) + "\n"
    return "".join(lines)


def origin(text: str) -> str:
    """The name of the shipped recipe that a text says it comes from; empty where there is none."""
    name = head(text).get("from", "")
    return name if NAME.match(name) and (RECIPES_FOLDER / f"{name}.yaml").is_file() else ""


def head(text: str) -> dict[str, str]:
    """What the comment at the top says: ``purpose`` and the facts card, time and from."""
    facts: dict[str, str] = {}
    for place, line in enumerate(text.splitlines()):
        if not line.startswith("#"):
            break
        match = re.match(r"#\s*(card|time|from):\s*(.+)", line)
        if match:
            facts.setdefault(match[1], match[2].strip())
        elif place == 0:
            facts["purpose"] = line.lstrip("#").strip()
    return facts


def difference(one: Recipe, other: Recipe) -> list[tuple[str, Any, Any]]:
    """The keys whose values differ, with both values, defaults filled in."""
    values = [recipe.model_dump() for recipe in (one, other)]
    rows = [(key, *(value_of(dump, key) for dump in values)) for key in known_keys()]
    return [row for row in rows if row[1] != row[2]]


def as_overrides(one: Recipe, other: Recipe) -> list[str]:
    """What to write on the command line behind the one to get the other, exactly.

    That is what differs, and what would go along with it (``replaced``) although it is the same.
    """
    changed = {key: value for key, _, value in difference(one, other)}
    values = other.model_dump()
    kept = {key: value_of(values, key) for key in outdated(one.model_dump(), changed)}
    return [f"{key}={inline(value)}" for key, value in (changed | kept).items()]


def compare_with_shipped(file: str | Path, name: str | None = None) -> tuple[str, list[tuple]]:
    """The name of the shipped recipe that a file comes from, and the ``difference`` from it to the
    file. Raises UserError where the file does not say and ``name`` does not either."""
    path = find_recipe(file)
    name = name or origin(recipe_text(path))
    if not name:
        raise UserError(
            f"{path} does not say which recipe it comes from; name it:"
            f" dpo-lite recipes diff {path} quickstart"
        )
    return name, difference(load_recipe(name), load_recipe(path))


def _entry(path: Path, own: bool) -> Entry:
    try:
        stat = path.stat()
    except OSError:  # gone since the folder was listed: told as a fault
        return _read_entry.__wrapped__(path, own, 0, 0)
    return _read_entry(path, own, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1000)
def _read_entry(path: Path, own: bool, *version: int) -> Entry:
    """Checking thirty recipes takes a sixth of a second, and the page lists them at each edit."""
    try:
        facts = head(recipe_text(path))
        recipe, fault = load_recipe(path), ""
    except UserError as error:
        facts, recipe, fault = {}, None, str(error)
    return Entry(
        path=path,
        own=own,
        purpose=facts.get("purpose", ""),
        card=facts.get("card", ""),
        time=facts.get("time", ""),
        recipe=recipe,
        fault=fault,
    )


def gigabytes(card: str) -> float:
    """What the head says of the smallest card, in GB; 0 where any computer does."""
    match = re.match(r"(\d+(?:\.\d+)?) GB", card)
    return float(match[1]) if match else 0
