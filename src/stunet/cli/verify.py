"""`stunet verify`: whether labels are complete, how they were made, and whether running again gives them."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from stunet.cli.command import BAD_INPUT, DONE, Options
from stunet.cli.output import Switch, print_result


@dataclass
class Verify(Options):
    """Check that a label map is complete, show which model and settings made it, and whether running again gives it.

    Examples: stunet verify labels.nii.gz
              stunet verify labels.nii.gz -i scan.nii.gz -m base
    """

    labels: Annotated[Path, tyro.conf.Positional]
    """A label map of stunet, where it was written: the record is beside it, or in the ledger of its batch."""
    input: Annotated[tuple[Path, ...], tyro.conf.arg(aliases=["-i"], metavar="PATH...")] = ()
    """The scan. Default: the one in the record."""
    model: Annotated[str | None, tyro.conf.arg(aliases=["-m"], metavar="MODEL")] = None
    """The model. Default: the one in the record."""
    folds: Annotated[tuple[str, ...] | None, tyro.conf.arg(aliases=["-f"], metavar="FOLD...")] = None
    """Folds of a model folder."""
    record_only: Switch = False
    """Do not segment again."""

    def run(self) -> int:
        """Read, compare, segment again; 2 if anything is wrong."""
        from stunet.batch.verify_labels import Again, problems, verify_labels

        again = None if self.record_only else Again(self.input, self.model, self.folds)
        findings = verify_labels(self.labels, again)
        rows = [(one.question, one.answer, MARKS[one.is_good]) for one in findings]
        result = {"labels": str(self.labels), "findings": [asdict(one) for one in findings]}
        print_result(result, self.json, str(self.labels), ("", "answer", ""), rows)
        return BAD_INPUT if problems(findings) else DONE


MARKS = {True: "", False: "wrong", None: "not known"}
