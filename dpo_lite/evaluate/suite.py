"""Tasks of lm-evaluation-harness on a run: as its reference and as its policy, on the same items.

The harness draws the items, makes the requests and counts; the model is dpo_lite.evaluate.harness.
One load of the base serves both, so the two differ in nothing but the adapter.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpo_lite.errors import UserError, memory_ran_out
from dpo_lite.evaluate.paired import changed, mean_change, outcomes, perplexity_change
from dpo_lite.runs.progress import Bar

ROLES = ("reference", "policy")
ITERATIONS = 1000  # of a bootstrap, where a standard error has no formula
# The harness's own, so that without a seed the few-shot examples are those of its command line.
OWN_SEED, OWN_RANDOM_SEED = 1234, 0


@dataclass(frozen=True)
class Asked:
    """How tasks are asked. ``chat``: by the chat template; None: where an answer is generated.

    ``limit``: items of a task, its first ones, as the harness takes them; ``folder``: of one's own
    tasks as YAML.
    """

    limit: int | None = None
    seed: int | None = None
    fewshot: int | None = None
    chat: bool | None = None
    folder: str | None = None


def evaluate_task(lm: Any, manager: Any, name: str, asked: Asked, bar: Bar) -> dict[str, Any]:
    """One task, or group of tasks, by both roles: its rows and what was asked.

    ``lm``: a HarnessLM. Raises UserError where the harness cannot go through with it.
    """
    started = time.monotonic()
    loaded = _faults_told(name, lambda: manager.load([name]))
    tasks = loaded["tasks"]
    for task in tasks.values():
        _refuse(name, task)
    chat = asked.chat
    if chat is None:
        chat = any(task.OUTPUT_TYPE == "generate_until" for task in tasks.values())
    chat = chat and not lm.encoder.raw
    found = {}
    for role in ROLES:
        lm.role = role
        lm.opened = lambda total, role=role: bar(f"{name}, {role}", total)
        found[role] = _faults_told(name, lambda: _evaluate(lm, loaded, asked, chat))
    reference, policy = (found[role] for role in ROLES)
    return {
        "chat": chat,
        "tasks": {
            task: {
                "version": policy["versions"].get(task),
                "fewshot": policy["n-shot"].get(task),
                "dataset": str(loaded["tasks"][task].config.dataset_path),
            }
            for task in tasks
        },
        "groups": policy.get("group_subtasks", {}),
        "rows": rows_of(reference, policy),
        "notes": lm.take_notes(),
        "seconds": time.monotonic() - started,
    }


def _evaluate(lm: Any, loaded: Mapping[str, Any], asked: Asked, chat: bool) -> Mapping[str, Any]:
    """As the harness's own command does, which also lists the machine's packages each time."""
    import numpy as np
    import torch
    from lm_eval.evaluator import evaluate

    seed = OWN_SEED if asked.seed is None else asked.seed
    random.seed(OWN_RANDOM_SEED if asked.seed is None else asked.seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    for task in loaded["tasks"].values():
        own = task.get_config("num_fewshot")
        if own is None or (asked.fewshot is not None and own != 0):  # 0: it takes none
            task.set_config(key="num_fewshot", value=asked.fewshot or 0)
        task.set_fewshot_seed(seed=seed)
    with _quiet():
        return evaluate(
            lm=lm,
            task_dict=loaded,
            limit=asked.limit,
            bootstrap_iters=ITERATIONS,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
        )


def _refuse(name: str, task: Any) -> None:
    """What must not or cannot be asked here."""
    if getattr(task, "UNSAFE_CODE", False):
        raise UserError(
            f"{name} runs code that a model wrote on this machine, which dpo_lite does not; take"
            " the harness itself, in a machine of its own."
        )
    if getattr(task, "MULTIMODAL", False):
        raise UserError(f"{name} shows pictures, and only text is asked here; take another task.")


def _faults_told(name: str, work: Callable[[], Any]) -> Any:
    """What the harness, its data or a task's own code raise, as one sentence."""
    try:
        return work()
    except (UserError, KeyboardInterrupt):
        raise
    except ImportError as error:
        raise UserError(
            f"The task {name} needs the package {error.name or error}, which is not installed; `pip"
            f' install "lm-eval[{name}]"` brings it for many tasks, else `pip install'
            f" {error.name or 'it'}`."
        ) from error
    except Exception as error:  # whatever a task's YAML, its Python or its data's server say
        if memory_ran_out(error):
            raise
        line = next(iter(str(error).strip().splitlines()), "")
        raise UserError(
            f"The task {name} cannot be asked ({type(error).__name__}: {line[:300]}); its data come"
            " from the Hugging Face Hub, and --debug shows where it broke off."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without a bar or a line of the harness's own, and without processes beside ours for a
    bootstrap."""
    import lm_eval.api.metrics as metrics
    import lm_eval.api.task as tasks

    bars, bootstrap = tasks.tqdm, metrics.bootstrap_stderr
    alone = os.environ.get("DISABLE_MULTIPROC")

    def unheard(*arguments, **options):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return bootstrap(*arguments, **options)

    tasks.tqdm, metrics.bootstrap_stderr = (lambda items, *_, **__: items), unheard
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        yield
    finally:
        tasks.tqdm, metrics.bootstrap_stderr = bars, bootstrap
        if alone is None:
            del os.environ["DISABLE_MULTIPROC"]


# --- what came of it ------------------------------------------------------------------------------


def rows_of(reference: Mapping[str, Any], policy: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each task and metric, of two results of the harness on the same items."""
    rows = []
    for task, metrics in policy["results"].items():
        for key, value in metrics.items():
            metric, comma, rule = key.partition(",")
            before = reference["results"][task].get(key)
            if not comma or metric.endswith("_stderr") or not (_finite(value) and _finite(before)):
                continue
            higher = policy["higher_is_better"].get(task, {}).get(metric)
            items = [_items(result, task, metric, rule) for result in (reference, policy)]
            row = {"task": task, "metric": metric, "filter": rule, "higher": higher}
            row["n"] = len(items[1]) or metrics.get("sample_len")
            for role, result, score in zip(
                ROLES, (reference, policy), (before, value), strict=True
            ):
                error = result["results"][task].get(f"{metric}_stderr,{rule}")
                row[role] = {"value": score, "stderr": error if _finite(error) else None}
            rows.append(row | _comparison(items, (before, value), higher))
    return rows


def _items(result: Mapping[str, Any], task: str, metric: str, rule: str) -> list[Any]:
    """A metric's value of each item in their order; of a group those of all its tasks."""
    tasks = list(_leaves(result, task))
    return [
        sample[metric]
        for leaf in tasks
        for sample in sorted(result["samples"].get(leaf, ()), key=lambda s: s["doc_id"])
        if sample["filter"] == rule and metric in sample
    ]


def _leaves(result: Mapping[str, Any], task: str) -> Iterator[str]:
    children = result.get("group_subtasks", {}).get(task)
    if not children:
        yield task
    for child in children or ():
        yield from _leaves(result, child)


def _comparison(
    items: Sequence[list[Any]], values: tuple[float, float], higher: bool | None
) -> dict[str, Any]:
    """What is known of the change, by what the items are."""
    before, after = items
    if not before or len(before) != len(after):
        return {}
    right = [outcomes(some, value) for some, value in zip(items, values, strict=True)]
    if right[0] is not None and right[1] is not None:
        better, worse = changed(right[0], right[1], higher is not False)
        bits = {
            role: "".join("01"[one] for one in some)
            for role, some in zip(ROLES, right, strict=True)
            if some is not None
        }
        return {"changed": {"better": better, "worse": worse}, "outcomes": bits}
    if found := perplexity_change(before, after, values):
        return {"log_ratio": {"value": found[0], "stderr": found[1]}}
    if found := mean_change(before, after, values):
        return {"difference": {"value": found[0], "stderr": found[1]}}
    return {}


def _finite(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value)
