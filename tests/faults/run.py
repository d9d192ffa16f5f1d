"""End every command at each of its steps on files, by each signal, and print a table: `python -m tests.faults.run`.

Takes about ten minutes. `train`, `serve` and downloads are killed by tests of their own: tests/training/test_resume.py,
tests/serve/test_restart.py and tests/weights/test_download.py.
"""

import signal
import tempfile
from pathlib import Path

from tests.faults.situations import SITUATIONS
from tests.faults.trial import try_every_point

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def main() -> None:
    """Print a row for each command: how many steps it has, and whether all were recovered from."""
    print(f"| command | steps | {' | '.join(number.name for number in SIGNALS)} |\n|---|---{'|---' * len(SIGNALS)}|")
    for name, situation in SITUATIONS.items():
        cells, steps = [], "?"
        for number in SIGNALS:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    outcome = try_every_point(situation, number, Path(folder))
                    steps = str(outcome.points)
                    cells.append(f"all recovered, {outcome.left} left temporary files")
                except AssertionError as error:
                    cells.append(f"**{error}**")
        print(f"| {name} | {steps} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
