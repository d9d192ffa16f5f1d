"""Read nnU-Net's plans and dataset.json, of version 1 (a pickle) and 2 (JSON), as typed objects."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stunet.confined import read_confined
from stunet.errors import FileError, UserError
from stunet.files import existing_file, read_json_object
from stunet.plans.labels import CLASS_ORDER, IGNORE, Region, has_regions, integers_by_name, regions_from
from stunet.plans.network_spec import Stride, kind_of
from stunet.plans.plain_pickle import MAX_PICKLE_BYTES, read_plain_pickle
from stunet.plans.preprocessing import ANISOTROPY_THRESHOLD, ChannelNormalization, PreprocessingPlan, Scheme
from stunet.plans.raw_dataset import channels_in_order

DEFAULT_CONFIGURATION = "3d_fullres"
"""nnU-Net v2's configuration at full resolution, without a cascade."""

_V2_SCHEMES: dict[str, Scheme] = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "zscore",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "rescale_to_0_1",
    "RGBTo01Normalization": "rgb_to_0_1",
}
_V1_SCHEMES: dict[str, Scheme] = {"CT": "ct", "nonCT": "zscore", "noNorm": "none"}
_V2_MASKED = "ZScoreNormalization"  # the only scheme of v2 that uses the mask
_V2_PREPROCESSOR = "DefaultPreprocessor"
_V2_RESAMPLING = "resample_data_or_seg_to_shape"
_V2_REORIENTING_READERS = ("NibabelIOWithReorient", "SimpleITKIOWithReorient")  # to RAS


@dataclass(frozen=True)
class Plans:
    """The content of nnU-Net's plans for one 3D configuration.

    Attributes:
        preprocessing: how images are prepared.
        strides: strides of the network's stages (Z, Y, X), the first (1, 1, 1); () for a network without strides.
        network_class: class name in v2, e.g. "stunet.networks.stunet.STUNet"; "" in v1.
        arguments: arguments of the network if it is one of ours; otherwise empty.
        channels: names of the input channels in v1; () in v2, where dataset.json names them.
        dataset: name of the dataset in v2; "" in v1.
    """

    preprocessing: PreprocessingPlan
    strides: tuple[Stride, ...]
    network_class: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    dataset: str = ""

    @property
    def kind(self) -> str | None:
        """The network's key in `network_spec.CLASSES`; None for nnU-Net's own networks."""
        return kind_of(self.network_class)


@dataclass(frozen=True)
class DatasetDescription:
    """The content of a dataset.json that a model needs.

    Attributes:
        channels: names of the input channels; () if unknown.
        labels: class names by integer, background first, or names of the regions; () if unknown.
        regions: if structures overlap, one region for each of `labels`, which are the network's outputs; otherwise ().
        licence, reference: licence and source of the data.
    """

    channels: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    regions: tuple[Region, ...] = ()
    licence: str = "unknown"
    reference: str = "unknown"


def read_plans_file(path: Path) -> Mapping[str, Any]:
    """Read a plans file, v2's `plans.json` or v1's pickle, without running code in it.

    Raises:
        UserError: the file cannot be read, or contains no plans.
    """
    return read_json_object(existing_file(path)) if path.suffix == ".json" else read_v1_plans(path)


def plans_from(content: Mapping[str, Any], configuration: str | None = None, file: Path | None = None) -> Plans:
    """Parse the content of a plans file; the keys show whether it is version 1 or 2.

    Args:
        content: content of a v1 plans file (`read_v1_plans`) or a v2 `plans.json`.
        configuration: which of v2's configurations; "3d_fullres" if None. In v1 the last stage is used, which has full
            resolution.
        file: the file to name in messages: the plans or the checkpoint that contains them.

    Raises:
        UserError: the content is not plans, the network is 2D or a cascade's second stage, or the preprocessor,
            resampling or normalization is not one of nnU-Net's defaults.
    """
    with _explained("The plans", file):
        if not isinstance(content, Mapping) or not {"plans_per_stage", "configurations"} & set(content):
            raise FileError(
                "These are not nnU-Net plans: they have neither 'plans_per_stage' (v1) nor 'configurations' (v2)."
            )
        if "plans_per_stage" in content:
            return _v1_plans(content)
        return _v2_plans(content, configuration or DEFAULT_CONFIGURATION)


