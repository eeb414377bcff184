"""What an update would take on cards that are not here: kernels, waits, time and bytes.

    python -m benchmarks.shadow                   writes rows for RESULTS.md, about two minutes
    python -m benchmarks.shadow --models 8b --cards 4090
    python -m benchmarks.shadow --rungs           what each way of recomputing gives and costs

The product's own code runs on the shadow card of the tests (tests/shadow: fake tensors, no number
is computed), one DPO update of 16 pairs with the lengths of HH-RLHF in one micro-batch, nothing
recomputed, the reference scored too. Two layers and three are traced and the rest is added up, as
each further layer does the same.

The time is a roofline, which nothing real reaches and whose parts compare well: a kernel takes the
longer of its operations at 80 % of the card's peak (products and attention) and its bytes, each
operand read once and each result written once, at 85 % of the card's bandwidth, and 1.5 µs at
least. Peaks are those that NVIDIA publishes, dense, with sums in fp32. *Plan* is what
dpo_lite.memory foretells of the same micro-batch, *peak* what lived at once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Speed(NamedTuple):
    capability: tuple[int, int]
    half: float  # operations per second of products in 16 bits
    bytes: float  # per second


CARDS = {
    "3060": Speed((8, 6), 25.6e12, 0.360e12),
    "4090": Speed((8, 9), 165e12, 1.008e12),
    "T4": Speed((7, 5), 65e12, 0.320e12),
}
MODELS = ("0.5b", "1.5b", "3.8b", "8b")
KINDS = ("products", "attention", "unpacking", "the rest")
PROMPT, ANSWER = 146, 72  # tokens, as the median pair of HH-RLHF has them
DEPTHS = (2, 3)  # layers
RUNGS = ("none", "selective", "layers", "offload")


def time_of(kernel: tuple[str, int, int], speed: Speed) -> float:
    """Seconds of a kernel: its kind, its bytes and its operations."""
    _, moved, operations = kernel
    return max(1.5e-6, moved / (0.85 * speed.bytes), operations / (0.8 * speed.half))


def trace(name: str, capability: tuple[int, int], layers: int, ways: list[str]) -> dict:
    """One update of a model cut to some layers for each way of recomputing; only in a process that
    has the shadow's backend."""
    from tests.shadow.card import Card, at_hand  # isort: skip  before torch
    from unittest.mock import patch

    import torch
    from transformers import Phi3Config, Qwen2Config

    from dpo_lite.memory.of_model import costs_here
    from dpo_lite.memory.plan import Choice, predict
    from dpo_lite.model import attention
    from dpo_lite.model.device_memory import release
    from dpo_lite.model.precision import dtype_of
    from dpo_lite.model.recompute import recompute
    from dpo_lite.model.scoring import laid_out_tokens
    from dpo_lite.training.method import Objective
    from dpo_lite.training.update import update_gradient
    from tests.shadow.models import on_card
    from tests.shadow.scenes import LLAMA_8B, QWEN_HALF_B, examples, recipe, with_layers

    of_1_5b = {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_attention_heads": 12,
        "num_hidden_layers": 28,
    }
    configs = {
        "0.5b": QWEN_HALF_B,
        "1.5b": Qwen2Config(**QWEN_HALF_B.to_dict() | of_1_5b | {"layer_types": None}),
        "3.8b": Phi3Config(),  # Phi-3 mini
        "8b": LLAMA_8B,
    }
    config, log, found = configs[name], [], {}

    class Roofline(Card):
        """Writes down of every kernel its kind, bytes and operations."""

        def _run(self, op, label, args, kwargs):
            before = sum(self.kernels.values())
            result = super()._run(op, label, args, kwargs)
            if sum(self.kernels.values()) == before + 1:
                log.append(kernel_of(label, args, result, torch.Tensor))
            return result

    with at_hand(Roofline(80, capability)) as card:
        if capability < (8, 0):  # PyTorch's flash attention begins there
            attention.may_fuse = lambda *tensors: False
        # Unpacking is no operation of its own in the shadow's product.
        unpack = torch.library.custom_op(
            "roofline::unpack",
            _never,
            mutates_args=(),
            schema="(Tensor packed, int[] shape, ScalarType dtype) -> Tensor",
        )
        unpack.register_fake(lambda packed, shape, dtype: packed.new_empty(shape, dtype=dtype))

        def product(a, b, shape, absmax, *rest, **options):
            return _unpacked_product(unpack, a, b, shape, absmax, *rest, **options)

        with patch("tests.shadow.card.unpacked_product", product):
            model = on_card(with_layers(config, layers), recipe("nf4"))
            dtype = dtype_of(model)
            few, batch = examples(3), examples(16, PROMPT, ANSWER)
            objective = Objective("sigmoid", 0.1, "forest", dtype, task="dpo")
            update_gradient(model, few, objective, 8192)  # what is tried once is tried
            costs = costs_here(model, few, "forest")
            tokens = laid_out_tokens(batch, "forest")
            for way in ways:
                recompute(model, way)
                release()
                card.reset_peak(), card.kernels.clear(), card.waits.clear(), log.clear()
                update_gradient(model, batch, objective, 8192)
                plan = predict(costs, Choice(way, 0 if way == "none" else layers), tokens)
                found[way] = {
                    "layers": config.num_hidden_layers,
                    "tokens": tokens,
                    "kernels": sum(card.kernels.values()),
                    "waits": sum(card.waits.values()),
                    "peak": card.peak,
                    "fixed": plan.weights + 8 * costs.trained,
                    "plan": plan.total - (plan.adapter_and_optimizer - 8 * costs.trained),
                    "times": times_of(log, capability),
                }
    return found


