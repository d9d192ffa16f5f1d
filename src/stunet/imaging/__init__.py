"""A scan in, a label map out, and the grid between them."""

from stunet.imaging.formats.table import read_labels, read_volume, write_labels
from stunet.imaging.plan import PreprocessingPlan
from stunet.imaging.volume import Volume

__all__ = ["PreprocessingPlan", "Volume", "read_labels", "read_volume", "write_labels"]
