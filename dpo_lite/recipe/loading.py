"""From a recipe's file or text to a validated ``Recipe``, and back to YAML."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from dpo_lite.errors import UserError
from dpo_lite.recipe.faults import sentences, short
from dpo_lite.recipe.kinds import MAX_DEPTH, MAX_ENTRIES
from dpo_lite.recipe.replaced import in_words, outdated, remove
from dpo_lite.recipe.rewards import JUDGE, OneReward, settled
from dpo_lite.recipe.schema import Recipe

HERE = Path(__file__).resolve().parent
INSTALLED = HERE / "shipped"  # the wheel carries them here; a checkout has them at its top
RECIPES_FOLDER = INSTALLED if INSTALLED.is_dir() else HERE.parents[1] / "recipes"
OWN_FOLDER = Path("my-recipes")  # one's own, seen from where the command is given
MAX_RECIPE_BYTES = 256 * 1024
BREAKS = re.compile("[\n\x85\u2028\u2029]")  # what ends a line in YAML 1.1


class RecipeLoader(yaml.SafeLoader):
    """YAML 1.1's traps closed: 5e-6 is a number, a date is text, a repeated key is an error, and
    there are no aliases and tags, nor more values and deeper ones than a recipe has."""

    def __init__(self, stream):
        super().__init__(stream)
        self.depth = self.entries = 0

    def compose_node(self, parent, index):
        event = self.peek_event()
        if isinstance(event, yaml.events.AliasEvent):
            raise _not_here("aliases (*name) are not used in recipes", event)
        if getattr(event, "tag", None) is not None:
            raise _not_here("tags (!name) are not used in recipes", event)
        self.entries += 1
        if self.entries > 2 * MAX_ENTRIES:  # keys are nodes as well
            raise _not_here("these are more values than a recipe has", event)
        if self.depth > MAX_DEPTH:
            raise _not_here(f"this is more than {MAX_DEPTH} lists and mappings deep", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise _not_here(f"the key '{short(key.value)}' stands twice", key)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


def _not_here(problem: str, place: yaml.events.Event | yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, place.start_mark)


RecipeLoader.yaml_implicit_resolvers = {
    letter: [(tag, form) for tag, form in resolvers if not tag.endswith(":timestamp")]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class RecipeDumper(yaml.SafeDumper):
    """Writes what ``RecipeLoader`` reads back: the string '5e-6' gets its quotation marks."""


for way in (RecipeLoader, RecipeDumper):
    way.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )


def _number(dumper: yaml.SafeDumper, value: float) -> yaml.Node:
    """Floats as people write them: 5.0e-6, where Python says 5e-06."""
    node = dumper.represent_float(value)
    node.value = re.sub(r"e([-+])0(\d)$", r"e\1\2", node.value)
    return node


def _string(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = '"' if BREAKS.search(value) else None  # one line each, its breaks as \\n
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


RecipeDumper.add_representer(float, _number)
RecipeDumper.add_representer(str, _string)


def dump_yaml(value: Any, **how: Any) -> str:
    """Plain YAML in the given order, a string never broken over lines."""
    return yaml.dump(
        value, Dumper=RecipeDumper, sort_keys=False, allow_unicode=True, width=10**9, **how
    )


def parse_yaml(text: str, where: str) -> Any:
    """The values of a recipe's text; raises UserError, within a second, for whatever is none."""
    if len(text) > MAX_RECIPE_BYTES:
        raise UserError(f"{where} is over 256 KB; that is not a recipe.")
    try:
        return yaml.load(text, RecipeLoader)
    except ValueError as error:  # of Python's own readers of numbers: one of 5000 digits
        raise UserError(f"{where}: {error}; write it as text in quotation marks.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = " ".join((getattr(error, "problem", None) or str(error)).split())
        raise UserError(f"{where}{line}: {problem}; put the YAML right there.") from None


def find_recipe(name: str | Path) -> Path:
    """Return the path of a recipe given as a file, or as the name of one's own or a shipped one."""
    path = Path(name)
    if os.path.isfile(path):  # False as well for what can be no path
        return path
    if os.path.isdir(path):
        raise UserError(f"{short(str(name))} is a folder; name a recipe's file.")
    if len(path.name.encode(errors="replace")) > 250 or not str(name).isprintable():
        raise UserError(f"There is no recipe {short(str(name))}; `dpo-lite recipes` lists them.")
    file = f"{path.name.removesuffix('.yaml')}.yaml"
    if path.parent in (Path(), OWN_FOLDER) and (OWN_FOLDER / file).is_file():
        return OWN_FOLDER / file
    if path.parent in (Path(), Path("recipes")) and (RECIPES_FOLDER / file).is_file():
        return RECIPES_FOLDER / file
    if path.suffix == ".yaml" and path.is_dir():
        raise UserError(f"{path} is a folder where a recipe should be; move it away.")
    names = [p.stem for folder in (RECIPES_FOLDER, OWN_FOLDER) for p in folder.glob("*.yaml")]
    close = difflib.get_close_matches(path.name.removesuffix(".yaml"), names, n=1)
    hint = f"did you mean {close[0]}?" if close else "`dpo-lite recipes` lists them."
    raise UserError(f"There is no recipe {name}; {hint}")


def recipe_stem(name: str | Path) -> str:
    """What runs of a recipe are called, given its file or its name."""
    return Path(name).name.removesuffix(".yaml")


def load_recipe(
    name: str | Path, overrides: Sequence[str] = (), say: Callable[[str], None] = lambda text: None
) -> Recipe:
    """Read a recipe file, apply ``section.key=value`` overrides and validate.

    ``say`` is told of keys of the file that went with what was overridden. Raises UserError with
    one line per fault, each naming the key, the fault and what to do.
    """
    path = find_recipe(name)
    values = read_recipe(path)
    apply_overrides(values, overrides, say)
    return validate_recipe(values, str(path))


def recipe_text(path: Path) -> str:
    """The text of a recipe's file; raises UserError where it cannot be one."""
    try:
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise UserError(f"{path} is over 256 KB; that is not a recipe.")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); look at the file.") from None


