"""`stunet prepare`: plan and preprocess a dataset in nnU-Net's raw layout."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from stunet.cli.command import Options
from stunet.cli.output import print_summary, progress_bar, stdout_to_stderr


@dataclass
class Prepare(Options):
    """Check, plan and preprocess a dataset with nnU-Net.

    To continue after an interruption, run the same command again.

    Examples: stunet prepare -d 4 --size small
              stunet prepare -d 4 --size small -c 3d_coarse --spacing 2 2 2
    """

    dataset: Annotated[str, tyro.conf.arg(aliases=["-d"])]
    """Number or name of a dataset in nnU-Net's raw folder (nnUNet_raw if set, else STUNET_HOME/raw)."""
    size: Annotated[str, tyro.conf.arg(aliases=["--network"])] = "small"
    """tiny, small, base, large, huge, or another network (see `stunet models --systems`)."""
    configuration: Annotated[str, tyro.conf.arg(aliases=["-c"])] = "3d_fullres"
    """3d_fullres, 3d_lowres, or a name of your own with --spacing or --memory."""
    plan: Annotated[Literal["nnunet", "published"], tyro.conf.arg(name="plans")] = "nnunet"
    """nnunet: planned for this dataset. published: the plan of the published weights (1.5 mm, 128x128x128)."""
    spacing: Annotated[tuple[float, float, float] | None, tyro.conf.arg(metavar="Z Y X")] = None
    """Resample to this spacing in mm (Z Y X). Default: nnU-Net's choice, usually the median."""
    memory: float | None = None
    """Plan patch and batch for a GPU with this many GB. Default: 8, as in nnU-Net."""
    workers: int | None = None
    """Cases to process in parallel. Default: one per processor, at most eight."""

    def run(self) -> int:
        """Prepare with a progress bar. nnU-Net's output goes to stderr."""
        from stunet.training.prepare import prepare

        with stdout_to_stderr(), progress_bar("checking") as update:
            prepared = prepare(
                self.dataset,
                self.size,
                self.configuration,
                self.workers,
                self.plan,
                lambda stage, done, total: update(done, total, stage),
                self.spacing,
                self.memory,
            )
        plan = "" if self.plan == "nnunet" else f" --plans {self.plan}"
        configuration = "" if self.configuration == "3d_fullres" else f" -c {self.configuration}"
        summary = {
            "dataset": prepared.dataset,
            "plans": str(prepared.plans_file),
            "configuration": prepared.configuration,
            "cases": prepared.cases,
            "next": f"stunet train -d {self.dataset} -f 0 --size {self.size}{plan}{configuration}",
        }
        print_summary("Prepared", summary, self.json)
        return 0
