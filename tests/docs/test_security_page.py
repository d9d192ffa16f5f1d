"""The tests that docs/security.md names exist, and pages link to it."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "security.md").read_text(encoding="utf-8")


def test_every_file_on_the_page_exists():
    named = set(re.findall(r"`((?:tests|bench)/[\w/]+\.py)`", PAGE))
    assert len(named) > 15
    assert not [name for name in named if not (REPOSITORY / name).is_file()]


def test_every_threat_has_all_its_parts():
    threats = PAGE.split("\n## ")[1:-1]
    assert len(threats) == 9
    for threat in threats:
        for part in ("An attacker controls", "stunet", "You", "Shown by"):
            assert f"- **{part}**" in threat, (part, threat.splitlines()[0])