def dataset_from(content: Mapping[str, Any], file: Path | None = None) -> DatasetDescription:
    """Parse the content of a dataset.json. nnU-Net's "ignore" label is left out, because no network outputs it.

    Args:
        content: content of the file.
        file: the file to name in messages: the dataset.json or the checkpoint that contains it.

    Raises:
        UserError: an entry has the wrong type, or the integers do not count from 0.
    """
    with _explained("The entries of dataset.json", file):
        named = content.get("channel_names", content.get("modality", {}))
        labels = integers_by_name(content["labels"]) if content.get("labels") else {}
        labels.pop(IGNORE, None)
        regions = regions_from(labels, content.get(CLASS_ORDER)) if has_regions(labels) else {}
        return DatasetDescription(
            channels=channels_in_order(named),
            labels=tuple(regions) or _in_order(labels),
            regions=tuple(regions.values()),
            licence=str(content.get("licence", content.get("license", "unknown"))),
            reference=str(content.get("reference", "unknown")),
        )


def _in_order(labels: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    names = {integers[0]: name for name, integers in labels.items()}
    if sorted(names) != list(range(len(labels))):
        raise FileError(f"The labels in dataset.json should count from 0 without a gap, not {sorted(names)}.")
    return tuple(names[label] for label in range(len(names)))


def strides_from(values: Sequence[Sequence[int]]) -> tuple[Stride, ...]:
    """The strides (Z, Y, X) of a network's stages, from a plan or an option. The first, (1, 1, 1), may be left out.

    >>> strides_from([(2, 2, 2), (1, 2, 2)])
    ((1, 1, 1), (2, 2, 2), (1, 2, 2))

    Raises:
        UserError: the values are not strides of a 3D network.
    """
    try:
        listed = [_three(int, stride) for stride in values]
    except (TypeError, ValueError):
        listed = []
    if not listed or any(min(stride) < 1 for stride in listed):
        raise UserError(f"Strides are five or six groups of three numbers, e.g. 2,2,2 (z, y, x), not {values!r}.")
    return tuple(listed) if max(listed[0]) == 1 else ((1, 1, 1), *listed)


@contextmanager
def _explained(what: str, file: Path | None) -> Iterator[None]:
    """Turn errors about missing or invalid entries into a message that names the file."""
    named = "" if file is None else f"{file}: "
    try:
        yield
    except UserError as error:
        raise type(error)(f"{named}{error}") from error
    except KeyError as error:
        raise FileError(f"{named}{what} have no entry {error}; they are incomplete or damaged.") from error
    except (IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FileError(f"{named}{what} are incomplete or damaged ({error}).") from error


def _three(kind: type, values: Any) -> tuple[Any, Any, Any]:
    first, second, third = (kind(value) for value in values)
    return first, second, third


def _channel(
    schemes: Mapping[str, Scheme], name: str, properties: Mapping[str, Any], std_key: str, use_mask: bool
) -> ChannelNormalization:
    if name not in schemes:
        raise FileError(
            f"The plans need the normalization {name!r}, which is not supported; known: {', '.join(schemes)}."
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


# Version 2


def _v2_plans(content: Mapping[str, Any], name: str) -> Plans:
    chosen = _v2_configuration(content, name)
    architecture = chosen.get("architecture", {})
    network_class = str(architecture.get("network_class_name") or chosen.get("UNet_class_name", "of unknown name"))
    arguments = architecture.get("arch_kwargs", {})
    strides = arguments.get("strides", chosen.get("pool_op_kernel_sizes"))
    kind = kind_of(network_class)
    if strides is None and kind in (None, "stunet"):
        raise FileError(f"These plans name no strides for {name}.")
    return Plans(
        preprocessing=_v2_preprocessing(content, chosen, name),
        strides=() if strides is None else strides_from(strides),
        network_class=network_class,
        arguments={} if kind is None else arguments,
        dataset=str(content.get("dataset_name", "")),
    )


def _v2_configuration(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration, including inherited entries."""
    configurations = content["configurations"]
    merged: dict[str, Any] = {}
    seen: set[str] = set()
    heir: str | None = name
    while heir is not None:
        if heir not in configurations:
            raise FileError(f"The plans have no configuration {heir!r}; they have {', '.join(configurations)}.")
        if heir in seen:
            raise FileError(f"Configuration {name!r} of the plans inherits from itself.")
        seen.add(heir)
        merged = {**configurations[heir], **merged}
        heir = configurations[heir].get("inherits_from")
    _require_supported(merged, name)
    return merged


def _require_supported(chosen: Mapping[str, Any], name: str) -> None:
    if len(chosen.get("patch_size", (0, 0, 0))) != 3:
        raise FileError(f"Configuration {name!r} is a 2D network, but stunet's are 3D; choose a 3D configuration.")
    if chosen.get("previous_stage"):
        raise FileError(
            f"Configuration {name!r} is the second stage of a cascade, which stunet does not run; choose '3d_fullres' "
            "or '3d_lowres'."
        )
    supported = {
        "preprocessor_name": _V2_PREPROCESSOR,
        "resampling_fn_data": _V2_RESAMPLING,
        "resampling_fn_probabilities": _V2_RESAMPLING,
    }
    for key, only in supported.items():
        if chosen.get(key, only) != only:
            raise FileError(f"Configuration {name!r} needs the {key} {chosen[key]!r}, which is not supported.")


def _v2_preprocessing(content: Mapping[str, Any], chosen: Mapping[str, Any], name: str) -> PreprocessingPlan:
    image = chosen.get("resampling_fn_data_kwargs", {})
    logits = chosen.get("resampling_fn_probabilities_kwargs", {})
    for key in ("force_separate_z", "separate_z_anisotropy_threshold"):
        if image.get(key) != logits.get(key):
            raise FileError(f"Configuration {name!r} sets {key} differently for image and output; not supported.")
    return PreprocessingPlan(
        convention="nnunet_v2",
        spacing=_three(float, chosen["spacing"]),
        patch_size=_three(int, chosen["patch_size"]),
        normalization=_v2_normalization(content, chosen),
        transpose_forward=_three(int, content["transpose_forward"]),
        orientation="RAS" if content.get("image_reader_writer") in _V2_REORIENTING_READERS else None,
        image_order=int(image.get("order", 3)),
        image_order_z=int(image.get("order_z", 0)),
        logits_order=int(logits.get("order", 3)),
        logits_order_z=int(logits.get("order_z", 0)),
        force_separate_z=image.get("force_separate_z", False),
        anisotropy_threshold=float(image.get("separate_z_anisotropy_threshold", ANISOTROPY_THRESHOLD)),
    )


def _v2_normalization(content: Mapping[str, Any], chosen: Mapping[str, Any]) -> tuple[ChannelNormalization, ...]:
    properties = content.get("foreground_intensity_properties_per_channel") or content.get(
        "foreground_intensity_properties_by_modality", {}
    )
    masks = chosen["use_mask_for_norm"]
    return tuple(
        _channel(_V2_SCHEMES, scheme, properties.get(str(channel), {}), "std", masks[channel] and scheme == _V2_MASKED)
        for channel, scheme in enumerate(chosen["normalization_schemes"])
    )


# Version 1


def _v1_plans(content: Mapping[str, Any]) -> Plans:
    stages, modalities = content["plans_per_stage"], content.get("modalities", {})
    stage = stages[max(stages) if isinstance(stages, Mapping) else -1]
    strides = stage["pool_op_kernel_sizes"]
    if len(strides[0]) != 3 or len(stage["patch_size"]) != 3:
        raise FileError("These nnU-Net v1 plans are for a 2D network, but stunet's are 3D; give those of a 3D one.")
    schemes, masks = content["normalization_schemes"], content["use_mask_for_norm"]
    properties = (content.get("dataset_properties") or {}).get("intensityproperties") or {}
    preprocessing = PreprocessingPlan(
        convention="nnunet_v1",
        spacing=_three(float, stage["current_spacing"]),
        patch_size=_three(int, stage["patch_size"]),
        normalization=tuple(
            _channel(_V1_SCHEMES, schemes[channel], properties.get(channel, {}), "sd", masks[channel])
            for channel in sorted(schemes)
        ),
        transpose_forward=_three(int, content.get("transpose_forward", (0, 1, 2))),
    )
    channels = tuple(str(modalities[index]) for index in sorted(modalities))
    return Plans(preprocessing, strides_from([(1, 1, 1), *strides]), channels=channels)


def read_v1_plans(path: str | Path) -> dict[str, Any]:
    """Read an nnU-Net v1 pickle: `nnUNetPlansv2.1_plans_3D.pkl`, or the `.model.pkl` next to a checkpoint.

    The pickle is read in a process of its own (`stunet.confined`), and nothing in it is run.

    Returns:
        The plans as plain containers, numbers and text; arrays, tuples and sets become lists.

    Raises:
        UserError: the file does not exist, is not a pickle, would run code, or contains no plans.
    """
    path = existing_file(path)
    if path.stat().st_size > MAX_PICKLE_BYTES:
        raise FileError(f"{path} is not a plans file: it has more than {MAX_PICKLE_BYTES:,} bytes.")
    content = read_confined(read_plain_pickle, path)
    if isinstance(content, dict) and isinstance(content.get("plans"), dict):
        content = content["plans"]
    if not isinstance(content, dict) or "plans_per_stage" not in content:
        raise FileError(
            f"{path} contains no nnU-Net v1 plans: 'plans_per_stage' is missing. Give the .pkl next to the "
            "checkpoint, e.g. base_ep4k.model.pkl."
        )
    return content
