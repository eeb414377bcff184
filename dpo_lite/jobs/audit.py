"""The audit of a recipe's pairs: what trivial features say of its labels, and which are doubted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpo_lite.data.decisions import check_new_file, columns_of, read_one_source, write_rows
from dpo_lite.data.doubts import Doubts, doubts
from dpo_lite.data.flips import turned
from dpo_lite.data.formats import FORMATS
from dpo_lite.data.linear import FOLDS
from dpo_lite.data.prepare import PreparedData
from dpo_lite.data.shortcuts import Shortcut, TextPair, shortcuts
from dpo_lite.data.sources import Source
from dpo_lite.data.tokens import encoder_of
from dpo_lite.errors import UserError
from dpo_lite.recipe import Recipe
from dpo_lite.report.audit import audit_words, why_words

FEWEST_PROMPTS = 10 * FOLDS  # with fewer a fold is a handful
SHOWN = 10
MOST_REVIEWED = 1000  # rows of a review, the most doubted ones
DROPPING = "--drop-doubtful"


@dataclass(frozen=True)
class Audit:
    """What came of the ``pairs`` that are trained on: see Shortcut and Doubts."""

    pairs: list[TextPair]
    shortcuts: list[Shortcut]
    doubts: Doubts

    @property
    def rows(self) -> list[int]:
        """Numbers of the rows with a doubted pair, each once, the most doubted first."""
        return list(dict.fromkeys(self.pairs[place].row for place in self.doubts.doubtful))

    def doubted(self, most: int = SHOWN) -> list[dict[str, Any]]:
        """The most doubted pairs, with the probability that the label is the other way round."""
        return [
            {
                "row": self.pairs[place].row,
                "other_way": round(float(1 - self.doubts.right[place]), 3),
                "prompt": self.pairs[place].prompt,
                "chosen": self.pairs[place].chosen,
                "rejected": self.pairs[place].rejected,
            }
            for place in self.doubts.doubtful[:most]
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "pairs": len(self.pairs),
            "shortcuts": [shortcut.to_json() for shortcut in self.shortcuts],
            "doubts": self.doubts.to_json() | {"rows": self.rows},
        }


def audit(
    recipe: Recipe,
    tokenizer: Any | None,
    data: PreparedData,
    say: Callable[[str], None] = lambda text: None,
) -> Audit:
    """Audit what is trained on; of a ranking its best and its worst answer.

    Raises UserError where the data hold no pairs, or too few prompts.
    """
    if data.report.responses["fewest"] < 2:
        raise UserError(
            "--audit looks at pairs, and these data hold single responses or prompts alone; name"
            " data of which the better of two answers is known."
        )
    say("reading the answers")
    pairs = _texts(recipe, tokenizer, data)
    prompts = len({pair.group for pair in pairs})
    if prompts < FEWEST_PROMPTS:
        raise UserError(
            f"--audit learns from some prompts and asks others, and {prompts} are too few for that;"
            f" it takes at least {FEWEST_PROMPTS}."
        )
    say("trying trivial features")
    found = shortcuts(pairs)
    say("looking for doubtful labels")
    return Audit(pairs, found, doubts(pairs))


def _texts(recipe: Recipe, tokenizer: Any | None, data: PreparedData) -> list[TextPair]:
    encoder = encoder_of(None, recipe.data)

    def decode(ids: list[int]) -> str:
        if tokenizer is None:
            return encoder.decode(ids).strip()
        return tokenizer.decode(ids, skip_special_tokens=True).strip()

    return [
        TextPair(
            row["prompt"],
            decode(row["response_ids"][0]),
            decode(row["response_ids"][-1]),
            row["row"],
            tuple(row["prompt_ids"]),
        )
        for row in data.train
    ]


def drop_doubtful(recipe: Recipe, found: Audit, form: str, out: Path) -> dict[str, Any]:
    """Write the source's rows without those of ``found.rows``, and beside the file what was done.

    ``form``: the name of the format it was recognised as. Returns what stands beside it. Raises
    UserError where a pair is made of two rows, or where there is no model to doubt by.
    """
    check_new_file(len(recipe.data.sources), out, DROPPING)
    refuse_grouped(form, DROPPING)
    if not found.doubts.told:
        raise UserError(
            f"{DROPPING}: the small model cannot tell chosen from rejected in these data, so"
            " it has no say in which labels are wrong; nothing was written."
        )
    dropped = set(found.rows)
    by = found.to_json()["doubts"] | {"rows": len(dropped)}
    more = {"threshold": found.doubts.threshold, "by": by}
    return write_rows(recipe.data, form, out, dropped, more=more)


def refuse_grouped(form: str, what: str) -> None:
    """Raise UserError where it takes two rows to make a pair. ``what`` is wanted of it."""
    if any(one.grouped for one in FORMATS if one.name == form):
        raise UserError(
            f"{what}: in the format {form} a pair is made of two rows, and which of them"
            " is wrong is not known; look at the list."
        )


def review_of(recipe: Recipe, found: Audit, data: PreparedData) -> dict[str, Any]:
    """All that a review of the doubted rows needs, as JSON can say it: see data/reviews.py.

    A row of several doubted pairs is there once. Raises UserError as ``drop_doubtful`` does, but
    not where no label is doubted.
    """
    form = data.report.format
    refuse_grouped(form, "Audit")
    places = found.doubts.doubtful
    first: dict[int, int] = {}
    for order, place in enumerate(places):
        first.setdefault(found.pairs[place].row, order)
    kept = list(first.values())[:MOST_REVIEWED]
    source = read_one_source(recipe.data)
    columns = columns_of(source, recipe.data)
    faults = _not_turned(source, {found.pairs[places[order]].row for order in kept}, columns, form)
    return {
        "content": source.key,
        "section": recipe.data.model_dump(mode="json", exclude_unset=True),
        "form": form,
        "pairs": len(found.pairs),
        "shortcuts": [shortcut.to_json() for shortcut in found.shortcuts],
        "words": audit_words(found.shortcuts, found.doubts, len(found.pairs)),
        "rows": len(first),
        "doubtful": [_doubted(found, data, order, faults) for order in kept],
    }


def _not_turned(
    source: Source, wanted: set[int], columns: Mapping[str, str] | None, form: str
) -> dict[int, str]:
    """Why a row's label cannot be turned round, of those in which it cannot."""
    faults = {}
    for number, row in enumerate(source.rows()):
        if number in wanted:
            try:
                turned(row, number, form, columns)
            except UserError as error:
                faults[number] = str(error)
    return faults


def _doubted(
    found: Audit, data: PreparedData, order: int, faults: Mapping[int, str]
) -> dict[str, Any]:
    place = found.doubts.doubtful[order]
    pair, row = found.pairs[place], data.train[place]
    earlier = json.loads(row["before"]) if row["before"] else []
    other_way = float(1 - found.doubts.right[place])
    return {
        "row": pair.row,
        "other_way": round(other_way, 3),
        "turns": [[turn["role"], turn["content"]] for turn in earlier] + [["user", pair.prompt]],
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "why": why_words(other_way, found.doubts.reasons[order]),
        "no_flip": faults.get(pair.row, ""),
    }
