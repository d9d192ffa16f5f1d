"""A file becomes a state dict that fits."""
