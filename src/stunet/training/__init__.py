"""Training: STU-Net inside nnU-Net v2, the only room that imports nnunetv2."""

from stunet.errors import UserError

try:
    import nnunetv2  # noqa: F401
except ImportError as error:
    raise UserError("Training needs nnU-Net. Install it with: pip install 'stunet[train]'") from error
