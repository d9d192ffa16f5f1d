"""Make a CT of any size from the shared sample, by resampling and repetition.

python bench/make_ct.py -o CT.nii.gz [--shape 458 379 224] [--spacing 0.8 0.8 1.5]
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

REPOSITORY = Path(__file__).resolve().parents[1]
SAMPLE = Path("data") / "totalseg_example" / "ct.nii.gz"


def one_ct(spacing_xyz: Sequence[float]) -> np.ndarray:
    """The shared sample (X, Y, Z) at another spacing (mm), int16."""
    shared = Path(os.environ.get("STUNET_SHARED", REPOSITORY.parent / "shared"))
    sample = nibabel.Nifti1Image.from_filename(shared / SAMPLE)
    factors = np.array(sample.header.get_zooms()) / spacing_xyz
    return ndimage.zoom(np.asarray(sample.dataobj, dtype=np.float32), factors, order=1).astype(np.int16)


def make_ct(path: Path, shape_xyz: Sequence[int], spacing_xyz: Sequence[float]) -> Path:
    """Write an int16 CT, unless it exists.

    Args:
        path: `.nii.gz`, or `.nii` for an uncompressed file.
        shape_xyz: voxels.
        spacing_xyz: mm.
    """
    if not path.exists():
        one = one_ct(spacing_xyz)
        repeats = [-(-n // have) for n, have in zip(shape_xyz, one.shape, strict=True)]
        x, y, z = shape_xyz
        repeated = np.tile(one, repeats)[:x, :y, :z]
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(repeated, np.diag([*spacing_xyz, 1.0])), path)
    return path


def main() -> None:
    """Make one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--shape", type=int, nargs=3, default=(458, 379, 224))
    parser.add_argument("--spacing", type=float, nargs=3, default=(0.8, 0.8, 1.5))
    options = parser.parse_args()
    print(make_ct(options.output, options.shape, options.spacing))


if __name__ == "__main__":
    main()
