"""Train STU-Net inside nnU-Net v2. Only this package imports nnunetv2."""

import os

MAX_PROCESSES = 8
"""nnU-Net's default number of helper processes. We use at most this many, and at most one per processor."""

# nnU-Net reads this variable once, when its first module is imported
os.environ.setdefault("nnUNet_def_n_proc", str(min(MAX_PROCESSES, os.cpu_count() or 1)))
