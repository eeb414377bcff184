"""Teach a language model your preferences on the one GPU you own.

The policy is a LoRA adapter over a 4-bit base; the reference model is the same base with the
adapter switched off. docs/architecture.md says how the parts fit together.
"""

__version__ = "0.1.0"
