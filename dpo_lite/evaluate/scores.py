"""The rewards of a whole source: every response of every row, and what they say of its labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from dpo_lite.data.encoding import EncodedSource, encode_source, options_of, reading_of
from dpo_lite.data.lengths import lengths_of
from dpo_lite.data.sources import read_source
from dpo_lite.data.tokens import Encoder
from dpo_lite.errors import UserError
from dpo_lite.evaluate.judge import Judge, Say
from dpo_lite.files import json_text
from dpo_lite.judge.questions import conversation_of
from dpo_lite.memory.of_model import plan_run
from dpo_lite.model.base import position_limit
from dpo_lite.model.choosing import choose_way
from dpo_lite.model.scoring import causal_lm
from dpo_lite.rates import Rate
from dpo_lite.recipe import Recipe
from dpo_lite.training.reference_cache import open_cache

AT_ONCE = 1024  # rows whose ids are in memory


@dataclass(frozen=True)
class Scores:
    """Rewards of a source's rows: ``rewards`` and ``lengths`` hold an array of (K,) per row."""

    judge: Judge
    source: EncodedSource
    fitting: np.ndarray  # places in the source's table
    rewards: list[np.ndarray]
    lengths: list[np.ndarray]
    too_long: int

    @property
    def dropped(self) -> dict[str, int]:
        """Rows that were not scored, by reason."""
        reasons = Counter(drop.reason.value for drop in self.source.dropped)
        return dict(reasons) | ({"longer than the limit": self.too_long} if self.too_long else {})

    def margins(self) -> np.ndarray:
        """Reward of the better minus the worse response, of every two of a row: (P,)."""
        pairs = [a - b for row in self.rewards for a, b in combinations(row.tolist(), 2)]
        return np.array(pairs, dtype=np.float64)

    def accuracy(self) -> Rate | None:
        """Share of pairs that are ranked as the data rank them, as sure as its rows make it.

        Ties are left out. The pairs of a ranking hang together, so a row counts once.
        """
        return _by_row(
            [a > b for a, b in combinations(row.tolist(), 2) if a != b] for row in self.rewards
        )

    def longer_wins(self) -> Rate | None:
        """Share of pairs of unequal length whose longer response has the higher reward."""
        return _by_row(
            [
                (length_a > length_b) == (a > b)
                for (a, length_a), (b, length_b) in combinations(
                    zip(rewards, lengths, strict=True), 2
                )
                if length_a != length_b and a != b
            ]
            for rewards, lengths in zip(self.rewards, self.lengths, strict=True)
        )

    def records(self, places: Sequence[int] | None = None) -> Iterator[dict[str, Any]]:
        """Rows as data that can be trained on: all turns of the prompt (a text where it is one
        question), responses, scores."""
        decode = self.judge.tokenizer.decode
        for place in range(len(self.fitting)) if places is None else places:
            row = self.source.table[int(self.fitting[place])]
            yield {
                "row": row["row"],
                "prompt": conversation_of(row) if row["before"] else row["prompt"],
                "responses": [
                    decode(ids, skip_special_tokens=True).strip() for ids in row["response_ids"]
                ],
                "scores": [round(reward, 5) for reward in self.rewards[place].tolist()],
                "tokens": self.lengths[place].tolist(),
            }

    def doubted(self, most: int) -> list[dict[str, Any]]:
        """Pairs whose label the judge doubts most: its margin is the most negative."""
        gaps = np.array([row[0] - row[-1] for row in self.rewards])
        worst = [int(i) for i in np.argsort(gaps, kind="stable")[:most] if gaps[i] < 0]
        return list(self.records(worst))

    def write(self, path: Path) -> int:
        """One JSON object a line, in the order of the source; returns how many there are.

        A row that names tools is none: such a line has no place for them.
        """
        earlier = self.source.table["before"]
        places = [n for n, place in enumerate(self.fitting) if earlier[int(place)] is not None]
        try:
            with open(path, "w", encoding="utf-8") as file:
                for record in self.records(places):
                    file.write(json_text(record) + "\n")
        except OSError as error:
            raise UserError(f"--out: {path} cannot be written ({error.strerror}).") from error
        return len(places)


def _by_row(rows: Iterable[list[bool]]) -> Rate | None:
    """The share of all pairs that are true, of as many trials as there are rows with a pair."""
    filled = [row for row in rows if row]
    pairs = [right for row in filled for right in row]
    return Rate(sum(pairs) / len(pairs), len(filled)) if pairs else None


def encode_rows(recipe: Recipe, encoder: Encoder, say: Say) -> EncodedSource:
    """The recipe's one source as ids, every response of a row, nothing held out or thinned."""
    (part,) = recipe.data.sources
    section = recipe.data
    options = replace(options_of(section, part), pairs="keep")
    source = read_source(part.source, section.revision, reading_of(section))
    return encode_source(source, options, encoder, say)


def score_source(
    judge: Judge,
    source: EncodedSource,
    say: Say = lambda text: None,
    progress: Callable[[int], None] = lambda count: None,
) -> Scores:
    """The reward of every response, by packed rows and the kept reference numbers."""
    recipe, model = judge.recipe, judge.model
    lengths = lengths_of(source.table.data)
    limit = position_limit(causal_lm(model).config) or np.iinfo(np.int64).max
    if recipe.data.max_length != "auto":
        limit = min(limit, recipe.data.max_length)
    fitting = np.flatnonzero(lengths.whole <= limit)
    if not len(fitting):
        reasons = Counter(drop.reason.value for drop in source.dropped).most_common(1)
        why = reasons[0][0] if reasons else f"all are longer than {limit:,} tokens"
        raise UserError(f"No row of {source.name} can be scored: {why}.")
    few = [source.table[int(place)] for place in fitting[:3]]
    way = choose_way(model, few).way
    objective = judge.objective(way)
    tokens = lengths.select(fitting).of_batch(shared=way == "forest")
    budget = plan_run(model, recipe, few, way, tokens).budget
    references = open_cache(recipe, model, objective, say)
    model.eval()
    rewards, counts = [], []
    for start in range(0, len(fitting), AT_ONCE):
        rows = source.table.select(fitting[start : start + AT_ONCE]).to_list()
        rewards += judge.rewards(rows, objective, budget, references, progress)
        counts += [np.array([len(ids) for ids in row["response_ids"]]) for row in rows]
    return Scores(judge, source, fitting, rewards, counts, len(lengths.whole) - len(fitting))
