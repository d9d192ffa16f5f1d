"""AMOS22: CT and MR of the abdomen with 15 organs (Ji et al. 2022).

- Layout (readme.md of the release doi:10.5281/zenodo.7262581): `imagesTr`, `labelsTr`, `imagesVa`, `labelsVa`,
  `imagesTs` with files `amos_0001.nii.gz`, and a `dataset.json` of the Decathlon's form with `validation` besides.
- Modality: by the number in the name. 1 to 500 are CT, 501 to 600 MR. The readme says "less than 500", but it also says
  500 CT and 100 MR, and amos_0500 holds Hounsfield units.
- Numbers: 200 CT and 40 MR to train, 100 CT and 20 MR to validate (readme; STU-Net paper, appendix B). Of test cases,
  whose labels are not published, the readme names 120; what is left of 600 is 240. Both are accepted.
- Split: the official one, as in the paper's fine-tuning (appendix B): fold 0 trains on `imagesTr`, validates on
  `imagesVa`. The paper fine-tunes on CT, on MR and on both (Table 5).
- Label names: those of the published `dataset.json`, which spells "arota" and "postcava".
- Files are stored in several orientations, so nnU-Net's reorienting reader is asked for, as nnU-Net's conversion does.
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
    """The cases that `dataset.json` lists, of one modality or of both.

    Both modalities together get the channel name "CT or MR", for which nnU-Net normalises each image by itself.

    Raises:
        UserError: no such dataset, or a modality that it does not have.
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
    """The modality of a case, by the number in its name.

    >>> modality_of("amos_0500"), modality_of("amos_0501")
    ('CT', 'MR')

    Raises:
        UserError: a name without a number.
    """
    number = case.rpartition("_")[2]
    if not number.isdigit():
        raise UserError(f"AMOS22 tells CT from MR by the number in a name like amos_0001; {case} has none.")
    return "CT" if int(number) <= LAST_CT else "MR"
