"""AutoPET22: whole-body FDG-PET/CT with tumour lesions (Gatidis et al. 2022).

- Layout (FDG-PET-CT-Lesions, doi:10.7937/gkr0-xv29 and fdat.uni-tuebingen.de/records/wf9fy-txq84, as NIfTI): one folder
  per patient (`PETCT_0011f3deaf`) with one folder per study, whose name contains blanks. A study has `SUV.nii.gz` (PET
  in SUV), `CTres.nii.gz` (CT resampled to the PET) and `SEG.nii.gz` (lesions). `CT.nii.gz` and `PET.nii.gz` are on
  other grids or scales and are not used.
- Numbers: 1014 studies of 900 patients; 501 studies have lesions (Gatidis et al.; STU-Net paper, appendix B). The paper
  fine-tunes on 398 and tests on 103 studies with lesions, but does not list them. `--only-labelled` omits studies
  without lesions.
- Channels: CT, then PET. The paper fine-tunes on each and on both (Table 5).
- Split: five folds that keep all studies of a patient together.
- Licence: set by the record that the data comes from; The Cancer Imaging Archive requires an agreement. The paper to
  cite is doi:10.1038/s41597-022-01718-3.
"""

import re
from pathlib import Path

from stunet.datasets.source import (
    Choice,
    Published,
    SourceCase,
    SourceDataset,
    chosen_modality,
    find_folder,
    number_differences,
)
from stunet.errors import UserError

FILES = {"CT": "CTres.nii.gz", "PET": "SUV.nii.gz"}
"""Channel -> file name within a study."""

LESIONS = "SEG.nii.gz"

STUDIES, STUDIES_WITH_LESIONS = 1014, 501


def find(source: Path, choice: Choice) -> SourceDataset:
    """All studies of all patients.

    Raises:
        UserError: there is no patient folder, the modality does not exist, or two studies would get the same name.
    """
    modality = chosen_modality(choice, tuple(FILES), "AutoPET22")
    channels = (modality,) if modality else tuple(FILES)
    folder = source if any(source.glob("PETCT_*")) else find_folder(source, "FDG-PET-CT-Lesions") / "FDG-PET-CT-Lesions"
    published = Published(
        name="AutoPET22" + (modality or ""),
        description="Whole-body FDG-PET/CT with tumour lesions",
        reference="https://doi.org/10.7937/gkr0-xv29",
        licence="that of the record the data comes from, see https://doi.org/10.7937/gkr0-xv29",
        channels=channels,
        labels=("background", "lesion"),
        cases={"train": (STUDIES,)},
        labelled=STUDIES_WITH_LESIONS,
    )
    studies = sorted(path for path in folder.glob("PETCT_*/*") if path.is_dir())
    cases = tuple(
        SourceCase(
            name=case_name(study),
            images=tuple(study / FILES[channel] for channel in channels),
            label=study / LESIONS,
            group=study.parent.name,
        )
        for study in studies
    )
    if len({case.name for case in cases}) < len(cases):
        raise UserError(f"Two studies in {folder} have names that differ in blanks or signs only; rename one.")
    return SourceDataset(folder, published, cases, number_differences(cases, published))


def case_name(study: Path) -> str:
    """Patient and study, using only letters, digits, "_" and "-".

    >>> case_name(Path("PETCT_0b57b247b6/05-02-2002-NA-PET-CT Ganzkoerper  primaer mit KM-42966"))
    'PETCT_0b57b247b6_05-02-2002-NA-PET-CT_Ganzkoerper_primaer_mit_KM-42966'
    """
    return re.sub(r"[^A-Za-z0-9-]+", "_", f"{study.parent.name}_{study.name}")
