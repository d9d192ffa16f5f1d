"""`stunet evaluate`: DSC of predictions against references."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from stunet.cli.output import Json, print_json, print_table


@dataclass
class Evaluate:
    """Score label maps against references: DSC for each case, each label and all.

    Example: stunet evaluate -p predictions/ -r labelsTr/ --names dataset.json -o report.json
    """

    prediction: Annotated[Path, tyro.conf.arg(aliases=["-p"])]
    """A label map, or a folder of them."""
    reference: Annotated[Path, tyro.conf.arg(aliases=["-r"])]
    """The same, with the same file names."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Write the whole report here, as JSON."""
    names: Path | None = None
    """A dataset.json of nnU-Net's whose labels are scored, and no other may occur; by default every value that does."""
    json: Json = False
    """Print JSON."""

    def run(self) -> int:
        """Read, compare, print."""
        from stunet.errors import UserError
        from stunet.evaluation.report import evaluate

        if self.output is not None and not self.output.parent.is_dir():
            raise UserError(f"{self.output.parent}: there is no such folder to write the report to. Make it first.")
        report = evaluate(self.prediction, self.reference, self._names())
        if self.output is not None:
            report.save(self.output)
        if self.json:
            print_json(report.to_dict())
            return 0
        rows = [(report.names[label], _shown(value)) for label, value in report.per_label.items()]
        cases = f"{len(report.cases)} case" + ("s" if len(report.cases) != 1 else "")
        print_table(f"DSC, {cases}", ("label", "DSC"), [*rows, ("mean", _shown(report.mean))])
        return 0

    def _names(self) -> dict[int, str] | None:
        from stunet.errors import UserError

        if self.names is None:
            return None
        try:
            labels = json.loads(self.names.read_text(encoding="utf-8"))["labels"]
            return {int(value): name for name, value in labels.items() if int(value) > 0}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{self.names} is no dataset.json with a table of labels ({error}).") from error


def _shown(value: float) -> str:
    return "absent" if math.isnan(value) else f"{value:.4f}"
