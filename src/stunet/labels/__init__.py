"""The meaning of the integers in a label map."""
