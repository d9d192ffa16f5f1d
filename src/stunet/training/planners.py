"""Plans for STU-Nets: nnU-Net's own spacing, patch and batch, with another network."""

from typing import Any

from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

from stunet.networks.stunet import SIZES, six_strides

NETWORK_CLASS = "stunet.networks.stunet.STUNet"
"""What nnU-Net finds with pydoc.locate when it builds the network of our plans."""

PLANS_PREFIX = "STUNetPlans"


def plans_name(size: str) -> str:
    """What nnU-Net calls the plans of a size: "STUNetPlans_small"."""
    return f"{PLANS_PREFIX}_{size}"


def images_folder_name(configuration: str) -> str:
    """What nnU-Net calls the folder of a configuration's preprocessed images; all sizes share it."""
    return f"{PLANS_PREFIX}_{configuration}"


def stunet_architecture(architecture: dict[str, Any], size: str) -> dict[str, Any]:
    """The `architecture` entry of a configuration, with nnU-Net's network replaced by an STU-Net.

    Args:
        architecture: nnU-Net's own entry for a 3D configuration; only its strides are used.
        size: one of `SIZES`.
    """
    chosen = SIZES[size]
    strides = six_strides(architecture["arch_kwargs"]["strides"])
    return {
        "network_class_name": NETWORK_CLASS,
        "arch_kwargs": {"width": chosen.width, "depth": chosen.depth, "strides": [list(s) for s in strides]},
        "_kw_requires_import": [],
    }


class STUNetPlanner(ExperimentPlanner):
    """nnU-Net's planner, whose 3D configurations get an STU-Net of six stages and 3x3x3 kernels (section 3.2, Table 1).

    Spacing, patch, batch and strides are nnU-Net's; strides are padded with (1, 1, 1) or cut to five. All sizes share
    one set of preprocessed images.

    Args:
        dataset_name_or_id: of a dataset in nnU-Net's raw folder whose fingerprint is there.
        size: one of `SIZES`.
        options: further arguments of nnU-Net's planner.
    """

    def __init__(self, dataset_name_or_id: str | int, size: str, **options: Any):
        self.size = size
        options.setdefault("plans_name", plans_name(size))
        super().__init__(dataset_name_or_id, **options)

    def generate_data_identifier(self, configuration_name: str) -> str:
        """The folder of the preprocessed images: the same for all sizes."""
        return images_folder_name(configuration_name)

    def save_plans(self, plans: dict[str, Any]) -> None:
        """Replace the networks and leave the 2D configuration out, then save as nnU-Net does."""
        del plans["configurations"]["2d"]
        for configuration in plans["configurations"].values():
            if "architecture" in configuration:
                configuration["architecture"] = stunet_architecture(configuration["architecture"], self.size)
        super().save_plans(plans)
