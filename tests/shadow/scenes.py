"""What the tests see on the shadow card; ``python -m tests.shadow.scenes NAME`` prints it as JSON.

A process of its own, as the card must be there before torch is.
"""

from __future__ import annotations

import json
import sys

from tests.shadow.card import Card, at_hand  # before torch

# isort: split
import gc
from contextlib import contextmanager
from unittest.mock import patch

import torch
from transformers import LlamaConfig, Qwen2Config
from transformers.generation.utils import StopCheck

from dpo_lite.compare import lockstep
from dpo_lite.memory.of_model import costs_here, tile
from dpo_lite.memory.plan import Choice, predict
from dpo_lite.model import batching, roles, step_graph
from dpo_lite.model.choosing import choose_way
from dpo_lite.model.device_memory import release
from dpo_lite.model.expert_adapter import BASE
from dpo_lite.model.generation import answer_ids
from dpo_lite.model.precision import dtype_of
from dpo_lite.model.recompute import recompute
from dpo_lite.model.scoring import laid_out_tokens
from dpo_lite.model.tiles import TILE
from dpo_lite.recipe import PPOSection, Recipe
from dpo_lite.training import ppo, ppo_learning
from dpo_lite.training.loss_scale import LossScale
from dpo_lite.training.method import Objective
from dpo_lite.training.update import update_gradient
from tests.shadow.models import on_card

SMALL = LlamaConfig(
    hidden_size=256,
    intermediate_size=704,
    num_attention_heads=8,
    num_key_value_heads=2,
    num_hidden_layers=2,
    vocab_size=1000,
)
LLAMA_8B = LlamaConfig(
    hidden_size=4096,
    intermediate_size=14336,
    num_attention_heads=32,
    num_key_value_heads=8,
    num_hidden_layers=32,
    vocab_size=128256,
)
QWEN_HALF_B = Qwen2Config(
    hidden_size=896,
    intermediate_size=4864,
    num_attention_heads=14,
    num_key_value_heads=2,
    num_hidden_layers=24,
    vocab_size=151936,
    tie_word_embeddings=True,
)


def recipe(quantization="nf4", task="dpo", **sections):
    model = {"base": "some/base", "quantization": quantization}
    return Recipe(task=task, model=model, data={"train": "builtin:myths"}, **sections)


def pair(prompt, chosen, rejected):
    return {"prompt_ids": [3] * prompt, "response_ids": [[4] * chosen, [5] * rejected]}


def examples(count, prompt=120, answer=100):
    return [pair(prompt + i, answer + i, answer - i) for i in range(count)]


def with_layers(config, count):
    known = {name: value for name, value in config.to_dict().items() if name != "layer_types"}
    return type(config)(**known | {"num_hidden_layers": count})


def objective(task="dpo", dtype=torch.bfloat16):
    loss = {"sft": "nll"}.get(task, "sigmoid")
    return Objective(loss, 0.1, "forest", dtype, task=task)


def facts(card):
    return {"kernels": sum(card.kernels.values()), "waits": dict(card.waits)}


def update(card, task, layers):
    """One micro-batch of a task; what it launched and where the host waited."""
    asked = recipe(task=task)
    model = on_card(with_layers(SMALL, layers), asked, head=task == "reward")
    wanted = objective(task)
    update_gradient(model, examples(2), wanted, 4096)  # what is tried once is tried
    model.zero_grad(set_to_none=True)
    card.kernels.clear(), card.waits.clear()
    update_gradient(model, examples(4), wanted, 4096)
    return facts(card)


def rlhf(card, layers):
    """One minibatch of RLOO's policy gradient on answers that are there, judged before."""
    section = PPOSection(answers=2, max_new_tokens=100, estimator="rloo")
    model = on_card(with_layers(SMALL, layers), recipe())
    drawn, wanted = examples(4), objective()
    rollout = ppo.judge_answers(
        model, drawn, lambda examples, budget: ppo.Earned(torch.zeros(8)), {2}, wanted, 4096
    )
    earned = ppo_learning.credit(rollout, section, 0.1)
    card.kernels.clear(), card.waits.clear()
    ppo_learning.minibatch_gradient(model, rollout, range(4), earned, section, wanted, 4096)
    return facts(card)


