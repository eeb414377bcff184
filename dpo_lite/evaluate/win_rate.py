"""How often a judge prefers the policy's answers to those of its reference, on held-out prompts.

The answers are greedy and kept in the run's folder with all that was asked and replied: the same
question again loads no model and asks nobody. What is counted is in dpo_lite.judge.verdicts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from dpo_lite.errors import UserError
from dpo_lite.evaluate.held_out import answer_all
from dpo_lite.evaluate.preferences import compare_by
from dpo_lite.files import read_json, write_json
from dpo_lite.judge.questions import conversation_of
from dpo_lite.judge.replies import Judge, Judged, spent
from dpo_lite.judge.verdicts import SAME, Places, counted, keep_verdict
from dpo_lite.model.adapter_files import WEIGHTS, judges_only, trained_adapter
from dpo_lite.model.identity import files_hash
from dpo_lite.recipe import load_recipe
from dpo_lite.runs.folder import Run
from dpo_lite.runs.progress import Bar
from dpo_lite.runs.rlhf_steps import refuse_composed
from dpo_lite.tasks import TASKS
from dpo_lite.training.loaded import load_trained
from dpo_lite.training.recipe_data import load_data
from dpo_lite.training.sampling import spread

Answer = dict[str, Any]  # set, conversation, reference, policy


def settings_of(run: Run, prompts: int, max_new_tokens: int) -> dict[str, Any]:
    """What decides the answers. Raises UserError for a run that answers nothing."""
    refuse_composed(run)
    if TASKS[load_recipe(run.recipe_file).task].head:
        raise UserError(judges_only(run.name, "name the run of a policy"))
    weights = files_hash([trained_adapter(run) / WEIGHTS])
    return {"weights": weights, "prompts": prompts, "max_new_tokens": max_new_tokens}


def kept_answers(run: Run, settings: dict[str, Any]) -> list[Answer] | None:
    """The answers of an earlier time; None where they are others, or none."""
    kept = read_json(Places(run.path).answers) or {}
    return kept["answers"] if kept.get("settings") == settings else None


def answer(
    run: Run, settings: dict[str, Any], say: Callable[[str], None], bar: Bar
) -> list[Answer]:
    """Answers of both roles to at most so many prompts of each held-out set, and keep them."""
    recipe, tokenizer, model = load_trained(run)
    _, data = load_data(recipe, say)
    examples = [
        (name, rows[place])
        for name, rows in data.evals.items()
        for place in spread(len(rows), settings["prompts"])
    ]
    if not examples:
        raise UserError(f"{run.name} holds no data out, so there is nothing to ask; set data.eval.")
    advance = bar("answering", 2 * len(examples))
    given = {
        role: answer_all(
            model,
            tokenizer,
            [list(example["prompt_ids"]) for _, example in examples],
            role=role,
            max_new_tokens=settings["max_new_tokens"],
            progress=advance,
        )
        for role in ("reference", "policy")
    }
    answers = [
        {"set": name, "conversation": conversation_of(example)}
        | {role: texts[place] for role, texts in given.items()}
        for place, (name, example) in enumerate(examples)
    ]
    places = Places(run.path)
    places.answers.parent.mkdir(exist_ok=True)
    write_json(places.answers, {"settings": settings, "answers": answers})
    return answers


def judged(
    run: Run, judge: Judge, answers: Sequence[Answer], settings: dict[str, Any], bar: Bar
) -> tuple[dict[str, Any], list[Judged[Any]]]:
    """Ask the judge, count, and keep it in the run's folder: the entry, and what was not read."""
    advance = bar("judging", 2 * len(answers))
    outcomes, replies = compare_by(
        judge,
        [a["conversation"] for a in answers],
        [(a["policy"], a["reference"]) for a in answers],
        advance,
    )
    advance(2 * outcomes.count(SAME))
    sets = {
        name: counted(o for a, o in zip(answers, outcomes, strict=True) if a["set"] == name)
        for name in dict.fromkeys(a["set"] for a in answers)
    }
    entry = {
        "judge": judge.words,
        "model": judge.section.model,
        "criteria": judge.section.criteria,
        "max_new_tokens": settings["max_new_tokens"],
        "weights": settings["weights"],
        "sets": sets,
        "spent": spent(judge.section, replies),
        "time": time.time(),
    }
    keep_verdict(run.path, entry)
    return entry, [one for one in replies if one.read is None]
