"""Small tokenizers with the chat templates of published ones."""

import re
from pathlib import Path

import trl
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

TEXT = "the cat sat on the mat and the dog sat on the cat"
TEMPLATES = Path(trl.__file__).parent / "chat_templates"
SPECIAL = re.compile(
    r"<[|｜][^<>]*?[|｜]>|<\|\w+>|<\w+\|>|<\w+_of_\w+>|<bos>|<eos>|</s>|\[/?INST\]"
)
# name of the template -> the end of turn that an answer must have
ENDS = {
    "qwen2_5": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "qwen3_instruct_2507": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "llama3_2": "<|eot_id|>",
    "gemma": "<end_of_turn>",
    "gemma3": "<end_of_turn>",
    "phi3": "<|end|>",
    "cohere": "<|END_OF_TURN_TOKEN|>",
    "gptoss": "<|return|>",
    "lfm2": "<|im_end|>",
    "lfm2_2_5": "<|im_end|>",
    "qwen3_5_nothink": "<|im_end|>",
    "gemma4": "<turn|>",
    "bos_is_the_turn_mark": "<|im_end|>",
    "bos_before_every_question": "</s>",
    "bos_twice": "<|eot_id|>",
    "no_bos": "<|im_end|>",
}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# name -> template, BOS, EOS, whether the tokenizer puts a BOS before a text by itself
WAYS_OF_BOS = {
    "bos_is_the_turn_mark": (  # SmolLM2
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind<|im_end|>\n{% endif %}"
        + CHATML,
        "<|im_start|>",
        "<|im_end|>",
        False,
    ),
    "bos_before_every_question": (  # Llama 2, whose [INST] is plain text
        "{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}"
        "{% set system = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
        "{% else %}{% set turns = messages %}{% set system = '' %}{% endif %}"
        "{% for m in turns %}{% if m['role'] == 'user' %}"
        "{{ bos_token + '[ASK] ' + (system if loop.first else '') + m['content'] + ' [/ASK]' }}"
        "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}",
        "<s>",
        "</s>",
        True,
    ),
    "bos_twice": (  # Llama 3: the template writes what the tokenizer adds
        "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>"
        "\n\n{{ m['content'] | trim }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
        "<|begin_of_text|>",
        "<|eot_id|>",
        True,
    ),
    "no_bos": (CHATML, None, "<|im_end|>", False),
}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def tokenizer_for(name, metaspace=False):
    """A small BPE tokenizer that knows a real template's special tokens."""
    if name in WAYS_OF_BOS:
        template, bos, eos, adds_bos = WAYS_OF_BOS[name]
    else:
        template = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")
        bos, eos, adds_bos = "<|bos|>", "<|eos|>", False
    specials = {*SPECIAL.findall(template), ENDS.get(name, "<|im_end|>"), bos, eos} - {None}
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=metaspace))
    alphabet = []
    if metaspace:  # as in Llama 2 and Mistral: a space in front of the first word
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        backend.decoder = decoders.Metaspace(prepend_scheme="first")
        backend.normalizer = normalizers.NFC()
    else:
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        show_progress=False,
        special_tokens=["<unk>", *sorted(specials)],
        initial_alphabet=alphabet,
    )
    backend.train_from_iterator([TEXT, "user assistant system\n\n a b c d e f g h i"], trainer)
    if adds_bos:
        backend.post_processor = before_every_text(backend, bos)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token=bos, eos_token=eos
    )
    tokenizer.chat_template = template
    return tokenizer


def before_every_text(backend, *tokens):
    """What makes a tokenizer put these tokens before every text, unless it is told not to."""
    ids = [(token, backend.token_to_id(token)) for token in set(tokens)]
    return TemplateProcessing(single=" ".join([*tokens, "$A"]), special_tokens=ids)
