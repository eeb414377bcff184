"""Levels of quantisation by llama.cpp's names; without torch, for whoever offers them."""

from __future__ import annotations

from dataclasses import dataclass

from dpo_lite.errors import UserError


@dataclass(frozen=True)
class Level:
    """``file_type`` is general.file_type, by which programs name the file."""

    name: str
    file_type: int
    usual: str
    better: str | None = None  # of the weights that lose most


LEVELS = {
    level.name: level
    for level in (
        Level("f32", 0, "F32"),
        Level("f16", 1, "F16"),
        Level("bf16", 32, "BF16"),
        Level("q8_0", 7, "Q8_0"),
        Level("q6_k", 18, "Q6_K"),
        Level("q5_k_m", 17, "Q5_K", "Q6_K"),
        Level("q4_k_m", 15, "Q4_K", "Q6_K"),
        Level("q4_0", 2, "Q4_0"),
    )
}


def levels(text: str) -> list[Level]:
    """``q8_0,q4_k_m`` as levels. Raises UserError for a name that is none."""
    found = []
    for name in level_names(text):
        if name not in LEVELS:
            raise UserError(
                f"--quant {name}: there is no such level here; there are {', '.join(LEVELS)}."
                " llama.cpp has more: --llama-cpp FOLDER."
            )
        found.append(LEVELS[name])
    return found


def level_names(text: str) -> list[str]:
    """Names between commas, in small letters, each once. Raises UserError where there is none."""
    names = [part.strip().lower() for part in text.split(",") if part.strip()]
    if not names:
        raise UserError(f"--quant names no level; there are {', '.join(LEVELS)}.")
    return list(dict.fromkeys(names))
