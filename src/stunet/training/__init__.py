"""STU-Net inside nnU-Net v2, to train it. Only this room imports nnunetv2."""

import os

MAX_PROCESSES = 8
"""nnU-Net's own number of helper processes; we take no more, and not more than there are processors."""

# nnU-Net reads this variable once, when its first module is imported
os.environ.setdefault("nnUNet_def_n_proc", str(min(MAX_PROCESSES, os.cpu_count() or 1)))
