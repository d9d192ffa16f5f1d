"""`stunet prepare`: a dataset in nnU-Net's raw layout becomes plans and preprocessed images."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from stunet.cli.command import Options
from stunet.cli.output import print_summary, progress_bar, stdout_to_stderr


@dataclass
class Prepare(Options):
    """Check, plan and preprocess a dataset with nnU-Net.

    To continue after an interruption, run the same command again.

    Example: stunet prepare -d 4 --size small
    """

    dataset: Annotated[str, tyro.conf.arg(aliases=["-d"])]
    """Number or name of a dataset in nnU-Net's raw folder (nnUNet_raw if set, else STUNET_HOME/raw)."""
    size: Annotated[str, tyro.conf.arg(aliases=["--network"])] = "small"
    """tiny, small, base, large, huge, or another network (see `stunet models --systems`)."""
    configuration: Annotated[str, tyro.conf.arg(aliases=["-c"])] = "3d_fullres"
    """3d_fullres or 3d_lowres."""
    plan: Annotated[Literal["nnunet", "published"], tyro.conf.arg(name="plans")] = "nnunet"
    """nnunet: planned for this dataset. published: the plan of the published weights (1.5 mm, 128x128x128)."""
    workers: int | None = None
    """Cases to process at a time. Default: one per processor, at most eight."""

    def run(self) -> int:
        """Prepare with a bar; let nnU-Net talk on stderr."""
        from stunet.training.prepare import prepare

        with stdout_to_stderr(), progress_bar("checking") as update:
            prepared = prepare(
                self.dataset,
                self.size,
                self.configuration,
                self.workers,
                self.plan,
                lambda stage, done, total: update(done, total, stage),
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
