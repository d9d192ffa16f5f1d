"""Every Python block of docs/python.md runs, in order, in one namespace."""

import logging
import re
import shutil
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


def test_the_blocks_run_in_order(shared_data, tmp_path, monkeypatch, capsys):
    scan = next(iter(sorted((shared_data / "Dataset004_Hippocampus" / "imagesTr").glob("*.nii.gz"))))
    shutil.copy(scan, tmp_path / "scan.nii.gz")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) > 10
    namespace: dict = {"__name__": "__main__"}
    level = logging.getLogger("stunet").level
    for number, block in enumerate(blocks, start=1):
        exec(compile(block, f"block {number} of {PAGE.name}", "exec"), namespace)
    logging.getLogger("stunet").setLevel(level)
    said = capsys.readouterr().out
    assert "cancelled\n" in said and "The prediction was stopped after 1 of" in said and "\n1.0\n" in said
    assert (tmp_path / "labels" / "scan.nii.gz").is_file()
