"""Convert published datasets to nnU-Net's raw layout, check them, and draw subsets."""

import os

WORKERS = min(8, os.cpu_count() or 1)
"""Number of cases read in parallel, by threads. Each may take several hundred megabytes."""
