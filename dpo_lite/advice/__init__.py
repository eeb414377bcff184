"""What the curves of a run mean: rules over its metrics, pure functions and no model."""
