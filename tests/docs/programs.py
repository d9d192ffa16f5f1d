"""Programs on the PATH of the blocks: stunet, pip and torchrun of this Python, and stand-ins for Slurm and nnU-Net."""

import sys
from pathlib import Path

NNUNET = ("train", "predict_from_modelfolder")
"""Its commands, without nnUNetv2_."""

SCRIPTS = {
    "stunet": '{python} -m stunet "$@"',
    "pip": '{python} -m pip "$@"',
    "torchrun": '{python} -m torch.distributed.run "$@"',
    "sbatch": '[ "$1" = --parsable ] && sh "$2" >&2 && echo 1',
    **{f"nnUNetv2_{name}": f'{{python}} -m tests.docs.nnunet_commands {name} "$@"' for name in NNUNET},
}
"""By name, in the language of sh. `sbatch` runs one task of the array at once."""


def write_programs(folder: Path) -> Path:
    """Write them into a new folder."""
    folder.mkdir()
    for name, script in SCRIPTS.items():
        (folder / name).write_text(f"#!/bin/sh\n{script.format(python=sys.executable)}\n")
        (folder / name).chmod(0o755)
    return folder
