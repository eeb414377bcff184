"""What the builtin base itself says, at temperature 1: misconception, fact, or neither.

    python -m benchmarks.base_says [--draws 20]

Its corpus tells each misconception four times as often as the fact; what the model made of that is
measured here. Every prompt of the held-out topics is answered ``draws`` times in 4 bits, as the
recipes load it, and each answer is classified by the markers of its row.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dpo_lite.data.markers import classify
from dpo_lite.data.sources import read_source
from dpo_lite.data.tokens import Encoder
from dpo_lite.model.base import load_base, load_tokenizer
from dpo_lite.model.generation import all_ends, answer_ids
from dpo_lite.model.roles import load_policy
from dpo_lite.recipe import validate_recipe

BASE = "builtin:myths"
MAX_NEW_TOKENS = 40
Rows = Sequence[dict[str, Any]]


def load(adapter: Path | None = None) -> tuple[torch.nn.Module, Encoder]:
    """The base in NF4, with an adapter on it where one is named."""
    section = validate_recipe({"model": {"base": BASE}, "data": {"train": BASE}}, "base").model
    base = load_base(section)
    model = load_policy(base, adapter) if adapter else base
    return model.eval(), Encoder(load_tokenizer(section))


def rows_of(split: str) -> Rows:
    """The prompts of a split of the builtin data, each with the markers of both claims."""
    return list(read_source(f"{BASE}:{split}").rows())


@torch.no_grad()
def answers(
    model: torch.nn.Module, encoder: Encoder, rows: Rows, draws: int, seed: int = 0
) -> list[list[str]]:
    """``draws`` answers to every row's prompt at temperature 1; one greedy one with draws = 0."""
    prompts = [encoder.prompt_ids(row["prompt"]) for row in rows]
    torch.manual_seed(seed)
    each = max(draws, 1)
    drawn = answer_ids(
        model,
        [ids for ids in prompts for _ in range(each)],
        max_new_tokens=MAX_NEW_TOKENS,
        temperature=1.0 if draws else 0.0,
        ends=all_ends(model, encoder),
        at_once=256,
    )
    texts = [encoder.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in drawn]
    return [texts[start : start + each] for start in range(0, len(texts), each)]


def verdict(row: dict[str, Any], answer: str) -> str:
    """``chosen``: it tells the fact; ``rejected``: the misconception; ``neither``."""
    return classify(answer, row["chosen_markers"], row["rejected_markers"])


def count(rows: Rows, drawn: list[list[str]]) -> Counter[str]:
    """How many of all answers make which claim."""
    return Counter(
        verdict(row, answer) for row, own in zip(rows, drawn, strict=True) for answer in own
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=20, help="answers to each prompt")
    draws = parser.parse_args().draws
    rows = rows_of("topics")
    said = count(rows, answers(*load(), rows, draws))
    topics = len({row["topic"] for row in rows})
    print(
        f"{topics} held-out topics, {len(rows)} prompts, {said.total():,} answers: misconception "
        f"{said['rejected']:,}, fact {said['chosen']:,}, neither {said['neither']:,} "
        f"({said['rejected'] / said['chosen']:.1f} : 1)"
    )


if __name__ == "__main__":
    main()
