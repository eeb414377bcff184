"""The losses, as pure functions of scores."""
