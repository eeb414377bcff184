"""Adapters of every kind that PEFT makes, tried here: what docs/adapters.md says comes from it."""
