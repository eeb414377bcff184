"""What stands where in a .safetensors file, read without torch.

The format: eight bytes with the header's length (little-endian), the header as JSON, then the
tensors' bytes. Offsets in the header count from the end of it.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path

from dpo_lite.errors import UserError
from dpo_lite.files import is_pointer, read_json

LONGEST_HEADER = 100 * 2**20
SIZES = {  # bytes of a number
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "I8", "U8", "BOOL"), 1),
}


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
            dtype, shape = str(entry["dtype"]), tuple(entry["shape"])
            if any(type(n) is not int or n < 0 for n in (*shape, begin, end)):
                raise ValueError(f"{name} has no shape or no place")
            if dtype in SIZES and end - begin != SIZES[dtype] * math.prod(shape):
                raise ValueError(f"{name} has another shape than bytes")
            places[name] = Place(dtype, shape, start + begin, start + end)
    except (
        *(struct.error, ValueError, KeyError, AttributeError, TypeError),
        *(RecursionError, OverflowError),  # nested too deep, or a length that no file has
    ) as error:
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


def files_of_index(path: Path) -> list[str]:
    """The files that an index of weights names. Raises UserError where it is damaged."""
    named = (read_json(path) or {}).get("weight_map")
    files = list(named.values()) if isinstance(named, dict) else []
    if not files or not all(isinstance(file, str) for file in files):
        raise UserError(f"{path} names no files of weights; copy or download it again.")
    return sorted(set(files))