def updates():
    found = {}
    for layers in (1, 2):
        with at_hand(Card(24)) as card:
            for task in ("dpo", "sft", "reward"):
                found[f"{task} {layers}"] = update(card, task, layers)
            found[f"ppo {layers}"] = rlhf(card, layers)
    return found


def turing():
    """An update on a card without bf16 of its own, its gradient scaled and settled."""
    with at_hand(Card(16, (7, 5))) as card:
        model = on_card(with_layers(SMALL, 1), recipe())
        dtype = dtype_of(model)
        few = examples(2)
        way = choose_way(model, few).way
        scale = LossScale.of(dtype)
        update_gradient(model, few, objective(dtype=dtype), 4096, scale=scale.scale)
        model.zero_grad(set_to_none=True)
        card.waits.clear()
        update_gradient(model, few, objective(dtype=dtype), 4096, scale=scale.scale)
        before = sum(card.waits.values())
        settled = scale.settle(roles.trainable_parameters(model))
        more = sum(card.waits.values()) - before
        half = {str(p.dtype) for p in model.parameters() if p.is_floating_point()}
    return {"dtype": str(dtype), "way": way, "settled": settled, "waits": more, "all": sorted(half)}


@contextmanager
def tokens_of(card, count):
    """Inside, answers are so long, whatever is read; yields launches and waits up to each token."""
    seen = []

    def stops(self, unfinished, tokens, length):
        if self.streamer is not None:
            self.streamer.put(tokens.cpu())
        bool(unfinished.max() == 0)
        seen.append((sum(card.kernels.values()), sum(card.waits.values())))
        return len(seen) >= count

    with patch.object(StopCheck, "__call__", stops):
        yield seen


class Nobody:
    """What stands for a tokenizer where nobody reads."""

    pad_token_id = 0

    def decode(self, ids, **options):
        return ""


def tokens_drawn(card, layers, recorded, beside=False):
    """Launches of one more token, how often the host waits for it, and the bytes that stay."""
    tokens = step_graph.TRIED + 4
    model = on_card(with_layers(SMALL, layers), recipe()).eval()
    model.generation_config.eos_token_id = None
    batching._known[model.base_model.model] = True
    fewest = patch.object(step_graph, "FEWEST", tokens + (not recorded))
    gc.collect()
    before = card.live
    with fewest, roles.policy(model), tokens_of(card, tokens) as seen:
        if beside:
            sampling, names = lockstep.Sampling(max_new_tokens=tokens), [BASE, roles.POLICY]
            lockstep.answer(model, Nobody(), [3] * 9, names, [], sampling)
        else:
            answer_ids(model, [[3] * 9, [3] * 5], max_new_tokens=tokens, temperature=0.0)
    gc.collect()
    launched, waited = (after - at for at, after in zip(*seen[-2:], strict=True))
    return {"launched": launched, "waited": waited, "stays": card.live - before}


def decoding():
    """Of prompts, and of two models beside one another."""
    with at_hand(Card(24)) as card:
        return [tokens_drawn(card, 1, True, beside) for beside in (False, True)]


def decoding_by_layer():
    found = {}
    for layers in (1, 2):
        with at_hand(Card(24)) as card:
            for recorded in (False, True):
                found[f"{recorded} {layers}"] = tokens_drawn(card, layers, recorded)["launched"]
    return found


