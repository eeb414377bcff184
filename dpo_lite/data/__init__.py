"""Sources -> formats -> examples -> token ids -> packed rows."""

from dpo_lite.data.prepare import PreparedData, prepare

__all__ = ["PreparedData", "prepare"]
