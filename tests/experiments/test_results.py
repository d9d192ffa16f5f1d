"""Results files: what is written is read again, and what is no results file is refused with its name."""

import json
from dataclasses import asdict, replace

import pytest

from stunet.errors import UserError
from stunet.experiments.results import Measurement, Results, provenance_now, read_results, write_results

RESULTS = Results(
    "table5",
    "mini",
    provenance_now({"seed": 1}, 12.34),
    (
        Measurement("STU-Net-S", "DSC", 0.871, "liver", {"fraction": 0.1}, 0.95, 4, "Table 5", {"a": 0.87, "b": None}),
        Measurement("STU-Net-S", "MACs (T)", 0.13),
    ),
    ("A remark.",),
)


def test_what_is_written_is_read_again(tmp_path):
    write_results(tmp_path / "new" / "results.json", RESULTS)
    assert read_results(tmp_path / "new" / "results.json") == RESULTS
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["results.json"]


def test_provenance_names_versions_machine_and_time():
    provenance = RESULTS.provenance
    assert {"python", "stunet", "torch"} <= set(provenance.versions)
    assert provenance.seconds == 12.3
    assert provenance.date[10] == "T" and provenance.settings == {"seed": 1}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("measurements", 0, "value"), "0.9", "value should not be '0.9'"),
        (("measurements", 0, "cases"), {"a": "x"}, "not a number"),
        (("measurements", 0, "surplus"), 1, "has no surplus"),
        (("measurements", 0), 3, "should be an object"),
        (("provenance",), None, "should be an object"),
        (("experiment",), 5, "experiment should not be 5"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, path, value, said):
    content = json.loads(json.dumps(asdict(RESULTS)))
    *above, last = path
    place = content
    for step in above:
        place = place[step]
    place[last] = value
    file = tmp_path / "results.json"
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=said) as refusal:
        read_results(file)
    assert str(file) in str(refusal.value)


def test_missing_fields_are_refused(tmp_path):
    file = tmp_path / "results.json"
    file.write_text('{"experiment": "table2", "profile": "full"}')
    with pytest.raises(UserError, match="not a results file"):
        read_results(file)


def test_not_a_number_is_no_value():
    with pytest.raises(ValueError, match="None in a measurement"):
        Measurement("STU-Net-S", "DSC", float("nan"))


def test_agreement_is_to_the_last_printed_digit():
    measurement = Measurement("STU-Net-B", "parameters (M)", 58.2634, paper=58.26, paper_decimals=2)
    assert measurement.agrees
    assert measurement.difference == pytest.approx(0.0034)
    assert not replace(measurement, value=58.2661).agrees
    assert replace(measurement, paper=None).agrees is None
    assert replace(measurement, value=None).difference is None
