"""Choose the way to score: the fastest one that is right for this model, on these examples.

Two nets, since each sees what the other cannot. The verdict on the architecture is made in fp32 on
a small copy (dpo_lite.model.forest_verdict), where a wrong forest is off by a hundred times what
rounding explains; so a model with layers that cannot run over packed rows, with ALiBi positions or
with an unknown head trains correctly, only slower, and the user is told. Then the loaded model, in
its own dtype, scores real examples in every way that is left: against the truth (each response
alone through the unmodified model), and packed rows also against themselves, with other tokens in
every branch but one, whose scores must stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from dpo_lite.data.packing import Batch, Encoded, pad
from dpo_lite.errors import UserError
from dpo_lite.model.device_memory import until_it_fits
from dpo_lite.model.forest import open_forest
from dpo_lite.model.forest_verdict import forest_verdict
from dpo_lite.model.logprobs import frozen_head
from dpo_lite.model.precision import dtype_of, to_fp32
from dpo_lite.model.scoring import Way, causal_lm, lay_out, response_token_logps, shortened

# Mean difference per token that rounding alone explains.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}

SHORTEST = 64  # tokens of a prompt or response, below which nothing would be tried
PLENTY = 256  # on a card no more are tried where whole examples together outgrow one of them

WORDS = {
    "forest": "packed rows, each prompt computed once",
    "separate": "every response in a row of its own",
    "plain": "every response in a row of its own, with the model's own logits",
}


class Inexact(UserError):
    """No way is right in the numbers that the model computes in."""


@dataclass(frozen=True)
class ScoringChoice:
    way: Way
    reason: str  # why, in words for the user
    difference: float  # mean |log-probability - truth| per token


def choose_way(model: torch.nn.Module, examples: Sequence[Encoded]) -> ScoringChoice:
    """Pick the fastest way whose scores equal the truth on ``examples`` (two or three will do).

    Nothing is planned yet, so on a card they are cut until all of them together are no longer than
    one, which has to fit in any case, and cut again where memory runs out. A model in fp16 whose
    numbers that does not hold is turned to fp32. Raises UserError where no part fits, or no way is
    right.
    """
    try:
        return _fitting(model, examples)
    except Inexact:
        if dtype_of(model) != torch.float16:
            raise
    to_fp32(model)
    choice = _fitting(model, examples)
    return replace(choice, reason=f"in fp32, as fp16 does not hold its numbers; {choice.reason}")


def _fitting(model: torch.nn.Module, examples: Sequence[Encoded]) -> ScoringChoice:
    length = max(len(ids) for e in examples for ids in [e["prompt_ids"], *e["response_ids"]])
    if model.device.type == "cuda":
        length = min(length, max(length // len(examples), PLENTY))

    def shorter(error: torch.OutOfMemoryError) -> None:
        nonlocal length
        if length <= SHORTEST:
            raise UserError(
                f"There is no room on the GPU to score {SHORTEST} tokens beside the model's "
                "weights; take a smaller base, or free the card of other programs."
            ) from error
        length = max(length // 2, SHORTEST)

    return until_it_fits(lambda: _choose(model, shortened(examples, length)), shorter)


def _choose(model: torch.nn.Module, examples: Sequence[Encoded]) -> ScoringChoice:
    lm = causal_lm(model)
    kind = lm.config.get_text_config().model_type
    truth = true_token_logps(model, examples)
    if not truth.isfinite().all():
        raise Inexact(
            f"The log-probabilities of {kind} in {lm.dtype} are not finite, so nothing can be "
            "learned from them; please report this model."
        )
    ways: list[Way] = ["plain"]
    reason = ""
    if frozen_head(lm) is not None:
        ways.insert(0, "separate")
        verdict = forest_verdict(lm.config, lm)
        if verdict.fits:
            ways.insert(0, "forest")
        else:
            reason = f"{kind} cannot go into packed rows: {verdict.reason}; "
    for way in ways:
        difference = difference_from_truth(model, examples, way, truth)
        if not difference <= TOLERANCE[lm.dtype]:
            reason += f"{way} rows differ from separate scoring by {difference:.1e} per token; "
        elif way == "forest" and not (moved := leak(model, examples)) <= leak_limit(lm):
            reason += f"in packed rows other answers move a score by {moved:.1e} per token; "
        else:
            return ScoringChoice(way, reason + WORDS[way], difference)
    raise Inexact(
        f"The scores of {kind} differ between single and batched rows ({reason.rstrip('; ')}), so "
        "training on them would be wrong; please report this model."
    )


@torch.no_grad()
def true_token_logps(model: torch.nn.Module, examples: Sequence[Encoded]) -> torch.Tensor:
    """The slow truth: every prompt + response alone through the unmodified model, shape (N,)."""
    device = model.device
    parts = []
    for example in examples:
        for answer in example["response_ids"]:
            alone = pad([{"prompt_ids": example["prompt_ids"], "response_ids": [answer]}])
            parts.append(response_token_logps(model, alone.to(device), "plain"))
    return torch.cat(parts)


@torch.no_grad()
def difference_from_truth(
    model: torch.nn.Module, examples: Sequence[Encoded], way: Way, truth: torch.Tensor
) -> float:
    """Mean |log-probability - truth| per token of one way on these examples."""
    logps = _packed_logps(model, lay_out(examples, way).to(truth.device), way)
    return (logps - truth).abs().mean().item()


@torch.no_grad()
def leak(model: torch.nn.Module, examples: Sequence[Encoded]) -> float:
    """How far other tokens everywhere else move the scores of the first and of the last branch.

    The mean per token, the larger of the two. The row keeps its shape, so every product comes out
    bit by bit as before: rounding does not hide a leak here, as it does beside the truth.
    """
    batch = lay_out(examples, "forest").to(model.device)
    before = _packed_logps(model, batch, "forest")
    moved = []
    for tree, number in ((0, 0), (-1, -1)):
        other, kept = _others_changed(batch, tree, number)
        after = _packed_logps(model, other, "forest")
        moved.append((after - before)[kept].abs().mean().item())
    return max(moved)


def leak_limit(lm: torch.nn.Module) -> float:
    """On a CPU nothing moves, experts or not. On a card experts may: they get other tokens when
    other rows change, so their products have other shapes and round otherwise."""
    routed = any(name.endswith("experts") for name, _ in lm.named_modules())
    return TOLERANCE[lm.dtype] * (0.1 if routed else 0.01)


def _others_changed(batch: Batch, tree: int, number: int) -> tuple[Batch, torch.Tensor]:
    """The batch with other tokens outside of one branch, and which scored tokens (N,) are in it."""
    where = batch.trees[tree]
    responses = range(len(where.responses))
    start = where.start + where.prompt + sum(where.responses[: responses[number]])
    outside = torch.ones(batch.input_ids.shape[1], dtype=torch.bool, device=batch.input_ids.device)
    outside[where.start : where.start + where.prompt] = False
    outside[start : start + where.responses[number]] = False
    ids = batch.input_ids.clone()
    ids[0, outside] += torch.where(ids[0, outside] < ids.max(), 1, -1)
    trees = range(len(batch.trees))
    which = sum(batch.group_sizes[: trees[tree]]) + responses[number]
    changed = batch.to(ids.device)
    changed.input_ids = ids
    return changed, batch.response == which


def _packed_logps(model: torch.nn.Module, batch: Batch, way: Way) -> torch.Tensor:
    with open_forest(causal_lm(model), batch):
        return response_token_logps(model, batch, way)
