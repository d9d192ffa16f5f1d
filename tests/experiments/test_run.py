"""Running an experiment: resumed run by run, results after each, and only what was asked for and can be done."""

from dataclasses import dataclass, field

import pytest

from stunet.errors import UserError
from stunet.experiments.experiment import Experiment, Workplace, measured
from stunet.experiments.results import read_results
from stunet.experiments.run import run_experiment

CALLS = []


@dataclass(frozen=True)
class Run:
    key: str
    value: float
    datasets: tuple[str, ...] = ()
    fails: list[bool] = field(default_factory=list, compare=False, repr=False)

    def gpu_hours(self):
        return 0.0

    def expected(self):
        return []

    def measure(self, workplace):
        CALLS.append(self.key)
        if self.fails and self.fails.pop():
            raise KeyboardInterrupt
        return [measured(self.key, "DSC", self.value)]


def mean(measurements):
    return [measured("mean", "DSC", sum(m.value for m in measurements) / len(measurements))] if measurements else []


def experiment(*runs, **more):
    return Experiment("table9", "Title", "Claim.", "Table 9", runs, (), **more)


@pytest.fixture(autouse=True)
def no_calls():
    CALLS.clear()


def test_an_interrupted_experiment_goes_on_where_it_stopped(tmp_path):
    asked = experiment(Run("a", 0.5), Run("b", 0.7, fails=[True]), derive=mean)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(asked, "full", Workplace(tmp_path, {}))
    partial = read_results(tmp_path / "results.json")
    assert [m.system for m in partial.measurements] == ["a", "mean"]
    assert partial.remarks == ("Not done: b.",)
    with pytest.raises(UserError, match=r"results of a\. Continue with --resume"):
        run_experiment(asked, "full", Workplace(tmp_path, {}))
    whole = run_experiment(asked, "full", Workplace(tmp_path, {}, resume=True))
    assert CALLS == ["a", "b", "b"]
    assert [(m.system, m.value) for m in whole.measurements] == [("a", 0.5), ("b", 0.7), ("mean", pytest.approx(0.6))]
    assert whole.remarks == ()
    assert set(whole.provenance.settings["seconds"]) == {"a", "b"}
    assert read_results(tmp_path / "results.json") == whole


def test_some_runs_alone(tmp_path):
    asked = experiment(Run("stunet-b", 0.5), Run("stunet-l", 0.6), Run("nnunet", 0.4))
    told = []
    results = run_experiment(asked, "full", Workplace(tmp_path, {}), ["stunet-*"], lambda *step: told.append(step))
    assert told == [("stunet-b", 0, 2), ("stunet-l", 1, 2)]
    assert [m.system for m in results.measurements] == ["stunet-b", "stunet-l"]
    with pytest.raises(UserError, match="They are: stunet-b, stunet-l, nnunet"):
        run_experiment(asked, "full", Workplace(tmp_path, {}), ["unet"])


def test_runs_without_their_data_are_named(tmp_path):
    asked = experiment(Run("a", 0.5, ("amos22",)), Run("b", 0.6, ("flare22",)))
    with pytest.raises(UserError, match="--data amos22=FOLDER --data flare22=FOLDER"):
        run_experiment(asked, "full", Workplace(tmp_path, {}))
    given = Workplace(tmp_path, {"flare22": tmp_path})
    with pytest.raises(UserError, match="--data amos22=FOLDER"):
        run_experiment(asked, "full", given, ["a", "b"])
    assert CALLS == []
    results = run_experiment(asked, "full", given)
    assert [m.system for m in results.measurements] == ["b"]
    assert results.remarks == ("Not done: a.",)


def test_a_run_that_has_changed_is_not_taken_for_the_old_one(tmp_path):
    run_experiment(experiment(Run("a", 0.5)), "full", Workplace(tmp_path, {}))
    with pytest.raises(UserError, match="another version of this experiment"):
        run_experiment(experiment(Run("a", 0.6)), "full", Workplace(tmp_path, {}, resume=True))


def test_a_run_of_an_older_version_whose_classes_had_other_names_is_kept(tmp_path):
    run_experiment(experiment(Run("a", 0.5)), "full", Workplace(tmp_path, {}))
    record = tmp_path / "runs/a.json"
    record.write_text(record.read_text().replace("Run(key='a'", "OldName(key='a'"))
    run_experiment(experiment(Run("a", 0.5)), "full", Workplace(tmp_path, {}, resume=True))
    assert CALLS == ["a"]


def test_a_damaged_record_is_named(tmp_path):
    run_experiment(experiment(Run("a", 0.5)), "full", Workplace(tmp_path, {}))
    record = tmp_path / "runs/a.json"
    record.write_text(record.read_text().replace('"measurements"', '"measures"'))
    with pytest.raises(UserError, match=r"a\.json is damaged"):
        run_experiment(experiment(Run("a", 0.5)), "full", Workplace(tmp_path, {}, resume=True))
