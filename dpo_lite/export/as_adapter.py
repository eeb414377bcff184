"""`dpo-lite export --to gguf-adapter` and `--to vllm`: the adapter alone, for other programs."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from dpo_lite.errors import UserError
from dpo_lite.export.gguf_file import need_gguf
from dpo_lite.export.gguf_model import gguf_model
from dpo_lite.export.plain_lora import DOWN, UP, plain
from dpo_lite.export.run import source_of
from dpo_lite.files import new_folder, refuse_existing, write_json
from dpo_lite.model.adapter_files import CONFIG, TOKENIZER, WEIGHTS, trained_adapter
from dpo_lite.model.adapter_names import PREFIX
from dpo_lite.model.base import base_location, load_config
from dpo_lite.model.stacking import Adapter
from dpo_lite.names import is_public
from dpo_lite.recipe import ModelSection, load_recipe
from dpo_lite.runs.folder import Run

# What --max-lora-rank of vLLM may be.
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True)
class WrittenAdapter:
    path: Path
    commands: list[str] = field(default_factory=list)


def export_gguf_adapter(run: Run, out: Path, base: str | None = None) -> WrittenAdapter:
    """One file in llama.cpp's format, for any quantisation of the base's GGUF.

    In fp32: what B holds after a short training is too small for fp16. Raises UserError where
    llama.cpp has no such adapter.
    """
    refuse_existing(out)
    gguf = need_gguf()
    wanted, revision = source_of(run, base)
    adapter = plain(trained_adapter(run))
    trusted = load_recipe(run.recipe_file).model.trust_remote_code
    section = ModelSection(
        base=wanted, revision=revision, quantization="none", trust_remote_code=trusted
    )
    names = gguf_model(load_config(section))
    file = out / f"{run.name}-lora-F32.gguf"
    with new_folder(out):
        writer = gguf.GGUFWriter(file, names.architecture)
        try:
            writer.add_type("adapter")
            writer.add_name(run.name)
            writer.add_string("adapter.type", "lora")
            writer.add_float32("adapter.lora.alpha", float(adapter.config["lora_alpha"]))
            for name in sorted(adapter.tensors):
                if name.endswith(DOWN):
                    layer = name.removesuffix(DOWN)
                    weight = f"{layer.removeprefix(PREFIX)}.weight"
                    down, up = adapter.tensors[name], adapter.tensors[layer + UP]
                    target = names.name(weight)
                    writer.add_tensor(f"{target}.lora_a", _numbers(down))
                    writer.add_tensor(f"{target}.lora_b", _numbers(names.rows(weight, up)))
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
    return WrittenAdapter(file, [shlex.join(["llama-cli", "-m", "BASE.gguf", "--lora", str(file)])])


def export_vllm(run: Run, out: Path, base: str | None = None) -> WrittenAdapter:
    """A folder that vLLM and SGLang load, and plain PEFT too, with the lines that serve it.

    Raises UserError for an adapter that they do not serve.
    """
    refuse_existing(out)
    wanted, _ = source_of(run, base)
    source = trained_adapter(run)
    adapter = plain(source)
    rank = next((most for most in RANKS if most >= adapter.rank), None)
    if rank is None:
        raise UserError(f"Rank {adapter.rank} is above vLLM's largest, {RANKS[-1]}; merge it.")
    served = wanted if is_public(wanted) else str(Path(base_location(wanted)).resolve())
    with new_folder(out):
        _save(adapter, served, out)
        for name in TOKENIZER:
            if (source / name).is_file():
                shutil.copyfile(source / name, out / name)
    pair = f"{run.name}={out}"
    vllm = ["vllm", "serve", served, "--enable-lora", "--max-lora-rank", str(rank)]
    vllm += ["--lora-modules", pair]
    sglang = ["python", "-m", "sglang.launch_server", "--model-path", served, "--enable-lora"]
    sglang += ["--lora-paths", pair]
    if (out / TEMPLATE).is_file():  # the base has another one, or none
        vllm += ["--chat-template", str(out / TEMPLATE)]
        sglang += ["--chat-template", str(out / TEMPLATE)]
    return WrittenAdapter(out, [shlex.join(vllm), shlex.join(sglang)])


def _save(adapter: Adapter, base: str, out: Path) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in adapter.tensors.items()}
    save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
    write_json(out / CONFIG, adapter.config | {"base_model_name_or_path": base})


def _numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().contiguous().numpy()
