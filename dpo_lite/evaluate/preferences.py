"""Which of two answers a judge prefers, asked in both orders; and which of several is best.

As in MT-bench (Zheng et al. 2023, arXiv:2306.05685, Section 3.4) an answer is better than another
where it is preferred in both orders. Of several every two are compared, and an answer is worth its
wins and half of what is undecided.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from dpo_lite.errors import UserError
from dpo_lite.judge.questions import both_orders, pair_question, read_verdict
from dpo_lite.judge.replies import Judge, Judged, ask
from dpo_lite.judge.verdicts import SAME
from dpo_lite.model.adapter_files import judges_only
from dpo_lite.recipe import Recipe, load_recipe
from dpo_lite.runs.folder import Run
from dpo_lite.tasks import TASKS

Conversation = list[dict[str, Any]]
WORTH = {"first": 1.0, "second": 0.0}  # to the first of two; anything else is a half


def judging_recipe(run: Run, changes: Sequence[str]) -> Recipe:
    """The run's recipe with other keys of its judge. Raises UserError for a key of anything else,
    which would be of another run, and for a run that gives no answers."""
    for change in changes:
        if not change.startswith("judge."):
            raise UserError(f"'{change}' is no key of the judge; write it as judge.model=qwen3-8b.")
    recipe = load_recipe(run.recipe_file, changes)
    if TASKS[recipe.task].head:
        raise UserError(judges_only(run.name, "name the run of a policy"))
    return recipe


def compare_by(
    judge: Judge,
    conversations: Sequence[Conversation],
    pairs: Sequence[tuple[str, str]],
    progress: Callable[[int], None] = lambda count: None,
) -> tuple[list[str], list[Judged[Any]]]:
    """What the judge says of the first of each pair of answers (``Outcome``, or ``same`` where both
    are one), and all replies behind that, two a pair. ``progress``: counts questions."""
    asked = [place for place, (one, other) in enumerate(pairs) if one.strip() != other.strip()]
    questions = []
    for place in asked:
        (one, other), criteria = pairs[place], judge.section.criteria
        questions.append(pair_question(criteria, conversations[place], one, other))
        questions.append(pair_question(criteria, conversations[place], other, one))
    replies = ask(judge, questions, read_verdict, progress)
    outcomes: list[str] = [SAME] * len(pairs)
    for number, place in enumerate(asked):
        outcomes[place] = both_orders(replies[2 * number].read, replies[2 * number + 1].read)
    return outcomes, replies


def best_and_worst(
    judge: Judge, conversations: Sequence[Conversation], answers: Sequence[Sequence[str]]
) -> list[tuple[str, str] | str]:
    """Of each prompt's answers, all different: the best and the worst, or why there are none:
    ``alike`` where the judge does not prefer the one to the other, ``unread`` where it did not say.

    All prompts' questions are asked together, n (n - 1) for n answers.
    """
    every = [list(itertools.combinations(range(len(own)), 2)) for own in answers]
    told = [(place, pair) for place, pairs in enumerate(every) for pair in pairs]
    outcomes, _ = compare_by(
        judge,
        [conversations[place] for place, _ in told],
        [(answers[place][one], answers[place][other]) for place, (one, other) in told],
    )
    by_prompt: list[dict[tuple[int, int], str]] = [{} for _ in answers]
    for (place, pair), outcome in zip(told, outcomes, strict=True):
        by_prompt[place][pair] = outcome
    return [_ends(own, found) for own, found in zip(answers, by_prompt, strict=True)]


def _ends(answers: Sequence[str], found: dict[tuple[int, int], str]) -> tuple[str, str] | str:
    worth = [0.0] * len(answers)
    for (one, other), outcome in found.items():
        share = WORTH.get(outcome, 0.5)
        worth[one] += share
        worth[other] += 1 - share
    best = max(range(len(answers)), key=worth.__getitem__)
    worst = min(range(len(answers)), key=worth.__getitem__)
    if best == worst:  # all are worth the same
        return "unread" if set(found.values()) == {"unread"} else "alike"
    outcome = found[min(best, worst), max(best, worst)]
    if outcome == ("first" if best < worst else "second"):
        return answers[best], answers[worst]
    return "unread" if outcome == "unread" else "alike"
