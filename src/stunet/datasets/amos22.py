"""AMOS22: CT and MR of the abdomen with 15 organs (Ji et al. 2022).

- Layout (readme.md of the release doi:10.5281/zenodo.7262581): `imagesTr`, `labelsTr`, `imagesVa`, `labelsVa`,
  `imagesTs` with files `amos_0001.nii.gz`, and a `dataset.json` in the Decathlon's format plus `validation`.
- Modality: given by the number in the name. 1 to 500 are CT, 501 to 600 MR. The readme says "less than 500", but it
  also says 500 CT and 100 MR, and amos_0500 is in Hounsfield units.
- Numbers: 200 CT and 40 MR to train, 100 CT and 20 MR to validate (readme; STU-Net paper, appendix B). Labels of test
  cases are not published. The readme names 120 test cases; the remainder of 600 is 240. Both are accepted.
- Split: the official one, as in the paper's fine-tuning (appendix B): fold 0 trains on `imagesTr` and validates on
  `imagesVa`. The paper fine-tunes on CT, on MR and on both (Table 5).
- Label names: those of the published `dataset.json`, which spells "arota" and "postcava".
- Files have several orientations. The dataset therefore requests nnU-Net's reorienting reader, as nnU-Net's conversion
  does.
- Licence: CC BY 4.0 (the Zenodo record).
"""

from pathlib import Path

from stunet.datasets.msd import in_order, listed_cases, read_description
from stunet.datasets.source import (
    Choice,
    Published,
    SourceDataset,
    SplitPart,
    chosen_modality,
    find_folder,
    name_differences,
    number_differences,
)
from stunet.errors import UserError

MODALITIES = ("CT", "MR")

LAST_CT = 500
"""The number of the last CT."""

NUMBERS: dict[str | None, dict[SplitPart, tuple[int, ...]]] = {
    None: {"train": (240,), "val": (120,), "test": (240, 120)},
    "CT": {"train": (200,), "val": (100,)},
    "MR": {"train": (40,), "val": (20,)},
}
"""Published numbers of cases for each choice of modality."""

LABELS = (
    "background",
    "spleen",
    "right kidney",
    "left kidney",
    "gall bladder",
    "esophagus",
    "liver",
    "stomach",
    "arota",
    "postcava",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
    "duodenum",
    "bladder",
    "prostate/uterus",
)

_LISTS: dict[str, SplitPart] = {"training": "train", "validation": "val", "test": "test"}
_CHANNELS = {None: "CT or MR", "CT": "CT", "MR": "MR"}


def find(source: Path, choice: Choice) -> SourceDataset:
    """The cases listed in `dataset.json`, of one modality or both.

    For both modalities, the channel is named "CT or MR", so that nnU-Net normalises each image by itself.

    Raises:
        UserError: the dataset does not exist, or lacks the modality.
    """
    modality = chosen_modality(choice, MODALITIES, "AMOS22")
    folder = find_folder(source, "dataset.json", ("amos22",))
    description = read_description(folder / "dataset.json")
    labels = in_order(description["labels"])
    published = Published(
        name="AMOS22" + (modality or ""),
        description="CT and MR of the abdomen with 15 organs",
        reference="https://doi.org/10.5281/zenodo.7262581",
        licence="CC BY 4.0",
        channels=(_CHANNELS[modality],),
        labels=labels,
        cases=NUMBERS[modality],
        reader="NibabelIOWithReorient",
    )
    listed = [case for key, part in _LISTS.items() for case in listed_cases(folder, description.get(key, ()), part)]
    cases = [case for case in listed if modality is None or modality_of(case.name) == modality]
    differences = (
        *number_differences(cases, published),
        *name_differences(labels, LABELS, "labels", published.name),
    )
    return SourceDataset(folder, published, tuple(sorted(cases, key=lambda case: case.name)), differences)


def modality_of(case: str) -> str:
    """The modality of a case, from the number in its name.

    >>> modality_of("amos_0500"), modality_of("amos_0501")
    ('CT', 'MR')

    Raises:
        UserError: the name has no number.
    """
    number = case.rpartition("_")[2]
    if not number.isdigit():
        raise UserError(f"AMOS22 tells CT from MR by the number in a name like amos_0001; {case} has none.")
    return "CT" if int(number) <= LAST_CT else "MR"
