"""Every architecture through the product's own path: ``python -m benchmarks.model_zoo``."""
