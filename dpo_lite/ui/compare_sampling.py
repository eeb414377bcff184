"""How answers are drawn: the controls, what they say as JSON, and the same as flags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

# In the order of the controls.
DEFAULTS = {
    "temperature": 0.0,
    "top_p": 1.0,
    "top_k": 0,
    "repetition_penalty": 1.0,
    "max_new_tokens": 64,
    "seed": 0,
}
SLIDERS = {
    "temperature": ("Temperature", 0, 2, 0.05, "0 always takes the likeliest token"),
    "top_p": ("Top p", 0.05, 1, 0.05, "Only the likeliest tokens that make up this share"),
    "top_k": ("Top k", 0, 200, 1, "Only so many of the likeliest tokens; 0 is off"),
    "repetition_penalty": ("Repetition penalty", 1, 2, 0.05, "1 is off"),
    "max_new_tokens": ("Longest answer", 1, 1024, 1, "In tokens"),
}


def lay_out_sampling() -> list[Any]:
    with gr.Row():
        sliders = [
            gr.Slider(
                low,
                high,
                value=DEFAULTS[key],
                step=step,
                label=label,
                info=info,
                elem_id=f"compare-{key.replace('_', '-')}",
                min_width=240,
            )
            for key, (label, low, high, step, info) in SLIDERS.items()
        ]
        seed = gr.Number(
            DEFAULTS["seed"],
            label="Seed",
            precision=0,
            minimum=0,
            info="All columns draw the same noise, so equal models say the same",
            elem_id="compare-seed",
            min_width=240,
        )
    return [*sliders, seed]


def read_sampling(values: Sequence[Any]) -> dict[str, Any]:
    """The controls' values by key; an emptied one takes its default."""
    return {
        key: type(default)(default if value is None else value)
        for (key, default), value in zip(DEFAULTS.items(), values, strict=True)
    }


def sampling_flags(sampling: dict[str, Any]) -> list[str]:
    """What differs from the defaults, as the command line says it."""
    changed = {key: value for key, value in sampling.items() if value != DEFAULTS[key]}
    return [
        word
        for key, value in changed.items()
        for word in (f"--{key.replace('_', '-')}", f"{value:g}")
    ]
