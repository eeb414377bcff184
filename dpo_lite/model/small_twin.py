"""A small model of the same code: a base's own config, cut to a few narrow layers.

What an architecture does with packed rows is decided by its code, not by its size. So the twin has
every kind of layer that the config lists, with the same sizes inside of a head, but few heads, few
experts and a small vocabulary; it is made in some tenths of a second, without weights, for any base
whose config is at hand. All that counts tokens (windows, chunks, the indices that a sparse
attention takes) is cut to less than the rows of a trial are long, so that it shows there.

The widths of an architecture hang together in ways that no list of fields tells (heads times their
size, an expansion, groups). They all hold when every width and every number of heads is divided by
one factor, so that is what is done.
"""

from __future__ import annotations

import math
import re
from copy import deepcopy

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from dpo_lite.model.chance import disable_dropout

VOCABULARY = 128
WIDTH = 384  # of the hidden state, at most, where the heads allow it
WINDOW, CHUNK = 5, 16  # tokens; rows of a trial are several times as long
MOST_LAYERS = 12

HEADS = re.compile(r"(^|_)(num|n)_(\w+_)?heads?$|^n_head$")
KEY_HEADS = re.compile(r"key_value|kv_|_kv")
WIDTHS = re.compile(
    r"hidden_size$|intermediate|n_embd$|d_model$|d_ssm$|ffn|ff_dim$|n_inner$|^lru_width$"
)
EXPERTS = re.compile(r"^(num_experts|num_local_experts|n_routed_experts|moe_num_experts)$")
CHOSEN_EXPERTS = re.compile(r"experts_per_tok|^top_k_experts$|^moe_(top)?k$")
GROUPS_OF_EXPERTS = re.compile(r"^(n_group|topk_group|num_expert_group)$")
GROUPS_OF_HEADS = re.compile(r"n_?groups$")
STATES = re.compile(r"^linear_\w*head_dim$|d_state$|state_size$")  # of a recurrence
WINDOWS = re.compile(r"window(_size)?$|index_topk$|^floor_scale$")
CHUNKS = re.compile(r"chunk_size$|block_size$")
DROPOUT = re.compile(r"dropout|pdrop")
# Behind so many layers come those of another kind, where no list says so.
OTHERS_FROM_HERE = (
    "first_k_dense_replace",
    "moe_layer_start_index",
    "num_dense_layers",
    "attn_layer_offset",
)
LAYERS_OF_A_TOWER = (
    "num_hidden_layers",
    "depth",
    "num_layers",
    "n_layers",
    "conf_num_hidden_layers",
)


def small_twin(config: PreTrainedConfig, model_class: type | None = None) -> PreTrainedModel:
    """The twin of a base with this config, in fp32 on the CPU, with random weights.

    ``model_class``: of the loaded base; left out, the one that transformers loads for the config.
    Raises whatever the architecture's code raises for sizes that it cannot do with.
    """
    small = small_config(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _build(small, model_class)
        _make_all_matter(model)
    disable_dropout(model)
    model.config.use_cache = False
    return model


def _build(config: PreTrainedConfig, model_class: type | None) -> PreTrainedModel:
    if model_class is not None:
        return model_class._from_config(config, dtype=torch.float32)  # type: ignore[attr-defined]
    # A config whose class came with the base has been trusted when it was loaded.
    foreign = type(config).__module__.startswith("transformers_modules")
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=foreign)


