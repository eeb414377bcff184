"""What a launcher (`accelerate launch`, `torchrun`) says in the environment of a process."""

from __future__ import annotations

import os

from dpo_lite.errors import UserError

SPLIT_MODELS = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism of accelerate",
}
LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


def launched() -> bool:
    """Whether a launcher started this process with others; asked before ``join``."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE") or 1) > 1


def take_settings() -> bool:
    """Take accelerate's settings out of the environment; whether they ask to divide the weights.

    Raises UserError for ways to split a model that are not ours.
    """
    for key, name in SPLIT_MODELS.items():
        if os.environ.get(key, "").lower() in ("true", "1"):
            raise UserError(
                f"This was launched with {name}, which splits the model in its own way; take"
                " `accelerate launch --multi_gpu`, and for a model that no card holds"
                " `accelerate launch --use_fsdp --fsdp_version 2`."
            )
    fsdp = _asks_for_fsdp()
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1")
    for key in [key for key in os.environ if key.startswith("ACCELERATE_")]:
        del os.environ[key]  # precision, compilation and the like: the recipe says what is computed
    if on_cpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return fsdp


def _asks_for_fsdp() -> bool:
    """Whether accelerate's settings ask to divide the weights; raises UserError for other ways."""
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() not in ("true", "1"):
        return False
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise UserError(
            "This was launched with FSDP1, which cannot divide weights in 4 bits beside an adapter"
            " in 32; add `--fsdp_version 2` (`fsdp_version: 2` in accelerate's configuration)."
        )
    if os.environ.get("FSDP_OFFLOAD_PARAMS", "").lower() in ("true", "1"):
        raise UserError(
            "FSDP's offloading of parameters to the host is not supported; leave"
            " `fsdp_offload_params` away, or launch on more cards."
        )
    for key in [key for key in os.environ if key.startswith("FSDP_")]:
        del os.environ[key]
    return True


def own_device() -> str:
    """The card of this process, as CUDA_VISIBLE_DEVICES names it."""
    place = int(os.environ.get("LOCAL_RANK") or 0)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return str(place)
    names = [name.strip() for name in visible.split(",")]
    if names in ([""], ["-1"]):  # all cards are hidden
        return names[0]
    if place >= len(names):
        raise UserError(
            f"CUDA_VISIBLE_DEVICES names {len(names)} cards ({visible}), too few for the processes"
            " that were launched on this machine; launch as many as there are cards."
        )
    return names[place]


def forget() -> None:
    """From here on the process is alone for libraries that would ask the environment."""
    for key in LAUNCHER:
        os.environ.pop(key, None)
