"""Training: STU-Net inside nnU-Net v2, the only room that imports nnunetv2."""

import os

from stunet.errors import UserError

MAX_PROCESSES = 8
"""nnU-Net's own number of helper processes; we take no more, and not more than there are processors."""

# nnU-Net reads this variable once, when its first module is imported
os.environ.setdefault("nnUNet_def_n_proc", str(min(MAX_PROCESSES, os.cpu_count() or 1)))

try:
    import nnunetv2  # noqa: F401
except ImportError as error:
    raise UserError("Training needs nnU-Net. Install it with: pip install 'stunet[train]'") from error
