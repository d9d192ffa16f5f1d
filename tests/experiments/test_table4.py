"""Table 4's numbers against each other and against the paper's text."""

import re

import pytest

from stunet.experiments.experiment import measured
from stunet.experiments.table4 import EXPERIMENT, MEAN, OWN, PRINTED, PRINTED_MEAN, SYSTEMS, means_of_datasets
from stunet.labels.mapping import list_mappings, load_mapping


def test_the_papers_text(shared_data):
    text = (shared_data.parent / "paper" / "stu-net-paper.md").read_text(encoding="utf-8")
    table = text[text.index("Table 4. Evaluation on the transferability") :]
    cells = re.findall(r"<td>(.*?)</td>", table[: table.index("</table>")])
    rows = {cells[n].split(" [")[0]: cells[n + 1 : n + 5] for n in range(0, len(cells), 5)}
    ours = {load_mapping(name).title: list(printed.values()) for name, printed in PRINTED.items()}
    assert ours | {"Mean DSC (%)": list(PRINTED_MEAN.values())} == rows


@pytest.mark.parametrize("system", PRINTED_MEAN)
def test_the_last_row_is_the_mean_over_the_datasets(system):
    values = [float(printed[system]) for printed in PRINTED.values()]
    assert sum(values) / 14 == pytest.approx(float(PRINTED_MEAN[system]), abs=0.01)


def of_all_datasets(system, value):
    return [
        measured(system, "DSC", value, target=load_mapping(name).title, setting={"counting": "Table 9"})
        for name in PRINTED
    ]


def test_the_mean_needs_all_datasets():
    complete = of_all_datasets("STU-Net-B", 0.8)
    (mean,) = means_of_datasets(complete)
    assert (mean.system, mean.target, mean.value, mean.paper) == ("STU-Net-B", MEAN, pytest.approx(0.8), 0.8071)
    assert means_of_datasets(complete[:-1]) == []
    (own,) = means_of_datasets(of_all_datasets(OWN, 0.5))
    assert own.paper is None


def test_runs():
    assert len(EXPERIMENT.full) == len(SYSTEMS) * 14 + 15
    assert EXPERIMENT.datasets("full") == (*list_mappings()[:14], "model", "totalsegmentator")
    assert 10 < EXPERIMENT.gpu_hours("full") < 100
