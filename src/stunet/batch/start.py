"""Begin a batch in a folder, or go on with the one that is there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stunet.batch.find_listed import find_listed
from stunet.batch.ledger import Ledger
from stunet.batch.listing import ScanLists
from stunet.batch.place import place
from stunet.batch.settings import BatchFolder, BatchSettings
from stunet.batch.status import peak_memory_mib
from stunet.batch.store import is_url
from stunet.errors import OutputError, UserError


@dataclass(frozen=True)
class Started:
    """A batch that workers can work on.

    Attributes:
        folder: DEST.
        scans: how many there are in all.
        open: how many of them are neither done nor failed nor set aside.
        peak_memory: the most bytes that a worker ever had; None where none has finished a scan.
        remarks: sentences about what of the source is left out.
    """

    folder: BatchFolder
    scans: int
    open: int
    peak_memory: int | None
    remarks: tuple[str, ...] = ()


def start_batch(
    sources: Sequence[str], destination: str | Path, settings: BatchSettings, retry: bool = False
) -> Started:
    """Write down what is to be done with which scans. Scans that are listed already keep their history.

    Args:
        sources: see `find_listed`.
        destination: the folder for the outputs, or the URL of one in a store; the ledger lies in it, too.
        settings: of the batch; its model's channels are looked up.
        retry: give scans that failed or were set aside another go.

    Raises:
        UserError: nothing to segment, a model that cannot be read, a folder that cannot be written or holds a batch
            with other settings.
    """
    from stunet.weights.read_card import read_card

    folder = BatchFolder(place(destination))
    for source in sources:
        if _is_same(source, folder.path):
            raise OutputError(f"{destination}: the labels would lie among the scans; give -o another folder.")
    card = read_card(settings.model, settings.chosen_folds)
    settings = replace(settings, channels=card.channels)
    outputs = settings.outputs()
    outputs.require_consistent(outputs.main_path(Path(), "case"), many=True)
    scans, remarks = find_listed(sources, settings.dicom, settings.channels)
    for scan in scans:
        outputs.require_short_names(outputs.main_path(Path(), scan.name))
    ledger = Ledger(folder.ledger)
    ledger.files.require_writable(folder.path)
    folder.start(settings)
    ScanLists(ledger).add(scans)
    return replace(join_batch(destination, retry), remarks=tuple(remarks))


def _is_same(source: str, destination: Path) -> bool:
    """Whether a source is the folder of the labels."""
    if is_url(source):
        return str(place(source)) == str(destination)
    return isinstance(destination, Path) and Path(source).exists() and Path(source).resolve() == destination.resolve()


def join_batch(destination: str | Path, retry: bool = False) -> Started:
    """The batch that was begun in a folder.

    Args:
        destination: the folder, or its URL.
        retry: give scans that failed or were set aside another go.

    Raises:
        UserError: there is no batch, or the folder cannot be written.
    """
    folder = BatchFolder(place(destination))
    folder.settings()
    ledger = Ledger(folder.ledger, details=("peak_memory_mib",))
    ledger.files.require_writable(folder.ledger)
    lists = ScanLists(ledger)
    lists.refresh()
    ledger.refresh()
    if not lists.scans:
        raise UserError(f"{destination}: no scans are listed yet; wait until stunet batch has found them.")
    if retry:
        for name in lists.scans:
            state = ledger.state(name)
            if state.state in ("failed", "set aside"):
                ledger.append(name, state.events, "retry")
    states = [ledger.state(name) for name in lists.scans]
    peak = peak_memory_mib(state.last for state in states if state.state == "done")
    unfinished = sum(not state.is_final for state in states)
    return Started(folder, len(states), unfinished, None if peak is None else peak * 2**20)
