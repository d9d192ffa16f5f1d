import pytest

from stunet.errors import UserError
from stunet.evaluation.tolerances import FLARE22_MM, TOLERANCES, Tolerances, read_tolerances
from stunet.labels.ontology import LABELS


def test_three_millimetres_unless_said_otherwise():
    assert Tolerances().of("liver") == 3 and read_tolerances("totalsegmentator") == Tolerances()
    assert read_tolerances("1.5").of("anything") == 1.5


def test_flare22_by_its_own_names_and_by_totalsegmentators():
    tolerances = TOLERANCES["flare22"]
    assert set(FLARE22_MM) < set(LABELS)
    assert tolerances.of("right kidney") == tolerances.of("kidney_right") == 3
    assert tolerances.of("Liver") == 5 and tolerances.of("left adrenal gland") == 2 and tolerances.of("duodenum") == 7
    assert tolerances.of("brain") == 3


def test_a_file(tmp_path):
    (tmp_path / "mm.csv").write_text("liver,5\nleft kidney, 2.5\n\ndefault,1\n")
    tolerances = read_tolerances(str(tmp_path / "mm.csv"))
    assert [tolerances.of(name) for name in ("liver", "kidney_left", "spleen")] == [5, 2.5, 1]
    assert tolerances.source == "mm.csv"


@pytest.mark.parametrize("content", ["liver\n", "liver,five\n", "liver,-1\n", "liver,nan\n", "a,1,2\n"])
def test_a_file_that_is_none(tmp_path, content):
    (tmp_path / "mm.csv").write_text(content)
    with pytest.raises(UserError, match=r"mm\.csv should have a structure and its tolerance"):
        read_tolerances(str(tmp_path / "mm.csv"))


@pytest.mark.parametrize("text", ["much", "-1", "nan", "inf", ""])
def test_no_tolerance(text):
    with pytest.raises(UserError, match="is not valid: give millimetres, totalsegmentator, flare22"):
        read_tolerances(text)


def test_a_file_that_is_lost():
    with pytest.raises(UserError, match=r"lost\.csv cannot be read"):
        read_tolerances("lost.csv")
