"""What a training forgot: how likely the base's own ground still is, before and after.

The ground is text that the preferences are not about: a file that the user names, the builtin
world's own text, or wikitext as lm-evaluation-harness has it. Its perplexity rises where the policy
has moved away from what the base knew; held-out answers cannot show that.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dpo_lite.bounded import MAX_COUNT
from dpo_lite.errors import UserError
from dpo_lite.evaluate.continuations import Ids, Pair, Scorer
from dpo_lite.evaluate.paired import perplexity, perplexity_change
from dpo_lite.model import roles
from dpo_lite.model.base import BUILTIN, base_location
from dpo_lite.runs.progress import Bar

FORGETTING = "forgetting"
WIKITEXT = "wikitext"  # the harness's task of that name
WINDOW = 1024  # tokens; longer paragraphs are scored in parts, each behind one token


def ground_of(name: str, base: str) -> Path | None:
    """The text of ``forgetting`` or ``forgetting:FILE``; None where it is the harness's wikitext.

    Raises UserError where the file is not there.
    """
    file = name.partition(":")[2]
    if file:
        if not Path(file).is_file():
            raise UserError(f"{name}: there is no file {file}; name one of plain text.")
        return Path(file)
    if not base.startswith(BUILTIN):
        return None
    return Path(base_location(base)) / "ground.txt"


def paragraphs(file: Path, limit: int | None = None) -> list[str]:
    """The text between blank lines, the first ``limit`` of them."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as UTF-8 text ({error}).") from error
    found = [part.strip("\n") for part in text.replace("\r\n", "\n").split("\n\n")]
    found = [part for part in found if part.strip()][: limit or MAX_COUNT]
    if len(found) < 2:
        raise UserError(f"{file} holds no two paragraphs; name a text with blank lines between.")
    return found


def windows(ids: Ids, prefix: int, most: int) -> list[Pair]:
    """Parts of at most ``most`` tokens, each behind the token before it."""
    whole = [prefix, *ids]
    starts = range(1, len(whole), most)
    return [(whole[start - 1 : start], whole[start : start + most]) for start in starts]


def measure_forgetting(
    model: torch.nn.Module, tokenizer: Any, texts: Sequence[str], limit: int | None, bar: Bar
) -> dict[str, Any]:
    """Perplexity per token of the texts under both roles; an entry as evaluate_task gives it.

    ``limit``: positions of the base, None for no limit.
    """
    started = time.monotonic()
    begin = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    most = min(WINDOW, (limit or WINDOW + 1) - 1)
    encoded = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    pairs = [(number, w) for number, ids in enumerate(encoded) for w in windows(ids, begin, most)]
    scorer, items = Scorer(model.eval()), {}
    for role, worn in (("reference", roles.reference), ("policy", roles.policy)):
        advance = bar(f"{FORGETTING}, {role}", len(pairs))
        sums = [0.0] * len(texts)
        with worn(model):
            scores = scorer([pair for _, pair in pairs], advance)
        for (number, _), (logp, _) in zip(pairs, scores, strict=True):
            sums[number] += logp
        items[role] = [(logp, len(ids)) for logp, ids in zip(sums, encoded, strict=True) if ids]
    values = (perplexity(items["reference"]), perplexity(items["policy"]))
    row: dict[str, Any] = {
        "task": FORGETTING,
        "metric": "perplexity",
        "filter": "none",
        "higher": False,
        "n": len(items["policy"]),
        "reference": {"value": values[0], "stderr": None},
        "policy": {"value": values[1], "stderr": None},
    }
    if found := perplexity_change(items["reference"], items["policy"], values):
        row["log_ratio"] = {"value": found[0], "stderr": found[1]}
    return {
        "chat": False,
        "tasks": {FORGETTING: {"version": 1, "fewshot": None, "dataset": None}},
        "groups": {},
        "rows": [row],
        "notes": [f"Of {sum(map(len, encoded)):,} tokens in {len(texts):,} paragraphs."],
        "seconds": time.monotonic() - started,
    }
