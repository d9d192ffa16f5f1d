"""What happens to a scan before the network sees it, as nnU-Net v1 or v2 planned it at training time.

All three-number fields are in the network's axis order: the scan's (Z, Y, X) after `transpose_forward`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from stunet.errors import UserError

Scheme = Literal["ct", "zscore", "none", "rescale_to_0_1", "rgb_to_0_1"]
Convention = Literal["nnunet_v1", "nnunet_v2"]

ANISOTROPY_THRESHOLD = 3.0
"""Spacing ratio above which nnU-Net treats the thick axis separately (RESAMPLING_SEPARATE_Z_ANISOTROPY_THRESHOLD)."""

_V2_SCHEMES: dict[str, Scheme] = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "zscore",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "rescale_to_0_1",
    "RGBTo01Normalization": "rgb_to_0_1",
}
_V1_SCHEMES: dict[str, Scheme] = {"CT": "ct", "nonCT": "zscore", "noNorm": "none"}
_V2_MASKED = "ZScoreNormalization"  # the only scheme of v2 that looks at the mask
_V2_PREPROCESSOR = "DefaultPreprocessor"
_V2_RESAMPLING = "resample_data_or_seg_to_shape"
_V2_REORIENTING_READER = "NibabelIOWithReorient"


@dataclass(frozen=True)
class ChannelNormalization:
    """How the intensities of one channel are brought to the network's range.

    Attributes:
        scheme: "ct" clips to the percentiles, then (x - mean) / std of the training foreground; "zscore" uses mean and
            standard deviation of the image itself; "rescale_to_0_1" its minimum and maximum; "rgb_to_0_1" divides by
            255; "none" leaves values alone.
        mean, std, percentile_00_5, percentile_99_5: Foreground statistics of the training set; read by "ct" only.
        use_mask: Voxels outside the nonzero mask are set to zero and do not count in the statistics.
    """

    scheme: Scheme
    mean: float = 0.0
    std: float = 1.0
    percentile_00_5: float = 0.0
    percentile_99_5: float = 0.0
    use_mask: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for a scheme that does not exist."""
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
        orientation: Bring scans to this orientation first, such as "RAS"; None takes them as stored, which is
            nnU-Net's own behaviour.
        image_order: Spline order of image resampling; 3 is cubic.
        image_order_z: Order along the thick axis, where that is treated separately; 0 is nearest.
        logits_order, logits_order_z: The same for the network's output on its way back.
        force_separate_z: Treat the thick axis separately always (True), never (False), or by the threshold (None).
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
        """Raises ValueError where a field cannot be right."""
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
            ValueError: If a field is missing, unknown or impossible.
        """
        known = dict(fields)
        try:
            channels = tuple(ChannelNormalization(**channel) for channel in known.pop("normalization"))
            lists = {key: tuple(value) for key, value in known.items() if isinstance(value, list)}
            return cls(normalization=channels, **{**known, **lists})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a preprocessing plan: {error}") from error

    @classmethod
    def from_nnunet_v2(cls, plans: Mapping[str, Any], configuration: str = "3d_fullres") -> "PreprocessingPlan":
        """Read the content of an nnU-Net v2 `plans.json`.

        Args:
            plans: The parsed file.
            configuration: Its name there.

        Raises:
            UserError: If the configuration does not exist, is 2D or a cascade's second stage, or uses a preprocessor,
                resampling or normalization that is not nnU-Net's default kind.
        """
        chosen = _v2_configuration(plans, configuration)
        _check_v2(chosen, configuration)
        image, logits = _v2_resampling(chosen)
        with _told_when_damaged(f"the plans of configuration {configuration!r}"):
            return cls(
                convention="nnunet_v2",
                spacing=_three(float, chosen["spacing"]),
                patch_size=_three(int, chosen["patch_size"]),
                normalization=_v2_normalization(plans, chosen),
                transpose_forward=_three(int, plans["transpose_forward"]),
                orientation="RAS" if plans.get("image_reader_writer") == _V2_REORIENTING_READER else None,
                image_order=int(image.get("order", 3)),
                image_order_z=int(image.get("order_z", 0)),
                logits_order=int(logits.get("order", 3)),
                logits_order_z=int(logits.get("order_z", 0)),
                force_separate_z=image.get("force_separate_z", False),
                anisotropy_threshold=float(image.get("separate_z_anisotropy_threshold", ANISOTROPY_THRESHOLD)),
            )

    @classmethod
    def from_nnunet_v1(cls, plans: Mapping[str, Any], stage: int | None = None) -> "PreprocessingPlan":
        """Read the content of an nnU-Net v1 plans file (already unpickled, by a restricted reader).

        Args:
            plans: The dictionary.
            stage: Which of its stages; None takes the last, which is full resolution.

        Raises:
            UserError: If the stage does not exist or is 2D, or a normalization is unknown.
        """
        with _told_when_damaged("the nnU-Net v1 plans"):
            stages = plans["plans_per_stage"]
            chosen = stages[max(stages) if stage is None else stage]
            if len(chosen["patch_size"]) != 3:
                raise UserError("the plans are those of a 2D network; give those of a 3D one.")
            return cls(
                convention="nnunet_v1",
                spacing=_three(float, chosen["current_spacing"]),
                patch_size=_three(int, chosen["patch_size"]),
                normalization=_v1_normalization(plans),
                transpose_forward=_three(int, plans.get("transpose_forward", (0, 1, 2))),
            )


@contextmanager
def _told_when_damaged(what: str) -> Iterator[None]:
    """Turn the traceback of a missing or impossible entry into a sentence."""
    try:
        yield
    except UserError:
        raise
    except KeyError as error:
        raise UserError(f"{what} have no entry {error}; give the file that nnU-Net wrote.") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{what} are damaged: {error}; give the file that nnU-Net wrote.") from error


def _three(kind: type, values: Any) -> tuple[Any, Any, Any]:
    """Exactly three values of one type."""
    first, second, third = (kind(value) for value in values)
    return first, second, third


def _v2_configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration with what it inherits filled in."""
    configurations = plans.get("configurations", {})
    chain: list[Mapping[str, Any]] = []
    while name is not None:
        if name not in configurations:
            raise UserError(
                f"the plans have no configuration {name!r}; they have {', '.join(configurations) or 'none'}."
            )
        if any(configurations[name] is link for link in chain):
            raise UserError(f"configuration {name!r} of the plans inherits from itself.")
        chain.append(configurations[name])
        name = configurations[name].get("inherits_from")
    return {key: value for link in reversed(chain) for key, value in link.items()}


