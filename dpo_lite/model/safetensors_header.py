"""What stands where in a .safetensors file, read without torch.

The format: eight bytes with the header's length (little-endian), the header as JSON, then the
tensors' bytes. Offsets in the header count from the end of it.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from dpo_lite.errors import UserError
from dpo_lite.files import is_pointer

LONGEST_HEADER = 100 * 2**20


@dataclass(frozen=True)
class Place:
    """Where a tensor's bytes are: ``begin`` to ``end`` from the start of the file."""

    dtype: str  # safetensors' name: F32, BF16, F16, …
    shape: tuple[int, ...]
    begin: int
    end: int


def tensor_places(path: Path) -> dict[str, Place]:
    """Every tensor of a file by its name. Raises UserError where it is no safetensors file."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > LONGEST_HEADER:
                raise ValueError("header too long")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        start = 8 + length
        places = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            shape = tuple(entry["shape"])
            places[name] = Place(entry["dtype"], shape, start + begin, start + end)
    except (struct.error, ValueError, KeyError, AttributeError, TypeError) as error:
        if is_pointer(path):
            hint = "`git lfs pull` in its folder gets the file"
            raise UserError(f"{path} is only Git LFS's note of a file; {hint}.") from None
        hint = "copy or download it again"
        raise UserError(f"{path} is no safetensors file, or it is cut short; {hint}.") from error
    size, end = path.stat().st_size, max((place.end for place in places.values()), default=start)
    if size != end:
        problem = "is cut short" if size < end else "has something behind its last tensor"
        raise UserError(f"{path} {problem}; copy or download it again.")
    return places