def times_of(log: list[tuple[str, int, int]], capability: tuple[int, int]) -> dict:
    """Seconds by card and kind of kernel."""
    times = {}
    for label, speed in CARDS.items():
        if (speed.capability < (8, 0)) == (capability < (8, 0)):
            kinds: dict[str, float] = defaultdict(float)
            for kernel in log:
                kinds[kernel[0]] += time_of(kernel, speed)
            times[label] = kinds
    return times


def _never(packed, shape, dtype):
    raise AssertionError("it never runs")


def _unpacked_product(unpack, a, b, shape, absmax, size, kind, bias=None, *nested, **named):
    """bitsandbytes' product of many rows on a card, with the unpacking as a kernel of its own."""
    import torch

    scales = named.get("absmax_8bit", nested[0] if nested else None)
    if scales is not None:
        offset = named.get("absmax_offset", nested[2] if len(nested) > 2 else None)
        scales.float() + offset
    weight = unpack(b, list(shape), a.dtype)
    product = torch.mm(a.reshape(-1, a.shape[-1]), weight.t()).view(*a.shape[:-1], shape[0])
    return product if bias is None else product + bias


def kernel_of(label: str, args: tuple, result, tensor: type) -> tuple[str, int, int]:
    """Kind, bytes and operations of an operation that the card has run."""
    inputs = [x for x in _flat(args) if isinstance(x, tensor)]
    outputs = [x for x in _flat(result) if isinstance(x, tensor)]
    read, written = sum(x.nbytes for x in inputs), sum(x.nbytes for x in outputs)
    if label in ("embedding", "index_select", "gather", "index"):
        read = written  # the rows that are looked up
    if label in ("mm", "addmm", "addmm_"):
        left, right = inputs[-2:]
        return "products", read + written, 2 * left.numel() * right.shape[-1]
    if "attn" in label or "attention" in label:
        back = "backward" in label
        query, key = inputs[back : back + 2]
        if query.dim() == 4:  # heads, a branch's queries and its keys
            pairs = query.shape[1] * query.shape[2] * key.shape[2]
        else:  # all branches in one: queries, heads; the longest branch's keys
            longest = max(x for x in args if isinstance(x, int))
            pairs = query.shape[0] * query.shape[1] * longest / 2
        return "attention", read + written, int((10 if back else 4) * pairs * query.shape[-1])
    kind = "unpacking" if label in ("unpack", "dequantize_4bit") else "the rest"
    return kind, read + written, 0


