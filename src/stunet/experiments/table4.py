"""Table 4: direct inference on 14 datasets that the models were not trained on.

Command: `stunet experiment run table4 --data btcv=FOLDER --data word=FOLDER --gpus 1` runs the published STU-Nets on
the given datasets; add `--data model=FILE` for a model of your own. On a CPU: `stunet experiment run table4
--profile mini --data totalseg_example=FOLDER` trains a small network on one CT first.
Cost: 2494 scans for each of three models, about 41 hours of an A100 in all; mini: 9 minutes of a busy CPU, after which
the network still finds nothing (DSC 0).
Expected: the paper's values, within the range of the three counting rules; mean DSC 80.71, 82.83 and 84.02 % for B, L
and H.
"""

from collections.abc import Sequence

from stunet.experiments.direct_inference import DirectInferenceRun
from stunet.experiments.experiment import Expected, Experiment
from stunet.experiments.mini_data import mini_pretraining
from stunet.experiments.results import Measurement
from stunet.experiments.scores import MeanOverTargets
from stunet.labels.mapping import list_mappings, load_mapping

SOURCE = "Table 4"

NNUNET, OWN = "nnU-Net", "own model"

SYSTEMS = {"STU-Net-B": "base", "STU-Net-L": "large", "STU-Net-H": "huge"}
"""The paper's STU-Nets -> names in the catalogue."""

PRINTED: dict[str, dict[str, str]] = {
    "msd_liver": {NNUNET: "95.29", "STU-Net-B": "95.80", "STU-Net-L": "95.87", "STU-Net-H": "95.88"},
    "msd_pancreas": {NNUNET: "76.52", "STU-Net-B": "75.96", "STU-Net-L": "78.41", "STU-Net-H": "78.95"},
    "msd_spleen": {NNUNET: "93.97", "STU-Net-B": "95.46", "STU-Net-L": "95.38", "STU-Net-H": "95.52"},
    "btcv": {NNUNET: "80.14", "STU-Net-B": "80.96", "STU-Net-L": "83.05", "STU-Net-H": "83.83"},
    "btcv_cervix": {NNUNET: "54.22", "STU-Net-B": "89.43", "STU-Net-L": "89.95", "STU-Net-H": "89.79"},
    "abdomenct_1k": {NNUNET: "90.29", "STU-Net-B": "91.61", "STU-Net-L": "92.15", "STU-Net-H": "92.27"},
    "kits2021": {NNUNET: "86.00", "STU-Net-B": "83.45", "STU-Net-L": "84.38", "STU-Net-H": "85.44"},
    "flare22": {NNUNET: "85.39", "STU-Net-B": "88.27", "STU-Net-L": "89.61", "STU-Net-H": "89.87"},
    "ct_org": {NNUNET: "69.01", "STU-Net-B": "72.09", "STU-Net-L": "71.90", "STU-Net-H": "73.14"},
    "amos_ct": {NNUNET: "79.26", "STU-Net-B": "80.99", "STU-Net-L": "82.87", "STU-Net-H": "83.11"},
    "kipa2022": {NNUNET: "30.72", "STU-Net-B": "53.77", "STU-Net-L": "67.04", "STU-Net-H": "78.44"},
    "verse2020": {NNUNET: "67.82", "STU-Net-B": "62.01", "STU-Net-L": "65.35", "STU-Net-H": "66.65"},
    "word": {NNUNET: "78.73", "STU-Net-B": "76.07", "STU-Net-L": "78.08", "STU-Net-H": "77.42"},
    "segthor": {NNUNET: "81.79", "STU-Net-B": "84.02", "STU-Net-L": "85.59", "STU-Net-H": "85.91"},
}
"""Mean DSC in percent, as printed: dataset -> system -> value."""

PRINTED_MEAN = {NNUNET: "76.37", "STU-Net-B": "80.71", "STU-Net-L": "82.83", "STU-Net-H": "84.02"}
"""The last row: the mean over the datasets."""

MEAN = "mean of the datasets"


def means_of_datasets(measurements: Sequence[Measurement]) -> list[Measurement]:
    """The last row of the table, for each system and counting rule with all 14 datasets measured."""
    titles = {load_mapping(name).title: 1 for name in PRINTED}
    expected = {system: Expected(mean, SOURCE, percent=True) for system, mean in PRINTED_MEAN.items()}
    return MeanOverTargets(MEAN, titles, expected)([m for m in measurements if m.value is not None])


_OWN_RUNS = tuple(DirectInferenceRun(OWN, dataset) for dataset in list_mappings())

PRETRAINING = mini_pretraining(120)

_MINI_RUN = DirectInferenceRun(PRETRAINING.system, "totalsegmentator", after=PRETRAINING.key, data="totalseg_example")

_PUBLISHED_RUNS = tuple(
    DirectInferenceRun(system, dataset, model, printed[system])
    for system, model in SYSTEMS.items()
    for dataset, printed in PRINTED.items()
)

EXPERIMENT = Experiment(
    name="table4",
    title="Direct inference on 14 datasets",
    shows="Larger models pre-trained on TotalSegmentator have a higher mean DSC on 14 datasets that they were not "
    "trained on, without any adaptation.",
    source="Table 4, section 4.2.1; targets and cases: Table 9, appendices A and B",
    full=(*_PUBLISHED_RUNS, *_OWN_RUNS),
    mini=(PRETRAINING, _MINI_RUN, *_OWN_RUNS),
    elsewhere=(
        "The column nnU-Net of Table 4 is TotalSegmentator's: score its predictions with "
        "`stunet evaluate --mapping btcv --numbering totalsegmentator-v1`.",
    ),
    remarks=(
        "The paper prints one number for each dataset and does not say which targets it counts. Table 9: the targets "
        "that it lists, 0 for one without a class. Evaluable: those of them that have a class. Released script: those "
        "of the official label_sys.py. The three differ for AMOS-CT, CT-ORG and WORD only.",
        "No mirroring, windows that overlap by half: as the released script predicts.",
    ),
    derive=means_of_datasets,
)
