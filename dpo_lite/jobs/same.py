"""Whether a run that goes on is still the run that was begun: what decides its result, compared.

A run's manifest keeps these facts: the keys of the recipe that change a result, and what the files
that it reads hold. Where a source lies does not matter, so what stands for data, base and adapters
are hashes; the keys beside them are named where a hash differs. Versions and the device change
results to rounding alone: they are a note.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

from dpo_lite.errors import UserError
from dpo_lite.files import write_json
from dpo_lite.model.adapter_files import CONFIG, REWARD_FILE, WEIGHTS
from dpo_lite.model.identity import base_identity
from dpo_lite.recipe import Recipe, load_recipe
from dpo_lite.runs.folder import Run
from dpo_lite.runs.mending import MANIFEST
from dpo_lite.tasks import TASKS
from dpo_lite.training.checkpoints import step_of
from dpo_lite.training.method import Loaded

SAME, CHANGED = "same", "went_on_anyway"  # in manifest.json
DECIDING = (
    "task",
    "reference",
    "adapter.",
    "train.",
    "ppo.",
    "eval.",
    "judge.",
    "model.quantization",
)
# Of these: what is the program's business, what only looks on, and what a hash stands for.
NOT_DECIDING = (
    *("train.save_steps", "train.eval_steps", "train.token_budget", "train.checkpointing"),
    *("train.reference_cache", "eval.sample_steps", "ppo.reward"),
    *("eval.suite", "eval.suite_limit"),
    *("judge.url", "judge.at_once", "judge.timeout", "judge.retries"),
    *("judge.price_in", "judge.price_out"),
)
# Keys that explain why a hash differs.
DATA, BASE, START, REWARD = "the data", "the base's weights", "the start adapter", "the reward"
START_AS, REWARD_AS = "the start adapter's settings", "the reward model's settings"
BEHIND = {
    DATA: ("data.train", "data."),
    BASE: ("model.base", "model.revision"),
    START: ("model.adapter",),
    START_AS: ("model.adapter",),
    REWARD: ("ppo.reward",),
    REWARD_AS: ("ppo.reward",),
}
# Without which a checkpoint does not fit what is trained.
FIXED = ("task", "adapter.", "train.optimizer", "ppo.estimator")
SHOWN = 4  # differences in the sentence

Facts = dict[str, Any]


def facts_of(run: Run, loaded: Loaded) -> Facts:
    """What decides the result of a run, as its frozen recipe and the files say it now."""
    recipe = load_recipe(run.recipe_file)
    keys = _flat(recipe.model_dump(mode="json"))
    behind = tuple(prefix for prefixes in BEHIND.values() for prefix in prefixes)
    return {
        "keys": {key: keys[key] for key in deciding_keys(recipe)},
        "beside": {k: v for k, v in keys.items() if _is(k, behind)},
        DATA: loaded.data.fingerprint,
        BASE: _base(loaded),
        START: _hash(run.start / WEIGHTS),
        REWARD: _reward(run, loaded.recipe),
        START_AS: _hash(run.start / CONFIG),
        REWARD_AS: _settings(run, loaded.recipe),
    }


def deciding_keys(recipe: Recipe) -> list[str]:
    """The keys that change what comes of a run."""
    aside, keys = set(NOT_DECIDING), _flat(recipe.model_dump(mode="json"))
    if recipe.train.looks:  # evaluations choose which update is kept, so when they are counts
        aside.remove("train.eval_steps")
    if not any(one.is_judge for one in recipe.ppo.rewards):
        aside |= {key for key in keys if key.startswith("judge.")}
    return [key for key in keys if _is(key, DECIDING) and key not in aside]


def check_same(
    run: Run, loaded: Loaded, fresh: Facts, anyway: bool, say: Callable[[str], None]
) -> Facts:
    """Raise UserError where a run would not go on as the one that it was, unless it is to.

    Then what changed is recorded in the manifest, for report and model card. ``fresh``: the
    manifest as it would be written now. Returns the one that stands.
    """
    begun = run.manifest()
    now = facts_of(run, loaded)
    if not begun:
        lost = [_differs(MANIFEST, "lost", "written anew from what is there")]
        return _go_on(run, fresh, now, lost, say)
    found = differences(begun.get(SAME) or _of_older(begun), now)
    if not found:
        return begun
    fixed = [f for f in found if _is(f["key"], FIXED)]
    if fixed or not anyway:
        way = "put that back, or start a new run"
        if not fixed:
            way += f"; `dpo-lite train --resume {run.path} --anyway` goes on all the same"
        raise UserError(f"{run.path} would not be the same run: {in_words(fixed or found)}; {way}.")
    return _go_on(run, begun, now, found, say)


def _go_on(
    run: Run, begun: Facts, now: Facts, found: list[Facts], say: Callable[[str], None]
) -> Facts:
    say(f"going on although {in_words(found)}")
    step = step_of(run.last_checkpoint())
    note = {"time": time.time(), "step": step, "differences": found}
    data = begun["data"] | {"fingerprint": now[DATA]}
    written = begun | {CHANGED: [*begun.get(CHANGED, []), note], "data": data, SAME: now}
    write_json(run.path / MANIFEST, written)
    return written


def has_begun(run: Run, anyway: bool) -> bool:
    """Whether a run has left its preflight behind. Raises UserError where its manifest is lost:
    nobody can tell then whether it is the same run, unless it is to go on ``anyway``."""
    if run.manifest():
        return True
    if not (run.path / MANIFEST).exists() and run.last_checkpoint() is None:
        return False
    if not anyway:
        raise UserError(
            f"{run.path / MANIFEST} is missing or damaged, so nobody can tell whether data and base"
            " are those that the run began with; put it back, or go on all the same with `dpo-lite"
            f" train --resume {run.path} --anyway`."
        )
    return True


def _of_older(begun: Facts) -> Facts:
    """What a manifest of an older version says of it."""
    reward = {REWARD: begun["reward_print"]} if begun.get("reward_print") else {}
    return {DATA: begun["data"]["fingerprint"], **reward}


def say_versions(begun: Facts, now: Facts, say: Callable[[str], None]) -> None:
    """A note where libraries or the device are others than those that the run began with."""
    pairs = {"device": (begun.get("device"), now["device"])}
    for name, version in (begun.get("versions") or {}).items():
        pairs[name] = (version, now["versions"].get(name))
    changed = [f"{name} {old}, now {new}" for name, (old, new) in pairs.items() if old != new]
    if changed:
        say(f"versions   {'; '.join(changed)}: the same updates, equal to rounding")


def differences(before: Facts, now: Facts) -> list[Facts]:
    """Which keys differ, each with both values; of hashes the keys behind them come along."""
    old, new = before.get("keys", {}), now["keys"]
    found = [_differs(key, old[key], new[key]) for key in old if old[key] != new.get(key, old[key])]
    for name, prefixes in BEHIND.items():
        if name not in before or before[name] == now[name]:
            continue
        had, has = before.get("beside", {}), now["beside"]
        behind = [
            _differs(key, had[key], has.get(key))
            for key in had
            if _is(key, prefixes) and had[key] != has.get(key, had[key])
        ]
        label = name if has.get(prefixes[0]) is None else f"{name} ({has[prefixes[0]]})"
        found += behind or [_differs(label, _short(before[name]), _short(now[name]))]
    return found


def in_words(found: list[Facts]) -> str:
    listed = [f"{f['key']} was {_value(f['before'])} and is {_value(f['now'])}" for f in found]
    more = len(listed) - SHOWN
    return ", ".join(listed[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _differs(key: str, before: Any, now: Any) -> Facts:
    return {"key": key, "before": before, "now": now}


def _base(loaded: Loaded) -> Any:
    section = loaded.recipe.model
    known = base_identity(section, loaded.model.get_base_model().config)
    return known or {"id": section.base, "revision": section.revision}


def _reward(run: Run, recipe: Recipe) -> str | None:
    own = TASKS[recipe.task].mechanics.manifest(recipe).get("reward_print")
    return own or _hash(run.reward / WEIGHTS)


def _settings(run: Run, recipe: Recipe) -> list[str | None] | None:
    """What the weights of reward adapters are used with: scale and layers, and the mean."""
    count = sum(one.is_adapter for one in recipe.ppo.rewards)
    copies = [run.reward_copy(number) for number in range(count)]
    return [_hash(copy / name) for copy in copies for name in (CONFIG, REWARD_FILE)] or None


def _hash(path: Any) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _flat(values: Facts) -> Facts:
    flat = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            flat[key] = value
    return flat


def _is(key: str, prefixes: tuple[str, ...]) -> bool:
    return any(key == p or (p.endswith(".") and key.startswith(p)) for p in prefixes)


def _short(value: Any) -> Any:
    """A hash as people compare it: by its first letters."""
    if isinstance(value, dict):
        return " ".join(str(_short(part)) for part in value.values())
    if isinstance(value, list):
        return " ".join("missing" if part is None else str(_short(part)) for part in value)
    return value[:12] if isinstance(value, str) and len(value) == 64 else value


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
