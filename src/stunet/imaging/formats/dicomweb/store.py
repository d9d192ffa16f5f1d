"""Results go to a server (STOW-RS)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stunet.errors import OutputError
from stunet.imaging.formats.dicomweb.address import Address, parse_address
from stunet.imaging.formats.dicomweb.server import connection


@dataclass(frozen=True)
class Stored:
    """A result that a server took.

    Attributes:
        study, series, instance: its UIDs.
    """

    study: str
    series: str
    instance: str


def store(files: Sequence[str | Path], address: str | Address) -> list[Stored]:
    """Store DICOM files, one after the other.

    Args:
        files: such as `Segmentation.save_dicom_seg` writes.
        address: `dicomweb://HOST[:PORT][/PREFIX]`.

    Returns:
        Their UIDs, by which they are found again.

    Raises:
        UserError: the server can't be reached or refuses a file; those before it are stored.
    """
    address = parse_address(address) if isinstance(address, str) else address
    return [_store(Path(file), address) for file in files]


def _store(path: Path, address: Address) -> Stored:
    import pydicom  # here, because requests without a server can do without

    dataset = pydicom.dcmread(path)
    with connection(address, "store the result", sending=True) as client:
        answer = client.store_instances([dataset])
    failed = answer.get("FailedSOPSequence") or []
    if failed:
        reason = int(failed[0].get("FailureReason") or 0)
        raise OutputError(
            f"{address}: cannot store the result: the server refuses it (DICOM failure reason {reason:04X}H). "
            "Does it take this kind of object? Another --format may suit."
        )
    return Stored(dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
