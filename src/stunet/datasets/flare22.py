"""FLARE22: 50 labelled CT of the abdomen with 13 organs (Ma et al. 2024).

- Layout (flare22.grand-challenge.org): `Training/FLARE22_LabeledCase50/images/FLARE22_Tr_0001_0000.nii.gz` and
  `.../labels/FLARE22_Tr_0001.nii.gz`; the same two folders are in doi:10.5281/zenodo.7860267. Both are zip files, which
  must be unpacked first. The 2000 unlabelled cases are not used: the paper trains on the 50 (appendix B).
- Numbers: 50 labelled cases (challenge; STU-Net paper, appendix B). The paper evaluates on 20 validation cases whose
  labels are not in these archives.
- Numbering: label_sys.py of uni-medical/STU-Net, and A-Eval of the same group.
- Licence: images and pancreas from the Decathlon, CC-BY-SA 4.0; the other organs from AbdomenCT-1K, for research only
  (the Zenodo record).
"""

from pathlib import Path

from stunet.datasets.source import (
    Choice,
    Published,
    SourceCase,
    SourceDataset,
    find_folder,
    number_differences,
    refuse_modality,
)
from stunet.errors import UserError

LABELED = "FLARE22_LabeledCase50"

PUBLISHED = Published(
    name="FLARE22",
    description="50 CT of the abdomen with 13 organs, the labelled part of FLARE22",
    reference="https://flare22.grand-challenge.org/",
    licence="images CC-BY-SA 4.0 (Medical Segmentation Decathlon), organ labels for research only (AbdomenCT-1K)",
    channels=("CT",),
    labels=(
        "background",
        "liver",
        "right kidney",
        "spleen",
        "pancreas",
        "aorta",
        "inferior vena cava",
        "right adrenal gland",
        "left adrenal gland",
        "gallbladder",
        "esophagus",
        "stomach",
        "duodenum",
        "left kidney",
    ),
    cases={"train": (50,)},
)


def find(source: Path, choice: Choice) -> SourceDataset:
    """The labelled cases.

    Raises:
        UserError: the folders do not exist, or contain no image.
    """
    refuse_modality(choice, PUBLISHED.name)
    folder = find_folder(source, "labels", (f"Training/{LABELED}", LABELED, "FLARE22Train"))
    images = sorted((folder / "images").glob("*_0000.nii.gz"))
    if not images:
        raise UserError(f"{folder / 'images'} has no *_0000.nii.gz; unpack the published zip files there first.")
    names = [path.name.removesuffix("_0000.nii.gz") for path in images]
    cases = tuple(
        SourceCase(name, (image,), folder / "labels" / f"{name}.nii.gz")
        for name, image in zip(names, images, strict=True)
    )
    return SourceDataset(folder, PUBLISHED, cases, number_differences(cases, PUBLISHED))
