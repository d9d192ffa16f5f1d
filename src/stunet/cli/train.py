"""`stunet train`: a prepared dataset becomes an nnU-Net v2 model folder."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from stunet.cli.output import Json, print_json, print_table, progress_bar, stdout_to_stderr


@dataclass
class Train:
    """Train an STU-Net with the paper's settings inside nnU-Net, and validate it.

    Example: stunet train -d 4 -f 0 --size small --epochs 40 --batch-size 2
    """

    dataset: Annotated[str, tyro.conf.arg(aliases=["-d"])]
    """Number or name of a dataset that `stunet prepare` has seen."""
    fold: Annotated[str, tyro.conf.arg(aliases=["-f"])] = "0"
    """0 to 4, or all."""
    size: str = "small"
    """tiny, small, base, large or huge."""
    configuration: Annotated[str, tyro.conf.arg(aliases=["-c"])] = "3d_fullres"
    """3d_fullres or 3d_lowres."""
    plan: Literal["nnunet", "published"] = "nnunet"
    """Which plan the dataset was prepared with."""
    epochs: int = 1000
    """Epochs; the learning rate decays over them."""
    iterations: int = 250
    """Iterations in an epoch."""
    batch_size: int | None = None
    """Images in a batch; the plan's by default (the paper: 2)."""
    mirror: bool = True
    """Augment by mirrored copies. --no-mirror where left and right matter, or the schedule is short."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto takes a CUDA GPU if there is one, else the CPU."""
    precision: Literal["auto", "float32"] = "auto"
    """auto: half precision on GPUs, bfloat16 on CPUs that have it."""
    seed: int = 0
    """Of the initial weights; with --workers 0 of the batches, too."""
    workers: int | None = None
    """Processes that load and augment; nnU-Net's choice by default."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on from the newest checkpoint."""
    json: Json = False
    """Print JSON."""

    def run(self) -> int:
        """Train with a progress bar; nnU-Net's own log goes to stderr."""
        from stunet.training.run import TrainingSettings, default_device, train

        settings = TrainingSettings(
            dataset=self.dataset,
            fold=int(self.fold) if self.fold.isdigit() else self.fold,
            size=self.size,
            configuration=self.configuration,
            plan=self.plan,
            epochs=self.epochs,
            iterations_per_epoch=self.iterations,
            batch_size=self.batch_size,
            mirror=self.mirror,
            device=default_device() if self.device == "auto" else self.device,
            precision=self.precision,
            seed=self.seed,
            workers=self.workers,
            resume=self.resume,
        )
        with stdout_to_stderr(), progress_bar("training") as progress:
            task = progress.task_ids[0]
            total = self.epochs * self.iterations
            result = train(settings, lambda done: progress.update(task, completed=done, total=total))
        summary = {
            "model_folder": str(result.model_folder),
            "validation_dsc": result.validation_dsc,
            "dsc_per_label": result.dsc_per_label,
            "seconds": round(result.seconds, 1),
            "next": f"stunet predict -m {result.model_folder} -f {self.fold} -i SCAN.nii.gz -o LABELS.nii.gz",
        }
        if self.json:
            print_json(summary)
        else:
            print_table("Trained", ("", "value"), [(key, str(value)) for key, value in summary.items()])
        return 0
