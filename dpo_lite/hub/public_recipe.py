"""The recipe as others may read it: the same keys, without this machine's paths."""

from __future__ import annotations

from collections.abc import Callable

from dpo_lite.names import ON_THIS_MACHINE, is_function, is_public, last_name
from dpo_lite.recipe import Recipe, to_yaml


def public_recipe(recipe: Recipe, base: str) -> tuple[str, list[str]]:
    """The YAML to publish, and one line per value that was shortened to its last name.

    ``base`` is the base's public id. Data, adapters and rewards on this machine keep their file
    name only.
    """
    values = recipe.model_copy(deep=True)
    notes: list[str] = []

    def shortened(key: str, name: str) -> str:
        if not is_function(name) and (is_public(name) or name.startswith("builtin:")):
            return name
        short = last_name(name)
        if short != name:
            notes.append(f"{key}: a path on this machine, published as {short}")
        return short

    values.model.base = base
    if values.model.adapter:
        values.model.adapter = shortened("model.adapter", values.model.adapter)
    if isinstance(values.ppo.reward, str):
        values.ppo.reward = shortened("ppo.reward", values.ppo.reward)
    elif values.ppo.reward:
        for one in values.ppo.reward:
            one.source = shortened("ppo.reward", one.source)
    if values.judge.url:
        values.judge.url = None
        notes.append("judge.url: an address of the author's, left out")
    values.data.train = _sources("data.train", values.data.train, shortened)
    if values.data.eval is not None:
        values.data.eval = _sources("data.eval", values.data.eval, shortened)
    values.eval.suite = [_task(name, shortened) for name in values.eval.suite]
    if ON_THIS_MACHINE.match(values.run.folder):
        values.run.folder = "runs"
    head = "".join(f"# {note}\n" for note in notes)
    return head + to_yaml(values), notes


def _task(name: str, shortened: Callable[[str, str], str]) -> str:
    """A task; a text that forgetting is measured on is one of the author's."""
    kind, colon, file = name.partition(":")
    return kind + colon + shortened("eval.suite", file) if file else name


def _sources(key: str, sources: str | list, shortened: Callable[[str, str], str]) -> str | list:
    if isinstance(sources, str):
        return shortened(key, sources)
    return [
        shortened(key, part)
        if isinstance(part, str)
        else part.model_copy(update={"source": shortened(key, part.source)})
        for part in sources
    ]
