"""What the integers of a label map mean."""
