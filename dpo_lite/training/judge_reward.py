"""A language model's score of an answer, from 0 to 1, as its reward."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from dpo_lite.errors import UserError
from dpo_lite.judge.client import Reply
from dpo_lite.judge.questions import BEST, conversation_of, read_score, score_question
from dpo_lite.judge.replies import ask, keep, open_judge, question_key
from dpo_lite.recipe import JudgeSection, Recipe

Say = Callable[[str], None]
TRIED = [{"role": "user", "content": "How many legs has a spider?"}]


def scorer(
    section: JudgeSection,
    decode: Callable[[Sequence[int]], str],
    replies: Path | None,
    say: Say = lambda text: None,
) -> Callable[[Sequence[dict[str, Any]], int], torch.Tensor]:
    """What scores all answers of examples, in their order: (A,), NaN where a reply held no score.

    ``replies``: the file that they are kept in, if any.
    """
    judge = open_judge(section, replies, say)

    def scores(examples: Sequence[dict[str, Any]], budget: int) -> torch.Tensor:
        questions = [
            score_question(section.criteria, conversation_of(example), decode(ids).strip())
            for example in examples
            for ids in example["response_ids"]
        ]
        read = [one.read for one in ask(judge, questions, read_score)]
        if all(value is None for value in read):  # of one answer, or of answers that are all alike
            raise UserError(f"The judge {judge.words} gave no score; look at judge.max_tokens.")
        return torch.tensor([math.nan if value is None else value for value in read])

    return scores


_tried: dict[str, Reply] = {}  # before there was a run to keep it


def keep_tried(recipe: Recipe, replies: Path) -> None:
    """Keep what the judge said when it was tried, where the run keeps its replies."""
    if not any(one.is_judge for one in recipe.ppo.rewards):
        return
    question = score_question(recipe.judge.criteria, TRIED, "Eight.")
    key = question_key(recipe.judge, question)
    judge = open_judge(recipe.judge, replies)
    if key in _tried and key not in judge.known:
        keep(judge, key, question, _tried[key], read_score(_tried[key].text))


def try_judge(recipe: Recipe, replies: Path | None = None) -> None:
    """Ask one question, before the base is loaded, where the recipe is rewarded by a judge.

    ``replies``: where the run keeps what its judge said, of one that is there by now; it is not
    asked again then. Raises UserError where there is no reply, or no score in it.
    """
    if not any(one.is_judge for one in recipe.ppo.rewards):
        return
    judge = open_judge(recipe.judge, replies)
    (found,) = ask(judge, [score_question(recipe.judge.criteria, TRIED, "Eight.")], read_score)
    _tried[found.key] = found.reply
    if found.read is None:
        said = " ".join(found.reply.text.split())[:160]
        raise UserError(
            f"The judge {judge.words} was asked for a score from 0 to {BEST} and replied '{said}';"
            " raise judge.max_tokens, or take another judge."
        )
