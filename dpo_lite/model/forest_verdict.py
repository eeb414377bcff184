"""Whether an architecture may run over a forest: found by trying its own code in fp32, not listed.

A small twin of the base (dpo_lite.model.small_twin) scores a few rows twice: every response alone
through the unmodified model, and all of them as a forest. Right is right to rounding, in the
log-probabilities and in a gradient, layers recomputed where they can be; a layer that mixes tokens
by something else than the trees is off by a hundred times that and more. In bf16 it would not be
seen: forests of LFM2, Jamba and Falcon-H1 that were wrong by 1e-2 and less per token would pass
where rounding alone costs as much. So the verdict is made in fp32, once per architecture, and kept.

There is no list of architectures: none is known that passes and is wrong all the same.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from dpo_lite.data.cache_versions import FOREST
from dpo_lite.data.packing import Batch, Encoded, pack, pad
from dpo_lite.errors import UserError
from dpo_lite.files import cache_folder, read_json, write_json
from dpo_lite.model.forest import open_forest
from dpo_lite.model.hybrid_forest import torch_functions
from dpo_lite.model.recompute import recompute
from dpo_lite.model.scoring import response_token_logps
from dpo_lite.model.small_twin import small_config, small_twin
from dpo_lite.model.tiles import per_token_kinds, tiles_for_a_while

# Prompts of one token and of more than a chunk of any recurrence (64 tokens at most).
LENGTHS: Sequence[tuple[int, tuple[int, ...]]] = ((67, (5, 19)), (1, (4,)))
LOGP_LIMIT = 1e-4  # nats, the largest of all tokens; rounding costs 1e-5, a leak 1e-3 and more
TILE = 32  # tokens of a tile here: two and more in most rows
GRADIENT_LIMIT = 1e-3  # of the gradient's norm; rounding costs 1e-5


@dataclass(frozen=True)
class Verdict:
    fits: bool
    reason: str  # in words; empty where it fits
    parts: tuple[str, ...] = ()  # the classes of the twin's modules, which the trial stands for
    per_token: tuple[str, ...] = ()  # those that may run in tiles (dpo_lite.model.tiles)


def forest_verdict(config: PreTrainedConfig, model: PreTrainedModel | None = None) -> Verdict:
    """Whether the code of this config, and of ``model`` where it is loaded, may run in a forest.

    Takes a second or two the first time, later nothing.
    """
    try:
        small = small_config(config)
    except Exception as error:  # whatever a foreign config's code raises
        return Verdict(False, f"no small copy of it could be made to try ({_first_line(error)})")
    verdict = _kept(_key(small), _Asked(config, type(model) if model is not None else None))
    missing = sorted(_parts(model) - set(verdict.parts)) if model is not None else []
    if verdict.fits and missing:
        return Verdict(False, f"the small copy that was tried lacks {', '.join(missing)}")
    return verdict


@dataclass(frozen=True)
class _Asked:
    """What a verdict is made of where none is kept; all are equal, the key says which it is."""

    config: PreTrainedConfig
    model_class: type | None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Asked)

    def __hash__(self) -> int:
        return 0


def _key(small: PreTrainedConfig) -> str:
    """A hash of the code and of all of the config that the twin has; real widths are not in it."""
    name = f"{type(small).__module__}.{type(small).__qualname__}"
    facts = (FOREST.key, name, transformers.__version__, torch.__version__, _plain(small.to_dict()))
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A config's values in an order of their own, without where it was loaded from."""
    if isinstance(value, dict):
        return sorted((str(k), _plain(v)) for k, v in value.items() if k != "_name_or_path")
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else repr(value)


