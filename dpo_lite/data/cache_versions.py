"""What kept numbers were made by: a version per algorithm, which is part of its cache's key.

A version is raised by hand when the code gives other numbers than before. So that this is not
forgotten, each stands beside a hash of the code that decides the numbers, as it was when somebody
last looked; a test compares. After a change of that code: decide whether numbers change; if they
do, raise the version; in both cases record the new hash with

    python -m dpo_lite.data.cache_versions
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Algorithm:
    """``modules`` decide its numbers; ``recorded`` is their ``code_hash``."""

    name: str
    version: int
    first_key: str
    modules: tuple[str, ...]
    recorded: str

    @property
    def key(self) -> str:
        """How the version is spelt in a cache's key.

        Before there were versions a hash of source files stood there. The first version is spelt
        as that hash was in the last release that had it, so that what it kept is still read.
        """
        return self.first_key if self.version == 1 else f"version {self.version}"


ENCODING = Algorithm(
    "ENCODING",  # rows to token ids
    version=8,
    first_key="c9927061fe18cca7cdf600d3387ec156514f6430de7f3bcf4d4add4aa8300bda",
    modules=(
        "dpo_lite.data.calls",
        "dpo_lite.data.cells",
        "dpo_lite.data.converters",
        "dpo_lite.data.csv_rows",
        "dpo_lite.data.echoes",
        "dpo_lite.data.encoding",
        "dpo_lite.data.examples",
        "dpo_lite.data.faithful",
        "dpo_lite.data.fields",
        "dpo_lite.data.file_text",
        "dpo_lite.data.files",
        "dpo_lite.data.format_rules",
        "dpo_lite.data.formats",
        "dpo_lite.data.json_rows",
        "dpo_lite.data.mistaken",
        "dpo_lite.data.pairs",
        "dpo_lite.data.prompts",
        "dpo_lite.data.renaming",
        "dpo_lite.data.ratings",
        "dpo_lite.data.recognition",
        "dpo_lite.data.senses",
        "dpo_lite.data.sources",
        "dpo_lite.data.template",
        "dpo_lite.data.texts",
        "dpo_lite.data.thoughts",
        "dpo_lite.data.tokens",
        "dpo_lite.data.where",
    ),
    recorded="e4f51463d62f5406d13a853b7418afe0ea3151274735be522b552ce4cbb3a411",
)

SCORING = Algorithm(
    "SCORING",  # token ids to the reference's log-probabilities
    version=5,
    first_key="2d7f67f5d835569c25870035732f3c03750021589b698da11ce97f0612716468",
    modules=(
        "dpo_lite.data.packing",
        "dpo_lite.model.adapter_names",
        "dpo_lite.model.attach",
        "dpo_lite.model.attention",
        "dpo_lite.model.base",
        "dpo_lite.model.base_copies",
        "dpo_lite.model.branches",
        "dpo_lite.model.brought",
        "dpo_lite.model.chance",
        "dpo_lite.model.cpu_kernels",
        "dpo_lite.model.dora",
        "dpo_lite.model.expert_adapter",
        "dpo_lite.model.experts",
        "dpo_lite.model.forest",
        "dpo_lite.model.four_bits",
        "dpo_lite.model.fresh",
        "dpo_lite.model.fused_kernels",
        "dpo_lite.model.fused_lora",
        "dpo_lite.model.fused_modules",
        "dpo_lite.model.fused_ops",
        "dpo_lite.model.fused_rotary",
        "dpo_lite.model.host_embedding",
        "dpo_lite.model.hybrid_forest",
        "dpo_lite.model.known_layers",
        "dpo_lite.model.layers",
        "dpo_lite.model.logprobs",
        "dpo_lite.model.mxfp4",
        "dpo_lite.model.own_start",
        "dpo_lite.model.precision",
        "dpo_lite.model.roles",
        "dpo_lite.model.saved_adapter",
        "dpo_lite.model.scoring",
        "dpo_lite.model.sharding",
        "dpo_lite.model.suited",
        "dpo_lite.model.targets",
        "dpo_lite.model.text_model",
        "dpo_lite.model.tree_convolution",
        "dpo_lite.model.tree_places",
        "dpo_lite.model.tree_recurrence",
        "dpo_lite.training.dpo",
        "dpo_lite.training.kto",
        "dpo_lite.training.reference_cache",
        "dpo_lite.training.update",
    ),
    recorded="e80e94ab51fe02af27f1ac877b084ccdf812dee8bce6f4d03b84a05aa0357d9e",
)

FOREST = Algorithm(
    "FOREST",  # a config to whether its code may run over packed rows
    version=3,
    first_key="version 1",
    modules=(
        "dpo_lite.data.packing",
        "dpo_lite.model.attention",
        "dpo_lite.model.branches",
        "dpo_lite.model.forest",
        "dpo_lite.model.forest_verdict",
        "dpo_lite.model.hybrid_forest",
        "dpo_lite.model.layers",
        "dpo_lite.model.small_twin",
        "dpo_lite.model.tiles",
        "dpo_lite.model.tree_convolution",
        "dpo_lite.model.tree_places",
        "dpo_lite.model.tree_recurrence",
    ),
    recorded="ebd7056e5b8bffc1cfa8a831226e12f506b7b1ee981ce73020f4c11f58353ac0",
)

ALGORITHMS = (ENCODING, SCORING, FOREST)


def code_hash(modules: Sequence[str]) -> str:
    """A hash of what the modules do: comments, docstrings and layout do not change it."""
    code = [(name, _meaning(ast.parse(source_file(name).read_bytes()))) for name in modules]
    return hashlib.sha256(repr(code).encode()).hexdigest()


def source_file(module: str) -> Path:
    return ROOT.joinpath(*module.split(".")).with_suffix(".py")


def _meaning(node: Any) -> Any:
    """A syntax tree as plain values. Unlike ast.dump the same whichever Python parsed it: newer
    ones have further fields, which are empty where old code is read."""
    if isinstance(node, list):
        return [_meaning(item) for item in node if not _is_docstring(item)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, _meaning(value)) for name, value in ast.iter_fields(node)]
    return (type(node).__name__, *[field for field in fields if field[1] not in ("None", [])])


def _is_docstring(node: Any) -> bool:
    """A text that stands alone does nothing, wherever it stands."""
    bare = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return bare and isinstance(node.value.value, str)


def record() -> None:
    """Write the present hashes into this file; say which are new."""
    file = Path(__file__)
    text = file.read_text(encoding="utf-8")
    for algorithm in ALGORITHMS:
        present = code_hash(algorithm.modules)
        if present != algorithm.recorded:
            text = text.replace(f'recorded="{algorithm.recorded}"', f'recorded="{present}"', 1)
            print(f"{algorithm.name} version {algorithm.version}: recorded {present}")
    file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    record()
