"""Names of models, data, rewards and machines: which of them others can reach."""

import ipaddress
import re
from pathlib import Path

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?\Z")
ON_THIS_MACHINE = re.compile(r"([/~]|\.\.?([/\\]|\Z)|[A-Za-z]:[\\/])")  # /home, ~, ./x, ../x, C:\
DATA_FILE = re.compile(r"\.(jsonl?|ndjson|csv|tsv|parquet|arrow|txt)(\.gz)?\Z", re.IGNORECASE)
QUANTISED = re.compile(r"-(unsloth-)?(bnb-(4|8)bit|4bit|nf4)\Z", re.IGNORECASE)


def repository(source: str) -> str:
    """The data set's id of a source ``org/name[@revision][:config][:split]``."""
    return source.partition(":")[0].partition("@")[0]


def is_public(name: str) -> bool:
    """Whether ``name`` reads as an id on the Hub: neither builtin nor something on this machine."""
    if name.startswith("builtin:") or ON_THIS_MACHINE.match(name) or DATA_FILE.search(name):
        return False
    if Path(name).exists() or Path(name.rpartition(":")[0] or name).exists():
        return False
    return HUB_ID.match(repository(name)) is not None


def is_loopback(host: str) -> bool:
    """Whether a host of an address is this machine, seen from itself alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_function(reward: str) -> bool:
    """Whether ``ppo.reward`` names a Python function, ``file.py:function``, and not an adapter."""
    file, colon, _ = reward.rpartition(":")
    return bool(colon) and file.endswith(".py")


def last_name(name: str) -> str:
    """A path without where it lies on this machine: ``/home/me/x-1/adapter`` -> ``x-1/adapter``,
    ``/data/pairs:train`` -> ``pairs:train``."""
    path = Path(name.replace("\\", "/"))
    return f"{path.parent.name}/adapter" if path.name == "adapter" else path.name


def plain_name(base: str) -> str:
    """A base's name without owner, case and the marks of a quantised copy, to compare two ids."""
    return QUANTISED.sub("", base.rstrip("/").rpartition("/")[2]).lower()
