"""A scan in, a label map out, and the grid between them."""