def small_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy of the config with every kind of layer, each of them small."""
    small = deepcopy(config)
    if hasattr(small, "quantization_config"):
        del small.quantization_config  # how the weights lie, of which the twin has none
    text = small.get_text_config()
    _cut_towers(small, text)
    _cut_layers(text)
    _cut_widths(text)
    return small


def _cut_towers(config: PreTrainedConfig, text: PreTrainedConfig) -> None:
    """One layer of what reads pictures and sounds: no row of preference data gets there."""
    for name in config.sub_configs:
        tower = getattr(config, name, None)
        if tower is None or tower is text:
            continue
        for field in LAYERS_OF_A_TOWER:
            if isinstance(getattr(tower, field, None), int):
                setattr(tower, field, 1)


def _cut_layers(text: PreTrainedConfig) -> None:
    """The first so many layers that every kind is among them, so that rules by number still hold.

    A layer's kind is what the config's lists say of it, one entry a layer.
    """
    count = text.num_hidden_layers
    own = _own_values(text)
    lists = {
        name: value
        for name, value in text.to_dict().items()
        if isinstance(value, (list, tuple)) and len(value) == count and name != "mlp_only_layers"
    }
    # RecurrentGemma's is a pattern that repeats, and what it comes to no field.
    pattern = getattr(text, "layers_block_type", None) or ["any"] * count
    told = [*lists.values(), pattern, [own.get(layer) for layer in range(count)]]
    kinds = [repr(kind) for kind in zip(*told, strict=True)]
    first = {kind: kinds.index(kind) for kind in set(kinds)}
    by_number = [getattr(text, name, None) for name in OTHERS_FROM_HERE]
    least = max([1, *(number for number in by_number if isinstance(number, int))])
    keep = min(max(least, *first.values()) + 1, count, MOST_LAYERS)
    order = list(range(keep))
    if getattr(text, "num_kv_shared_layers", None):  # the last ones see the keys of layers before
        order = sorted(first.values()) * 2
        text.num_kv_shared_layers = len(first)
    text.num_hidden_layers = len(order)
    for name, value in lists.items():
        setattr(text, name, [value[place] for place in order])
    if own:
        text.per_layer_config = {new: own[old] for new, old in enumerate(order) if old in own}


def _cut_widths(text: PreTrainedConfig) -> None:
    """Divide widths and heads by one factor; set numbers of experts, tokens and the vocabulary."""
    values = text.to_dict()
    heads = {
        name: value
        for name, value in values.items()
        if HEADS.search(name) and not KEY_HEADS.search(name) and type(value) is int
    }
    factor = _factor(text.hidden_size, list(heads.values()))
    groups = math.gcd(*(number // factor for number in heads.values()))

    def smaller(name: str, value: int) -> int:
        if HEADS.search(name):
            return max(value // factor, 1)
        if WIDTHS.search(name):
            return _narrow(value, factor)
        if EXPERTS.search(name):
            return min(value, 4)
        if CHOSEN_EXPERTS.search(name):
            return min(value, 2)
        if GROUPS_OF_EXPERTS.search(name):
            return 1
        if GROUPS_OF_HEADS.search(name):
            return math.gcd(value, groups)
        if STATES.search(name):
            return max(value // 4, 8)
        if CHUNKS.search(name):
            return CHUNK
        return WINDOW if WINDOWS.search(name) else value

    for name, value in values.items():
        if name.endswith("per_layer_input"):
            continue
        if type(value) is int and value > 0:
            setattr(text, name, smaller(name, value))
        elif isinstance(value, list) and all(type(each) is int for each in value):  # one a layer
            setattr(text, name, [smaller(name, each) for each in value])
        elif isinstance(value, float) and DROPOUT.search(name):
            setattr(text, name, 0.0)
    if own := _own_values(text):
        text.per_layer_config = {
            layer: {k: smaller(k, v) if type(v) is int and v > 0 else v for k, v in them.items()}
            for layer, them in own.items()
        }
    for name in ("vocab_size", "vocab_size_per_layer_input"):
        if name in values:
            setattr(text, name, VOCABULARY)
    for number, name in enumerate(("pad_token_id", "bos_token_id", "eos_token_id")):
        if getattr(text, name, None) is not None:
            setattr(text, name, number)


def _own_values(text: PreTrainedConfig) -> dict[int, dict]:
    """What the config says of single layers alone, by their numbers."""
    return {
        int(layer): own for layer, own in (text.to_dict().get("per_layer_config") or {}).items()
    }


def _narrow(width: int, factor: int) -> int:
    return width // factor if width % factor == 0 else max(width // factor // 8 * 8, 8)


def _factor(hidden: int, heads: list[int]) -> int:
    """The smallest number that divides all of them and leaves at most ``WIDTH``, or the largest."""
    common = math.gcd(hidden, *heads)
    divisors = [n for n in range(1, common + 1) if common % n == 0]
    return next((n for n in divisors if hidden // n <= WIDTH), common)


@torch.no_grad()
def _make_all_matter(model: PreTrainedModel) -> None:
    """Draw matrices of a size at which every part has its share in the output, and move the rest.

    Fresh weights are so small, and some of them zero, that a layer could do anything unnoticed.
    """
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=1.5 * parameter[0].numel() ** -0.5)
        else:
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
