"""Every experiment says what it does and costs, and expects what the paper prints."""

import re
from importlib import import_module
from itertools import chain

import pytest

from stunet.errors import UserError
from stunet.experiments.counting import MULT_ADDS, PARAMETERS, NetworkCount
from stunet.experiments.experiment import PROFILES
from stunet.experiments.gpu_hours import training_hours
from stunet.experiments.paper_data import data_source, dsc_expected
from stunet.experiments.registry import EXPERIMENTS, find_experiment
from stunet.experiments.table3 import ROWS as TABLE_3
from stunet.experiments.table5 import ROWS as TABLE_5
from stunet.experiments.table6 import ROWS as TABLE_6
from stunet.experiments.table7 import ROWS as TABLE_7
from stunet.experiments.table8 import ROWS as TABLE_8
from stunet.experiments.training_cases import TrainingCases
from stunet.experiments.training_run import TrainingRun
from stunet.networks.registry import NETWORKS
from tests.experiments.paper import read_tables

COST_TABLES = {"table2": 2, "table3_cost": 3, "table6_cost": 6, "table7_cost": 7}

MODULES = {name: import_module(f"stunet.experiments.{name.removesuffix('_cost')}") for name in EXPERIMENTS}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_opens_with_command_cost_and_result(name):
    module = MODULES[name]
    text = module.__doc__
    assert EXPERIMENTS[name] is (module.COST if name.endswith("_cost") else module.EXPERIMENT)
    assert EXPERIMENTS[name].name == name
    assert f"`stunet experiment run {name}" in " ".join(text.split())
    for word in ("Command:", "Cost:", "Expected:"):
        assert text.count(word) == list(MODULES.values()).count(module)


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=lambda experiment: experiment.name)
@pytest.mark.parametrize("profile", PROFILES)
def test_the_data_of_an_experiment_are_explained_and_do_not_meet(experiment, profile):
    assert all(data_source(name).says for name in experiment.datasets(profile))
    choices: dict[int, TrainingCases] = {}
    for run in experiment.runs(profile):
        if isinstance(run, TrainingRun):
            assert choices.setdefault(run.cases.number, run.cases) == run.cases


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=lambda experiment: experiment.name)
@pytest.mark.parametrize("profile", PROFILES)
def test_a_run_that_builds_on_another_comes_after_it(experiment, profile):
    seen = set()
    for run in experiment.runs(profile):
        after = getattr(run, "after", None)
        assert after is None or after in seen
        seen.add(run.key)


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=lambda experiment: experiment.name)
@pytest.mark.parametrize("profile", PROFILES)
def test_a_run_names_a_network_that_there_is(experiment, profile):
    for run in experiment.runs(profile):
        if isinstance(run, NetworkCount | TrainingRun):
            assert run.network in NETWORKS


def test_29_networks_and_58_figures_are_counted():
    figures = {
        (run.network, metric)
        for name in COST_TABLES
        for run in EXPERIMENTS[name].full
        for metric in (PARAMETERS, MULT_ADDS)
    }
    assert (len({network for network, _ in figures}), len(figures)) == (29, 58)


@pytest.mark.parametrize("name", COST_TABLES)
def test_every_count_is_equal_to_the_papers_last_digit(name, tmp_path):
    pytest.importorskip("monai")
    from stunet.experiments.experiment import Workplace

    for run in EXPERIMENTS[name].full:
        parameters, mult_adds, macs = run.measure(Workplace(tmp_path, {}))
        assert parameters.agrees is True, parameters
        assert mult_adds.agrees is True, mult_adds
        assert macs.value is not None and macs.paper is None


@pytest.mark.parametrize(("name", "number"), COST_TABLES.items())
def test_expected_costs_are_those_of_the_paper(name, number, shared_data):
    header, *rows = read_tables(shared_data)[number]
    first = header.index("Params (M)")
    printed = [(row[0], row[first], row[first + 1]) for row in rows]
    ours = []
    for run in EXPERIMENTS[name].full:
        published = NETWORKS[run.network].published
        ours.append((run.system, published.parameters, published.flops))
    assert ours == printed


def test_table_3_is_the_papers(shared_data):
    printed = read_tables(shared_data)[3][1:]
    assert [(system, scores.split()) for _, system, _, scores in TABLE_3] == [(row[0], row[3:]) for row in printed]


