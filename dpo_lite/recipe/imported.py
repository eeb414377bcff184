"""A configuration of TRL, LLaMA-Factory, axolotl or ms-swift as a recipe, key by key.

What a key is called here, ``aliases`` knows; this file knows what its value means. No key is passed
over in silence: each is taken, says what holds here anyway, or is told with why it is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from dpo_lite.errors import UserError
from dpo_lite.objectives.losses import LOSSES
from dpo_lite.objectives.sums import SFT
from dpo_lite.recipe.aliases import ALIASES, NOT_HAD
from dpo_lite.recipe.tables import known_keys

TAKEN, SAME, LEFT, OURS = "taken", "same by default", "not had", "our default"
TASKS = {"dpo": "dpo", "sft": "sft", "kto": "kto", "rm": "reward", "reward": "reward"}
# Keys whose value means the same there and here.
PLAIN = set(
    "model.base model.revision model.adapter model.trust_remote_code adapter.r adapter.alpha"
    " adapter.rslora train.lr train.beta train.label_smoothing train.sft_weight train.simpo_gamma"
    " train.dpop_lambda train.ld_alpha train.desirable_weight train.undesirable_weight train.epochs"
    " train.max_steps train.max_grad_norm train.weight_decay train.seed train.save_steps"
    " train.eval_steps data.max_length data.limit run.name".split()
)
OTHERWISE = set(  # called alike, and counted or meant in another way
    "gamma_beta_ratio max_prompt_length max_completion_length data_seed ref_model rl_loss rpo_alpha"
    " save_strategy eval_strategy evaluation_strategy evals_per_epoch saves_per_epoch"
    " tokenizer_name_or_path wandb_name wandb_run_id kl_coef init_kl_coef".split()
)
PER_CARD = "per_device_train_batch_size micro_batch_size train_batch_size".split()
TRACKERS = ("tensorboard", "trackio", "wandb", "mlflow", "swanlab")
ALL = ("all", "all-linear", "all_linear")
CUT = re.compile(r"(.+)#(\d+)")  # ms-swift's number of rows
BARE = re.compile(r"[\w-]+\Z")  # neither a file nor user/name
SAID = "task train.lr train.epochs train.batch_size train.beta adapter.r adapter.alpha".split()


@dataclass
class Imported:
    """``keys``: the recipe's, by their dotted names; ``rows``: (key there, what of it, words)."""

    keys: dict[str, Any] = field(default_factory=dict)
    rows: list[tuple[str, str, str]] = field(default_factory=list)

    def take(self, name: str, key: str, value: Any, why: str = "") -> None:
        self.keys[key] = value
        known = known_keys()[key]
        same = not known.is_required() and known.get_default(call_default_factory=True) == value
        words = f"{key}: {value}" + (f" ({why})" if why else "")
        self.rows.append((name, SAME if same else TAKEN, words))

    def leave(self, name: str, why: str) -> None:
        self.rows.append((name, LEFT, why))

    def values(self) -> dict[str, Any]:
        """The recipe as nested dicts."""
        nested: dict[str, Any] = {}
        for key, value in self.keys.items():
            section, _, leaf = key.rpartition(".")
            (nested.setdefault(section, {}) if section else nested)[leaf] = value
        return nested


def imported(given: Mapping[str, Any]) -> Imported:
    """The recipe that says the same; raises UserError where it is no training's configuration."""
    if isinstance(given.get("model"), Mapping) and "base" in given["model"]:
        raise UserError("The file is a recipe already: `dpo-lite check` says what it does.")
    flat: dict[str, Any] = {}
    for name, value in given.items():
        # axolotl and TRL put some keys into a section
        inside = name in ("trl", "dpo") and isinstance(value, Mapping)
        flat |= dict(value) if inside else {name: value}
    found = Imported()
    _settle_task(flat, found)
    _settle_losses(flat, found)
    _settle_batch(flat, found)
    _settle_bits(flat, found)
    for name, value in flat.items():
        try:
            _settle(name, value, flat, found)
        except (TypeError, ValueError, AttributeError):
            found.leave(name, f"{value} is no value that is understood here")
    if "model.base" not in found.keys:
        raise UserError(
            "The file names no model (model_name_or_path, base_model, model); is it the "
            "configuration of a training?"
        )
    for key in SAID:
        if key not in found.keys:
            default = known_keys()[key].get_default(call_default_factory=True)
            found.rows.append(
                ("(not said)", OURS, f"{key} is {default} here; that program may take another")
            )
    return found


