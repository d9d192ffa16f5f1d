"""The list of structures is that of the code."""

import re

from stunet.labels.ontology import GROUPS, STRUCTURES
from tests.conftest import REPOSITORY


def test_every_structure_with_its_numbers_and_group():
    page = (REPOSITORY / "docs" / "structures.md").read_text(encoding="utf-8")
    sections = re.split(r"^## (\w+) \((\d+)\)$", page, flags=re.M)[1:]
    found = {
        title.lower(): [
            (name, int(ours), int(theirs))
            for name, ours, theirs in re.findall(r"\| `(\w+)` \| (\d+) \| (\d+) \|", text)
        ]
        for title, text in zip(sections[::3], sections[2::3], strict=True)
    }
    numbers = {structure.name: (structure.label, structure.totalsegmentator_label) for structure in STRUCTURES}
    assert found == {group: [(name, *numbers[name]) for name in names] for group, names in GROUPS.items()}
    assert [int(count) for count in sections[1::3]] == [len(names) for names in GROUPS.values()]
