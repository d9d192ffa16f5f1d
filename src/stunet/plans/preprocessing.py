"""The preprocessing of a scan for the network, as nnU-Net v1 or v2 planned it at training time.

`stunet.plans.nnunet` reads it from nnU-Net's files; model files store it as written by `to_dict`. All fields of three
numbers are in the network's axis order: the scan's (Z, Y, X) after `transpose_forward`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Scheme = Literal["ct", "zscore", "none", "rescale_to_0_1", "rgb_to_0_1"]
Convention = Literal["nnunet_v1", "nnunet_v2"]

ANISOTROPY_THRESHOLD = 3.0
"""Spacing ratio above which nnU-Net treats the thick axis separately (RESAMPLING_SEPARATE_Z_ANISOTROPY_THRESHOLD)."""


@dataclass(frozen=True)
class ChannelNormalization:
    """The intensity normalization of one channel.

    Attributes:
        scheme: "ct" clips to the percentiles, then (x - mean) / std of the training foreground; "zscore" uses mean and
            standard deviation of the image itself; "rescale_to_0_1" its minimum and maximum; "rgb_to_0_1" divides by
            255; "none" keeps the values.
        mean, std, percentile_00_5, percentile_99_5: Foreground statistics of the training set; only used by "ct".
        use_mask: Set voxels outside the nonzero mask to zero, and exclude them from the statistics.
    """

    scheme: Scheme
    mean: float = 0.0
    std: float = 1.0
    percentile_00_5: float = 0.0
    percentile_99_5: float = 0.0
    use_mask: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown scheme."""
        if self.scheme not in get_args(Scheme):
            raise ValueError(f"unknown normalization {self.scheme!r}; known: {', '.join(get_args(Scheme))}")


@dataclass(frozen=True)
class PreprocessingPlan:
    """Everything that turns a scan into the network's input.

    Attributes:
        convention: "nnunet_v1" resamples, then normalises; "nnunet_v2" the other way round.
        spacing: Voxel size of the network's grid in mm, network axes.
        patch_size: The network's window in voxels, network axes.
        normalization: One entry per channel.
        transpose_forward: Network axis a is the scan's (Z, Y, X) axis transpose_forward[a].
        orientation: Reorient scans first, for example to "RAS"; None keeps them as stored, as nnU-Net does.
        image_order: Spline order of image resampling; 3 is cubic.
        image_order_z: Order along the thick axis if it is treated separately; 0 is nearest.
        logits_order, logits_order_z: The same for resampling the network's output to the scan's grid.
        force_separate_z: Treat the thick axis separately: always (True), never (False), or above the threshold (None).
        anisotropy_threshold: Ratio of largest to smallest spacing above which an image counts as thick-sliced.
    """

    convention: Convention
    spacing: tuple[float, float, float]
    patch_size: tuple[int, int, int]
    normalization: tuple[ChannelNormalization, ...]
    transpose_forward: tuple[int, int, int] = (0, 1, 2)
    orientation: str | None = None
    image_order: int = 3
    image_order_z: int = 0
    logits_order: int = 1
    logits_order_z: int = 0
    force_separate_z: bool | None = None
    anisotropy_threshold: float = ANISOTROPY_THRESHOLD

    def __post_init__(self) -> None:
        """Raise ValueError for an invalid field."""
        if self.convention not in get_args(Convention):
            raise ValueError(f"unknown convention {self.convention!r}; known: {', '.join(get_args(Convention))}")
        if len(self.spacing) != 3 or min(self.spacing) <= 0 or len(self.patch_size) != 3:
            raise ValueError(f"need three positive spacings and patch sizes, not {self.spacing}, {self.patch_size}")
        if sorted(self.transpose_forward) != [0, 1, 2]:
            raise ValueError(f"{self.transpose_forward} is not an order of three axes")
        if not self.normalization:
            raise ValueError("need the normalization of at least one channel")

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-able values; `from_dict` reads them back."""
        fields = asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in fields.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "PreprocessingPlan":
        """Read what `to_dict` wrote.

        Raises:
            ValueError: If a field is missing, unknown or invalid.
        """
        known = dict(fields)
        try:
            channels = tuple(ChannelNormalization(**channel) for channel in known.pop("normalization"))
            lists = {key: tuple(value) for key, value in known.items() if isinstance(value, list)}
            return cls(normalization=channels, **{**known, **lists})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a preprocessing plan: {error}") from error
