"""What the parts of a run's memory are called in results.json; without torch, for its readers."""

WEIGHTS = "weights"
ADAPTER = "adapter and optimiser"
ACTIVATIONS = "activations"
REST = "head and workspace"
LIBRARIES = (
    "Python and libraries"  # where no card is: what the process held before the first update
)
TOGETHER = "together"
