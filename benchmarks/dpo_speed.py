"""DPO updates against TRL's unmodified DPOTrainer: the same pairs, adapter, optimiser and losses.

    python benchmarks/dpo_speed.py [--model small|medium|qwen3.5-small] [--workloads hh,ultra,long]
    python benchmarks/dpo_speed.py --model 0.5b|1.5b|8b --quantization nf4       on a GPU
    python benchmarks/dpo_speed.py --growth          how our cost grows: pairs, length, vocabulary

A random Llama (small: 16 M parameters, medium: 62 M; vocabulary 16,384) or a Qwen3.5 with its
recurrent layers learns random token ids of the lengths of real data, 4 pairs per update, fp32, LoRA
on all linear layers. The contestants take
turns in one process, each training whole runs with its own loop; the median of ``rounds`` runs
counts. On a CPU each has one thread, and time is processor time, which other processes on the
machine stretch little. On a GPU the model has the shape of a real one, computes in bf16, and time
is that of the clock. TRL's micro-batch is 4 pairs, or 1 with the gradients of 4 added up:

    default   as DPOConfig ships, but in fp32: padded, gradient checkpointing
    no ckpt   the same without checkpointing
    best      reference precomputed (its time counts), no checkpointing, data sorted by length
    bf16      as DPOConfig ships: default under bf16 autocast; other numbers, so no losses compared

The losses of all others must be ours, or the benchmark fails. Peak memory is that of the GPU, or on
a CPU the growth of the process's resident set over one run in a process of its own. Prints Markdown
for RESULTS.md and writes dpo_speed.json beside it.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

PAIRS_PER_UPDATE = 4
GPU = torch.cuda.is_available()
TOLERANCE = 5e-2 if GPU else 1e-3  # bf16, fp32


def shape(hidden: int, mlp: int, layers: int, heads: int, key_heads: int, vocabulary: int) -> dict:
    return {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "vocab_size": vocabulary,
        "tie_word_embeddings": hidden < 4096,
    }


MODELS = {
    "tiny": shape(128, 256, 2, 2, 2, 16_384),
    "small": shape(384, 1024, 6, 6, 2, 16_384),
    "medium": shape(640, 1728, 12, 10, 2, 16_384),
    "0.5b": shape(896, 4864, 24, 14, 2, 151_936) | {"model_type": "qwen2"},  # as Qwen2.5
    "1.5b": shape(1536, 8960, 28, 12, 2, 151_936) | {"model_type": "qwen2"},
    "8b": shape(4096, 14336, 32, 32, 8, 128_256),  # as Llama 3.1
    # Qwen3.5's layers: a gated delta rule in three of four, attention in the fourth.
    "qwen3.5-small": shape(384, 1024, 8, 6, 2, 16_384)
    | {
        "model_type": "qwen3_5_text",
        "head_dim": 64,
        "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 2,
        "linear_key_head_dim": 64,
        "linear_value_head_dim": 64,
        "linear_num_key_heads": 6,
        "linear_num_value_heads": 6,
    },
}
# Median and sigma (log-normal; 0: fixed) of prompt and responses in tokens, and updates per run.
WORKLOADS = {
    "hh": ((110, 1.0), (45, 0.8), 20),
    "ultra": ((150, 0.0), (350, 0.0), 5),
    "long": ((1800, 0.0), (100, 0.0), 3),
}
CONTESTANTS = {  # name: (micro-batch of TRL, options); the first is ours
    "ours": None,
    "TRL default, batch 4": (4, {"checkpointing"}),
    "TRL default, batch 1": (1, {"checkpointing"}),
    "TRL no ckpt, batch 4": (4, set()),
    "TRL best, batch 4": (4, {"precompute", "sorted"}),
    "TRL best, batch 1": (1, {"precompute", "sorted"}),
    "TRL bf16, batch 4": (4, {"checkpointing", "bf16"}),
}


def make_pairs(prompt: tuple, response: tuple, count: int, vocabulary: int) -> list[dict]:
    """Random ids with log-normal lengths, at most 1,024 tokens where lengths vary."""
    random = np.random.default_rng(0)

    def ids(length: tuple, most: int) -> list[int]:
        size = int(length[0] * np.exp(length[1] * random.standard_normal()))
        return random.integers(3, vocabulary, min(max(size, 4), most)).tolist()

    return [
        {
            "prompt_ids": ids(prompt, 768 if prompt[1] else prompt[0]),
            "response_ids": [ids(response, 256 if response[1] else response[0]) for _ in range(2)],
        }
        for _ in range(count)
    ]


def by_length(pairs: list[dict]) -> list[dict]:
    return sorted(pairs, key=lambda p: len(p["prompt_ids"]) + max(map(len, p["response_ids"])))


def config_of(size: str, vocabulary: int | None = None):
    from transformers import CONFIG_MAPPING

    values = MODELS[size] | ({"vocab_size": vocabulary} if vocabulary else {})
    kind = CONFIG_MAPPING[values.pop("model_type", "llama")]
    return kind(
        **values, max_position_embeddings=4096, pad_token_id=0, bos_token_id=1, eos_token_id=2
    )


def save_model(folder: str, size: str, vocabulary: int | None) -> None:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    with torch.device("cuda" if GPU else "cpu"):
        model = AutoModelForCausalLM.from_config(config_of(size, vocabulary))
    model.to(torch.bfloat16 if GPU else torch.float32).save_pretrained(folder)


def make_recipe(folder: str, quantization: str):
    from dpo_lite.recipe import Recipe

    train = {"lr": 1e-3, "scheduler": "constant", "warmup": 0, "batch_size": PAIRS_PER_UPDATE}
    model = {"base": folder, "quantization": quantization}
    return Recipe.model_validate({"model": model, "data": {"train": "generated"}, "train": train})


def row_length(pair: dict) -> int:
    return len(pair["prompt_ids"]) + sum(map(len, pair["response_ids"]))


def our_trainer(model, recipe, pairs: list[dict], folder: str):
    from datasets import Dataset

    from dpo_lite.memory.of_model import apply_plan, plan_run
    from dpo_lite.model.precision import dtype_of
    from dpo_lite.training.method import Objective
    from dpo_lite.training.trainer import PreferenceTrainer

    lengths = np.array([row_length(pair) for pair in pairs])
    plan = plan_run(model, recipe, pairs[:2], "forest", lengths)
    apply_plan(model, plan)
    objective = Objective("sigmoid", recipe.train.beta, "forest", dtype_of(model))
    trainer = PreferenceTrainer(
        model, recipe, objective,
        budget=plan.budget, folder=Path(folder),
        train=Dataset.from_list(pairs), evals={}, callbacks=[], say=print,
    )  # fmt: skip
    trainer.args.train_sampling_strategy = "sequential"
    return trainer


def trl_trainer(model, recipe, pairs: list[dict], folder: str, batch: int, options: set[str]):
    """TRL's trainer on the same ids; with "precompute" it scores the reference in here."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import DPOConfig

    from dpo_lite.model import roles
    from dpo_lite.model.precision import dtype_of
    from dpo_lite.training.trainer import training_arguments
    from dpo_lite.training.trl_engine import TokenisedDPOTrainer, to_trl

    arguments = training_arguments(recipe, Path(folder), model.device) | {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": PAIRS_PER_UPDATE // batch,
        "beta": recipe.train.beta,
        "max_length": None,
        "bf16": dtype_of(model) == torch.bfloat16 or "bf16" in options,
        "fp16": dtype_of(model) == torch.float16,
        "gradient_checkpointing": "checkpointing" in options,
        "precompute_ref_log_probs": "precompute" in options,
        "train_sampling_strategy": "sequential",
    }
    trainer = TokenisedDPOTrainer(
        model=model,
        args=DPOConfig(**arguments),
        train_dataset=to_trl(Dataset.from_list(pairs)),
        processing_class=a_tokenizer(),
    )
    trainer.remove_callback(PrinterCallback)
    for parameter in roles.trainable_parameters(model):  # TRL casts them to bf16 on NF4
        parameter.data = parameter.data.to(torch.float32)
    return trainer


