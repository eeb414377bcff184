"""Graphics cards by name: memory in GiB, and peak of dense bf16 products with fp32 sums in TFLOP/s.

From NVIDIA's white papers and data sheets. On GeForce cards since the 30 series that peak is twice
the one of fp32, which is cores times boost clock times two (4070: 5,888 · 2.475 GHz · 4 = 58.3).
None: the card has no bf16 of its own, so nothing is promised. The table stands apart so that the
page can offer the names without importing torch.
"""

from __future__ import annotations

import re

from dpo_lite.errors import UserError

CARDS: dict[str, tuple[float, float | None]] = {
    "2060": (6, None),
    "2070": (8, None),
    "2080": (8, None),
    "2080ti": (11, None),
    "3050": (8, 18.2),
    "3060": (12, 25.6),
    "3060ti": (8, 32.4),
    "3070": (8, 40.6),
    "3070ti": (8, 43.5),
    "3080": (10, 59.5),
    "3080ti": (12, 68.2),
    "3090": (24, 71.0),
    "3090ti": (24, 80.0),
    "4060": (8, 30.2),
    "4060ti": (16, 44.1),
    "4070": (12, 58.3),
    "4070super": (12, 71.0),
    "4070ti": (12, 80.2),
    "4070tisuper": (16, 88.2),
    "4080": (16, 97.5),
    "4080super": (16, 104.4),
    "4090": (24, 165.2),
    "5060": (8, 38.4),
    "5060ti": (16, 47.4),
    "5070": (12, 61.7),
    "5070ti": (16, 87.9),
    "5080": (16, 112.6),
    "5090": (32, 209.5),
    "t4": (16, None),
    "v100": (16, None),
    "l4": (24, 121.0),
    "a10": (24, 125.0),
    "a4000": (16, 76.7),
    "a5000": (24, 111.1),
    "a6000": (48, 154.8),
    "l40s": (48, 362.0),
    "a100": (40, 312.0),
    "h100": (80, 989.0),
    "h100pcie": (80, 756.0),
    "h200": (141, 989.0),
}
BRAND = re.compile(r"nvidia|geforce|quadro|tesla|rtx|gtx|graphics|sxm\d?|hbm\de?|[\s_-]+")
MEMORY = re.compile(r"(\d+(?:\.\d+)?)(g(i?b)?)?\Z")
APPLE = re.compile(r"(apple)?(m[1-9](pro|max|ultra)?|mps|mac.*)\Z")
AMD = re.compile(r"(amd|radeon|rx)?\d{4}xtx?\Z|(amd|radeon|instinct|mi\d)")


def card_named(name: str) -> tuple[float, float | None, str | None]:
    """GiB, TFLOP/s and the name in the table of a card: ``3090``, ``RTX 4060 Ti 8GB``, ``12GB``.

    A memory behind a name goes before the table's; a memory alone has neither speed nor name.
    Raises UserError for what is no card of the table.
    """
    short = BRAND.sub("", name.lower())
    if short in CARDS:
        return *CARDS[short], short
    said = MEMORY.search(short)
    # The longest name first: `4070ti16gb` is no 4070.
    known = next((c for c in sorted(CARDS, key=len, reverse=True) if short.startswith(c)), None)
    rest = short[len(known) :].removeprefix("pcie") if known else ""
    memory = MEMORY.fullmatch(rest)
    if known and memory:
        return float(memory[1]), CARDS[known][1], known
    if said and said[0] == short and 0.5 < float(said[1]) < 1000:
        return float(said[1]), None, None
    if APPLE.match(short):
        raise UserError(
            f"--gpu {name}: Macs train on their CPU here, as 4-bit training needs CUDA; leave --gpu"
            " away to plan for that."
        )
    if AMD.match(short):
        raise UserError(
            f"--gpu {name}: AMD's cards were never tried here; give its memory, such as 16GB, for a"
            " plan without a time."
        )
    raise UserError(
        f"--gpu {name} is no card that is known; give its memory, such as 12GB, or one of "
        f"{', '.join(CARDS)}."
    )


def speed_of(device_name: str) -> float | None:
    """TFLOP/s of the card at hand, by the name that its driver says; None where it is not known."""
    try:
        return card_named(device_name)[1]
    except UserError:
        return None


def of_memory(gib: float) -> list[str]:
    """Cards with that memory whose speed is known: the slowest, one between and the fastest."""
    speeds = {name: speed for name, (memory, speed) in CARDS.items() if memory == gib and speed}
    names = sorted(speeds, key=speeds.__getitem__)
    return names if len(names) < 4 else [names[0], names[len(names) // 2], names[-1]]
