"""A tokenizer as GGUF has it: tokens, their kinds, merges, and how text is cut before them.

llama.cpp knows the way of cutting by a name (``tokenizer.ggml.pre``), behind which stands code. So
the tokenizer's own rules are compared with those that a name stands for, in full; of other rules
the name cannot be known, and a wrong one would give other ids without a word.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dpo_lite.errors import UserError
from dpo_lite.export.gguf_model import CONVERTER

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
SPACE = "▁"
_CASES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# How a tokenizer's rules cut, by llama.cpp's name. ``True``: whole words need no merges.
CUTS: dict[tuple[Any, bool], str] = {
    ((("Bytes", True),), False): "gpt-2",
    ((("Digits", True), ("Bytes", True)), False): "smollm",
    ((("Split", _CASES + r"\p{N}" + _REST), ("Bytes", False)), False): "qwen2",
    ((("Split", _CASES + r"\p{N}{1,3}" + _REST), ("Bytes", False)), True): "llama-bpe",
}


@dataclass(frozen=True)
class Vocabulary:
    """``ids`` by GGUF's names of special tokens. Merges of byte-level tokenizers, scores of
    sentencepiece's: the higher, the earlier two tokens are joined to this one."""

    model: str  # gpt2: byte-level; llama: sentencepiece
    tokens: list[str]
    kinds: list[int]
    pre: str = "default"
    merges: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    space_before: bool = False


def vocabulary(tokenizer: Any, size: int) -> Vocabulary:
    """``size``: how many rows the embedding has; those without a token are marked as unused.

    Raises UserError for a tokenizer whose rules are not known to llama.cpp under a name.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(f"The tokenizer has no tokenizer.json to be read from; {CONVERTER}.")
    rules = json.loads(backend.to_str())
    if len(tokenizer) > size:
        raise UserError(
            f"The tokenizer has {len(tokenizer):,} tokens and the embedding {size:,} rows, so some"
            " token has no weights; check the base."
        )
    model = rules["model"]
    if model["type"] != "BPE":
        raise UserError(f"Vocabularies of the kind {model['type']} are not written; {CONVERTER}.")
    sentencepiece = bool(model.get("byte_fallback"))
    tokens, kinds = _tokens(tokenizer, rules, size, sentencepiece)
    merges = [m.split(" ", 1) if isinstance(m, str) else m for m in model["merges"]]
    if sentencepiece:
        before = _space_before(rules)
        return Vocabulary(
            "llama", tokens, kinds, scores=_scores(tokens, merges), space_before=before
        )
    pre = _pre(rules)
    # A space is never in a byte-level token, so it parts the two.
    return Vocabulary("gpt2", tokens, kinds, pre, [" ".join(pair) for pair in merges])


def _tokens(
    tokenizer: Any, rules: dict[str, Any], size: int, sentencepiece: bool
) -> tuple[list[str], list[int]]:
    by_id = {index: token for token, index in tokenizer.get_vocab().items()}
    added = {entry["id"]: entry for entry in rules["added_tokens"]}
    unknown = rules["model"].get("unk_token") if sentencepiece else None
    tokens, kinds = [], []
    for index in range(size):
        token = by_id.get(index)
        if token is None:
            token, kind = f"[PAD{index}]", UNUSED
        elif token == unknown:
            kind = UNKNOWN
        elif sentencepiece and set(token) == {SPACE}:  # else written out as these marks
            kind = NORMAL
        elif index in added:
            kind = CONTROL if added[index]["special"] else USER_DEFINED
        elif sentencepiece and _is_byte(token):
            kind = BYTE
        else:
            kind = NORMAL
        tokens.append(token)
        kinds.append(kind)
    return tokens, kinds


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _scores(tokens: list[str], merges: list[list[str]]) -> list[float]:
    """By when a token is first joined from two, the merges' order; what no merge makes is last."""
    first: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        first.setdefault(left + right, rank)
    return [-float(first.get(token, len(merges))) for token in tokens]


def _parts(rules: Any, kind: str) -> Iterator[dict[str, Any]]:
    """The steps of a rule, whether it is a sequence of them, one or none."""
    if not rules:
        return
    if rules["type"] == "Sequence":
        for part in rules[kind]:
            yield from _parts(part, kind)
    else:
        yield rules


def _pre(rules: dict[str, Any]) -> str:
    cut: list[Any] = []
    for part in _parts(rules["pre_tokenizer"], "pretokenizers"):
        if part["type"] == "ByteLevel" and not part["add_prefix_space"]:
            cut.append(("Bytes", part["use_regex"]))
        elif part["type"] == "Digits":
            cut.append(("Digits", part["individual_digits"]))
        elif part["type"] == "Split" and part["behavior"] == "Isolated" and not part["invert"]:
            cut.append(("Split", part["pattern"].get("Regex")))
        else:
            cut.append(part["type"])
    # NFC is told apart by nothing in the file; llama.cpp's converter drops it as well.
    others = [p["type"] for p in _parts(rules["normalizer"], "normalizers") if p["type"] != "NFC"]
    whole = bool(rules["model"].get("ignore_merges"))
    name = CUTS.get((tuple(cut), whole))
    if name is None or others:
        raise UserError(
            "The tokenizer cuts text by rules that have no name here, so llama.cpp would cut"
            f" otherwise; {CONVERTER}."
        )
    return name


def _space_before(rules: dict[str, Any]) -> bool:
    """Whether a text gets a space before it. Raises UserError for what is not sentencepiece's."""
    steps = [*_parts(rules["normalizer"], "normalizers")]
    cuts = [*_parts(rules["pre_tokenizer"], "pretokenizers")]
    kinds = [step["type"] for step in (*steps, *cuts)]
    if kinds in (["Prepend", "Replace"], ["Replace"]):
        return kinds[0] == "Prepend"
    # Gemma's: cut at spaces, of which Replace has left none.
    if kinds == ["Replace", "Split"] and cuts[0]["pattern"] == {"String": " "}:
        return False
    if kinds == ["Metaspace"] and not cuts[0].get("split", True):
        return cuts[0]["prepend_scheme"] != "never"
    raise UserError(
        f"The tokenizer changes text as is not written here ({', '.join(kinds)}); {CONVERTER}."
    )