def a_tokenizer():
    """DPOTrainer wants one; the ids are ready."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<pad>": 0, "<s>": 1, "</s>": 2}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def train(contestant: str, recipe, pairs: list[dict], make_base=None) -> dict:
    """One whole run over the pairs; processor seconds, the reference's precomputation included.

    ``make_base`` in place of loading the recipe's base from its folder.
    """
    from dpo_lite.model import roles
    from dpo_lite.model.base import load_base
    from dpo_lite.model.device_memory import release

    release()  # the model of the run before, whose parts refer to one another
    model = roles.add_policy((make_base or load_base)(recipe.model), recipe.adapter, seed=0)
    setting = CONTESTANTS[contestant]
    if GPU:
        torch.cuda.reset_peak_memory_stats()
    resident = resident_bytes("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        started = clock()
        if setting is None:
            trainer = our_trainer(model, recipe, pairs, folder)
        else:
            trainer = trl_trainer(model, recipe, pairs, folder, *setting)
        if setting is None or "precompute" not in setting[1]:
            started = clock()  # nothing but the set-up happened
        trainer.train()
        seconds = clock() - started
    return {
        "seconds": seconds,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "memory": torch.cuda.max_memory_allocated() if GPU else resident_bytes("VmHWM") - resident,
    }


def clock() -> float:
    if GPU:
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def resident_bytes(which: str) -> int:
    """Of this process, now (VmRSS) or at most (VmHWM); getrusage gives a child its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(which))


