"""Try damaged files on all readers for some minutes: `python -m tests.fuzz.run MINUTES [READER ...]`.

Prints for each reader how many files it was given, how many it refused, how much of its source was executed, and where
it crashed. Files that crashed it are kept in `crashes`, where the tests try them again. Where a library ends the whole
process, its files stay in a temporary folder `stunet-fuzz-...`.
"""

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coverage

import stunet

if TYPE_CHECKING:
    from tests.fuzz.targets import Target

SOURCE = Path(stunet.__file__).parent


def main(minutes: float, kinds: list[str]) -> int:
    """Try the readers, all if none is named; print the table.

    Returns:
        1 if a reader crashed, else 0.
    """
    measured = coverage.Coverage(data_file=None, source=[str(SOURCE)])
    measured.start()  # before the readers are imported, so that all their lines count
    from tests.fuzz.corpus import save_crash
    from tests.fuzz.targets import TARGETS
    from tests.fuzz.trials import try_all

    trials = try_all(kinds or list(TARGETS), minutes)
    measured.stop()
    print("| reader | tried | refused | s | coverage of its files | crashes |\n|---|---|---|---|---|---|")
    for kind, result in trials.items():
        counts = f"{result.tried:,} | {result.refused:,} | {result.seconds:.0f}"
        print(f"| {kind} | {counts} | {_covered(measured, TARGETS[kind]):.0%} | {len(result.crashes)} |")
    print(f"\n{sum(result.tried for result in trials.values()):,} files in {minutes:g} minutes.")
    crashes = [(kind, *crash) for kind, result in trials.items() for crash in result.crashes.items()]
    for kind, place, files in crashes:
        kept = save_crash(kind, files, hashlib.sha256(place.encode()).hexdigest()[:12])
        print(f"{kind}: {place}; kept in {kept}")
    return min(len(crashes), 1)


def _covered(measured: coverage.Coverage, target: "Target") -> float:
    """The share of statements in a reader's source files that were executed."""
    statements, missed = 0, 0
    for path in sorted({path for name in target.sources for path in SOURCE.glob(name)}):
        found: Any = measured.analysis2(str(path))
        statements += len(found[1])
        missed += len(found[3])
    return 1 - missed / max(1, statements)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
