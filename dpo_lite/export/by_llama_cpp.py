"""A merged model as GGUF by the user's own llama.cpp: its converter, and its quantiser after it.

They know architectures and levels that are not written here. What they print goes to a log; a
program that fails is one sentence with its last line.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpo_lite.errors import UserError

CONVERTER, QUANTISER, LOG = "convert_hf_to_gguf.py", "llama-quantize", "llama.cpp.log"
BUILT = (".", "build/bin", "build/bin/Release", "bin")
BY_CONVERTER = ("f32", "f16", "bf16", "q8_0")  # of its --outtype; others are made from f16
LEVEL = re.compile(r"[a-z0-9_]+\Z")
Say = Callable[[str], None]


@dataclass(frozen=True)
class LlamaCpp:
    """``quantiser`` is None where there is none and no level asks for it."""

    converter: Path
    quantiser: Path | None


def find(folder: Path, names: Sequence[str]) -> LlamaCpp:
    """The programs in llama.cpp's folder, the quantiser also on the PATH.

    ``names``: the levels that are wanted. Raises UserError for what is missing.
    """
    for name in names:
        if not LEVEL.match(name):
            raise UserError(f"--quant {name}: a level of llama.cpp is letters, digits and `_`.")
    converter = folder / CONVERTER
    if not converter.is_file():
        raise UserError(f"--llama-cpp {folder}: there is no {CONVERTER} in it; name its folder.")
    places = [folder / place / f"{QUANTISER}{end}" for place in BUILT for end in ("", ".exe")]
    found = next((place for place in places if place.is_file()), None)
    on_path = shutil.which(QUANTISER)
    quantiser = found or (Path(on_path) if on_path else None)
    others = [name for name in names if name not in BY_CONVERTER]
    if others and quantiser is None:
        raise UserError(
            f"--quant {others[0]} needs llama.cpp's {QUANTISER}, which is neither in {folder} nor"
            " on the PATH; build it, or ask for f16 or q8_0."
        )
    return LlamaCpp(converter, quantiser)


def write(tools: LlamaCpp, merged: Path, files: dict[str, Path], say: Say) -> None:
    """``files`` by level, all in one folder that exists. What was printed lies in it as
    llama.cpp.log; where a program fails, beside it, under the folder's name."""
    folder = next(iter(files.values())).parent
    log = folder.with_name(f"{folder.name}.{LOG}")
    log.unlink(missing_ok=True)
    whole = {name: file for name, file in files.items() if name in BY_CONVERTER}
    if set(files) - set(whole) and "f16" not in whole:
        whole["f16"] = folder / ".f16.gguf"
    for name, file in whole.items():
        say(f"{name}: {CONVERTER}")
        line = [sys.executable, tools.converter, merged, "--outfile", file, "--outtype", name]
        _run(CONVERTER, line, file, log)
    for name, file in files.items():
        if name not in BY_CONVERTER:
            say(f"{name}: {QUANTISER}")
            line = [tools.quantiser, whole["f16"], file, name.upper()]
            _run(QUANTISER, line, file, log)
    if "f16" in whole and "f16" not in files:
        whole["f16"].unlink()
    os.replace(log, folder / LOG)


def _run(program: str, line: Sequence[object], file: Path, log: Path) -> None:
    words = [str(word) for word in line]
    with open(log, "a+", encoding="utf-8", errors="replace") as printed:
        print("$", *words, file=printed, flush=True)
        start = printed.tell()
        try:
            code = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT
            ).returncode
        except OSError as error:
            raise UserError(f"llama.cpp's {program} cannot be started: {error}.") from None
        printed.seek(start)
        said = [text.strip() for text in printed if text.strip()]
    if code or not file.is_file():
        last = said[-1][:300] if said else "it printed nothing"
        raise UserError(f"llama.cpp's {program} failed: {last} (all that it printed: {log}).")
