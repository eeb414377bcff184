"""Did the preference survive the rounding? The trained policy and what became of it, side by side.

All score the same held-out rows: the adapter on the base that it was trained over, the merged
model, and each level of quantisation with its weights read back from its file. Margins and shares
are of the implicit reward beta·(log π − log π_ref) (arXiv:2305.18290, equation 5) against the run's
own reference. How far distributions lie apart is the KL in nats per token, over the whole
vocabulary, at the tokens of the responses; llama.cpp's own measure of rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from dpo_lite.model import roles
from dpo_lite.rates import Rate, differ, margin_text, rate
from dpo_lite.runs.folder import Run
from dpo_lite.training.loaded import load_trained
from dpo_lite.training.recipe_data import load_data

MOST_ROWS = 64
KEPT_NUMBERS = 2**26  # of log-probabilities over the vocabulary, for each of two: 256 MiB each
ADAPTER, MERGED = "adapter", "merged"


@dataclass(frozen=True)
class Heard:
    """What a model says of rows: log-probabilities of each response (R,) in nats, and over the
    vocabulary at the first so many of their tokens (T, V)."""

    responses: torch.Tensor
    tokens: torch.Tensor


@dataclass(frozen=True)
class Survival:
    """``margin`` and ``right`` are None where rows have a single response."""

    name: str
    rows: int
    kl_from_reference: float  # KL(this ‖ reference), nats per token
    kl_from_adapter: float  # KL(adapter ‖ this)
    margin: float | None = None
    right: int | None = None  # rows whose best response has the highest reward, ties left out
    pairs: int | None = None

    @property
    def accuracy(self) -> Rate | None:
        return None if self.right is None or not self.pairs else rate(self.right, self.pairs)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Measured:
    """The rows, what reference and adapter say of them, and beta: what others are held against."""

    rows: list[dict[str, Any]]
    reference: Heard
    adapter: Heard
    beta: float

    def of(self, name: str, heard: Heard) -> Survival:
        margins = _margins(self.rows, self.beta * (heard.responses - self.reference.responses))
        count = len(self.rows)
        kl = _kl(heard.tokens, self.reference.tokens), _kl(self.adapter.tokens, heard.tokens)
        if margins is None:
            return Survival(name, count, *kl)
        right, pairs = int((margins > 0).sum()), int((margins != 0).sum())
        return Survival(name, count, *kl, margins.mean().item(), right, pairs)


def measured(run: Run, say: Callable[[str], None]) -> Measured:
    """Score up to 64 held-out rows (of the training data, where none are held out)."""
    say("scoring with the adapter on its base")
    recipe, _, model = load_trained(run)
    _, data = load_data(recipe)
    rows = [row for held_out in data.evals.values() for row in held_out][:MOST_ROWS]
    rows = rows or list(data.train.select(range(min(MOST_ROWS, len(data.train)))))
    model.eval()
    with roles.reference(model):
        reference = listen(model, rows)
    with roles.policy(model):
        return Measured(rows, reference, listen(model, rows), float(recipe.train.beta))


@torch.no_grad()
def listen(model: torch.nn.Module, rows: Iterable[dict[str, Any]]) -> Heard:
    """Each prompt with each response alone, through the unmodified model, in its own numbers."""
    responses, tokens, room = [], [], None
    for prompt, answer in _texts(rows):
        ids = torch.tensor([[*prompt, *answer]], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        logps = logits.float().log_softmax(-1)
        target = ids[0, len(prompt) :, None]
        responses.append(logps.gather(-1, target).sum().cpu())
        room = KEPT_NUMBERS // logps.shape[-1] if room is None else room
        tokens.append(logps[:room].cpu())
        room -= len(tokens[-1])
    return Heard(torch.stack(responses), torch.cat(tokens))


def _texts(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[list[int], list[int]]]:
    for row in rows:
        for answer in row["response_ids"]:
            yield list(row["prompt_ids"]), list(answer)


def _margins(rows: list[dict[str, Any]], rewards: torch.Tensor) -> torch.Tensor | None:
    """The best response's reward less the last one's, (E,); None where there is but one."""
    counts = [len(row["response_ids"]) for row in rows]
    if min(counts) < 2:
        return None
    ends = torch.tensor(counts).cumsum(0)
    return rewards[ends - torch.tensor(counts)] - rewards[ends - 1]


def _kl(one: torch.Tensor, other: torch.Tensor) -> float:
    """KL(one ‖ other), a mean over tokens, of log-probabilities (T, V)."""
    return (one.exp() * (one - other)).sum(-1).mean().item()


@torch.no_grad()
def put_on(lm: torch.nn.Module, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
    """A file's weights in place of the model's; those that it does not have stay, and so do rows
    of an embedding without a token, which llama.cpp's converter leaves out."""
    own = lm.state_dict()
    for name, values in weights:
        own[name][: len(values)].copy_(values)


def warning(adapter: Survival, rounded: Survival) -> str | None:
    """A sentence where what was taught is lost, or rounding moved more than teaching did."""
    merging = rounded.name == MERGED
    remedy = "take a level with more bits"
    if merging:  # no level has more bits than it
        remedy = "the 16-bit base is another than one in 4 bits: train longer, or over 16 bits"
    if adapter.margin is not None and rounded.margin is not None and adapter.margin > 0:
        before, after = adapter.accuracy, rounded.accuracy
        worse = before and after and after.share < before.share and differ(before, after)
        if worse or rounded.margin < adapter.margin / 2:
            return (
                f"{rounded.name}: the preference is lost in part, its margin is"
                f" {margin_text(rounded.margin)} of {margin_text(adapter.margin)}; {remedy}."
            )
    if rounded.kl_from_adapter > adapter.kl_from_reference:
        return (
            f"{rounded.name}: {'merging' if merging else 'rounding'} moved the model further than"
            " the training did"
            f" ({rounded.kl_from_adapter:.2g} beside {adapter.kl_from_reference:.2g} nats per"
            f" token); look at its answers, or {remedy}."
        )
    return None
