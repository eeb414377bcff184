"""Teach a language model your preferences on the one GPU you own.

The policy is a LoRA adapter over a 4-bit base; the reference model is the same base with the
adapter switched off. docs/architecture.md says how the parts fit together, docs/python.md how to
use it from Python:

    from dpo_lite import train
    run = train("quickstart", beta=0.05)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpo_lite.api.calls import compare as compare
    from dpo_lite.api.calls import load as load
    from dpo_lite.api.calls import plan as plan
    from dpo_lite.api.calls import show as show
    from dpo_lite.api.calls import train as train

__version__ = "0.1.0"
CALLS = ("train", "plan", "compare", "load", "show")


def __getattr__(name: str) -> Any:
    """What Python code calls is imported when it is asked for: the package itself stays light."""
    if name in CALLS:
        return getattr(import_module("dpo_lite.api.calls"), name)
    raise AttributeError(f"module 'dpo_lite' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *CALLS])
