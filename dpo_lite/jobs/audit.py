"""The audit of a recipe's pairs: what trivial features say of its labels, and which are doubted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from dpo_lite.data.doubts import Doubts, doubts
from dpo_lite.data.formats import FORMATS
from dpo_lite.data.linear import FOLDS
from dpo_lite.data.prepare import PreparedData
from dpo_lite.data.shortcuts import Shortcut, TextPair, shortcuts
from dpo_lite.data.sources import read_source
from dpo_lite.data.tokens import encoder_of
from dpo_lite.errors import UserError, disk_faults_told
from dpo_lite.files import replaced, write_json
from dpo_lite.recipe import Recipe

FEWEST_PROMPTS = 10 * FOLDS  # with fewer a fold is a handful
SHOWN = 10


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


def check_droppable(recipe: Recipe, out: Path) -> None:
    """Raise UserError where rows cannot be told by their number, or the file cannot be."""
    if len(recipe.data.sources) != 1:
        raise UserError("--drop-doubtful writes the rows of one source; name one in data.train.")
    if out.suffix != ".jsonl":
        raise UserError(f"--drop-doubtful: {out} is written as JSON lines; end its name in .jsonl.")
    if out.exists():
        raise UserError(f"--drop-doubtful: {out} exists; choose another name or remove it first.")
    if not out.parent.is_dir():
        raise UserError(f"--drop-doubtful: there is no folder {out.parent}; make it first.")


def drop_doubtful(recipe: Recipe, found: Audit, form: str, out: Path) -> dict[str, Any]:
    """Write the source's rows without those of ``found.rows``, and beside the file what was done.

    ``form``: the name of the format it was recognised as. Rows that are held out, or that the
    doctor leaves out anyway, are written as they are. Returns what stands beside it. Raises
    UserError where a pair is made of two rows, or where there is no model to doubt by.
    """
    check_droppable(recipe, out)
    if any(one.grouped for one in FORMATS if one.name == form):
        raise UserError(
            f"--drop-doubtful: in the format {form} a pair is made of two rows, and which of them"
            " is wrong is not known; look at the list."
        )
    if not found.doubts.told:
        raise UserError(
            "--drop-doubtful: the small model cannot tell chosen from rejected in these data, so"
            " it has no say in which labels are wrong; nothing was written."
        )
    (part,) = recipe.data.sources
    source, dropped, kept = read_source(part.source, recipe.data.revision), set(found.rows), 0
    with (
        disk_faults_told(),
        replaced(out) as partial,
        open(partial, "w", encoding="utf-8") as file,
    ):
        for number, row in enumerate(islice(source.rows(), recipe.data.limit)):
            if number not in dropped:
                kept += 1
                file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    facts = {
        "parent": source.name,
        "parent_content": source.key,
        "rows": kept + len(dropped),
        "kept": kept,
        "dropped": len(dropped),
        "dropped_rows": sorted(dropped),
        "threshold": found.doubts.threshold,
        "by": found.to_json()["doubts"] | {"rows": len(dropped)},
    }
    with disk_faults_told():
        write_json(out.with_name(out.name + ".json"), facts)
    return facts
