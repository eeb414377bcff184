"""One DPO update of hybrid models: packed, prompt-shared rows against separate ones.

    python -m benchmarks.hybrid_speed [qwen3_5_text …] [--budget 2048] [--repeats 3]

Random models of three families, one of each kind of mixing (delta rule, Mamba 2, short
convolution), 8 layers of 256, LoRA of rank 16 on the projections; 16 pairs as long as those of
Anthropic's HH (median prompt 110 tokens, median response 45, skewed as they are). The ways take
turns; processor seconds, the least of the repeats. Loss and gradient of both are compared in the
same run.
"""

from __future__ import annotations

import argparse
import time

from dpo_lite.quiet import quiet_libraries

quiet_libraries()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from transformers import CONFIG_MAPPING, AutoModelForCausalLM  # noqa: E402

from dpo_lite.model import roles  # noqa: E402
from dpo_lite.model.chance import disable_dropout  # noqa: E402
from dpo_lite.model.scoring import laid_out_tokens, micro_batches  # noqa: E402
from dpo_lite.recipe import AdapterSection  # noqa: E402
from dpo_lite.training.method import Objective  # noqa: E402
from dpo_lite.training.update import update_gradient  # noqa: E402

VOCABULARY = 16384
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
KINDS = {
    "qwen3_5_text": {
        "head_dim": 64,
        "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 2,
        "linear_key_head_dim": 64,
        "linear_value_head_dim": 64,
        "linear_num_key_heads": 4,
        "linear_num_value_heads": 4,
    },
    "granitemoehybrid": {
        "layer_types": (["mamba"] * 3 + ["attention"]) * 2,
        "num_local_experts": 0,
        "num_experts_per_tok": 0,
        "shared_intermediate_size": 768,
        "mamba_n_heads": 8,
        "mamba_d_head": 64,
        "mamba_d_state": 64,
        "mamba_chunk_size": 64,
        "mamba_n_groups": 1,
    },
    "lfm2": {
        "layer_types": ["conv", "conv", "conv", "full_attention"] * 2,
        "block_auto_adjust_ff_dim": False,
    },
}
# PEFT takes no adapter on Mamba's output projection.
TARGETS = {"granitemoehybrid": ["in_proj", "q_proj", "k_proj", "v_proj", "o_proj", "input_linear"]}


def pairs(count: int, seed: int = 0, most: int = 512) -> list[dict]:
    draw = np.random.default_rng(seed)

    def ids(median: float, spread: float) -> list[int]:
        length = int(np.clip(median * np.exp(spread * draw.standard_normal()), 4, most))
        return draw.integers(3, VOCABULARY, length).tolist()

    return [
        {"prompt_ids": ids(110, 1.0), "response_ids": [ids(45, 0.8), ids(45, 0.8)]}
        for _ in range(count)
    ]


def model_of(kind: str):
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**SIZES | KINDS[kind])).float()
    disable_dropout(base)
    base.requires_grad_(False)
    section = AdapterSection(targets=TARGETS.get(kind, "all-linear"))
    return roles.add_policy(base, section, 0).train()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--budget", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    examples = pairs(16)
    for kind in options.kinds:
        model = model_of(kind)
        seconds: dict[str, list[float]] = {"separate": [], "forest": []}
        found = {}
        for _ in range(options.repeats):
            for way, times in seconds.items():
                model.zero_grad(set_to_none=True)
                start = time.process_time()
                scored = update_gradient(
                    model, examples, Objective("sigmoid", 0.1, way), options.budget
                )
                times.append(time.process_time() - start)
                gradient = torch.cat([p.grad.flatten() for p in roles.trainable_parameters(model)])
                found[way] = (scored.loss, gradient)
        tokens = {
            way: sum(
                laid_out_tokens([examples[i] for i in part], way)
                for part in micro_batches(examples, way, options.budget)
            )
            for way in seconds
        }
        separate, forest = (min(seconds[way]) for way in ("separate", "forest"))
        (loss, gradient), (other_loss, other) = found["separate"], found["forest"]
        turned = ((gradient - other).norm() / gradient.norm()).item()
        print(
            f"{kind}: separate {separate:.2f} s ({tokens['separate']:,} tokens), forest "
            f"{forest:.2f} s ({tokens['forest']:,}), {separate / forest:.2f} times; "
            f"loss differs by {abs(loss - other_loss):.0e}, gradient by {turned:.0e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