def _settle_task(flat: dict[str, Any], found: Imported) -> None:
    for name in ("stage", "rlhf_type", "rl"):
        if name not in flat:
            continue
        value = str(flat.pop(name)).lower()
        if value in TASKS:
            found.take(name, "task", TASKS[value])
        elif value in LOSSES:
            found.take(name, "train.loss", value)
        else:
            raise UserError(f"{name}: {value} is not had here; it may be {', '.join(TASKS)}.")


def _settle_losses(flat: dict[str, Any], found: Imported) -> None:
    """TRL's list of losses, with their weights, as a sum."""
    losses = flat.get("loss_type")
    if not isinstance(losses, list) or len(losses) < 2:
        return
    if any(name not in LOSSES and name != SFT for name in losses):
        return
    weights = flat.get("loss_weights") or [1.0] * len(losses)
    if not isinstance(weights, list) or len(weights) != len(losses):
        return
    names = [flat.pop(name) and name for name in ("loss_type", "loss_weights") if flat.get(name)]
    found.take(", ".join(names), "train.loss", dict(zip(losses, weights, strict=True)))


def _settle_batch(flat: dict[str, Any], found: Imported) -> None:
    """Examples per update: there the product of two keys and of the number of cards."""
    names = [name for name in (*PER_CARD, "gradient_accumulation_steps") if name in flat]
    if not names:
        return
    parts, both = [flat.pop(name) for name in names], " × ".join(names)
    if not all(type(part) is int for part in parts):  # such as `auto`
        found.leave(both, "decided there while it runs; train.batch_size is 16 unless you set it")
        return
    why = "their product, on one card; times the number of cards where there were more"
    if not any(name in PER_CARD for name in names):
        why = "of one example each; times the size per card that the program takes by itself"
    found.take(both, "train.batch_size", prod(parts), why)


def _settle_bits(flat: dict[str, Any], found: Imported) -> None:
    """Those programs train over 16 bits unless told otherwise, and this one over 4."""
    bits = 16
    names: list[str] = []
    for name in ("load_in_4bit", "load_in_8bit", "quantization_bit", "quant_bits"):
        if name in flat:
            value = flat.pop(name)
            names.append(name)
            if value:
                bits = 4 if "4" in f"{name} {value}" else 8
    if flat.get("adapter") in ("lora", "qlora"):  # axolotl's kind of adapter
        names.append("adapter")
        bits = 4 if flat.pop("adapter") == "qlora" else bits
    name = ", ".join(names) or "(not said)"
    why = {4: "", 16: "16 bits, as those programs take unless told"}
    if bits in why:
        found.take(name, "model.quantization", "nf4" if bits == 4 else "none", why[bits])
    else:
        found.leave(name, f"{bits} bits are not had; model.quantization stays nf4, 4 bits")


def _settle(name: str, value: Any, flat: Mapping[str, Any], found: Imported) -> None:
    known = "run.report_to" if name == "report_to" else ALIASES.get(name)
    key = known or (f"train.{name}" if f"train.{name}" in known_keys() else name)
    if value is None:
        found.rows.append((name, SAME, "empty"))
    elif name in NOT_HAD:
        found.leave(name, NOT_HAD[name])
    elif name == "gamma_beta_ratio":
        beta = flat.get("beta", flat.get("rl_beta", 2.0))
        found.take(name, "train.simpo_gamma", value * beta, f"{value} × beta {beta}")
    elif name in OTHERWISE or key not in known_keys():
        found.leave(name, "nothing of it is taken" + (f"; see {key}" if name in ALIASES else ""))
    elif key in PLAIN:
        found.take(name, key, value)
    elif key == "run.report_to":
        _settle_trackers(name, value, found)
    elif key in ("data.train", "data.eval"):
        _settle_data(name, key, value, found)
    else:
        _settle_choice(name, key, value, flat, found)


