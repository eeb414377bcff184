"""How benchmarks/fuzz.py damages something sound: bytes, a value of a tree, a file of a folder."""

from __future__ import annotations

import json
import random
from pathlib import Path

ODD = [
    None, True, 0, -1, 2**63, 10**400, 0.5, 1e300, float("nan"), float("inf"), "", " ", "x",
    "1e999", "a\0b", "\x1b[31m", "\ud800", "[/red]", "../..", "/", "~", "n" * 5000, [], [[]], {},
    {"a": 1}, [{"role": "user"}], [1, "a", None],
]  # fmt: skip
Sound = list | dict | bytes  # the lines of a file, its object, or what else is in it


def damaged_bytes(draw: random.Random, text: bytes) -> bytes:
    """Some bytes cut off, changed, doubled, zeroed or put in between."""
    for _ in range(draw.choice([1, 1, 2, 8])):
        at = draw.randrange(len(text) + 1)
        end = min(len(text), at + draw.choice([1, 1, 4, 40]))
        put = draw.choice([b"", bytes(end - at), draw.randbytes(end - at), text[at:end] * 2])
        text = text[:at] if draw.random() < 0.2 else text[:at] + put + text[end:]
    return text


def damaged_value(draw: random.Random, value):
    """The same tree with a node that is another, is gone, or is there twice."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key = draw.choice(list(value))
        how = draw.random()
        if how < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if how < 0.2:
            return value | {str(draw.choice(ODD))[:50]: value[key]}
        return value | {key: damaged_value(draw, value[key])}
    if isinstance(value, list) and value and draw.random() < 0.7:
        at = draw.randrange(len(value))
        return [*value[:at], damaged_value(draw, value[at]), *value[at + 1 :]]
    return draw.choice(ODD)


def put(draw: random.Random, folder: Path, sound: dict[str, Sound]) -> str:
    """Write the files, one of them damaged; returns which."""
    hit = draw.choice(list(sound))
    for name, content in sound.items():
        if isinstance(content, bytes):
            raw = content
        else:
            parts = content if isinstance(content, list) else [content]
            if name == hit and draw.random() < 0.7:
                at = draw.randrange(len(parts))
                parts = [*parts[:at], damaged_value(draw, parts[at]), *parts[at + 1 :]]
            raw = "".join(json.dumps(part) + "\n" for part in parts).encode("utf-8", "replace")
        if name == hit and (isinstance(content, bytes) or draw.random() < 0.3):
            raw = damaged_bytes(draw, raw)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(raw)
    return hit


def page(folder: Path):
    from dpo_lite.ui.client import Worker
    from dpo_lite.ui.shared import Page

    return Page(folder, folder, worker=Worker(folder))