def peak_memory(contestant: str, recipe, pairs: list[dict]) -> int:
    with multiprocessing.get_context("spawn").Pool(1, set_up) as pool:
        return pool.apply(train, (contestant, recipe, pairs))["memory"]


def row_tokens(contestant: str, pairs: list[dict]) -> int:
    """Tokens of all rows of one pass over the pairs: ours packed and shared, TRL's padded."""
    setting = CONTESTANTS[contestant]
    if setting is None:
        return sum(map(row_length, pairs))
    widths = [len(p["prompt_ids"]) + max(map(len, p["response_ids"])) for p in pairs]
    batches = [widths[i : i + setting[0]] for i in range(0, len(widths), setting[0])]
    return sum(2 * len(batch) * max(batch) for batch in batches)


def race(
    recipe, pairs: list[dict], names: list[str], rounds: int, memory: bool, make_base=None
) -> list[dict]:
    """Let the contestants take turns; fails where losses differ from ours on the same order.

    One of TRL's for which the card has no room has no numbers but its name.
    """
    orders = {False: pairs, True: by_length(pairs)}

    def order(name: str) -> list[dict]:
        return orders["sorted" in (CONTESTANTS[name] or (0, ()))[1]]

    wanted = {"sorted" in (CONTESTANTS[name] or (0, ()))[1] for name in names}
    truth = {key: train("ours", recipe, orders[key], make_base)["losses"] for key in wanted}
    runs = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            if (ended := _run(name, recipe, order(name), make_base)) is not None:
                runs[name].append(ended)
                print(f"{name}: {ended['seconds']:.1f} s", file=sys.stderr, flush=True)
    found = []
    for name in names:
        if len(runs[name]) < rounds:
            found.append({"name": name, "pairs_per_second": None})
            continue
        expected = truth[order(name) is orders[True]]
        losses = [run["losses"] for run in runs[name]]
        difference = float(np.abs(np.array(losses) - expected).max())
        if difference > TOLERANCE and "bf16" not in name:
            raise SystemExit(f"{name}: losses differ from ours by {difference:.1e}")
        found.append(
            {
                "name": name,
                "pairs_per_second": len(pairs) / median(run["seconds"] for run in runs[name]),
                "seconds": [run["seconds"] for run in runs[name]],
                "tokens_per_pair": row_tokens(name, order(name)) / len(pairs),
                "loss_difference": difference,
                "loss_moved": float(np.abs(np.array(expected) - np.log(2)).max()),
                "memory": runs[name][0]["memory"]
                if GPU
                else peak_memory(name, recipe, order(name))
                if memory
                else None,
            }
        )
    return found


