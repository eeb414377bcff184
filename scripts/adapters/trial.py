"""What becomes of an adapter here, against what it said where it was made."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel

from dpo_lite.errors import UserError
from dpo_lite.export.merge import merge
from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.recipe import ModelSection
from scripts.adapters.bases import make_base, open_base, says
from scripts.adapters.kinds import Kind, make_adapter

NEAR = 2e-5  # nats: rounding of fp32, in another order
USES = ("policy", "reference: base", "reference: start", "scored", "merged", "pushed")


@dataclass(frozen=True)
class Outcome:
    """Of each use ``right``, ``refused`` or ``WRONG``, and the sentence of the first refusal."""

    uses: dict[str, str]
    sentence: str | None


def try_kind(kind: Kind, folder: Path) -> Outcome:
    """Use an adapter of this kind in every way; ``folder`` keeps the bases for the next."""
    base = make_base(kind.base, folder / f"base-{kind.base}")
    adapter, out = folder / "adapter", folder / "out"
    for old in (adapter, out):
        shutil.rmtree(old, ignore_errors=True)
    meant, bare = make_adapter(kind, base, adapter), says(open_base(base))

    def load() -> torch.nn.Module:
        return load_base(ModelSection(base=str(base), quantization="none"))

    def start(reference: str) -> PeftModel:
        return roles.continue_policy(load(), str(adapter), reference)

    def policy() -> torch.Tensor:
        with roles.policy(model := start("base")):
            return says(model)

    def reference(which: str) -> torch.Tensor:
        with roles.reference(model := start(which)):
            return says(model)

    def merged() -> torch.Tensor:
        merge(str(base), None, str(adapter), out)
        return says(open_base(out))

    def pushed() -> torch.Tensor:
        roles.save_policy(start("base"), out / "again", str(base), None)
        return says(PeftModel.from_pretrained(open_base(base), out / "again"))

    uses: dict[str, tuple[Callable[[], torch.Tensor], torch.Tensor]] = {
        "policy": (policy, meant),
        "reference: base": (lambda: reference("base"), bare),
        "reference: start": (lambda: reference("start"), meant),
        "scored": (lambda: says(roles.load_policy(load(), adapter)), meant),
        "merged": (merged, meant),
        "pushed": (pushed, meant),
    }
    found, sentence = {}, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for use, (way, wanted) in uses.items():
            try:
                apart = (way() - wanted).abs().max().item()
                found[use] = "right" if apart < NEAR else f"WRONG by {apart:.1e}"
            except UserError as refusal:
                found[use] = "refused"
                sentence = sentence or _plain(str(refusal), adapter)
    return Outcome(found, sentence)


def _plain(sentence: str, adapter: Path) -> str:
    """A refusal as it reads of an adapter that has no name."""
    return sentence.removeprefix("model.adapter: ").replace(str(adapter), "it")
