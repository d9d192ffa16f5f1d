from pathlib import Path

import pytest

from stunet.errors import UserError
from stunet.folders import find_dataset


def test_a_dataset_by_number_or_name(tmp_path: Path):
    (tmp_path / "Dataset004_Hippocampus").mkdir()
    assert find_dataset("4", tmp_path) == find_dataset("004", tmp_path) == "Dataset004_Hippocampus"
    assert find_dataset("Dataset004_Hippocampus", tmp_path) == "Dataset004_Hippocampus"


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("5", "no folder Dataset005_.*Dataset004_A, Dataset004_B"),
        ("4", "Several datasets.*Dataset004_A, Dataset004_B"),
        ("Dataset004_C", "no dataset 'Dataset004_C'"),
        ("Hippocampus", "a number .* or a name like"),
    ],
)
def test_a_dataset_that_is_not_there(tmp_path: Path, asked, sentence):
    (tmp_path / "Dataset004_A").mkdir()
    (tmp_path / "Dataset004_B").mkdir()
    with pytest.raises(UserError, match=sentence):
        find_dataset(asked, tmp_path)