def _v2_resampling(chosen: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """The resampling settings of the image and of the network's output."""
    return chosen.get("resampling_fn_data_kwargs", {}), chosen.get("resampling_fn_probabilities_kwargs", {})


def _check_v2(chosen: Mapping[str, Any], name: str) -> None:
    if len(chosen.get("patch_size", (0, 0, 0))) != 3:
        raise UserError(f"configuration {name!r} is a 2D network; choose a 3D one.")
    if chosen.get("previous_stage"):
        raise UserError(
            f"configuration {name!r} is the second stage of a cascade, which is not supported; choose '3d_fullres' or "
            "'3d_lowres'."
        )
    preprocessor = chosen.get("preprocessor_name", _V2_PREPROCESSOR)
    if preprocessor != _V2_PREPROCESSOR:
        raise UserError(f"configuration {name!r} needs the preprocessor {preprocessor!r}, which is not supported.")
    for key in ("resampling_fn_data", "resampling_fn_probabilities"):
        if chosen.get(key, _V2_RESAMPLING) != _V2_RESAMPLING:
            raise UserError(f"configuration {name!r} needs the {key} {chosen[key]!r}, which is not supported.")
    image, logits = _v2_resampling(chosen)
    for key in ("force_separate_z", "separate_z_anisotropy_threshold"):
        if image.get(key) != logits.get(key):
            raise UserError(f"configuration {name!r} sets {key} differently for image and output; not supported.")


def _v2_normalization(plans: Mapping[str, Any], chosen: Mapping[str, Any]) -> tuple[ChannelNormalization, ...]:
    properties = plans.get("foreground_intensity_properties_per_channel") or plans.get(
        "foreground_intensity_properties_by_modality", {}
    )
    masks = chosen["use_mask_for_norm"]
    return tuple(
        _channel(_V2_SCHEMES, scheme, properties.get(str(channel), {}), "std", masks[channel] and scheme == _V2_MASKED)
        for channel, scheme in enumerate(chosen["normalization_schemes"])
    )


def _v1_normalization(plans: Mapping[str, Any]) -> tuple[ChannelNormalization, ...]:
    schemes, masks = plans["normalization_schemes"], plans["use_mask_for_norm"]
    properties = (plans.get("dataset_properties") or {}).get("intensityproperties") or {}
    return tuple(
        _channel(_V1_SCHEMES, schemes[channel], properties.get(channel, {}), "sd", masks[channel])
        for channel in sorted(schemes)
    )


def _channel(
    schemes: Mapping[str, Scheme], name: str, properties: Mapping[str, Any], std_key: str, use_mask: bool
) -> ChannelNormalization:
    if name not in schemes:
        raise UserError(
            f"the plans need the normalization {name!r}, which is not supported; known: {', '.join(schemes)}."
        )
    if schemes[name] != "ct":
        return ChannelNormalization(schemes[name], use_mask=bool(use_mask))
    return ChannelNormalization(
        "ct",
        mean=float(properties["mean"]),
        std=float(properties[std_key]),
        percentile_00_5=float(properties["percentile_00_5"]),
        percentile_99_5=float(properties["percentile_99_5"]),
        use_mask=bool(use_mask),
    )
