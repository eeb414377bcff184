"""Score responses: log pi(y | x) for every response of a batch, by the fastest way that is right.

Three ways, each a layout with a head:

    forest    packed rows, shared prompts, frozen head      exact for attention-only models
    separate  padded rows, frozen head                      any causal model with a plain head
    plain     padded rows, the model's own logits           any causal model at all

``choose_way`` compares them on real examples with the truth (each response alone through the
unmodified model) and takes the first that agrees. So a model with recurrent layers, with ALiBi
positions or with an unknown head trains correctly, only slower, and the user is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch

from dpo_lite.data.packing import Batch, Encoded, pack, pad, split_by_tokens, tree_tokens
from dpo_lite.errors import UserError
from dpo_lite.model.attention import FOREST_MODELS, forest_attention
from dpo_lite.model.layers import decoder_of
from dpo_lite.model.logprobs import frozen_head, sum_by_response, token_logps

Way = Literal["forest", "separate", "plain"]

SCALAR_HEAD = "score"  # as transformers names it in models for sequence classification

# Mean difference per token that rounding alone explains: a wrong mask moves it by 1e-2 and more.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 5e-3}


@dataclass(frozen=True)
class ScoringChoice:
    way: Way
    reason: str  # why, in words for the user
    difference: float  # mean |log-probability - truth| per token


def causal_lm(model: torch.nn.Module) -> torch.nn.Module:
    """The transformers model inside a PEFT model, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def lay_out(examples: Sequence[Encoded], way: Way) -> Batch:
    return pack(examples) if way == "forest" else pad(examples)


def micro_batches(examples: Sequence[Encoded], way: Way, budget: int) -> list[list[int]]:
    """Places of the examples in batches of at most ``budget`` tokens."""
    return split_by_tokens([batch_tokens(example, way) for example in examples], budget)


def batch_tokens(example: Encoded, way: Way) -> int:
    """Tokens that an example takes in a batch of this way (padding left out)."""
    shared = tree_tokens(example)
    if way == "forest":
        return shared
    return shared + (len(example["response_ids"]) - 1) * len(example["prompt_ids"])


@contextmanager
def scoring_context(
    model: torch.nn.Module, batch: Batch, dtype: torch.dtype, fuse: bool | None = None
) -> Iterator[None]:
    """Where a batch is scored: attention over its trees, computing in ``dtype``.

    Stay inside until the backward pass is over. ``fuse`` as in ``forest_attention``.
    """
    kind = batch.input_ids.device.type
    with (
        forest_attention(causal_lm(model), batch, fuse),
        torch.autocast(kind, dtype, enabled=dtype != torch.float32),
    ):
        yield


def response_logps(model: torch.nn.Module, batch: Batch, way: Way) -> torch.Tensor:
    """Sum of token log-probabilities of each response, shape (R,), fp32.

    Runs under whatever role the model wears, inside ``scoring_context(...)``.
    """
    logps = response_token_logps(model, batch, way)
    return sum_by_response(logps, batch.response, sum(batch.group_sizes))


def response_token_logps(model: torch.nn.Module, batch: Batch, way: Way) -> torch.Tensor:
    """Log-probability of each scored token, shape (N,), fp32."""
    lm = causal_lm(model)
    if way == "plain":
        logits = lm(**_inputs(batch)).logits.flatten(0, 1)[batch.source].float()
        return logits.log_softmax(-1).gather(-1, batch.target[:, None]).squeeze(-1)
    head = frozen_head(lm)
    assert head is not None  # else the way is plain
    return token_logps(_hidden(lm, batch)[batch.source], batch.target, head)


def response_scores(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """What the scalar head of the role that the model wears says at each last token: (R,), fp32."""
    return _scalars(model, batch, batch.ends)


def token_values(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """The same before each scored token, where its prompt and the tokens so far are known: (N,)."""
    return _scalars(model, batch, batch.source)


def _scalars(model: torch.nn.Module, batch: Batch, places: torch.Tensor) -> torch.Tensor:
    lm = causal_lm(model)
    hidden = _hidden(lm, batch)[places]
    with torch.autocast(hidden.device.type, enabled=False):  # a small head, always in fp32
        return lm.get_submodule(SCALAR_HEAD)(hidden.float()).squeeze(-1)


def _hidden(lm: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Hidden states of all places: (B*T, H)."""
    text = decoder_of(lm) if lm.base_model is lm else lm.base_model
    return text(**_inputs(batch)).last_hidden_state.flatten(0, 1)


def _inputs(batch: Batch) -> dict:
    inputs = {"input_ids": batch.input_ids, "use_cache": False}
    if batch.position_ids is not None:
        inputs["position_ids"] = batch.position_ids
    if batch.attention_mask is not None:
        inputs["attention_mask"] = batch.attention_mask
    return inputs


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
    batch = lay_out(examples, way).to(truth.device)
    with forest_attention(causal_lm(model), batch):
        logps = response_token_logps(model, batch, way)
    return (logps - truth).abs().mean().item()


def choose_way(model: torch.nn.Module, examples: Sequence[Encoded]) -> ScoringChoice:
    """Pick the fastest way whose scores equal the truth on ``examples`` (two or three will do)."""
    lm = causal_lm(model)
    kind = lm.config.get_text_config().model_type
    truth = true_token_logps(model, examples)
    limit = TOLERANCE[lm.dtype]
    ways: list[Way] = ["plain"]
    reason = ""
    if frozen_head(lm) is not None:
        ways.insert(0, "separate")
        if kind in FOREST_MODELS:
            ways.insert(0, "forest")
        else:
            reason = f"{kind} is not known to be safe in packed rows; "
    for way in ways:
        difference = difference_from_truth(model, examples, way, truth)
        if difference <= limit:
            return ScoringChoice(way, reason + WORDS[way], difference)
        reason += f"{way} rows differ from separate scoring by {difference:.1e} per token; "
    raise UserError(
        f"The scores of {kind} differ between single and batched rows ({reason.rstrip('; ')}), so "
        "training on them would be wrong; please report this model."
    )


WORDS = {
    "forest": "packed rows, each prompt computed once",
    "separate": "every response in a row of its own",
    "plain": "every response in a row of its own, with the model's own logits",
}
