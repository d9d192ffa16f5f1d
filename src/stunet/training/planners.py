"""Plans for our networks: nnU-Net's own spacing, patch and batch, or those of the published weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from stunet.errors import FileError, UnknownNameError, UserError
from stunet.networks.network import Network
from stunet.networks.registry import find_class, find_network
from stunet.networks.stunet import PUBLISHED_STRIDES, SIZES
from stunet.plans.network_spec import CLASSES, kind_of
from stunet.weights.published import PUBLISHED_PLAN

PREFIXES = {"nnunet": "STUNetPlans", "published": "STUNetPublishedPlans"}
"""What the names of plans and of their images begin with, for each kind of plan."""

PUBLISHED_BATCH_SIZE = 2
"""Section 4, implementation details."""


def plans_name(size: str, plan: str = "nnunet") -> str:
    """What nnU-Net calls the plans of a size, or of another network: "STUNetPlans_small", "STUNetPlans_unetr_b"."""
    return f"{PREFIXES[plan]}_{size}"


def images_folder_name(configuration: str, plan: str = "nnunet") -> str:
    """What nnU-Net calls the folder of a configuration's preprocessed images; all networks share it."""
    return f"{PREFIXES[plan]}_{configuration}"


def planned_architecture(architecture: dict[str, Any], patch: Sequence[int], size: str) -> dict[str, Any]:
    """The `architecture` entry of a configuration, with nnU-Net's network replaced by one of ours.

    Args:
        architecture: nnU-Net's own entry for a 3D configuration; its strides and kernels are used where ours takes any.
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
    """The smallest patch (Z, Y, X) that is no smaller, of whose edges a network takes multiples, and leaves it two
    voxels at the bottom.

    >>> fitted_patch([40, 56, 40], (16, 32, 32))
    [48, 64, 64]
    >>> fitted_patch([20, 20, 20], (32, 32, 32))
    [32, 32, 64]
    """
    fitted = [-(-int(n) // multiple) * multiple for n, multiple in zip(patch, multiples, strict=True)]
    if fitted == list(multiples) and max(fitted) > 1:
        fitted[-1] *= 2
    return fitted


class STUNetPlanner(ExperimentPlanner):
    """nnU-Net's planner, whose 3D configurations get an STU-Net of six stages and 3x3x3 kernels (section 3.2, Table 1).

    Spacing, patch, batch and strides are nnU-Net's; strides are padded with (1, 1, 1) or cut to five. Other networks
    take the strides as they are, or none; the patch grows to the next one that they take. All networks share one set of
    preprocessed images.

    Args:
        dataset_name_or_id: of a dataset in nnU-Net's raw folder whose fingerprint is there.
        size: a name in `stunet.networks.registry.NETWORKS`, such as that of a size.
        options: further arguments of nnU-Net's planner.
    """

    def __init__(self, dataset_name_or_id: str | int, size: str, **options: Any):
        self.size = size
        options.setdefault("plans_name", plans_name(size))
        super().__init__(dataset_name_or_id, **options)

    def generate_data_identifier(self, configuration_name: str) -> str:
        """The folder of the preprocessed images: the same for all networks."""
        return images_folder_name(configuration_name)

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Replace the networks and leave the 2D configuration out, then save as nnU-Net does."""
        del plans["configurations"]["2d"]
        multiples = find_class(find_network(self.size).kind).patch_multiple
        for configuration in plans["configurations"].values():
            if "architecture" in configuration:
                patch = fitted_patch(configuration["patch_size"], multiples)
                configuration["patch_size"] = patch
                configuration["architecture"] = planned_architecture(configuration["architecture"], patch, self.size)
        super().save_plans(plans)


