"""Scans that come from a DICOMweb server, and results that go to one: both pass through a folder on this machine."""

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from stunet.batch.dicom_scans import DicomChoice
from stunet.batch.formats import FORMATS, ending_of
from stunet.batch.outputs import Outputs
from stunet.errors import OutputError, UserError
from stunet.files import cache_folder
from stunet.imaging.formats.dicomweb.address import Address, is_address, parse_address
from stunet.imaging.formats.dicomweb.store import Stored, store

logger = logging.getLogger(__name__)

OnInstance = Callable[[int, int], None]


@dataclass(frozen=True)
class Local:
    """A request whose scans and results are on this machine.

    Attributes:
        inputs: files and folders, in place of the addresses.
        output: file or folder, in place of the address.
        outputs: what is written there.
        dicom: which DICOM series of the folders.
        called: what users call these places, by path; for the report.
        server: where results are stored; None where they stay.
    """

    inputs: tuple[Path, ...]
    output: Path
    outputs: Outputs
    dicom: DicomChoice
    called: Mapping[str, str] = field(default_factory=dict)
    server: Address | None = None

    def store(self) -> list[Stored]:
        """Store what was written, if it goes to a server.

        Raises:
            UserError: the server does not take it.
        """
        if self.server is None:
            return []
        folder = self.output if self.output.is_dir() else self.output.parent
        return store(sorted(folder.glob("*.dcm")), self.server)


@contextmanager
def at_hand(
    inputs: Sequence[str],
    output: str,
    outputs: Outputs,
    dicom: DicomChoice,
    on_instance: OnInstance = lambda done, total: None,
) -> Iterator[Local]:
    """Retrieve series from servers, and give results that go to one a folder until they are stored.

    What is retrieved lies in a folder of `STUNET_HOME/cache/dicomweb` that only this user can enter. It is removed once
    all went well. After a failure or an interruption it stays, and the same request goes on from there.

    Args:
        inputs: files, folders or addresses.
        output: file, folder or the address of a server.
        outputs: what to write.
        dicom: which DICOM series; of a study on a server `series` names one, too.
        on_instance: see `retrieve`.

    Raises:
        UserError: an address of another form, outputs that a server does not take, or as for `retrieve`.
    """
    server = require_storable(output, outputs) if is_address(output) else None
    with ExitStack() as folders:
        places = [_retrieved(one, dicom, on_instance, folders) for one in inputs]
        local = Local(
            tuple(path for path, _ in places),
            Path(output),
            outputs,
            replace(dicom, series=dicom.series if all(is_left for _, is_left in places) else None),
            {
                str(path): str(parse_address(one))
                for one, (path, _) in zip(inputs, places, strict=True)
                if is_address(one)
            },
        )
        yield local if server is None else _to_server(local, server, folders)


def _to_server(local: Local, server: Address, folders: ExitStack) -> Local:
    """The same request, with results in a folder from which they are stored."""
    outputs = local.outputs if local.outputs.formats else replace(local.outputs, formats=("dicom-seg",))
    folder = folders.enter_context(_kept_on_failure(Path(tempfile.mkdtemp(prefix="result-", dir=_cache()))))
    many = len(local.inputs) > 1 or local.dicom.series == "all"
    place = folder if many else folder / f"labels{ending_of(outputs.formats)}"
    return replace(
        local, output=place, outputs=outputs, called={**local.called, str(place): str(server)}, server=server
    )


def require_storable(output: str, outputs: Outputs) -> Address:
    """The server for results.

    Raises:
        UserError: an address of another form or of a study, or outputs that are no DICOM.
    """
    server = parse_address(output)
    if server.study:
        raise OutputError(
            f"{output}: a result belongs to the study of its scan. Give -o the server alone, {server.server}."
        )
    extras = ("separate", "statistics", "preview", "itksnap", "slicer", "probabilities")
    unfit = [f"--{name}" for name in extras if getattr(outputs, name)]
    unfit += [f"--format {name}" for name in outputs.formats if not FORMATS[name].kind]
    if unfit:
        raise OutputError(f"{server}: takes DICOM results only. Leave {unfit[0]} out, or give -o a file or folder.")
    return server


def _retrieved(given: str, dicom: DicomChoice, on_instance: OnInstance, folders: ExitStack) -> tuple[Path, bool]:
    """Where an input lies, and whether a series is still to be chosen there."""
    if not is_address(given):
        return Path(given), True
    # imported late, because scans that are no DICOM can do without
    from stunet.imaging.formats.dicomweb.retrieve import retrieve
    from stunet.imaging.formats.dicomweb.study import chosen_series

    address = parse_address(given)
    if not address.study:
        raise UserError(f"{given}: names no study. Add /studies/UID, or /studies/UID/series/UID.")
    series = address if address.series else chosen_series(address, dicom.series)
    name = hashlib.sha256(str(series).encode()).hexdigest()[:16]
    folder = folders.enter_context(_kept_on_failure(_cache() / name))
    retrieve(series, folder, on_instance)
    return folder, series == address


def _cache() -> Path:
    return cache_folder("dicomweb")


@contextmanager
def _kept_on_failure(folder: Path) -> Iterator[Path]:
    """Remove a folder at the end; after a failure only if nothing is in it."""
    with ExitStack() as cleanup:
        cleanup.callback(_keep_content, folder)
        yield folder
        cleanup.pop_all()
    shutil.rmtree(folder, ignore_errors=True)


def _keep_content(folder: Path) -> None:
    """Keep a folder and say so; remove it if it is empty."""
    if folder.is_dir() and any(folder.iterdir()):
        logger.warning(f"{folder}: what was retrieved or made is kept here. Remove the folder if you do not need it.")
    else:
        shutil.rmtree(folder, ignore_errors=True)
