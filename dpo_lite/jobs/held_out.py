"""What a run says of held-out data: answers before and after, scores, what drawn answers earn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from dpo_lite.data.markers import has_markers
from dpo_lite.data.tokens import encoder_of
from dpo_lite.evaluate.held_out import answer_all, answer_held_out, generation_rate
from dpo_lite.files import write_json
from dpo_lite.rates import COUNTS, Rate
from dpo_lite.recipe import Recipe
from dpo_lite.runs.folder import ANSWERED_BY, MOST_WRONG, Run
from dpo_lite.runs.lines import SAMPLES
from dpo_lite.runs.progress import open_bars
from dpo_lite.tasks import TASKS
from dpo_lite.training import ranks
from dpo_lite.training.method import Loaded, Objective
from dpo_lite.training.reference_cache import ReferenceCache

IN_ORDER = ("before", "start", "during", "after")


def held_out(loaded: Loaded) -> dict[str, list[dict[str, Any]]]:
    """The held-out sets as lists of examples."""
    return {name: list(examples) for name, examples in loaded.data.evals.items()}


def to_ask(loaded: Loaded) -> dict[str, list[dict[str, Any]]]:
    """Whose prompts are answered: all of a held-out set with markers, else the first few."""
    if not TASKS[loaded.recipe.task].answers:
        return {}
    few = loaded.recipe.eval.generate
    return {
        name: rows if has_markers(rows) else rows[:few] for name, rows in held_out(loaded).items()
    }


def asked_before(recipe: Recipe) -> dict[str, str]:
    """Who answers before the training: by the word for it in samples.jsonl, the role."""
    return {"before": "reference"} | ({"start": "policy"} if recipe.starts_apart else {})


def ask_all(
    run: Run, loaded: Loaded, role: str, when: str, console: Console
) -> dict[str, Rate | None]:
    """Generate for the recipe's prompts and the held-out sets; write samples.jsonl.

    All answers of a ``when`` come there in one step, in place of those that stand there. Returns
    how many answers make the chosen claim, for every set; None where it has no markers.
    """
    recipe, tokenizer, model = loaded.recipe, loaded.tokenizer, loaded.model
    by_set = to_ask(loaded)
    prompts = recipe.eval.prompts
    total = len(prompts) + sum(len({tuple(e["prompt_ids"]) for e in r}) for r in by_set.values())
    rates: dict[str, Rate | None] = {}
    with open_bars(console) as bar:
        told = bar(f"asking the {ANSWERED_BY[when]}", total)
        encoder = encoder_of(tokenizer, recipe.data)
        ids = [encoder.prompt_ids(prompt) for prompt in prompts]
        answers = answer_all(
            model,
            tokenizer,
            ids,
            role=role,
            max_new_tokens=recipe.eval.max_new_tokens,
            progress=told,
        )
        said = [
            {"when": when, "set": "prompts", "prompt": prompt, "answer": answer}
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        for name, rows in by_set.items():
            records = answer_held_out(
                model,
                tokenizer,
                rows,
                role=role,
                max_new_tokens=recipe.eval.max_new_tokens,
                progress=told,
            )
            rates[name] = generation_rate(records)
            said += [{"when": when, "set": name, **record} for record in records]
    others = [s for s in run.records(SAMPLES) if s["when"] != when]
    run.rewrite(SAMPLES, sorted(others + said, key=lambda s: place_of(s["when"])))
    return rates


def place_of(when: str) -> int:
    """In which order answers stand; of a damaged line behind all others."""
    return (*IN_ORDER, when).index(when)


def is_asked(run: Run, loaded: Loaded, when: str) -> bool:
    """Whether all answers of that time are there; a kill or a disk may have taken some."""
    wanted = {
        name: len({tuple(example["prompt_ids"]) for example in rows})
        for name, rows in to_ask(loaded).items()
    }
    wanted["prompts"] = wanted.get("prompts", 0) + len(loaded.recipe.eval.prompts)
    there = Counter(s.get("set") for s in run.records(SAMPLES) if s["when"] == when)
    return all(there[name] == count for name, count in wanted.items())


def evaluate_run(
    run: Run,
    loaded: Loaded,
    objective: Objective,
    budget: int,
    console: Console,
    references: ReferenceCache | None,
) -> dict[str, Any]:
    """Score every held-out set and ask the policy; the content of results.json."""
    results: dict[str, Any] = {"sets": {}}
    method = TASKS[loaded.recipe.task].mechanics
    sets = {name: rows for name, rows in held_out(loaded).items() if rows}
    with open_bars(console) as bar:
        told = bar("evaluating", sum(map(len, sets.values())))
        results["sets"] = method.evaluate(loaded, sets, objective, budget, references, told)
    # Beside the results, which are published: these are texts of somebody's data.
    wrong = {n: own.pop("most_wrong") for n, own in results["sets"].items() if "most_wrong" in own}
    if ranks.first() and (wrong or (run.path / MOST_WRONG).exists()):
        write_json(run.path / MOST_WRONG, wrong)
    if not TASKS[loaded.recipe.task].answers:
        return results
    after = ask_all(run, loaded, "policy", "after", console)
    samples = run.records(SAMPLES)
    for name, rate in after.items():
        rates = {
            ANSWERED_BY[when]: generation_rate(
                [s for s in samples if s["when"] == when and s.get("set") == name]
            )
            for when in asked_before(loaded.recipe)
        }
        _put_in(results["sets"][name], "generation", rates | {"policy": rate})
    return results


def _put_in(metrics: dict[str, Any], measure: str, rates: Mapping[str, Rate | None]) -> None:
    """Shares by role, and beside them of how many they are."""
    metrics[measure] = {role: None if r is None else r.share for role, r in rates.items()}
    counts = {role: rate.to_json() for role, rate in rates.items() if rate is not None}
    if counts:
        metrics.setdefault(COUNTS, {})[measure] = counts
