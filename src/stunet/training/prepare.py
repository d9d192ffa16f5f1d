"""Fingerprint, plans and preprocessed images of a dataset: nnU-Net's, for an STU-Net or another network."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stunet.errors import UnknownNameError, UserError
from stunet.folders import find_dataset
from stunet.networks.registry import find_network
from stunet.training import MAX_PROCESSES, environment
from stunet.training.failures import explaining_files
from stunet.training.fingerprint import extract_fingerprint
from stunet.training.planners import PLANNERS, find_configuration, plan_dataset, plans_name
from stunet.training.preprocessing import preprocess_images
from stunet.training.raw_cases import find_cases

OnCase = Callable[[str, int, int], None]
"""Told what is done at present, the number of cases done, and of all."""


@dataclass(frozen=True)
class PreparedDataset:
    """What `prepare` made.

    Attributes:
        dataset: full name, "Dataset004_Hippocampus".
        plans_file: the plans of this size or network.
        configuration: the configuration that was preprocessed, "3d_fullres".
        cases: number of preprocessed cases.
    """

    dataset: str
    plans_file: Path
    configuration: str
    cases: int


def prepare(
    dataset: str,
    size: str,
    configuration: str = "3d_fullres",
    processes: int | None = None,
    plan: str = "nnunet",
    on_case: OnCase = lambda stage, done, total: None,
) -> PreparedDataset:
    """Check the dataset and extract its fingerprint, plan for the network, and preprocess, all by nnU-Net.

    An interrupted preparation continues; a case counts as done if it is whole and none of its files has changed.

    Args:
        dataset: number or name of a dataset in nnU-Net's raw layout.
        size: of the STU-Net, or another name in `stunet.networks.registry.NETWORKS`.
        configuration: "3d_fullres" or "3d_lowres".
        processes: how many cases at a time; by default one for each processor, eight at most.
        plan: "nnunet", or "published" for that of the published weights (`PublishedPlanner`).
        on_case: told of each case that is done.

    Raises:
        UserError: an unknown dataset, size, plan or configuration, or cases that nnU-Net refuses, each named with the
            reason.
    """
    find_network(size)
    if processes is not None and processes < 1:
        raise UserError(f"{processes} processes cannot prepare; --processes is 1 or more.")
    if plan not in PLANNERS:
        raise UnknownNameError.of("plan", plan, PLANNERS)
    folders = environment.set_nnunet_environment()
    name = find_dataset(dataset, folders.raw)
    description, cases = find_cases(folders.raw / name)
    processes = processes or min(MAX_PROCESSES, os.cpu_count() or 1)
    plans_file = folders.preprocessed / name / f"{plans_name(size, plan)}.json"
    with explaining_files(plans_file.parent):
        extract_fingerprint(cases, description, plans_file.parent, processes, partial(on_case, "checking"))
        plan_dataset(name, size, plan, plans_file)
        find_configuration(json.loads(plans_file.read_text()), configuration, name)
        preprocess_images(cases, description, plans_file, configuration, processes, partial(on_case, "preprocessing"))
    return PreparedDataset(name, plans_file, configuration, len(cases))
