"""A policy's own answers as pairs: drawn, judged, the best against the worst of each prompt.

A preference learned from answers that the policy gives itself corrects what it does now, and can be
learned again from what it does then (Xu et al. 2023, arXiv:2312.16682; Guo et al. 2024,
arXiv:2402.04792). The judge is a reward, as PPO's, or a language model that compares the answers
(dpo_lite.evaluate.preferences).

The file (dpo_lite.evaluate.drawn_file) grows batch by batch, each drawn from random numbers that
follow from the seed and its number: one that was left in the middle goes on to the same lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset

from dpo_lite.errors import disk_faults_told
from dpo_lite.evaluate.drawn_file import Tally, note, replies_of, so_far
from dpo_lite.evaluate.preferences import best_and_worst
from dpo_lite.files import json_text
from dpo_lite.judge.questions import conversation_of
from dpo_lite.judge.replies import Judge, open_judge
from dpo_lite.model import roles
from dpo_lite.model.adapter_files import WEIGHTS
from dpo_lite.model.base import load_base
from dpo_lite.model.device_memory import halving
from dpo_lite.model.generation import BATCH
from dpo_lite.model.identity import files_hash
from dpo_lite.recipe import Recipe
from dpo_lite.training.loaded import Loaded, how_to_score
from dpo_lite.training.ppo import draw_answers
from dpo_lite.training.ppo_evaluation import Ruler, ruler_of, unrewarded
from dpo_lite.training.recipe_data import load_data

By = Literal["reward", "model", "votes"]  # a judge that compares them, or a vote of yours
PROMPTS_AT_ONCE = 16  # of a batch, after which the lines are written


@dataclass(frozen=True)
class Picked:
    """Two answers to a prompt; ``rewards``: of the best and the worst, where they have any."""

    best: str
    worst: str
    rewards: list[float] | None = None


@dataclass(frozen=True)
class Drawing:
    """``recipe``: as ``drawing_recipe`` makes it. ``judge``: who compares the answers, None where
    their rewards do."""

    recipe: Recipe
    ruler: Ruler
    prompts: Dataset
    first: int = 0  # which of the data's prompts they begin with
    judge: Judge | None = None
    ballots: bool = False  # two answers to each prompt, for a vote of yours, and no rewards


def load_drawing(
    recipe: Recipe,
    limit: int | None,
    say: Callable[[str], None],
    turn: int = 0,
    out: Path | None = None,
    by: By = "reward",
) -> Drawing:
    """The policy and its judge on one base, and ``limit`` prompts: the first ones, with ``turn``
    (from 0) the next ones, and behind the last the first again.

    ``out``: the file to be drawn; what a language model says as a judge is kept beside it.
    ``by``: whose word picks them.
    """
    replies = None if out is None else replies_of(out)
    judge = open_judge(recipe.judge, replies, say) if by == "model" else None
    tokenizer, data = load_data(recipe, say)
    say(f"loading {recipe.model.base}")
    model = roles.load_policy(load_base(recipe.model), Path(recipe.model.adapter or ""))
    loaded = Loaded(recipe, tokenizer, data, model)
    count = min(limit or len(data.train), len(data.train))
    places = [place % len(data.train) for place in range(turn * count, (turn + 1) * count)]
    some = data.train.select(places)
    how = how_to_score(loaded)
    ruler = ruler_of(loaded, *how, replies, say) if by == "reward" else unrewarded(loaded, *how)
    return Drawing(recipe, ruler, some, places[0], judge, by == "votes")


def draw_pairs(
    drawing: Drawing, out: Path, margin: float, progress: Callable[[int], None] = lambda count: None
) -> Tally:
    """Write a pair of the policy's own answers for every prompt that has one.

    ``margin``: in units of reward. ``progress`` is called with how many more prompts are done.
    Raises UserError where the file is of another drawing.
    """
    prompts, seed = drawing.prompts, drawing.recipe.train.seed
    settings = _settings(drawing, margin)
    tally, start = so_far(out, settings)
    if not start:
        with disk_faults_told():
            note(out, settings, tally, 0)  # what a kill leaves of the first lines is known by it
    progress(start)
    for first in range(start, len(prompts), PROMPTS_AT_ONCE):
        batch = [dict(prompts[i]) for i in range(first, min(first + PROMPTS_AT_ONCE, len(prompts)))]
        rows = _pairs_of(drawing, batch, margin, seed * 1_000_003 + first, tally)
        with disk_faults_told():
            with open(out, "a", encoding="utf-8") as file:
                file.writelines(json_text(row) + "\n" for row in rows)
            note(out, settings, tally, first + len(batch))
        progress(len(batch))
    return tally


def _pairs_of(
    drawing: Drawing, batch: Sequence[dict[str, Any]], margin: float, seed: int, tally: Tally
) -> list[dict[str, Any]]:
    """The rows of one batch of prompts."""
    ruler = drawing.ruler

    def draw(at_once: int) -> list[dict[str, Any]]:
        torch.manual_seed(seed)  # also where it has to start again
        return draw_answers(ruler.model, batch, ruler.ppo, ruler.ends, at_once, roles.policy)

    drawn, _ = halving(draw, BATCH)
    if drawing.ballots:
        picked = [_first_two(ruler, example) for example in drawn]
    elif drawing.judge:
        picked = _compared(drawing, drawn)
    else:
        picked = _ranked(drawing, drawn, margin, tally)
    rows = []
    for example, found in zip(drawn, picked, strict=True):
        if isinstance(found, str):
            setattr(tally, found, getattr(tally, found) + 1)
            continue
        tally.pairs += 1
        rows.append(_row(drawing, example, found))
    return rows


def _ranked(
    drawing: Drawing, drawn: Sequence[dict[str, Any]], margin: float, tally: Tally
) -> list[Picked | str]:
    """Best and worst of each prompt's answers by their rewards, or how the prompt is counted."""
    rewards = drawing.ruler.rewarder(drawn, drawing.ruler.budget).total.view(len(drawn), -1)
    tally.rewards += rewards.sum().item()
    tally.answers += rewards.numel()
    return [
        _by_reward(drawing.ruler, example, own, margin)
        for example, own in zip(drawn, rewards.tolist(), strict=True)
    ]


