"""Plans for our networks, with nnU-Net's spacing, patch and batch, or with those of the published weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIOWithReorient
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from stunet.errors import FileError, UnknownNameError, UserError
from stunet.networks.network import Network
from stunet.networks.registry import find_class, find_network
from stunet.networks.stunet import PUBLISHED_STRIDES, SIZES
from stunet.plans.network_spec import CLASSES, kind_of
from stunet.training.environment import loading_processes
from stunet.weights.published import PUBLISHED_PLAN

PREFIXES = {"nnunet": "STUNetPlans", "published": "STUNetPublishedPlans"}
"""Prefix of the names of plans and image folders, for each kind of plan."""

NNUNETS_CONFIGURATIONS = ("2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres")
"""Configurations that nnU-Net plans by default."""

PUBLISHED_BATCH_SIZE = 2
"""Section 4, implementation details."""


def plans_name(size: str, plan: str = "nnunet") -> str:
    """nnU-Net's name for the plans of a size or of another network: "STUNetPlans_small", "STUNetPlans_unetr_b"."""
    return f"{PREFIXES[plan]}_{size}"


def images_folder_name(configuration: str, plan: str = "nnunet") -> str:
    """nnU-Net's name for the folder of a configuration's preprocessed images. All networks share it."""
    return f"{PREFIXES[plan]}_{configuration}"


def planned_architecture(architecture: dict[str, Any], patch: Sequence[int], size: str) -> dict[str, Any]:
    """The `architecture` entry of a configuration, with nnU-Net's network replaced by one of ours.

    Args:
        architecture: nnU-Net's entry for a 3D configuration. Its strides and kernels are used if our network takes any.
        patch: voxels (Z, Y, X) of the configuration.
        size: a name in `NETWORKS`.
    """
    entry = find_network(size)
    network_class, planned = find_class(entry.kind), architecture["arch_kwargs"]
    decided: dict[str, Any] = {
        "strides": [list(stride) for stride in network_class.fitted_strides(planned["strides"])],
        "kernel_sizes": planned.get("kernel_sizes"),
        "window_size": [int(n) for n in patch],
    }
    return {
        "network_class_name": CLASSES[entry.kind],
        "arch_kwargs": {**entry.arguments, **{name: decided[name] for name in network_class.planned_arguments}},
        "_kw_requires_import": [],
    }


