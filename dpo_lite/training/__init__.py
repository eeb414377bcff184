"""From prepared data and a loaded model to a trained adapter in a run folder."""