def peaks(config, quantization, tokens):
    """Measured and planned bytes of an update by what is given up, for all layers of a model: from
    two layers and three, as each further one takes the same."""
    found = {}
    for layers in (2, 3):
        with at_hand(Card(80)) as card:
            model = on_card(with_layers(config, layers), recipe(quantization))
            few = examples(3)
            batch = examples(tokens // laid_out_tokens(few[:1], "forest"))
            update_gradient(model, few, objective(), 2 * tokens)  # what is tried once, gradients
            costs = costs_here(model, few, "forest")
            for how in ("none", "layers"):
                recompute(model, how)
                release()
                card.reset_peak()
                update_gradient(model, batch, objective(), 2 * tokens)
                choice = Choice(how, 0 if how == "none" else layers)
                plan = predict(costs, choice, laid_out_tokens(batch, "forest"))
                moments = plan.adapter_and_optimizer - 8 * costs.trained
                found[how, layers] = (card.peak, plan.total - moments)
    whole = config.num_hidden_layers
    return {
        how: [two + (whole - 2) * (three - two) for two, three in zip(*pairs, strict=True)]
        for how in ("none", "layers")
        for pairs in [(found[how, 2], found[how, 3])]
    }


def memory_half_b():
    return peaks(QWEN_HALF_B, "none", 4096)


def memory_8b():
    return peaks(LLAMA_8B, "nf4", 4096)


def long_rows():
    """Measured and planned bytes of an update on one long example, in tiles, for all layers of an
    8B model; and kernels of the tiles."""
    found, tokens = {}, 12_288
    for layers in (2, 3):
        with at_hand(Card(80)) as card:
            model = on_card(with_layers(LLAMA_8B, layers), recipe())
            few, long = examples(3), [pair(tokens // 2, tokens // 4, tokens // 4)]
            update_gradient(model, few, objective(), tokens)  # what is tried once, gradients
            costs = costs_here(model, few, "forest")
            for how in ("layers", "offload"):
                choice = Choice(how, layers, tile=TILE)
                recompute(model, how)
                tile(model, TILE)
                release()
                card.reset_peak()
                update_gradient(model, long, objective(), tokens)
                plan = predict(costs, choice, tokens)
                moments = plan.adapter_and_optimizer - 8 * costs.trained
                found[how, layers] = (card.peak, plan.total - moments)
    whole = LLAMA_8B.num_hidden_layers
    return {
        how: [two + (whole - 2) * (three - two) for two, three in zip(*pairs, strict=True)]
        for how in ("layers", "offload")
        for pairs in [(found[how, 2], found[how, 3])]
    }


def before_the_plan():
    """The preflight of two layers of an 8B: its own peaks over the weights, and what is left."""
    with at_hand(Card(24)) as card:
        model = on_card(with_layers(LLAMA_8B, 2), recipe())
        few = examples(3, 1024, 1024)
        gc.collect()
        weights, found = card.live, {}
        card.reset_peak()
        choice = choose_way(model, few)
        assert choice.way == "forest", choice.reason
        found["scores"] = card.peak - weights
        card.reset_peak()
        costs_here(model, few, "forest")
        found["costs"] = card.peak - weights
        update_gradient(model, few[:1], objective(), 4096)
        model.zero_grad(set_to_none=True)
        gc.collect()
        found["left"] = card.live - weights
        recompute(model, "layers")
        card.reset_peak()
        update_gradient(model, few, objective(), 4096)
        found["update"] = card.peak - weights
    return found


def runs_out():
    """Memory that runs out in the forward and in the backward pass, and what of it is left."""
    found = {}
    with at_hand(Card(24)) as card:
        model = on_card(with_layers(SMALL, 2), recipe())
        batch = examples(6)
        update_gradient(model, batch[:1], objective(), 4096)  # what is tried once is tried
        for how, share in (
            ("none", 0.5),
            ("selective", 0.97),
            ("layers", 0.97),
            ("offload", 0.97),
            ("offload in tiles", 0.97),
        ):
            recompute(model, how.split()[0])
            tile(model, 256 if "tiles" in how else 0)
            model.zero_grad(set_to_none=True)
            release()
            idle = card.live
            card.reset_peak()
            update_gradient(model, batch, objective(), 4096)
            model.zero_grad(set_to_none=True)
            release()
            card.limit = idle + int(share * (card.peak - idle))
            where = attempt(model, batch)
            card.limit = None
            model.zero_grad(set_to_none=True)
            release()
            found[how] = [where, card.live - idle]
    return found


def attempt(model, batch):
    """In which pass it ran out."""
    real, seen = torch.Tensor.backward, []

    def backward(*arguments, **options):
        seen.append(1)
        return real(*arguments, **options)

    torch.Tensor.backward = backward
    try:
        update_gradient(model, batch, objective(), 4096)
    except torch.OutOfMemoryError:
        return "backward" if seen else "forward"
    finally:
        torch.Tensor.backward = real
    return "nowhere"


SCENES = {
    scene.__name__: scene
    for scene in (
        updates,
        turing,
        decoding,
        decoding_by_layer,
        memory_half_b,
        memory_8b,
        long_rows,
        before_the_plan,
        runs_out,
    )
}
if __name__ == "__main__":
    print(json.dumps({name: SCENES[name]() for name in sys.argv[1:]}))
