"""Scores of label maps, and their statistics."""
