"""Score responses: log pi(y | x) for every response of a batch, in one of three ways.

Each is a layout with a head; which one is right for a model is found in dpo_lite.model.choosing.

    forest    packed rows, shared prompts, frozen head      where all layers go by the trees
    separate  padded rows, frozen head                      any causal model with a plain head
    plain     padded rows, the model's own logits           any causal model at all
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch

from dpo_lite.data.packing import (
    Batch,
    Encoded,
    pack,
    pad,
    padded_shape,
    split_by_rows,
    split_by_tokens,
    tree_tokens,
)
from dpo_lite.model.forest import open_forest
from dpo_lite.model.fused_rotary import fused_rotation
from dpo_lite.model.layers import decoder_of
from dpo_lite.model.logprobs import (
    CHUNK_ELEMENTS,
    frozen_head,
    head_logits,
    sum_by_response,
    token_logps,
)
from dpo_lite.model.sharding import in_one_pass, own_class, whole_head

Way = Literal["forest", "separate", "plain"]

SCALAR_HEAD = "score"  # as transformers names it in models for sequence classification


def causal_lm(model: torch.nn.Module) -> torch.nn.Module:
    """The transformers model inside a PEFT model, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def lay_out(examples: Sequence[Encoded], way: Way) -> Batch:
    return pack(examples) if way == "forest" else pad(examples)


def micro_batches(examples: Sequence[Encoded], way: Way, budget: int) -> list[list[int]]:
    """Places of the examples in batches of at most ``budget`` tokens, padding included."""
    if way == "forest":
        return split_by_tokens([tree_tokens(example) for example in examples], budget)
    return split_by_rows([padded_shape([example]) for example in examples], budget)


def batch_tokens(example: Encoded, way: Way) -> int:
    """Tokens that an example takes in a batch of this way, alone."""
    return laid_out_tokens([example], way)


def laid_out_tokens(examples: Sequence[Encoded], way: Way) -> int:
    """Tokens of the batch that ``lay_out`` makes of the examples, padding included."""
    if way == "forest":
        return sum(map(tree_tokens, examples))
    rows, width = padded_shape(examples)
    return rows * width


def shortened(examples: Sequence[Encoded], tokens: int, responses: int | None = None):
    """Examples with at most so many tokens of each prompt and response, and so many responses."""
    return [
        {
            "prompt_ids": example["prompt_ids"][:tokens],
            "response_ids": [ids[:tokens] for ids in example["response_ids"][:responses]],
        }
        for example in examples
    ]


@contextmanager
def scoring_context(
    model: torch.nn.Module, batch: Batch, dtype: torch.dtype, fuse: bool | None = None
) -> Iterator[None]:
    """Where a batch is scored: its trees kept apart, computing in ``dtype``.

    Stay inside until the backward pass is over. ``fuse`` as in ``open_forest``.
    """
    device = batch.input_ids.device
    with (
        open_forest(causal_lm(model), batch, fuse),
        fused_rotation(causal_lm(model), device),
        torch.autocast(device.type, dtype, enabled=dtype != torch.float32),
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
        logits, places = _own_logits(lm, batch)
        rows = max(1, CHUNK_ELEMENTS // logits.shape[-1])
        parts = [
            logits[some].float().log_softmax(-1).gather(-1, target[:, None]).squeeze(-1)
            for some, target in zip(places.split(rows), batch.target.split(rows), strict=True)
        ]
        return torch.cat(parts)

    def scored() -> torch.Tensor:
        hidden = _hidden(lm, batch)[batch.source]
        with whole_head(lm):
            head = frozen_head(lm)
            assert head is not None  # else the way is plain
            return token_logps(hidden, batch.target, head)

    return in_one_pass(lm, scored)


@torch.no_grad()
def likeliest(model: torch.nn.Module, batch: Batch, way: Way) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each scored token, (N,) in fp32, and whether no other token is likelier.

    As ``response_token_logps``, without a gradient: (N,) and (N,) of booleans, from one pass.
    """
    lm = causal_lm(model)

    def scored() -> tuple[torch.Tensor, torch.Tensor]:
        if way == "plain":
            logits, places = _own_logits(lm, batch)
            return _likeliest(logits, places, batch.target, torch.Tensor.float)
        hidden = _hidden(lm, batch)
        with whole_head(lm):
            head = frozen_head(lm)
            assert head is not None  # else the way is plain
            made = partial(head_logits, head=head)
            return _likeliest(hidden, batch.source, batch.target, made)

    return in_one_pass(lm, scored)


def _likeliest(
    outputs: torch.Tensor,
    places: torch.Tensor,
    target: torch.Tensor,
    logits_of: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the outputs (M, ·) at the places (N,), in chunks: log p of the target, and whether it is
    the likeliest token; (N,) and (N,)."""
    width = logits_of(outputs[:1]).shape[-1]
    rows = max(1, CHUNK_ELEMENTS // width)
    logps, best = [], []
    for some, wanted in zip(places.split(rows), target.split(rows), strict=True):
        logits = logits_of(outputs[some])
        picked = logits.gather(-1, wanted[:, None]).squeeze(-1)
        logps.append(picked - logits.logsumexp(-1))
        best.append(logits.argmax(-1) == wanted)
    return torch.cat(logps), torch.cat(best)


def response_scores(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """What the scalar head of the role that the model wears says at each last token: (R,), fp32."""
    return _scalars(model, batch, batch.ends)


def token_values(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """The same before each scored token, where its prompt and the tokens so far are known: (N,)."""
    return _scalars(model, batch, batch.source)


def _scalars(model: torch.nn.Module, batch: Batch, places: torch.Tensor) -> torch.Tensor:
    lm = causal_lm(model)
    hidden = in_one_pass(lm, lambda: _hidden(lm, batch)[places])
    with torch.autocast(hidden.device.type, enabled=False):  # a small head, always in fp32
        return lm.get_submodule(SCALAR_HEAD)(hidden.float()).squeeze(-1)


def _hidden(lm: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Hidden states of all places: (B*T, H)."""
    text = decoder_of(lm) if lm.base_model is lm else lm.base_model
    return text(**_inputs(batch)).last_hidden_state.flatten(0, 1)


def _own_logits(lm: torch.nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """What the model's own code says: logits (M, V), and each scored token's place in them (N,).

    Of a single row only those of the scored places are made, where the model can leave others out:
    with a vocabulary of 128k the logits of 4,096 tokens are a gigabyte in 16 bits.
    """
    inputs, places = _inputs(batch), batch.source
    if batch.input_ids.shape[0] == 1 and _chooses_logits(own_class(lm)):
        inputs["logits_to_keep"] = places
        places = torch.arange(len(places), device=places.device)
    return lm(**inputs).logits.flatten(0, 1), places


def _chooses_logits(kind: type[torch.nn.Module]) -> bool:
    """Whether a model makes logits at given places; code from elsewhere may mean only a count."""
    return kind.__module__.startswith("transformers.models.") and (
        "logits_to_keep" in inspect.signature(kind.forward).parameters
    )


def _inputs(batch: Batch) -> dict:
    inputs = {"input_ids": batch.input_ids, "use_cache": False}
    if batch.position_ids is not None:
        inputs["position_ids"] = batch.position_ids
    if batch.attention_mask is not None:
        inputs["attention_mask"] = batch.attention_mask
    return inputs