def _run(name: str, recipe, pairs: list[dict], make_base) -> dict | None:
    """A contestant's run; None where it is TRL's and memory runs out."""
    from dpo_lite.model.device_memory import release

    try:
        return train(name, recipe, pairs, make_base)
    except torch.OutOfMemoryError:
        if CONTESTANTS[name] is None:
            raise
    release()
    print(f"{name}: out of memory", file=sys.stderr, flush=True)
    return None


def print_race(title: str, rows: list[dict]) -> None:
    print(f"\n**{title}**\n")
    print("| contestant | pairs/s | ours is faster | tokens/pair | memory | Δ loss (moved) |")
    print("| --- | --- | --- | --- | --- | --- |")
    ours = rows[0]["pairs_per_second"]
    for row in rows:
        if row["pairs_per_second"] is None:
            print(f"| {row['name']} | out of memory | | | | |", flush=True)
            continue
        memory = "" if row["memory"] is None else f"{row['memory'] / 2**20:,.0f} MiB"
        print(
            f"| {row['name']} | {row['pairs_per_second']:.2f} | "
            f"{ours / row['pairs_per_second']:.1f}× | {row['tokens_per_pair']:,.0f} | "
            f"{memory} | {row['loss_difference']:.0e} ({row['loss_moved']:.0e}) |",
            flush=True,
        )


def growth(quantization: str, rounds: int) -> list[dict]:
    """Our seconds per update, one quantity doubled at a time; the small model, else 4 pairs."""
    cases = [("pairs", n, (n, 128, 64, 16_384)) for n in (2, 4, 8, 16)]
    cases += [("prompt", n, (4, n, 64, 16_384)) for n in (128, 256, 512, 1024)]
    cases += [("response", n, (4, 128, n, 16_384)) for n in (64, 128, 256, 512)]
    cases += [("vocabulary", n, (4, 128, 64, n)) for n in (16_384, 32_768, 65_536, 131_072)]
    found = []
    for what, value, (pairs, prompt, response, vocabulary) in cases:
        with tempfile.TemporaryDirectory() as folder:
            save_model(folder, "small", vocabulary)
            recipe = make_recipe(folder, quantization)
            recipe.train.batch_size = pairs
            rows = make_pairs((prompt, 0.0), (response, 0.0), 2 * pairs, vocabulary)
            seconds = median(train("ours", recipe, rows)["seconds"] / 2 for _ in range(rounds))
        found.append({"what": what, "value": value, "seconds": seconds})
        print(f"| {what} | {value:,} | {seconds:.2f} |", flush=True)
    return found


def set_up() -> None:
    os.environ["TQDM_DISABLE"] = "1"  # before trl is imported
    from datasets import disable_caching

    from dpo_lite.quiet import quiet_libraries

    quiet_libraries()
    disable_caching()  # TRL would find the reference's scores of the round before
    if not GPU:
        torch.set_num_threads(1)
    from trl import DPOTrainer  # noqa: F401  imported before the clock starts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=MODELS, default="small")
    parser.add_argument("--workloads", default="hh,ultra,long")
    parser.add_argument("--contestants", help="names parted by semicolons; default: all")
    parser.add_argument("--quantization", choices=["none", "nf4"], default="none")
    parser.add_argument("--vocabulary", type=int, help="default: the model's")
    parser.add_argument("--growth", action="store_true", help="our own cost only, no race")
    parser.add_argument("--updates", type=int, help="per run; default: by workload")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    set_up()
    if options.growth:
        rows = growth(options.quantization, options.rounds)
        options.out.with_stem("dpo_growth").write_text(json.dumps(rows, indent=2) + "\n")
        return
    names = options.contestants.split(";") if options.contestants else list(CONTESTANTS)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        save_model(folder, options.model, options.vocabulary)
        recipe = make_recipe(folder, options.quantization)
        for workload in options.workloads.split(","):
            *lengths, updates = WORKLOADS[workload]
            count = PAIRS_PER_UPDATE * (options.updates or updates)
            pairs = make_pairs(
                *lengths, count, options.vocabulary or MODELS[options.model]["vocab_size"]
            )
            rows = race(recipe, pairs, names, options.rounds, not options.no_memory)
            results[workload] = rows
            print_race(f"{options.model}, {options.quantization}, {workload}, {count} pairs", rows)
    options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
