"""What merging did to the log-probabilities: the adapter on the trained base against the merged.

The adapter was trained over a base in 4 bits. Merged into 16 bits it stands on other weights, so
its scores move a little; how much is measured here on held-out rows, not promised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.model.choosing import true_token_logps
from dpo_lite.model.device_memory import release
from dpo_lite.model.precision import as_it_was_trained
from dpo_lite.rates import Rate
from dpo_lite.recipe import ModelSection
from dpo_lite.runs.folder import Run
from dpo_lite.training.loaded import load_trained
from dpo_lite.training.recipe_data import load_data


@dataclass(frozen=True)
class Change:
    """Means over responses of held-out rows; log-probabilities in nats."""

    rows: int
    responses: int
    per_token: float  # mean |difference| of a token's log-probability
    per_response: float  # mean difference of a response's, signed: below 0 it became less likely
    prefers_chosen_before: float  # share of rows whose chosen response is the likelier one
    prefers_chosen_after: float

    def lines(self) -> list[str]:
        shares = (self.prefers_chosen_before, self.prefers_chosen_after)
        before, after = (Rate(share, self.rows).cell() for share in shares)
        return [
            f"log-probabilities, adapter on its base → merged, {self.rows} held-out rows:",
            f"  per token     {self.per_token:.4f} nats apart on average",
            f"  per response  {self.per_response:+.3f} nats on average",
            f"  chosen likelier than rejected  {before} → {after}",
        ]

    def to_json(self) -> dict:
        return asdict(self)


def measure_change(
    run: Run, merged: Path, most_rows: int = 32, say: Callable[[str], None] = lambda text: None
) -> Change:
    """Score held-out rows with both models, one after the other in memory."""
    say("scoring with the adapter on its base")
    recipe, _, model = load_trained(run)
    _, data = load_data(recipe)
    rows = [row for held_out in data.evals.values() for row in held_out][:most_rows]
    rows = rows or list(data.train.select(range(min(most_rows, len(data.train)))))
    with roles.policy(model):
        before = true_token_logps(model.eval(), rows).cpu()
    del model
    release()
    say("scoring with the merged model")
    section = ModelSection(
        base=str(merged.resolve()),
        quantization="none",
        trust_remote_code=recipe.model.trust_remote_code,
    )
    whole = load_base(section).eval()
    as_it_was_trained(whole, run.adapter)
    after = true_token_logps(whole, rows).cpu()
    return compared(rows, before, after)


def compared(rows: list[dict], before: torch.Tensor, after: torch.Tensor) -> Change:
    """``before`` and ``after``: log-probabilities of all response tokens in order, (N,)."""
    lengths = [len(answer) for row in rows for answer in row["response_ids"]]
    sums = [torch.stack([part.sum() for part in t.split(lengths)]) for t in (before, after)]
    firsts, start = [], 0
    for row in rows:
        firsts.append((start, start + len(row["response_ids"]) - 1))
        start += len(row["response_ids"])
    shares = [
        sum(bool(total[best] > total[worst]) for best, worst in firsts) / len(rows)
        for total in sums
    ]
    return Change(
        rows=len(rows),
        responses=len(lengths),
        per_token=(after - before).abs().mean().item(),
        per_response=(sums[1] - sums[0]).mean().item(),
        prefers_chosen_before=shares[0],
        prefers_chosen_after=shares[1],
    )
