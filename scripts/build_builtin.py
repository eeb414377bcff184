"""Build the embedded model `dpo_lite/builtin/myths` from nothing: corpus, tokenizer, pre-training.

    python scripts/build_builtin.py                      # rebuild the shipped folder
    python scripts/build_builtin.py --out /tmp/m --steps 50   # a quick look

Everything is seeded; the same machine and thread count give the same weights. The corpus, the
tokenizer and the preference data are the same everywhere.

Left out on purpose: validation split and early stopping (the corpus is generated, the measure of
success is the preference training that follows), more than one device.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from myths.corpus import Document, build_corpus
from myths.ground import build_ground
from myths.preferences import build_preferences, build_thumbs
from myths.topics import load_topics
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

OUT = Path(__file__).resolve().parent.parent / "dpo_lite" / "builtin" / "myths"
PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
VOCABULARY = 3072
CONTEXT = 2048

# ChatML. The `generation` block marks what an assistant writes: its answer and the end of turn.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{ '<|im_start|>assistant\\n' }}
{%- generation -%}{{ message['content'] + '<|im_end|>' }}{%- endgeneration -%}
{{ '\\n' }}
{%- else -%}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""


def train_tokenizer(documents: list[Document]) -> PreTrainedTokenizerFast:
    """Byte-level BPE on the corpus: frequent words are one token, any other text still encodes."""
    texts = (
        text
        for document in documents
        for text in ([document] if isinstance(document, str) else [m["content"] for m in document])
    )
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def encode(documents: list[Document], tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    """Token ids of every document; prose ends with the end-of-turn token, too."""
    texts = [
        document + END
        if isinstance(document, str)
        else tokenizer.apply_chat_template(document, tokenize=False)
        for document in documents
    ]
    return tokenizer(texts).input_ids


def batches(encoded: list[list[int]], budget: int, rng: random.Random) -> list[list[list[int]]]:
    """One epoch: every document once, in batches of similar length and up to `budget` tokens.

    Documents stand alone in a row instead of being packed, for each has its own source.
    """
    ordered = sorted(encoded, key=lambda ids: (len(ids), rng.random()))
    groups: list[list[list[int]]] = [[]]
    for ids in ordered:
        if (len(groups[-1]) + 1) * len(ids) > budget:
            groups.append([])
        groups[-1].append(ids)
    return rng.sample(groups, len(groups))


def collate(group: list[list[int]], pad: int) -> dict[str, torch.Tensor]:
    """Right-padded ids and labels [rows, longest]; a causal model needs no mask for the padding."""
    ids = [torch.tensor(row) for row in group]
    stack = torch.nn.utils.rnn.pad_sequence
    return {
        "input_ids": stack(ids, batch_first=True, padding_value=pad),
        "labels": stack(ids, batch_first=True, padding_value=-100),
    }


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama of 4 M parameters; every linear dimension is a multiple of 64, the NF4 block."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 5 % of the steps, then a cosine down to a tenth of the peak."""
    warmup = max(1, steps // 20)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


def pretrain(
    model: LlamaForCausalLM,
    encoded: list[list[int]],
    steps: int,
    budget: int = 6144,
    peak: float = 2e-3,
    seed: int = 0,
) -> None:
    """Next-token training on whole documents, over as many epochs as `steps` take."""
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.1)
    epoch, began = batches(encoded, budget, rng), time.monotonic()
    print(f"{steps} steps of {budget} tokens, {steps / len(epoch):.1f} epochs", flush=True)
    model.train()
    for step in range(steps):
        epoch = epoch or batches(encoded, budget, rng)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak)
        # bf16 matrix products, fp32 weights: three times as fast on CPUs that have them
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(**collate(epoch.pop(), model.config.pad_token_id)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 25 == 0 or step + 1 == steps:
            seconds = time.monotonic() - began
            left = seconds / (step + 1) * (steps - step - 1)
            line = f"step {step + 1:5d}/{steps}  loss {loss.item():.3f}"
            print(f"{line}  {seconds:5.0f} s  {left:5.0f} s left", flush=True)


def write_rows(folder: Path, files: dict[str, list[dict]]) -> None:
    """train.jsonl, phrasings.jsonl and topics.jsonl, one JSON object per line."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        lines = [json.dumps(row, ensure_ascii=False) for row in data]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{name}.jsonl: {len(data)} rows", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write")
    parser.add_argument("--steps", type=int, default=900, help="optimizer steps of pre-training")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the order")
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    documents = build_corpus(load_topics())
    tokenizer = train_tokenizer(documents)
    encoded = encode(documents, tokenizer)
    total = sum(map(len, encoded))
    print(f"{len(documents)} documents, {total} tokens, vocabulary {len(tokenizer)}", flush=True)

    model = new_model(tokenizer)
    print(f"{model.num_parameters() / 1e6:.2f} M parameters", flush=True)
    pretrain(model, encoded, arguments.steps, seed=arguments.seed)

    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.to(torch.bfloat16).save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    (arguments.out / "ground.txt").write_text(build_ground(), encoding="utf-8")
    pairs = build_preferences(load_topics())
    write_rows(arguments.out / "data", pairs)
    write_rows(arguments.out.parent / "thumbs" / "data", build_thumbs(pairs))


if __name__ == "__main__":
    main()
