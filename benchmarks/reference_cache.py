"""What the reference cache saves: an epoch that computes the reference, and one that remembers it.

    python benchmarks/reference_cache.py [--pairs 64] [--rounds 3]

A Llama of random weights (4 layers, 15 M parameters, fp32) and pairs of HH's lengths on the CPU.
Epochs without a cache, with an empty one and with a full one take turns; the medians are compared.
Processor seconds of one thread: the machine may be shared.
"""

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from dpo_lite.model import roles
from dpo_lite.recipe import AdapterSection
from dpo_lite.training.method import Objective
from dpo_lite.training.reference_cache import ReferenceCache, response_keys
from dpo_lite.training.update import update_gradient

VOCABULARY = 16_384
DPO = Objective("sigmoid", 0.1, "forest")


def small_llama() -> torch.nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        tie_word_embeddings=True,
    )
    base = LlamaForCausalLM(config).requires_grad_(False)
    return roles.add_policy(base, AdapterSection(), seed=0).train()


def random_pairs(number: int) -> list[dict]:
    """Prompts of about 110 tokens, responses of about 60: HH's medians, with its spread."""
    draw = random.Random(0)

    def ids(median: float) -> list[int]:
        length = round(min(500, max(4, draw.lognormvariate(0, 0.7) * median)))
        return [draw.randrange(VOCABULARY) for _ in range(length)]

    return [{"prompt_ids": ids(110), "response_ids": [ids(60), ids(60)]} for _ in range(number)]


def epoch(model, pairs, references, batch_size: int, budget: int) -> float:
    """Processor seconds of one pass over the pairs: forward and backward of every update."""
    started = time.process_time()
    for start in range(0, len(pairs), batch_size):
        model.zero_grad(set_to_none=True)
        update_gradient(model, pairs[start : start + batch_size], DPO, budget, references)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--budget", type=int, default=2048)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, pairs = small_llama(), random_pairs(args.pairs)
    print(f"{model.get_base_model().num_parameters() / 1e6:.1f} M parameters, {args.pairs} pairs")
    epoch(model, pairs[:8], None, args.batch_size, args.budget)  # warms up
    seconds: dict[str, list[float]] = {"no cache": [], "first epoch": [], "later epoch": []}
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            references = ReferenceCache(Path(folder))
            for name, cache in zip(seconds, (None, references, references), strict=True):
                seconds[name].append(epoch(model, pairs, cache, args.batch_size, args.budget))
                print(f"{name}: {seconds[name][-1]:.2f} s", flush=True)
    base = statistics.median(seconds["no cache"])
    print("| epoch | seconds (median) | fastest | against no cache |\n| --- | --- | --- | --- |")
    for name, found in seconds.items():
        median = statistics.median(found)
        print(f"| {name} | {median:.2f} | {min(found):.2f} | {median / base - 1:+.1%} |")
    started = time.process_time()
    response_keys(pairs)
    print(f"keys: {(time.process_time() - started) / len(pairs) * 1e6:.0f} µs per pair")
    with tempfile.TemporaryDirectory() as folder:
        many = [{"prompt_ids": [1], "response_ids": [[n] for n in range(300_000)]}]
        ReferenceCache(Path(folder)).logps(many, lambda: torch.randn(300_000))
        started = time.process_time()
        ReferenceCache(Path(folder))
        print(f"opening 300,000 records: {time.process_time() - started:.2f} s")


if __name__ == "__main__":
    main()
