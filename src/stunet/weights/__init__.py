"""A file becomes a model: networks, how to prepare images for them, and what their answers mean."""