def _by_reward(
    ruler: Ruler, example: dict[str, Any], rewards: Sequence[float], margin: float
) -> Picked | str:
    places = _whole(ruler, example)
    if isinstance(places, str):
        return places
    worth = {text: rewards[place] for text, place in places.items()}
    best, worst = max(worth, key=worth.__getitem__), min(worth, key=worth.__getitem__)
    if worth[best] - worth[worst] <= margin:
        return "alike"
    return Picked(best, worst, [round(worth[best], 5), round(worth[worst], 5)])


def _compared(drawing: Drawing, drawn: Sequence[dict[str, Any]]) -> list[Picked | str]:
    """The same by a judge that compares every two of them."""
    found: list[Picked | str | list[str]] = []
    for example in drawn:
        places = _whole(drawing.ruler, example)
        found.append(places if isinstance(places, str) else list(places))
    asked = [n for n, texts in enumerate(found) if isinstance(texts, list)]
    ends = best_and_worst(
        drawing.judge, [conversation_of(drawn[n]) for n in asked], [found[n] for n in asked]
    )
    for n, outcome in zip(asked, ends, strict=True):
        found[n] = outcome if isinstance(outcome, str) else Picked(*outcome)
    return found


def _first_two(ruler: Ruler, example: dict[str, Any]) -> Picked | str:
    places = _whole(ruler, example)
    return places if isinstance(places, str) else Picked(*list(places)[:2])


def _whole(ruler: Ruler, example: dict[str, Any]) -> dict[str, int] | str:
    """The different answers that came to their end, each with the place of its last drawing; or
    under which name of the tally the prompt is counted."""
    if example["before"] is None:
        return "tools"
    ended = {
        ruler.tokenizer.decode(ids, skip_special_tokens=True).strip(): place
        for place, ids in enumerate(example["response_ids"])
        if ids[-1] in ruler.ends
    }
    ended.pop("", None)
    return ended if len(ended) >= 2 else "unfinished"


def _row(drawing: Drawing, example: dict[str, Any], found: Picked) -> dict[str, Any]:
    """The pair as TRL writes conversations, or as dpo_lite.compare.ballots reads it."""
    if drawing.ballots:
        policy = Path(drawing.recipe.model.adapter or "").parent.name
        turns = {"prompt": example["prompt"], "conversation": conversation_of(example)}
        return {"policy": policy} | turns | {"answers": [found.best, found.worst]}
    rewards = {"rewards": found.rewards} if found.rewards else {}
    if drawing.recipe.data.raw:
        pair = {"chosen": found.best, "rejected": found.worst}
        return {"prompt": example["prompt"]} | pair | rewards
    return {
        "prompt": conversation_of(example),
        "chosen": [{"role": "assistant", "content": found.best}],
        "rejected": [{"role": "assistant", "content": found.worst}],
    } | rewards


def _settings(drawing: Drawing, margin: float) -> dict[str, Any]:
    """All that decides the lines."""
    recipe = drawing.recipe
    return {
        "base": recipe.model.base,
        "policy": recipe.model.adapter,
        "weights": files_hash([Path(recipe.model.adapter or "") / WEIGHTS]),
        "data": recipe.data.model_dump(mode="json", exclude_unset=True),
        "prompts": len(drawing.prompts),
        "first": drawing.first,
        "reward": recipe.ppo.model_dump(mode="json")["reward"],
        "answers": recipe.ppo.answers,
        "max_new_tokens": recipe.ppo.max_new_tokens,
        "margin": margin,
        "seed": recipe.train.seed,
    } | _judged_by(drawing)


def _judged_by(drawing: Drawing) -> dict[str, Any]:
    """What of the judge decides the lines, where one is asked."""
    section = drawing.recipe.judge
    if drawing.ballots:
        return {"by": "votes"}
    if drawing.judge is None and not any(one.is_judge for one in drawing.recipe.ppo.rewards):
        return {}
    keys = {"url", "model", "criteria", "max_tokens", "temperature", "body"}
    return {"judge": section.model_dump(mode="json", include=keys)} | (
        {"compared": True} if drawing.judge else {}
    )