def read_recipe(path: Path) -> dict[str, Any]:
    """The values of a recipe's file as they stand there; raises UserError where it holds none."""
    values = parse_yaml(recipe_text(path), str(path))
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no keys; a recipe starts with sections such as `model:`.")
    return values


def apply_overrides(
    values: dict, overrides: Sequence[str], say: Callable[[str], None] = lambda text: None
) -> None:
    """Put overrides into a recipe's values, in place; what belongs to what they replace goes."""
    gone = outdated(values, dict(map(read_override, overrides)))
    for line in in_words(values, gone):
        say(line)
    for key in gone:
        remove(values, key)
    for override in overrides:
        apply_override(values, override)


def read_override(override: str) -> tuple[str, Any]:
    """The key and the value of ``section.key=value``; the value is read as YAML."""
    key, equals, text = override.partition("=")
    if not equals or not all(part.strip() for part in key.split(".")) or key.count(".") > MAX_DEPTH:
        raise UserError(f"'{short(override)}' is no override; write it as train.beta=0.05.")
    return key.strip(), parse_yaml(text, f"override {short(key)}") if text else None


def apply_override(values: dict, override: str) -> None:
    """Set one ``section.key=value`` in place."""
    key, value = read_override(override)
    *sections, leaf = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UserError(
                f"In '{short(override)}', {short(section)} is no section; `train.beta=0.05` is one."
            )
    values[leaf] = value


def validate_recipe(values: dict, where: str) -> Recipe:
    try:
        recipe = Recipe.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: " + "; ".join(sentences(error.errors()))) from None
    if recipe.model.adapter:
        recipe.model.adapter = _adapter_of_run(recipe.model.adapter, recipe.run.folder)
    if recipe.ppo.reward:
        recipe.ppo.reward = _rewards_of_runs(recipe.ppo.reward, recipe.run.folder)
    return recipe


def _rewards_of_runs(value: str | list[str | OneReward], runs: str) -> str | list[str | OneReward]:
    if isinstance(value, str):
        return value if value == JUDGE else _adapter_of_run(value, runs)
    found: list[str | OneReward] = []
    for one in settled(value):
        source = one.source if one.is_judge else _adapter_of_run(one.source, runs)
        found.append(one.model_copy(update={"source": source}))
    return found


def _adapter_of_run(name: str, runs: str) -> str:
    """The adapter's folder where ``name`` is a run or its folder; anything else stays as it is."""
    for run in (Path(name), Path(runs) / name):
        if os.path.isfile(run / "recipe.yaml"):  # False as well for what can be no path
            return str(run / "adapter")
    return name


def to_yaml(recipe: Recipe) -> str:
    """The resolved recipe as YAML: what a run folder keeps and what runs again unchanged."""
    return dump_yaml(recipe.model_dump())