def fitted_patch(patch: Sequence[int], multiples: Sequence[int]) -> list[int]:
    """The smallest patch (Z, Y, X) at least as large as `patch` that the network accepts.

    Its edges are multiples of `multiples`, and at least one axis has two voxels at the deepest stage.

    >>> fitted_patch([40, 56, 40], (16, 32, 32))
    [48, 64, 64]
    >>> fitted_patch([20, 20, 20], (32, 32, 32))
    [32, 32, 64]
    """
    fitted = [-(-int(n) // multiple) * multiple for n, multiple in zip(patch, multiples, strict=True)]
    if fitted == list(multiples) and max(fitted) > 1:
        fitted[-1] *= 2
    return fitted


@dataclass(frozen=True)
class Target:
    """What nnU-Net plans for, instead of its own choice.

    Attributes:
        configuration: name of the configuration to add to the plans.
        spacing: mm (Z, Y, X) in the orientation of the files; None: nnU-Net's choice, usually the median.
        memory: GB of GPU memory that patch and batch should fill, by nnU-Net's estimate; None: its default, 8.
    """

    configuration: str
    spacing: tuple[float, float, float] | None = None
    memory: float | None = None

    def __post_init__(self) -> None:
        """Raise UserError for targets that cannot be planned for."""
        if self.configuration in NNUNETS_CONFIGURATIONS:
            raise UserError(
                "--spacing and --memory make a configuration of your own: name it, for example with -c 3d_coarse."
            )
        if min(self.spacing or (1.0,)) <= 0 or (self.memory is not None and self.memory <= 0):
            raise UserError("--spacing (mm) and --memory (GB) must be above 0.")

    @property
    def options(self) -> dict[str, Any]:
        """Arguments for nnU-Net's planner."""
        spacing = None if self.spacing is None else list(self.spacing)
        options = {"overwrite_target_spacing": spacing, "gpu_memory_target_in_gb": self.memory}
        return {name: value for name, value in options.items() if value is not None}


class STUNetPlanner(ExperimentPlanner):
    """nnU-Net's planner, whose 3D configurations get an STU-Net of six stages and 3x3x3 kernels (section 3.2, Table 1).

    Spacing, patch, batch and strides are nnU-Net's; strides are padded with (1, 1, 1) or cut to five. Other networks
    use the strides unchanged, or none; the patch grows to the next size that they accept. All networks share one set of
    preprocessed images.

    Args:
        dataset_name_or_id: of a dataset in nnU-Net's raw folder that has a fingerprint.
        size: a name in `stunet.networks.registry.NETWORKS`, such as that of a size.
        target: what to plan for; None leaves it to nnU-Net.
        options: further arguments of nnU-Net's planner.
    """

    def __init__(self, dataset_name_or_id: str | int, size: str, target: Target | None = None, **options: Any):
        self.size, self.target = size, target
        options.update({} if target is None else target.options)
        options.setdefault("plans_name", plans_name(size))
        super().__init__(dataset_name_or_id, **options)

    def generate_data_identifier(self, configuration_name: str) -> str:
        """The folder of the preprocessed images: the same for all networks."""
        return images_folder_name(configuration_name)

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Replace the networks, remove the 2D configuration, and save as nnU-Net does."""
        del plans["configurations"]["2d"]
        multiples = find_class(find_network(self.size).kind).patch_multiple
        for configuration in plans["configurations"].values():
            if "architecture" in configuration:
                patch = fitted_patch(configuration["patch_size"], multiples)
                configuration["patch_size"] = patch
                configuration["architecture"] = planned_architecture(configuration["architecture"], patch, self.size)
        if self.target is not None:
            plans["configurations"] = {self.target.configuration: self._own(plans["configurations"]["3d_fullres"])}
        super().save_plans(plans)  # nnU-Net keeps other configurations that are already in the file

    def _own(self, planned: dict[str, Any]) -> dict[str, Any]:
        """A configuration with its own image folder."""
        assert self.target is not None
        planned.pop("next_stage", None)
        return {**planned, "data_identifier": self.generate_data_identifier(self.target.configuration)}


class PublishedPlanner(STUNetPlanner):
    """The plan of the published weights, for any dataset (`weights.published.PUBLISHED_PLAN`).

    1.5 mm, windows of 128 x 128 x 128, batches of two, z-score of each whole image, axes not transposed, and strides
    that end with (1, 1, 2). Scans are reoriented to RAS. One difference to nnU-Net v1 remains: v2 normalises before it
    resamples. The result is the same for images that are already at 1.5 mm, as TotalSegmentator's are.
    """

    def __init__(self, dataset_name_or_id: str | int, size: str, **options: Any):
        fixed = {"overwrite_target_spacing": list(PUBLISHED_PLAN.spacing), "suppress_transpose": True}
        super().__init__(dataset_name_or_id, size, **{"plans_name": plans_name(size, "published"), **options, **fixed})

    def generate_data_identifier(self, configuration_name: str) -> str:
        """The folder of the preprocessed images: shared by all networks, and separate from that of nnU-Net's plan."""
        return images_folder_name(configuration_name, "published")

    def determine_reader_writer(self) -> type:
        """A reader that reorients files of this kind to RAS."""
        is_nifti = self.dataset_json["file_ending"] in NibabelIOWithReorient.supported_file_endings
        return NibabelIOWithReorient if is_nifti else SimpleITKIOWithReorient

    def determine_normalization_scheme_and_whether_mask_is_used_for_norm(self) -> tuple[list[str], list[bool]]:
        """The z-score of each whole image, for every channel."""
        channels = len(self.dataset_json["channel_names"])
        return ["ZScoreNormalization"] * channels, [False] * channels

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Set window, batch and strides, remove the low-resolution configuration, and save."""
        for name in set(plans["configurations"]) - {"2d", "3d_fullres"}:
            del plans["configurations"][name]
        fullres = plans["configurations"]["3d_fullres"]
        fullres.pop("next_stage", None)
        fullres["patch_size"] = list(PUBLISHED_PLAN.patch_size)
        fullres["batch_size"] = PUBLISHED_BATCH_SIZE
        arguments = fullres["architecture"]["arch_kwargs"]
        arguments["strides"] = [list(stride) for stride in PUBLISHED_STRIDES]
        arguments["kernel_sizes"] = [[3, 3, 3]] * len(PUBLISHED_STRIDES)
        super().save_plans(plans)


PLANNERS: dict[str, type[STUNetPlanner]] = {"nnunet": STUNetPlanner, "published": PublishedPlanner}


def plan_dataset(name: str, size: str, plan: str, plans_file: Path, target: Target | None = None) -> None:
    """Let nnU-Net plan for a dataset that has a fingerprint.

    Args:
        name: of the dataset, "Dataset004_Hippocampus".
        size: a name in `stunet.networks.registry.NETWORKS`.
        plan: a name in `PLANNERS`.
        plans_file: where to write the plans.
        target: a configuration to add to the plans; None plans nnU-Net's own.

    Raises:
        UserError: the raw folder has other splits than those that models were trained with, or nnU-Net refuses.
    """
    try:
        with loading_processes(1):  # nnU-Net also uses it as a number of threads, which cannot be 0
            PLANNERS[plan](
                name, size, target=target
            ).plan_experiment()  # by name: other folders may have the same number
    except AssertionError as error:
        if str(error):
            raise UserError(f"nnU-Net cannot plan for {name}: {error}") from error
        raise UserError(
            f"{plans_file.with_name('splits_final.json')} has other folds than the raw dataset's. Remove it if no "
            "model was trained with it."
        ) from error


def find_configuration(plans: dict[str, Any], name: str, dataset: str) -> dict[str, Any]:
    """A configuration of some plans, with inherited values filled in.

    Args:
        plans: content of a plans file.
        name: of the configuration, "3d_fullres".
        dataset: its name, for messages.

    Raises:
        UserError: the configuration is missing, inherits from a missing one or from itself, is 2D, or is a cascade.
    """
    known = plans["configurations"]
    if name not in known:
        raise UnknownNameError(
            f"The plans of {dataset} have no configuration {name!r}, only: {', '.join(known) or 'none'}."
        )
    try:
        configuration = dict(PlansManager(plans).get_configuration(name).configuration)
    except (ValueError, RuntimeError) as error:  # nnU-Net's, for a missing parent or a cycle
        raise FileError(f"The plans of {dataset} have a wrong 'inherits_from' in {name!r}: {error}") from error
    except KeyError as error:
        raise FileError(
            f"The configuration {name!r} of the plans of {dataset} has no {error}; let it inherit from another "
            '("inherits_from": "3d_fullres").'
        ) from error
    if "data_identifier" not in configuration or "patch_size" not in configuration:
        raise FileError(f"The configuration {name!r} of the plans of {dataset} has no data_identifier or patch_size.")
    if configuration.get("previous_stage"):
        raise UserError(
            f"{name!r} is the second stage of a cascade, which stunet does not train. Choose 3d_fullres or 3d_lowres."
        )
    if len(configuration["patch_size"]) != 3:
        raise UserError(f"{name!r} is a 2D configuration, and stunet's networks are 3D. Choose 3d_fullres.")
    return configuration


def planned_class(configuration: ConfigurationManager) -> type[Network] | None:
    """Our network class that the plans name; None if they name another network."""
    kind = kind_of(configuration.network_arch_class_name)
    return None if kind is None else find_class(kind)


def require_fitting_plans(plans: str, configuration: ConfigurationManager, size: str | None, trainer: str) -> None:
    """Refuse plans that a trainer does not fit.

    nnU-Net's plans fit any trainer with a size; ours fit the trainer of their size.

    Args:
        plans: name of the plans.
        configuration: one of theirs.
        size: that the trainer builds; None if it builds the network of our plans.
        trainer: its name, for messages.

    Raises:
        ValueError: the trainer cannot build a network from these plans.
    """
    planned, kind = configuration.network_arch_init_kwargs, kind_of(configuration.network_arch_class_name)
    if "strides" not in planned and (kind is None or "strides" in find_class(kind).planned_arguments):
        raise ValueError(f"The plans {plans} name no strides. Make new ones with `stunet prepare`.")
    if size is None and kind is None:
        raise ValueError(f"{trainer} builds what STU-Net plans say, and {plans} are for another network.")
    if size is None or kind is None:
        return
    wrong = f"{trainer} builds {size!r}, but the plans {plans} are for"
    if kind != "stunet":
        raise ValueError(f"{wrong} {kind}. Use -p {plans_name(size)}.")
    _require_size(planned, size, wrong)


def _require_size(planned: dict[str, Any], size: str, wrong: str) -> None:
    """Refuse the plans of another STU-Net, with a message that begins with `wrong`."""
    if (planned["width"], planned["depth"]) != (SIZES[size].width, SIZES[size].depth):
        raise ValueError(f"{wrong} width {planned['width']}, depth {planned['depth']}. Use -p {plans_name(size)}.")
    if (planned.get("downsampling", "residual"), planned.get("upsampling", "nearest")) != ("residual", "nearest"):
        raise ValueError(f"{wrong} a variant. Use STUNetTrainer.")