def _settle_trackers(name: str, value: Any, found: Imported) -> None:
    """TRL's list or one name, or a switch that is called after the tracker, such as use_wandb."""
    asked = [name.split("_")[1]] if value is True else value if isinstance(value, list) else [value]
    asked = [str(one).lower() for one in asked if one not in (False, "none", "")]
    if not asked:
        found.rows.append((name, SAME, "run.report_to: no tracker is told"))
    elif all(one in TRACKERS for one in asked):
        found.take(name, "run.report_to", asked)
    else:
        others = ", ".join(one for one in asked if one not in TRACKERS)
        found.leave(name, f"{others} is none of run.report_to's {', '.join(TRACKERS)}")


def _settle_data(name: str, key: str, value: Any, found: Imported) -> None:
    if name in ("val_set_size", "val_size", "split_dataset_ratio"):
        if 0 < value <= 0.5:
            found.take(name, "data.eval_share", value)
        else:
            found.leave(name, f"{value} is no share; set data.eval_share, or data.eval to a source")
        return
    parts = value if isinstance(value, list) else [value]
    sources = [part.get("path") if isinstance(part, Mapping) else part for part in parts]
    # A name in LLaMA-Factory's dataset_info.json is none here, and it joins them by commas.
    if not all(isinstance(source, str) and "," not in source for source in sources):
        found.leave(name, f"{value} names no source; set {key}")
        return
    found_cuts = [CUT.fullmatch(str(source)) for source in sources]
    sources = [cut[1] if cut else source for cut, source in zip(found_cuts, sources, strict=True)]
    if name in ("dataset", "eval_dataset") and any(BARE.match(str(source)) for source in sources):
        why = "may be a name of dataset_info.json, which is none here"
        found.leave(name, f"{value} {why}; set {key} to the file or the Hub's id")
        return
    more = sorted({k for part in parts if isinstance(part, Mapping) for k in part} - {"path"})
    why = f"without {', '.join(more)}: the format is recognised" if more else ""
    found.take(name, key, sources[0] if len(sources) == 1 else sources, why)
    if len(sources) == 1 and found_cuts[0] and key == "data.train":
        found.take(name, "data.limit", int(found_cuts[0][2]), "behind # there, how many rows")
    elif any(found_cuts):
        found.leave(name, "how many rows of a source (#) is no part of its name here; data.limit")


def _settle_choice(
    name: str, key: str, value: Any, flat: Mapping[str, Any], found: Imported
) -> None:
    """Keys whose values have other names there."""
    text = str(value[0] if isinstance(value, list) and len(value) == 1 else value).lower()
    if key == "train.loss" and text in LOSSES:
        found.take(name, key, text)
    elif key == "adapter.targets" and (value is True or text in ALL):
        found.take(name, key, "all-linear")
    elif key == "adapter.targets" and isinstance(value, str | list):
        split = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        found.take(name, key, split)
    elif key == "adapter.kind":
        found.take(name, key, "dora" if value else "lora")
    elif key == "train.scheduler" and text.removesuffix("_with_warmup") in (
        "cosine",
        "linear",
        "constant",
    ):
        found.take(name, key, text.removesuffix("_with_warmup"))
    elif key == "train.warmup" and 0 <= value < 1:
        found.take(name, key, value)
    elif key == "train.warmup" and flat.get("max_steps", 0) > value:
        found.take(name, key, value / flat["max_steps"], "as a share of max_steps")
    elif key == "train.optimizer" and "adamw" in text:
        found.take(name, key, "adamw_8bit" if "8bit" in text else "adamw")
    elif key == "train.checkpointing":
        found.leave(name, "what memory asks for is planned; train.checkpointing=true forces it")
    else:
        found.leave(name, f"{value} has no equal here; see {key} in docs/recipes.md")
