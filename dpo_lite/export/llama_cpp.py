"""What llama.cpp's converter needs beside the weights, and the command that runs it."""

from __future__ import annotations

import shlex
from pathlib import Path

from dpo_lite.errors import UserError
from dpo_lite.files import read_json, write_json

VOCABULARIES = ("tokenizer.json", "tokenizer.model")


def make_ready(folder: Path) -> None:
    """Leave a folder that ``convert_hf_to_gguf.py`` takes.

    It wants the vocabulary, and the chat template in tokenizer_config.json: converters older than
    the separate chat_template.jinja would leave it out, and the model would not chat.
    """
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise UserError(f"{folder} has neither tokenizer.json nor tokenizer.model to convert.")
    template = folder / "chat_template.jinja"
    settings = read_json(folder / "tokenizer_config.json") or {}
    if template.is_file() and not settings.get("chat_template"):
        settings["chat_template"] = template.read_text(encoding="utf-8")
        write_json(folder / "tokenizer_config.json", settings)


def commands(folder: Path) -> list[str]:
    """To run in llama.cpp's folder: convert, then make it small."""
    whole = folder.resolve()
    file, small = whole / f"{folder.name}.gguf", whole / f"{folder.name}-Q4_K_M.gguf"
    convert = ["python", "convert_hf_to_gguf.py", whole, "--outfile", file, "--outtype", "auto"]
    quantise = ["llama-quantize", file, small, "Q4_K_M"]
    return [shlex.join(map(str, line)) for line in (convert, quantise)]
