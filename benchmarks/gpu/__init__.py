"""What the product does on the card that is there, by one command: ``python -m benchmarks.gpu``."""
