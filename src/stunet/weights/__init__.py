"""A file becomes a model, or the start of a training."""