class PublishedPlanner(STUNetPlanner):
    """The plan that the published weights were trained with, for any dataset (`weights.published.PUBLISHED_PLAN`).

    1.5 mm, windows of 128 x 128 x 128, batches of two, z-score of each whole image, axes as they are, and strides that
    end with (1, 1, 2). Scans are brought to RAS. One thing nnU-Net v2 does otherwise than v1: it normalises before it
    resamples, which is the same where images are at 1.5 mm already, as TotalSegmentator's are.
    """

    def __init__(self, dataset_name_or_id: str | int, size: str, **options: Any):
        fixed = {"overwrite_target_spacing": list(PUBLISHED_PLAN.spacing), "suppress_transpose": True}
        super().__init__(dataset_name_or_id, size, **{"plans_name": plans_name(size, "published"), **options, **fixed})

    def generate_data_identifier(self, configuration_name: str) -> str:
        """The folder of the preprocessed images: the same for all networks, and another than that of nnU-Net's plan."""
        return images_folder_name(configuration_name, "published")

    def determine_reader_writer(self) -> type:
        """The reader that brings NIfTI files to RAS; other files are read as nnU-Net chooses."""
        if self.dataset_json["file_ending"] in NibabelIOWithReorient.supported_file_endings:
            return NibabelIOWithReorient
        return super().determine_reader_writer()

    def determine_normalization_scheme_and_whether_mask_is_used_for_norm(self) -> tuple[list[str], list[bool]]:
        """The z-score of each whole image, for every channel."""
        channels = len(self.dataset_json["channel_names"])
        return ["ZScoreNormalization"] * channels, [False] * channels

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Set window, batch and strides, leave a coarser configuration out, then save."""
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


def plan_dataset(name: str, size: str, plan: str, plans_file: Path) -> None:
    """Let nnU-Net plan for a dataset whose fingerprint is there.

    Args:
        name: of the dataset, "Dataset004_Hippocampus".
        size: a name in `stunet.networks.registry.NETWORKS`.
        plan: a name in `PLANNERS`.
        plans_file: where the plans come to lie.

    Raises:
        UserError: the raw folder has other splits than those that models were trained with, or nnU-Net refuses.
    """
    try:
        PLANNERS[plan](name, size).plan_experiment()  # by its name: other folders may have the same number
    except AssertionError as error:
        if str(error):
            raise UserError(f"nnU-Net cannot plan for {name}: {error}") from error
        raise UserError(
            f"{plans_file.with_name('splits_final.json')} has other folds than the raw dataset's. Remove it if no "
            "model was trained with it."
        ) from error


def find_configuration(plans: dict[str, Any], name: str, dataset: str) -> dict[str, Any]:
    """A configuration of some plans, with what it inherits filled in.

    Args:
        plans: content of a plans file.
        name: of the configuration, "3d_fullres".
        dataset: its name, for messages.

    Raises:
        UserError: no such configuration, one that inherits from none or from itself, a 2D network, or a cascade.
    """
    known = plans["configurations"]
    if name not in known:
        raise UnknownNameError(
            f"The plans of {dataset} have no configuration {name!r}, only: {', '.join(known) or 'none'}."
        )
    try:
        configuration = dict(PlansManager(plans).get_configuration(name).configuration)
    except (ValueError, RuntimeError) as error:  # nnU-Net's, of a parent that is missing, or of a circle
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
    """The class of ours that plans name; None where they name another network."""
    kind = kind_of(configuration.network_arch_class_name)
    return None if kind is None else find_class(kind)


def require_fitting_plans(plans: str, configuration: ConfigurationManager, size: str | None, trainer: str) -> None:
    """nnU-Net's own plans fit every trainer that has a size; ours fit the trainer of their size.

    Args:
        plans: name of the plans.
        configuration: one of theirs.
        size: that the trainer builds; None if it builds what our plans say.
        trainer: its name, for messages.

    Raises:
        ValueError: the trainer cannot build a network by these plans.
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
    """Refuse the plans of another STU-Net, in a sentence that begins with `wrong`."""
    if (planned["width"], planned["depth"]) != (SIZES[size].width, SIZES[size].depth):
        raise ValueError(f"{wrong} width {planned['width']}, depth {planned['depth']}. Use -p {plans_name(size)}.")
    if (planned.get("downsampling", "residual"), planned.get("upsampling", "nearest")) != ("residual", "nearest"):
        raise ValueError(f"{wrong} a variant. Use STUNetTrainer.")
