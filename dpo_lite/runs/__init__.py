"""A run is a folder, and its process: how both are made, found, read and stopped."""
