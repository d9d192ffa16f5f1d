"""`stunet batch`: thousands of scans on one or many machines, with one ledger."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Annotated, Union

import tyro

from stunet.cli.batch_work import BatchWork, labels_outcome, say, say_stopped, show_status
from stunet.cli.command import BAD_INPUT, DONE, Options
from stunet.cli.output import MESSAGES, RESULTS, Switch, print_json, print_result, print_summary, progress_bar
from stunet.cli.segmenting import Segmenting, which_model
from stunet.errors import Stopped, UserError

if TYPE_CHECKING:
    from stunet.batch.settings import BatchSettings
    from stunet.batch.start import Started

REFRESH_SECONDS = 5.0
"""Between two looks at the ledger with --watch."""


@dataclass(kw_only=True)
class SourceAndDest(Options):
    """What is segmented, and where the labels go: the first options in the help."""

    source: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE...")]
    """Folders of scans, folders with DICOM patients, patterns ('scans/*_ct.nii.gz'), URLs of a store
    (s3://bucket/scans), or a manifest: a .csv or .parquet with a column `scan` and, if you like, `name`."""
    output: Annotated[str, tyro.conf.arg(aliases=["-o"], metavar="DEST")]
    """Folder for the labels and the ledger, or the URL of one in a store (s3://bucket/labels)."""


@dataclass(kw_only=True)
class Run(Segmenting, BatchWork, SourceAndDest):
    """Segment many scans, with several workers, and keep a ledger. Run the same command again to go on.

    Examples: stunet batch scans/ -o labels/ -m base
              stunet batch scans/ -o labels/ -m base --workers 4
              stunet batch manifest.csv -o labels/ -m base --workers 50 --slurm --slurm-options partition=gpu gres=gpu:1
              stunet batch s3://bucket/ct -o s3://bucket/labels -m base --workers 50 --threads 2 --cluster auto
    """

    slurm: Switch = False
    """Submit the workers as an array job of Slurm, one worker in each task, instead of starting them here."""
    slurm_options: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=VALUE...")] = ()
    """Options of sbatch, without dashes."""
    cluster: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None
    """Start the workers on a Ray cluster: auto for the one of this machine, or ray://HOST:10001. Each worker gets
    --threads processors (default: 1), and with --device cuda a GPU."""

    def run(self) -> int:
        """List the scans, then work on them or have Slurm do it."""
        if self.model is None:
            raise UserError(which_model())
        if self.slurm_options and not self.slurm:
            raise UserError("--slurm-options are for --slurm.")
        if self.slurm and self.cluster is not None:
            raise UserError("Give --slurm or --cluster, not both.")
        self.require_workers()
        if self.slurm:
            return self._submit(self._start(self.model))
        if self.cluster is not None:
            return self._work_on_cluster(self._start(self.model), self.cluster)
        from stunet.batch.member import waiting_member

        with waiting_member() as waiting:
            return self.work_on(self._start(self.model), waiting)

    def _start(self, model: str) -> "Started":
        """List the scans, and say what is left out."""
        from stunet.batch.start import start_batch

        started = start_batch(self.source, self.output, self._settings(model), self.retry)
        for remark in started.remarks:
            MESSAGES.print(f"stunet: {remark}", soft_wrap=True)
        return started

    def _work_on_cluster(self, started: "Started", address: str) -> int:
        from stunet.batch.cluster import ClusterWorkers, work_on_cluster

        count = max(1, min(self.workers, started.open))
        workers = ClusterWorkers(address, count, self.worker_options, self.device.startswith("cuda"))
        if started.open:
            with progress_bar(f"{started.scans} scans") as update:
                try:
                    work_on_cluster(started.folder, workers, lambda status: update(status.finished, status.scans), say)
                except Stopped as stop:
                    return say_stopped(stop)
        return self.show_end(started)

    def _settings(self, model: str) -> "BatchSettings":
        from stunet.batch.settings import BatchSettings
        from stunet.inference.config import InferenceConfig

        InferenceConfig(**self.inference)  # refuses what cannot be
        path = Path(model)
        return BatchSettings(
            model=str(path.absolute()) if path.exists() else model,
            folds=self.folds,
            inference=self.inference,
            written=self.written,
            codes=None if self.codes is None else str(self.codes.absolute()),
            dicom=self.dicom,
        )

    def _submit(self, started: "Started") -> int:
        from stunet.batch.slurm import submit

        job = submit(started.folder, self.workers, self.slurm_options, self.worker_options)
        look = f"stunet batch status {self.output}"
        result = {"scans": started.scans, "script": str(job.script), "job": job.job, "status": look}
        title = "Submitted" if job.job else f"There is no sbatch on this machine. Run there: sbatch {job.script}"
        print_summary(title, result, self.json)
        return DONE


@dataclass(kw_only=True)
class Work(BatchWork):
    """Work on a batch that was started: on another machine with the same folder, or under any scheduler.

    Example: stunet batch work labels/
    """

    dest: Annotated[str, tyro.conf.Positional]
    """The -o of the batch."""

    def run(self) -> int:
        """Join, and work until no scan is left."""
        from stunet.batch.member import waiting_member

        self.require_workers()
        with waiting_member() as waiting:
            from stunet.batch.start import join_batch

            return self.work_on(join_batch(self.dest, self.retry), waiting)


@dataclass(kw_only=True)
class Status(Options):
    """How far a batch is: scans by state, rate, time left, failures.

    Examples: stunet batch status labels/
              stunet batch status labels/ --table scans.csv
    """

    dest: Annotated[str, tyro.conf.Positional]
    """The -o of the batch."""
    watch: Switch = False
    """Show it again every few seconds, until no scan is left."""
    table: Path | None = None
    """Also write a table with a row for each scan: .csv, .jsonl or .parquet."""

    def run(self) -> int:
        """Read the ledger; 2 if scans failed."""
        from stunet.batch.place import place
        from stunet.batch.settings import BatchFolder
        from stunet.batch.status import BatchReader, status_of
        from stunet.batch.table import require_table, write_table

        if self.table is not None:
            require_table(self.table)
        reader = BatchReader(BatchFolder(place(self.dest)))
        while self.watch and (status := reader.status()).seconds_left != 0:
            RESULTS.clear()
            show_status(self.dest, status)
            sleep(REFRESH_SECONDS)
        records = reader.records()
        if self.table is not None:
            write_table(self.table, records)
        status = status_of(records, reader.live())
        if self.json:
            print_json(asdict(status))
        else:
            show_status(self.dest, status)
        return labels_outcome(status)


@dataclass(kw_only=True)
class Verify(Options):
    """Check that every output of a batch is there, unchanged, and of its model and settings.

    Example: stunet batch verify labels/
    """

    dest: Annotated[str, tyro.conf.Positional]
    """The -o of the batch."""
    redo: Switch = False
    """Put scans whose outputs are missing or changed back into the queue. `stunet batch work` then segments them."""

    def run(self) -> int:
        """Read all outputs; 2 if anything is wrong."""
        from stunet.batch.place import place
        from stunet.batch.settings import BatchFolder
        from stunet.batch.verify import verify_batch

        with progress_bar("verifying") as on_scan:
            found = verify_batch(BatchFolder(place(self.dest)), self.redo, on_scan)
        whole = len(found.verdicts) - len(found.problems)
        result = {"scans": len(found.verdicts), "whole": whole, "problems": found.problems, "redone": found.redone}
        title = f"{whole} of {len(found.verdicts)} scans have complete outputs of this batch's model and settings."
        print_result(result, self.json, title, ("scan", "problem"), list(found.problems.items()))
        if found.redone:
            MESSAGES.print(f"{found.redone} scans are in the queue again: stunet batch work {self.dest}")
        return BAD_INPUT if found.problems else DONE


@dataclass(kw_only=True)
class Plan(Options):
    """What a number of scans will take and cost, from the measured rates of a batch.

    Example: stunet batch plan labels/ --scans 20000 --machines 10 --machine-workers 2 --price-per-hour 0.5
    """

    dest: Annotated[str, tyro.conf.Positional]
    """The -o of a batch that segmented some scans of the same kind on such a machine."""
    scans: int
    """How many scans."""
    machines: int = 1
    """How many machines."""
    machine_workers: int = 1
    """Workers on each machine. Measure with as many: workers slow each other down."""
    price_per_hour: float | None = None
    """Of one machine, in any currency."""

    def run(self) -> int:
        """Read the ledger and reckon."""
        from stunet.batch.place import place
        from stunet.batch.plan import Machines, measured, plan_for
        from stunet.batch.settings import BatchFolder

        rate = measured(BatchFolder(place(self.dest)))
        machines = Machines(self.machines, self.machine_workers, self.price_per_hour)
        plan = plan_for(self.scans, rate, machines)
        result = {"measured": asdict(rate), "plan": asdict(plan)}
        rows = [
            ("seconds a scan and worker", f"{rate.seconds_per_scan:.2f} (of {rate.scans} scans)"),
            ("hours", f"{plan.hours:,.2f}"),
            ("hours of machines", f"{plan.machine_hours:,.1f}"),
            ("cost", "-" if plan.cost is None else f"{plan.cost:,.2f}"),
            ("cost of a scan", "-" if plan.cost_per_scan is None else f"{plan.cost_per_scan:.5f}"),
            ("read, MB a second", f"{plan.input_bytes_per_second / 1e6:,.1f}"),
            ("outputs, GB", f"{plan.output_bytes / 1e9:,.1f}"),
            ("small files of the ledger", f"{plan.ledger_files:,} ({plan.ledger_files_per_second:,.1f} a second)"),
            ("scans that fail", f"{rate.failed:.1%}"),
        ]
        title = f"{self.scans:,} scans on {machines.count:,} machines with {machines.workers} workers each"
        print_result(json.loads(json.dumps(result)), self.json, title, ("", "value"), rows)
        return DONE


Action = Union[  # noqa: UP007 (tyro reads the annotations)
    Annotated[Run, tyro.conf.subcommand("run")],
    Annotated[Work, tyro.conf.subcommand("work")],
    Annotated[Status, tyro.conf.subcommand("status")],
    Annotated[Verify, tyro.conf.subcommand("verify")],
    Annotated[Plan, tyro.conf.subcommand("plan")],
]

ACTIONS = ("run", "work", "status", "verify", "plan")


@dataclass
class Batch:
    """Segment thousands of scans on one or many machines, with one ledger.

    `stunet batch SOURCE -o DEST` is short for `stunet batch run SOURCE -o DEST`.
    """

    action: Action

    def run(self) -> int:
        """Run the chosen action."""
        return self.action.run()
