"""Small models with tokenizers of each kind that GGUF is written for, as folders."""

import json

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast

from dpo_lite.export.gguf_vocabulary import _CASES, _REST
from tests.conftest import CHATML

TEXTS = [
    "the cat sat on the mat, and the dog didn't sit: 12345 cats",
    "It's 2026.\n\n  Ünïcode,\ttabs  and 你好 🙂 WE'RE here  ",
]
SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>"]


def byte_level(cut):
    """``cut``: gpt-2, smollm, qwen2 or llama-bpe."""
    steps = {
        "gpt-2": [],
        "smollm": [pre_tokenizers.Digits(individual_digits=True)],
        "qwen2": [pre_tokenizers.Split(Regex(_CASES + r"\p{N}" + _REST), "isolated")],
        "llama-bpe": [pre_tokenizers.Split(Regex(_CASES + r"\p{N}{1,3}" + _REST), "isolated")],
    }[cut]
    plain = not steps or cut == "smollm"
    last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=plain)
    backend = Tokenizer(models.BPE(ignore_merges=cut == "llama-bpe"))
    backend.pre_tokenizer = pre_tokenizers.Sequence([*steps, last]) if steps else last
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(TEXTS * 3, trainer)
    return _finished(backend)


def sentencepiece(gemma=False):
    """As Llama 2's and Mistral's: bytes for what is not in the vocabulary, spaces as marks. Or as
    Gemma's: no space before a text, and a run of spaces that is a token of its own."""
    steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    learned = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=70, limit_alphabet=30)
    learned.train_from_iterator([TEXTS[0].replace(" ", "▁")] * 3, trainer)
    model = json.loads(learned.to_str())["model"]
    if gemma:
        model["merges"].insert(0, ["▁", "▁"])
        model["vocab"]["▁▁"] = len(model["vocab"])
    words = ["<unk>", *SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *model["vocab"]]
    backend = Tokenizer(
        models.BPE(
            {word: index for index, word in enumerate(words)},
            [tuple(pair) for pair in model["merges"]],
            unk_token="<unk>",
            byte_fallback=True,
            fuse_unk=True,
        )
    )
    backend.normalizer = steps[1] if gemma else normalizers.Sequence(steps)
    if gemma:
        backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        backend.add_tokens([AddedToken("▁▁", normalized=False)])
    backend.add_special_tokens(["<unk>", *SPECIAL])
    return _finished(backend, unk_token="<unk>")


def _finished(backend, **special):
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<|pad|>", eos_token="<|im_end|>", **special
    )
    tokenizer.chat_template = CHATML
    return tokenizer


def save_model(folder, kind, tokenizer, **keys):
    """A model of random weights; its biases and norms are no defaults either."""
    import torch

    torch.manual_seed(0)
    sizes = {
        "vocab_size": len(tokenizer) + 3,
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
        "pad_token_id": 0,
    }
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**sizes | keys))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            else:
                parameter.mul_(3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model.eval()
