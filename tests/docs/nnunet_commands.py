"""nnU-Net's own commands, with trainings of one iteration: `python -m tests.docs.nnunet_commands train 4 3d_fullres 0`.

Their console scripts do not start where torchvision was built for CUDA and torch was not.
"""

import sys
from dataclasses import replace

from stunet.training.recipes import RECIPES
from tests.training.torchvision_operators import declare_if_missing


def main() -> None:
    """Shorten all recipes, then do as the console script does."""
    declare_if_missing()
    from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder
    from nnunetv2.run.run_training import run_training_entry

    for name, recipe in RECIPES.items():
        RECIPES[name] = replace(recipe, epochs=1, iterations_per_epoch=1)
    del sys.argv[0]
    {"train": run_training_entry, "predict_from_modelfolder": predict_entry_point_modelfolder}[sys.argv[0]]()


if __name__ == "__main__":  # nnU-Net starts processes that import this file again
    main()
