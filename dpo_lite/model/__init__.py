"""The frozen 4-bit base, its adapter roles, and exact log-probabilities over packed rows."""
