"""Experiments: the paper's tables and figures as recipes that can be rerun, and their results."""
