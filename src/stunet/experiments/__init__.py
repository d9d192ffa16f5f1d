"""Experiments: the paper's tables and figures as recipes, and what a rerun of them gives."""
