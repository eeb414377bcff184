"""The `# time:` and memory estimates of the shipped recipes, without network and without a GPU.

    python scripts/recipe_estimates.py

The shapes of the bases stand here, copied from their configs; the data are assumed to be pairs as
long as UltraFeedback's usually are. The rest is what `dpo-lite plan` does. Prints, per recipe, the
memory of the plan for its card and how long an epoch takes on a card that one can buy.
"""

import torch
from transformers import CONFIG_MAPPING

from dpo_lite.memory.capacity import GIB, card, seconds_per_epoch
from dpo_lite.memory.plan import choose_plan
from dpo_lite.model.dry_run import costs_of_config
from dpo_lite.recipe.library import shipped
from dpo_lite.report.words import clock

PROMPT, RESPONSE = 200, 300  # tokens of an assumed pair: the prompt once and two responses
PAIRS = 61_000

# model type, layers, hidden, feed-forward, heads, key-value heads, vocabulary, tied
SHAPES = {
    "Qwen/Qwen2.5-0.5B-Instruct": ("qwen2", 24, 896, 4864, 14, 2, 151936, True),
    "meta-llama/Llama-3.2-1B-Instruct": ("llama", 16, 2048, 8192, 32, 8, 128256, True),
    "Qwen/Qwen3-1.7B": ("qwen3", 28, 2048, 6144, 16, 8, 151936, True),
    "HuggingFaceTB/SmolLM3-3B": ("smollm3", 36, 2048, 11008, 16, 4, 128256, True),
    "Qwen/Qwen3-4B": ("qwen3", 36, 2560, 9728, 32, 8, 151936, True),
    "mistralai/Mistral-7B-v0.1": ("mistral", 32, 4096, 14336, 32, 8, 32000, False),
    "meta-llama/Llama-3.1-8B-Instruct": ("llama", 32, 4096, 14336, 32, 8, 128256, False),
    "Qwen/Qwen3-14B": ("qwen3", 40, 5120, 17408, 40, 8, 151936, False),
}
BOUGHT = {6: "3060", 8: "3060", 12: "3060", 16: "4060ti", 24: "3090"}  # GB → a card to time on


def config_of(base: str):
    kind, layers, hidden, inner, heads, shared, vocabulary, tied = SHAPES[base]
    return CONFIG_MAPPING[kind](
        num_hidden_layers=layers,
        hidden_size=hidden,
        intermediate_size=inner,
        num_attention_heads=heads,
        num_key_value_heads=shared,
        head_dim=128 if kind == "qwen3" else hidden // heads,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=4096,
        pad_token_id=0,
    )


def main() -> None:
    pair = {"prompt_ids": [0] * PROMPT, "response_ids": [[0] * RESPONSE] * 2}
    for own in shipped():
        recipe = own.recipe
        if recipe.model.base not in SHAPES:
            continue
        config = config_of(recipe.model.base)
        costs = costs_of_config(config, recipe, torch.bfloat16, [pair], fuse=True)
        memory, _ = card(own.card.replace(" ", ""))
        plan = choose_plan(costs, recipe, 1024 + 512, memory)
        name = BOUGHT[int(own.card.split()[0])]
        pairs = min(recipe.data.limit or PAIRS, PAIRS) * recipe.train.epochs
        tokens = pairs * (PROMPT + 2 * RESPONSE)
        scored = pairs * 2 * RESPONSE
        times = seconds_per_epoch(costs, plan.choice, tokens, scored, card(name)[1])
        best, worst = map(clock, times)
        print(
            f"{own.name:<16} {own.card}: {plan.total / GIB:.1f} of {memory / GIB:.1f} GiB,"
            f" {best} to {worst} on a {name}"
        )


if __name__ == "__main__":
    main()
