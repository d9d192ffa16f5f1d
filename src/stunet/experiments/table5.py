"""Table 5 (and Figure 3): from scratch and fine-tuned on FLARE22, AMOS22 (CT, MR, both), AutoPET22 (CT, PET, both).

Command: `stunet experiment run table5 --profile full --data flare22=FOLDER --data flare22_validation=FOLDER`, and the
same for amos22, amos22_ct, amos22_mr, autopet22, autopet22_ct, autopet22_pet; one dataset: `--only '*-flare22'`.
On a CPU: `stunet experiment run table5 --profile mini --data hippocampus=FOLDER --data stspet=FOLDER
--data totalseg_example=FOLDER`.
Cost: about 3,070 hours of an A100 in all; mini: about 10 minutes of one CPU thread.
Expected: mean DSC over the seven columns 77.19 % for STU-Net-B from scratch, 79.23 % fine-tuned; H 77.64 and 80.69 %.

Fine-tuning starts from the published weights. `stunet models` shows their licence and size.
"""

from collections.abc import Sequence
from pathlib import Path

from stunet.experiments.experiment import Expected, Experiment, ExperimentRun
from stunet.experiments.median_cases import median_cases
from stunet.experiments.mini_data import MINI_DOWNSTREAM, mini_pretraining, short
from stunet.experiments.panel_cases import PanelCase
from stunet.experiments.paper_data import DOWNSTREAM, downstream_training, dsc_expected
from stunet.experiments.results import Measurement
from stunet.experiments.scores import MeanOverTargets
from stunet.experiments.training_run import TrainingSchedule

SOURCE = "Table 5"

ROWS = (
    ("nnunet", "nnU-Net", "nnunet", None, "85.86 89.48 89.98 87.39 73.03 41.84 71.81", "77.06"),
    ("stunet-b", "STU-Net-B", "base", None, "86.56 89.70 89.84 86.92 73.96 41.09 72.25", "77.19"),
    ("stunet-l", "STU-Net-L", "large", None, "87.41 90.29 90.57 87.04 74.94 40.97 73.37", "77.80"),
    ("stunet-h", "STU-Net-H", "huge", None, "87.29 90.13 90.39 87.18 72.19 43.72 72.59", "77.64"),
    ("stunet-b-ft", "STU-Net-B-ft", "base", "base", "87.11 89.73 90.25 87.49 74.68 50.03 75.37", "79.23"),
    ("stunet-l-ft", "STU-Net-L-ft", "large", "large", "88.25 90.50 90.79 87.69 75.19 51.88 77.04", "80.19"),
    ("stunet-h-ft", "STU-Net-H-ft", "huge", "huge", "88.81 90.49 91.16 87.98 76.29 52.80 77.32", "80.69"),
)
"""Run key, name in the paper, network, initial weights, DSC (%) of the seven columns, and their mean."""

PRETRAINING = mini_pretraining(60)

MINI_ROWS = (
    ("nnunet", "nnU-Net, tiny", "nnunet_tiny", None),
    ("stunet", "STU-Net, tiny", "tiny", None),
    ("stunet-ft", "STU-Net, tiny, ft", "tiny", PRETRAINING.key),
)
"""Key, name, network, and the run that provides the initial weights."""

FIGURE_3_SYSTEMS = ("nnU-Net", "STU-Net-B-ft", "STU-Net-L-ft", "STU-Net-H-ft")

FIGURE_3_DATASETS = ("FLARE22", "AMOS-CT", "AMOS-MR", "AutoPET-CT", "AutoPET-PET")


def figure_3(runs: Sequence[ExperimentRun], measurements: Sequence[Measurement], folder: Path) -> list[PanelCase]:
    """The rows of Figure 3, for either profile. The paper does not name its cases."""
    systems = (*FIGURE_3_SYSTEMS, *(system for _, system, *_ in MINI_ROWS))
    datasets = (*FIGURE_3_DATASETS, *(data.cases.name for data in MINI_DOWNSTREAM))
    return median_cases(runs, measurements, folder, systems, datasets)


EXPERIMENT = Experiment(
    name="table5",
    title="Fine-tuning on FLARE22, AMOS22 and AutoPET22, and Figure 3",
    shows="Pre-trained on TotalSegmentator, STU-Nets are better than from scratch, on MR and PET as well.",
    source="Table 5, section 4.2.2",
    full=tuple(
        downstream_training(
            key,
            system,
            network,
            data,
            TrainingSchedule("finetune" if start else None, learning_rate=data.learning_rate),
            expected,
            start=start,
        )
        for key, system, network, start, printed, _ in ROWS
        for data, expected in zip(DOWNSTREAM, dsc_expected(printed, SOURCE), strict=True)
    ),
    mini=(
        PRETRAINING,
        *(
            downstream_training(
                key,
                system,
                network,
                data,
                short(200, TrainingSchedule("finetune" if after else None)),
                after=after,
            )
            for key, system, network, after in MINI_ROWS
            for data in MINI_DOWNSTREAM
        ),
    ),
    elsewhere=(
        "DKFZ trained STU-Net S, B and L from scratch on AMOS22 in five folds: 88.08, 88.46 and 89.34 % DSC, nnU-Net "
        "88.64 %: documentation/resenc_presets.md of MIC-DKFZ/nnUNet.",
    ),
    remarks=(
        "The paper's 398 and 103 cases of AutoPET are not published; fold 0 of a split by patients is used instead.",
    ),
    derive=MeanOverTargets(
        "mean",
        {data.cases.name: 1 for data in DOWNSTREAM},
        {system: Expected(mean, SOURCE, percent=True) for _, system, *_, mean in ROWS},
    ),
    pictures=figure_3,
)
