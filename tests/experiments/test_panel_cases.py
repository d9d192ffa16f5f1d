"""A results file names the files of Figure 3 so that they are found again."""

import json

import pytest

from stunet.errors import UserError
from stunet.experiments.panel_cases import panel_cases_of
from stunet.experiments.results import read_results, write_results
from tests.experiments.invented import results_of, write_pictures


def test_pictures_are_found_again_where_the_results_folder_was_moved(tmp_path):
    results, cases = write_pictures(tmp_path)
    write_results(tmp_path / "results.json", results)
    assert str(tmp_path) not in json.dumps(results.provenance.settings)
    assert panel_cases_of(read_results(tmp_path / "results.json"), tmp_path) == cases


@pytest.mark.parametrize("pictures", [None, [], [{"case": "a"}], ["a"]])
def test_results_without_usable_pictures_are_refused(pictures, tmp_path):
    settings = {} if pictures is None else {"pictures": pictures}
    with pytest.raises(UserError, match="pictures"):
        panel_cases_of(results_of("figure3", [], **settings), tmp_path)
