"""Evaluation: two label maps give numbers."""