@lru_cache
def _kept(key: str, asked: _Asked) -> Verdict:
    """The verdict on disk, or a new one. A cache that cannot be used costs a trial."""
    path = cache_folder() / "forest" / f"{key}.json"
    with contextlib.suppress(OSError, UserError, KeyError, TypeError):  # damaged, so tried again
        if known := read_json(path):
            lists = {name: tuple(map(str, known[name])) for name in ("parts", "per_token")}
            if isinstance(known["fits"], bool) and isinstance(known["reason"], str):
                return Verdict(known["fits"], known["reason"], **lists)
    verdict = tried(asked.config, asked.model_class)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(verdict))
    return verdict


def tried(config: PreTrainedConfig, model_class: type | None = None) -> Verdict:
    """Try it now."""
    per_token: tuple[str, ...] = ()
    try:
        twin = small_twin(config, model_class).train()
        with torch.enable_grad(), torch.autocast("cpu", enabled=False), torch_functions(twin):
            _learn_little(twin)
            parts = tuple(sorted(_parts(twin)))
            examples = _examples()
            alone = [
                pad([{"prompt_ids": example["prompt_ids"], "response_ids": [answer]}])
                for example in examples
                for answer in example["response_ids"]
            ]
            truth = _scored(twin, alone)
            recompute(twin, "layers")
            kinds = per_token_kinds(twin)
            with tiles_for_a_while(twin, TILE, kinds):
                if not _differs(_scored(twin, alone), truth):
                    per_token = tuple(sorted(kinds))
            difference = _differs(_scored(twin, [pack(examples)]), truth)
    except Exception as error:  # the architecture's own code, over rows that it does not expect
        reason = f"its code does not run over them ({_first_line(error)})"
        return Verdict(False, reason, per_token=per_token)
    if difference:
        reason = f"a small copy of it scores otherwise there ({difference})"
        return Verdict(False, reason, parts, per_token)
    return Verdict(True, "", parts, per_token)


Scored = tuple[torch.Tensor, torch.Tensor]


def _differs(found: Scored, truth: Scored) -> str:
    """By how much log-probabilities and gradient differ, in words; empty where it is rounding."""
    off = (found[0] - truth[0]).abs().max().item()
    turned = ((found[1] - truth[1]).norm() / truth[1].norm()).item()
    if off <= LOGP_LIMIT and turned <= GRADIENT_LIMIT:  # false for NaN
        return ""
    return f"by up to {off:.0e} per token, its gradient by {turned:.0e}"


def _scored(twin: PreTrainedModel, batches: Sequence[Batch]) -> Scored:
    """Log-probabilities of all scored tokens (N,), and the gradient of a smooth function of them.

    Twice differentiable and different for every token, so that no two errors cancel.
    """
    twin.zero_grad(set_to_none=True)
    found, seen = [], 0
    for batch in batches:
        with open_forest(twin, batch):
            logps = response_token_logps(twin, batch, "plain")
            weights = torch.cos(torch.arange(seen, seen + len(logps)).float())
            (torch.tanh(logps / 5) * weights).sum().backward()
        found.append(logps.detach())
        seen += len(logps)
    gradients = [p.grad.flatten() for p in twin.parameters() if p.grad is not None]
    return torch.cat(found), torch.cat(gradients)


def _learn_little(twin: PreTrainedModel) -> None:
    """Gradients of the embedding, norms and biases only: what goes to a matrix goes on to them."""
    for parameter in twin.parameters():
        parameter.requires_grad_(parameter.ndim == 1)
    twin.get_input_embeddings().weight.requires_grad_(True)


def _examples() -> list[Encoded]:
    draw = torch.Generator().manual_seed(0)

    def ids(count: int) -> list[int]:
        return torch.randint(3, 120, (count,), generator=draw).tolist()

    return [
        {"prompt_ids": ids(prompt), "response_ids": [ids(length) for length in responses]}
        for prompt, responses in LENGTHS
    ]


def _parts(model: torch.nn.Module) -> set[str]:
    """The classes of the modules that the architecture brings along (quantised and adapted linear
    layers are PyTorch's in the twin, and of other packages in the loaded model)."""
    return {
        type(module).__name__
        for module in model.modules()
        if type(module).__module__.startswith("transformers")
    }


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__
