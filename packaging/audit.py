"""Compare the installed libraries with known weaknesses, and write the list of all of them: `make audit`.

Exits with 1 if a library has a known weakness, or the list cannot be written. If no library can be compared, because
there is no connection or the package index has no such service, it says so and exits with 0.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BILL = Path("sbom.json")
"""The software bill of materials, in CycloneDX's format."""

SECONDS = 600


@dataclass(frozen=True)
class Audit:
    """What pip-audit found.

    Attributes:
        compared: how many libraries were compared with known weaknesses.
        skipped: how many could not be.
        weak: "name version: identifiers" of each with a known weakness.
    """

    compared: int
    skipped: int
    weak: tuple[str, ...]

    def sentences(self) -> list[str]:
        """What to say of it."""
        if not self.compared:
            return [
                "No library was compared with known weaknesses: the service cannot be reached from here. Run make "
                "audit again with a connection to PyPI."
            ]
        left = f", {self.skipped} could not be" if self.skipped else ""
        return [f"{self.compared} libraries were compared with known weaknesses{left}.", *self.weak]


def main() -> int:
    """Write the list, compare, and say what was found."""
    if not write_bill(BILL):
        print("The list of libraries could not be written; is cyclonedx-bom installed?", file=sys.stderr)
        return 1
    print(f"{BILL} lists all installed libraries (CycloneDX).")
    audit = audited()
    print("\n".join(audit.sentences()))
    return 1 if audit.weak else 0


def write_bill(path: Path) -> bool:
    """Whether the list of this environment's libraries could be written."""
    words = ["cyclonedx_py", "environment", sys.executable, "--output-format", "JSON", "--output-file", str(path)]
    return _run(words)[0] == 0


def audited() -> Audit:
    """Ask pip-audit about this environment's libraries."""
    output = _run(["pip_audit", "--format", "json", "--progress-spinner", "off", "--skip-editable"])[1]
    try:
        found = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):  # it prints no JSON if it cannot reach the service at all
        return Audit(0, 0, ())
    compared = [library for library in found if "vulns" in library]
    weak = [
        f"{library['name']} {library['version']}: {', '.join(weakness['id'] for weakness in library['vulns'])}"
        for library in compared
        if library["vulns"]
    ]
    return Audit(len(compared), len(found) - len(compared), tuple(weak))


def _run(words: Sequence[str]) -> tuple[int, str]:
    """The exit code and stdout of a module that runs as a program."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", *words], capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 1, ""
    return done.returncode, done.stdout


if __name__ == "__main__":
    sys.exit(main())
