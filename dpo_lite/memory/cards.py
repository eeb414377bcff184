"""Graphics cards by name: memory in GiB, and peak of dense bf16 products with fp32 sums in TFLOP/s.

The numbers are from NVIDIA's white papers. They stand apart so that the page can offer them without
importing torch.
"""

CARDS: dict[str, tuple[float, float]] = {
    "3060": (12, 25.6),
    "4060ti": (16, 44.0),
    "3090": (24, 71.0),
    "4090": (24, 165.0),
    "5090": (32, 209.5),
    "h200": (141, 989.0),
}
