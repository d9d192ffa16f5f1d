"""Datasets: published ones brought into nnU-Net's raw layout, checked, and cut into nested subsets."""

import os

WORKERS = min(8, os.cpu_count() or 1)
"""Cases that are read at a time, by threads; each may take some hundred megabytes."""