def _flat(values):
    for value in values if isinstance(values, (tuple, list)) else [values]:
        if isinstance(value, (tuple, list)):
            yield from _flat(value)
        else:
            yield value


def whole(two: dict, three: dict) -> dict:
    """All layers of a model, from a trace of two layers and one of three."""

    def all_of(a, b):
        return a + (two["layers"] - DEPTHS[0]) * (b - a)

    found = {key: all_of(two[key], three[key]) for key in ("kernels", "waits", "peak", "plan")}
    found["times"] = {
        card: {kind: all_of(two["times"][card][kind], kinds[kind]) for kind in kinds}
        for card, kinds in three["times"].items()
    }
    return found | {"tokens": two["tokens"]}


def rows(name: str, cards: list[str], backend: str) -> list[str]:
    """The model's rows of the table, a card each."""
    lines = {}
    for capability in sorted({(8, 9) if CARDS[c].capability >= (8, 0) else (7, 5) for c in cards}):
        pair = [_in_its_own_process(name, capability, layers, backend) for layers in DEPTHS]
        found = whole(*(one["none"] for one in pair))
        for card in cards:
            if card in found["times"]:
                times = found["times"][card]
                cells = [name, card, f"{found['kernels']:,}", str(found["waits"])]
                cells += [f"{1000 * sum(times.values()):,.0f}"]
                cells += [f"{1000 * times.get(kind, 0):,.0f}" for kind in KINDS]
                cells += [f"{found['peak'] / 2**30:.2f}", f"{found['plan'] / 2**30:.2f}"]
                lines[card] = "| " + " | ".join(cells) + " |"
    return [lines[card] for card in cards]


def rungs(name: str, cards: list[str], backend: str) -> list[str]:
    """What a layer keeps and how long it takes by way of recomputing, from two layers and three."""
    lines = []
    pair = [_in_its_own_process(name, (8, 9), layers, backend, RUNGS) for layers in DEPTHS]
    for way in RUNGS:
        two, three = (one[way] for one in pair)
        without = [one[way]["peak"] - one[way]["fixed"] for one in pair]
        kept = (without[1] - without[0]) / two["tokens"] / 1024
        for card in cards:
            if card in two["times"]:
                more = sum(three["times"][card].values()) - sum(two["times"][card].values())
                cells = [name, card, way, f"{kept:,.0f}", f"{1000 * more:,.1f}"]
                lines.append("| " + " | ".join(cells) + " |")
    return lines


def _in_its_own_process(
    name: str, capability, layers: int, backend: str, ways: tuple[str, ...] = ("none",)
) -> dict:
    asked = [name, *map(str, capability), str(layers), ",".join(ways)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.shadow", "--trace", *asked],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"SHADOW_BACKEND": backend, "PYTHONPATH": str(ROOT)},
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description="An update's kernels, time and bytes by card.")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--cards", default=",".join(CARDS))
    parser.add_argument("--trace", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--rungs", action="store_true", help="what recomputing gives and costs")
    asked = parser.parse_args()
    if asked.trace:
        name, major, minor, layers, ways = asked.trace
        print(json.dumps(trace(name, (int(major), int(minor)), int(layers), ways.split(","))))
        return
    from tests.shadow.build import build, cannot

    if why := cannot():
        sys.exit(why)
    with tempfile.TemporaryDirectory() as folder:
        done = build(Path(folder))
        if done.returncode:
            sys.exit(done.stderr)
        head = ["model", "card", "kernels", "waits", "ms", *KINDS, "peak, GiB", "plan, GiB"]
        if asked.rungs:
            head = ["model", "card", "recomputed", "KiB of a token and layer", "ms of a layer"]
        print("| " + " | ".join(head) + " |")
        print("| --- | --- |" + " ---: |" * (len(head) - 2))
        for name in asked.models.split(","):
            lines = (rungs if asked.rungs else rows)(
                name, asked.cards.split(","), str(Path(folder) / "backend.so")
            )
            print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
