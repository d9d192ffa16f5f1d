"""Fingerprint, plan and preprocess a dataset with nnU-Net, for an STU-Net or another network."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stunet.errors import UnknownNameError, UserError
from stunet.files import require_writable
from stunet.folders import find_dataset
from stunet.networks.registry import find_network
from stunet.training import MAX_PROCESSES, environment
from stunet.training.failures import explaining_files
from stunet.training.fingerprint import extract_fingerprint
from stunet.training.planners import PLANNERS, Target, find_configuration, plan_dataset, plans_name
from stunet.training.preprocessing import preprocess_images
from stunet.training.raw_cases import find_cases

OnCase = Callable[[str, int, int], None]
"""Called with the current task, the number of cases done, and the total."""


@dataclass(frozen=True)
class PreparedDataset:
    """The result of `prepare`.

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
    spacing: tuple[float, float, float] | None = None,
    memory: float | None = None,
) -> PreparedDataset:
    """Check the dataset, extract its fingerprint, plan for the network, and preprocess, all by nnU-Net.

    An interrupted preparation continues. A case counts as done if it is complete and none of its files has changed.

    Args:
        dataset: number or name of a dataset in nnU-Net's raw layout.
        size: of the STU-Net, or another name in `stunet.networks.registry.NETWORKS`.
        configuration: "3d_fullres", "3d_lowres", or another name in the plans; with `spacing` or `memory`, the name of
            the configuration to add to them.
        processes: number of cases processed at the same time; by default one per processor, at most eight.
        plan: "nnunet", or "published", the plan of the published weights (`PublishedPlanner`).
        on_case: called after each case.
        spacing: mm (Z, Y, X) to resample to, instead of nnU-Net's choice.
        memory: GB of GPU memory to plan patch and batch for, by nnU-Net's estimate, instead of its default, 8.

    Raises:
        UserError: an unknown dataset, size, plan or configuration, or cases that nnU-Net refuses. The message names
            each case with the reason.
    """
    find_network(size)
    if processes is not None and processes < 1:
        raise UserError(f"--workers must be 1 or more, not {processes}.")
    if plan not in PLANNERS:
        raise UnknownNameError.of("plan", plan, PLANNERS)
    target = None if spacing is None and memory is None else Target(configuration, spacing, memory)
    if target is not None and plan == "published":
        raise UserError(
            "The plan of the published weights has a spacing and a patch; leave --spacing and --memory out."
        )
    folders = environment.set_nnunet_environment()
    name = find_dataset(dataset, folders.raw)
    raw, cases = find_cases(folders.raw / name)
    processes = processes or min(MAX_PROCESSES, os.cpu_count() or 1)
    plans_file = folders.preprocessed / name / f"{plans_name(size, plan)}.json"
    require_writable(plans_file.parent)
    with explaining_files(plans_file.parent):
        extract_fingerprint(cases, raw, plans_file.parent, processes, partial(on_case, "checking"))
        plan_dataset(name, size, plan, plans_file, target)
        find_configuration(json.loads(plans_file.read_text()), configuration, name)
        preprocess_images(cases, raw.content, plans_file, configuration, processes, partial(on_case, "preprocessing"))
    return PreparedDataset(name, plans_file, configuration, len(cases))
