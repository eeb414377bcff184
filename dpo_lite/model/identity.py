"""Which model this is: the hashes that a number computed with it is kept under."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from dpo_lite.data.cache import cached_folder
from dpo_lite.data.cache_versions import SCORING
from dpo_lite.model import roles
from dpo_lite.model.base import base_location
from dpo_lite.recipe import ModelSection

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes")


def base_identity(section: ModelSection, config) -> dict[str, str] | None:
    """Which weights the base has: a Hub id with its commit, or the hash of a local folder's files.

    The hash is kept as long as the files do not change: 16 GB take seconds, once. None for a Hub
    base whose commit is not known: it may be another one tomorrow.
    """
    folder = Path(base_location(section.base))
    if not folder.is_dir():
        commit = getattr(config, "_commit_hash", None)
        return {"id": section.base, "commit": commit} if commit else None
    files = [*sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*.py"))]
    files.append(folder / "config.json")
    stats = [(str(path.resolve()), path.stat()) for path in files]
    seen = repr([(n, s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) for n, s in stats])
    key = hashlib.sha256(seen.encode()).hexdigest()[:32]

    def write(new: Path) -> None:
        (new / "sha256").write_text(files_hash(files))

    hash_folder = cached_folder(key, ("sha256",), write, "weights")
    return {"files": (hash_folder / "sha256").read_text()}


def adapter_hash(model: PeftModel, name: str) -> str:
    """The hash of an adapter as it is in memory: its settings and its weights."""
    settings = model.peft_config[name].to_dict()
    plain = {key: sorted(v) if isinstance(v, set) else v for key, v in settings.items()}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode())
    for path, tensor in model.named_parameters():
        if name in path.split("."):
            digest.update(path.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def reference_identity(section: ModelSection, model: PeftModel) -> dict[str, Any] | None:
    """All that makes the reference's numbers what they are; None where they cannot be kept."""
    base = base_identity(section, model.get_base_model().config)
    if base is None:
        return None
    started = roles.START in model.peft_config
    return {
        "base": base,
        "quantization": section.quantization,
        "device": model.device.type,
        "start": adapter_hash(model, roles.START) if started else None,
        "versions": {name: version(name) for name in PACKAGES},
        "code": SCORING.key,
    }


def files_hash(files: Sequence[Path]) -> str:
    """One hash of the files' names and contents."""
    with ThreadPoolExecutor() as pool:  # hashing lets go of the interpreter's lock
        hashes = list(pool.map(_file_hash, files))
    hashed = [(path.name, content) for path, content in zip(files, hashes, strict=True)]
    return hashlib.sha256(repr(hashed).encode()).hexdigest()


def _file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(2**22):
            digest.update(chunk)
    return digest.hexdigest()
