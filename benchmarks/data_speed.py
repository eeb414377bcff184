"""How long the data of a run take to get ready, on generated dialogues of HH-RLHF's lengths.

    python benchmarks/data_speed.py [--rows 160000] [--peer-rows 4000]

Steps: read, recognise, clean, render and tokenise (cold), the same met again in the cache (warm),
and packing every update of 16 examples into rows of 8,192 tokens. Then fewer rows through ours and
through TRL's DPOTrainer, which is what a user of TRL waits for, in the same process. Prints a
Markdown table for RESULTS.md and writes data_speed.json beside it.

The dialogues: prompts of 66 words in the median (log-normal, sigma 1.0) over 1 to 9 turns, answers
of 33 (sigma 0.8), words with a Zipf distribution; the tokenizer is a BPE of 32,000 trained on them.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

WORDS = 20_000
TURNS = (1, 1, 3, 3, 5, 5, 7, 9)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def write_dialogues(path: Path, rows: int) -> None:
    """Write pairs of dialogues as HH-RLHF has them: whole, differing in the last answer."""
    random = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfw"))
    vocabulary = np.array(
        ["".join(random.choice(letters, random.integers(2, 10))) for _ in range(WORDS)]
    )

    def words(count: float) -> str:
        ranks = np.minimum(random.zipf(1.3, max(1, int(count))) - 1, WORDS - 1)
        return " ".join(vocabulary[ranks])

    with path.open("w", encoding="utf-8") as stream:
        for _ in range(rows):
            turns = int(random.choice(TURNS))
            share = random.lognormal(4.2, 1.0) / turns
            speakers = ("Human", "Assistant")
            prompt = "".join(f"\n\n{speakers[i % 2]}: {words(share)}" for i in range(turns))
            chosen, rejected = (
                f"{prompt}\n\nAssistant: {words(random.lognormal(3.5, 0.8))}" for _ in range(2)
            )
            stream.write(json.dumps({"chosen": chosen, "rejected": rejected}) + "\n")


def make_tokenizer(path: Path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=32_000,
        show_progress=False,
        special_tokens=["<|pad|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    with path.open(encoding="utf-8") as stream:
        texts = (json.loads(line)["chosen"] for _, line in zip(range(20_000), stream, strict=False))
        backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<|pad|>", eos_token="<|im_end|>"
    )
    tokenizer.chat_template = CHATML
    return tokenizer


def timed(work):
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def pack_all(data, batch: int = 16, budget: int = 8192) -> int:
    """Pack every update as training does; returns the number of micro-batches."""
    from dpo_lite.data.packing import pack, split_by_tokens

    sizes = data.lengths.of_batch(shared=True)
    packed = 0
    for start in range(0, len(data.train), batch):
        places = range(start, min(start + batch, len(data.train)))
        update = [data.train[i] for i in places]
        for indices in split_by_tokens([int(sizes[i]) for i in places], budget):
            pack([update[i] for i in indices])
            packed += 1
    return packed


def race_trl(path: Path, rows: int, tokenizer) -> dict[str, float]:
    """Seconds until the first batch could be made: ours, and TRL's DPOTrainer on messages."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import DPOConfig, DPOTrainer

    from dpo_lite.data.fields import dialogue
    from dpo_lite.data.prepare import prepare
    from dpo_lite.recipe import DataSection

    section = DataSection(train=str(path), limit=rows, format="hh-rlhf")
    _, ours = timed(lambda: prepare(section, tokenizer))
    with path.open(encoding="utf-8") as stream:
        lines = [json.loads(line) for _, line in zip(range(rows), stream, strict=False)]
    # TRL splits plain dialogues at a common prefix of characters; it is given messages instead.
    messages = Dataset.from_list([{k: dialogue(v) for k, v in line.items()} for line in lines])
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=1, num_key_value_heads=1,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(folder, use_cpu=True, report_to="none", bf16=False, max_length=None)
        _, theirs = timed(
            lambda: DPOTrainer(
                LlamaForCausalLM(config),
                args=arguments,
                train_dataset=messages,
                processing_class=tokenizer,
                peft_config=LoraConfig(target_modules="all-linear"),
            )
        )
    return {"rows": rows, "ours": ours, "trl": theirs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=160_000)
    parser.add_argument("--peer-rows", type=int, default=4_000)
    options = parser.parse_args()

    from dpo_lite.quiet import quiet_libraries

    quiet_libraries()
    from dpo_lite.data.prepare import prepare
    from dpo_lite.recipe import DataSection

    with tempfile.TemporaryDirectory() as folder:
        os.environ["DPO_LITE_CACHE"] = folder
        path = Path(folder) / "dialogues.jsonl"
        write_dialogues(path, options.rows)
        tokenizer = make_tokenizer(path)
        section = DataSection(train=str(path))
        data, cold = timed(lambda: prepare(section, tokenizer))
        _, warm = timed(lambda: prepare(section, tokenizer))
        packed, packing = timed(lambda: pack_all(data))
        found = {
            "rows": data.report.rows,
            "examples": len(data.train),
            "bytes": path.stat().st_size,
            "tokens": int(data.lengths.of_batch(shared=True).sum()),
            "median_tokens": float(np.median(data.lengths.whole)),
            "cold_seconds": cold,
            "warm_seconds": warm,
            "micro_batches": packed,
            "packing_seconds": packing,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        if options.peer_rows:
            found["peer"] = race_trl(path, options.peer_rows, tokenizer)
    print("| rows | file | tokens | cold | warm | packing | cold + packing | peak memory |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print(
        f"| {found['rows']:,} | {found['bytes'] / 2**20:.0f} MiB | {found['tokens'] / 1e6:.1f} M | "
        f"{cold:.0f} s | {warm:.1f} s | {packing:.0f} s | {cold + packing:.0f} s | "
        f"{found['peak_bytes'] / 2**20:,.0f} MiB |"
    )
    if options.peer_rows:
        peer = found["peer"]
        print(
            f"\n{peer['rows']:,} rows: ours {peer['ours']:.1f} s, TRL's DPOTrainer "
            f"{peer['trl']:.1f} s, {peer['trl'] / peer['ours']:.1f} times as long"
        )
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
