"""A result with more voxels than a browser can draw at once, in Chromium."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.serve.page.visitor import Visitor

pytestmark = pytest.mark.browser

IS_WHOLE = "() => performance.getEntriesByName('whole drawn').length === 1"


@pytest.fixture(scope="session")
def large_ct(ct: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CT on smaller voxels: more than 8 million."""
    image = nibabel.load(ct)
    voxels = np.asarray(image.dataobj).astype(np.int16)
    times = int(np.ceil(np.cbrt(8.1e6 / voxels.size)))
    small = nibabel.affines.from_matvec(image.affine[:3, :3] / times, image.affine[:3, 3])
    path = tmp_path_factory.mktemp("large") / "ct.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.kron(voxels, np.ones((times,) * 3, np.int16)), small), path)
    return path


def test_an_overview_comes_first_and_every_voxel_follows(visitor: Visitor, large_ct: Path):
    page = visitor.page
    visitor.drop(large_ct)
    visitor.choose_model("tissues")
    visitor.segment()
    assert not page.evaluate(IS_WHOLE)
    page.click("#hide-all")
    visitor.toggle("Bone")
    page.locator("tr.structure[data-name=bone] .jump").click()
    place, name = visitor.place()
    assert name == "Bone"

    page.wait_for_function(IS_WHOLE)
    page.locator("#detail").wait_for(state="hidden")
    there, name = visitor.place()
    assert name == "Bone" and np.allclose(there, place, atol=1), "the cross stays where it was"
    bones = visitor.picture()
    visitor.toggle("Bone")
    assert (np.abs(bones - visitor.picture()).max(axis=-1) > 0.04).mean() > 0.001, "the whole labels can be hidden"

    whole, small = (
        nibabel.Nifti1Image.from_bytes(gunzipped(visitor, name)) for name in ("labels", "labels?overview=1")
    )
    assert whole.shape == nibabel.load(large_ct).shape
    assert np.array_equal(np.asanyarray(whole.dataobj)[::2, ::2, ::2], np.asanyarray(small.dataobj))


def gunzipped(visitor: Visitor, path: str) -> bytes:
    """A file of the API."""
    return gzip.decompress(visitor.api(path).body())