def test_table_5_is_the_papers(shared_data):
    printed = read_tables(shared_data)[5][1:]
    assert [[system, *scores.split(), mean] for _, system, *_, scores, mean in TABLE_5] == printed


def test_table_6_is_the_papers(shared_data):
    printed = read_tables(shared_data)[6][1:]
    assert [(system, score) for _, system, _, score in TABLE_6] == [(row[0], row[3]) for row in printed]


def test_table_7_is_the_papers(shared_data):
    printed = read_tables(shared_data)[7][1:]
    assert [(system, score) for _, system, score in TABLE_7] == [(row[0], row[3]) for row in printed]


def test_table_8_is_the_papers(shared_data):
    marks = {True: "✓", False: "✗", None: "-"}
    printed = read_tables(shared_data)[8][1:]
    spoken = {row: f"{row.epochs}k" if row.epochs else "-" for row in TABLE_8}
    ours = [
        [spoken[row], marks[row.pretrained_with_mirror], marks[row.mirror], *row.printed.split()] for row in TABLE_8
    ]
    assert sorted(ours) == sorted(list(row) for row in {tuple(row) for row in printed})


def test_the_figures_expect_what_table_3_prints():
    table = {system: scores for _, system, _, scores in TABLE_3}
    universal = [run for run in EXPERIMENTS["figure5"].full if run.key.endswith("-universal")]
    whole = [run for run in EXPERIMENTS["figure4"].full if run.fraction == 1]
    assert len(universal) == len(whole) == 4
    assert all([t.expected.printed for t in run.targets] == table[run.system].split() for run in universal)
    assert all([t.expected.printed for t in run.targets] == table[run.system].split()[-1:] for run in whole)


def test_the_mean_of_table_5_is_that_of_its_columns():
    measurements = list(chain.from_iterable(run.expected() for run in EXPERIMENTS["table5"].full))
    valued = [type(m)(m.system, m.metric, m.paper, m.target, m.setting) for m in measurements]
    means = EXPERIMENTS["table5"].derive(valued)
    assert [mean.system for mean in means] == [system for _, system, *_ in TABLE_5]
    for mean in means:
        assert mean.difference == pytest.approx(0, abs=1.1e-4), mean  # one of its digits: the columns are rounded


def test_the_experts_mean_counts_classes():
    from stunet.experiments.experiment import measured
    from stunet.experiments.figure5 import experts_together
    from stunet.labels.ontology import GROUPS

    scores = dict(zip(GROUPS, (0.9, 0.8, 0.7, 0.6, 0.5), strict=True))
    rows = [
        measured("STU-Net-H", "DSC", dsc, target=group, setting={"model": "expert"}) for group, dsc in scores.items()
    ]
    rows += [measured("STU-Net-H", "DSC", 0.1, target=group, setting={"model": "universal"}) for group in GROUPS]
    (mean,) = experts_together(rows)
    assert mean.value == pytest.approx((17 * 0.9 + 24 * 0.8 + 18 * 0.7 + 21 * 0.6 + 24 * 0.5) / 104)
    assert (mean.target, mean.paper, mean.setting) == ("all", 0.8907, {"model": "expert"})
    assert experts_together(rows[1:]) == []


def test_the_cost_of_a_training_is_near_what_dkfz_measured():
    measured_hours = {"small": 10, "base": 15, "large": 51}
    for network, hours in measured_hours.items():
        assert training_hours(network, 250_000) == pytest.approx(hours, rel=0.08)


@pytest.mark.parametrize("module", [m for m in dict.fromkeys(MODULES.values()) if "hours of an A100" in m.__doc__])
def test_the_cost_in_the_docstring_is_the_runs(module):
    (stated,) = re.findall(r"about ([\d,]+) hours of an A100 in all", module.__doc__)
    assert int(stated.replace(",", "")) == pytest.approx(module.EXPERIMENT.gpu_hours("full"), rel=0.02)


def test_percent_as_printed():
    assert [(e.value, e.decimals) for e in dsc_expected("248.1 87.12", "Table 3")] == [(2.481, 3), (0.8712, 4)]


def test_an_unknown_name_is_answered_with_a_near_one():
    with pytest.raises(UserError, match="Did you mean 'table3'"):
        find_experiment("tabel3")
