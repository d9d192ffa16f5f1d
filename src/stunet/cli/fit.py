"""`stunet models --fit`: what can be trained and predicted in a given amount of memory."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stunet.cli.output import MESSAGES, print_table
from stunet.errors import UserError

UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
"""1 GB is 10^9 bytes, 1 GiB is 2^30."""

BATCH = 2
"""Batch size for the patch search: the paper's (section 4)."""

NOTE = (
    "GB are 10^9 bytes. Tensors are counted, and torch itself on a CPU. On a GPU, leave a quarter free for "
    "convolutions and the allocator."
)


def parse_memory(text: str) -> int:
    """Bytes of "24GB", "24 GiB" or "640MB"; 1 GB is 10^9 bytes, 1 GiB is 2^30.

    Raises:
        UserError: the text is anything else.

    >>> parse_memory("24GB"), parse_memory("1.5 GiB")
    (24000000000, 1610612736)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([A-Za-z]+)", text.strip(), re.ASCII)
    if match is None or match[2] not in UNITS or float(match[1]) == 0:
        raise UserError(f"Give a memory as a number and a unit ({', '.join(UNITS)}), such as 24GB; not {text!r}.")
    return int(float(match[1]) * UNITS[match[2]])


@dataclass(frozen=True)
class Question:
    """What must fit.

    Attributes:
        available: bytes.
        names: of sizes.
        patch: voxels (Z, Y, X).
        channels: of the image.
        classes: including background.
        precision: of convolutions.
    """

    available: int
    names: Sequence[str]
    patch: tuple[int, int, int]
    channels: int
    classes: int
    precision: Literal["float32", "bfloat16"]


def training_rows(asked: Question) -> list[dict[str, Any]]:
    """What can be trained, for each size, with activations kept and recomputed.

    Raises:
        UserError: nnU-Net is missing, or no STU-Net can be trained on this patch.
    """
    from stunet.networks.registry import network_spec
    from stunet.training.fit import fewest_ranks, largest_batch, largest_cube, needed_bytes
    from stunet.training.memory_walk import TrainingStep

    rows = []
    for name in asked.names:
        network = network_spec(name, asked.channels, asked.classes)
        for checkpointed in (False, True):
            try:
                step = TrainingStep(network, asked.patch, BATCH, asked.precision, checkpointed)
                one_image = TrainingStep(network, asked.patch, 1, asked.precision, checkpointed)
            except ValueError as error:
                raise UserError(f"{error}. Each number of --patch must be a multiple of 32.") from error
            cube = largest_cube(step, asked.available)
            rows.append(
                {
                    "size": name,
                    "checkpoint_activations": checkpointed,
                    "needed_gigabytes": _gigabytes(needed_bytes(step)),
                    "largest_batch": largest_batch(step, asked.available),
                    "largest_patch": cube and list(cube),
                    "fsdp_ranks": fewest_ranks(one_image, asked.available),
                }
            )
    return rows


def prediction_rows(asked: Question) -> list[dict[str, Any]]:
    """What can be predicted, for each size, one window at a time.

    Raises:
        UserError: the strides do not divide the window.
    """
    from stunet.inference.prediction_memory import largest_window, needed_bytes
    from stunet.networks.registry import network_spec

    rows = []
    for name in asked.names:
        network = network_spec(name, asked.channels, asked.classes)
        try:
            needed = needed_bytes(network, asked.patch, asked.precision)
        except ValueError as error:
            raise UserError(f"{error}. Each number of --patch must be a multiple of 32.") from error
        cube = largest_window(network, asked.available, asked.precision)
        rows.append(
            {
                "size": name,
                "needed_gigabytes": _gigabytes(needed),
                "fits": needed <= asked.available,
                "largest_window": cube and list(cube),
            }
        )
    return rows


def _gigabytes(size: int) -> float:
    return round(size / 1e9, 2)


def print_fit(asked: Question, training: list[dict[str, Any]], prediction: list[dict[str, Any]]) -> None:
    """Print two tables, and a note on stderr."""
    circumstances = f"in {_gigabytes(asked.available):g} GB: {asked.precision}, {asked.classes} classes"
    patch = _spoken(asked.patch)
    print_table(
        f"Training {circumstances}, patch {patch} or the largest for a batch of {BATCH}",
        (
            "size",
            "activations",
            f"GB, batch of {BATCH}",
            "largest batch",
            "largest patch",
            "FSDP processes, 1 image each",
        ),
        [
            (
                row["size"],
                "recomputed" if row["checkpoint_activations"] else "kept",
                f"{row['needed_gigabytes']:.2f}",
                str(row["largest_batch"]),
                _spoken(row["largest_patch"]),
                str(row["fsdp_ranks"] or "-"),
            )
            for row in training
        ],
    )
    print_table(
        f"Predicting {circumstances}, window {patch} or the largest",
        ("size", "GB", "fits", "largest window"),
        [
            (r["size"], f"{r['needed_gigabytes']:.2f}", "yes" if r["fits"] else "no", _spoken(r["largest_window"]))
            for r in prediction
        ],
    )
    MESSAGES.print(NOTE)


def _spoken(edges: Sequence[int] | None) -> str:
    return "x".join(map(str, edges)) if edges else "-"
