"""The series of a study on a server, asked for without retrieving any (QIDO-RS)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from stunet.errors import FileError, UserError
from stunet.imaging.formats.dicom.choose import in_columns
from stunet.imaging.formats.dicomweb.address import Address, is_uid
from stunet.imaging.formats.dicomweb.server import connection

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient

MODALITIES = ("CT", "MR", "PT", "NM")
"""Of series that may be scans."""

MAX_ANSWERS = 20_000
"""Series of a study, or instances of a series, that a server may name."""

PAGE = 1000
"""Answers that are asked for at a time; a server may give fewer."""

COLUMNS = ("number", "modality", "description", "instances", "SeriesInstanceUID")

_SERIES, _INSTANCE = "0020000E", "00080018"
_MODALITY, _DESCRIPTION, _COUNT = "00080060", "0008103E", "00201209"

Answer = Mapping[str, Any]
"""A dataset as JSON, by tags."""


@dataclass(frozen=True)
class RemoteSeries:
    """A series that a server has.

    Attributes:
        number: for users to choose it, from 1.
        uid: SeriesInstanceUID.
        modality: such as CT.
        description: as the scanner's operator wrote it.
        instances: how many files it has; None if the server does not say.
    """

    number: int
    uid: str
    modality: str
    description: str
    instances: int | None


def series_of_study(address: Address) -> list[RemoteSeries]:
    """The series of a study that may be scans, in order of their UID.

    Args:
        address: of a study, or of a series in it.

    Raises:
        UserError: see `connection`.
    """
    with connection(address, "list the series") as client:
        answers = _paged(client, "search_for_series", _SERIES, address.study)
        found = sorted(
            (one for one in answers if _text(one, _MODALITY) in MODALITIES), key=lambda one: _text(one, _SERIES)
        )
        return [
            RemoteSeries(number, _text(one, _SERIES), _text(one, _MODALITY), _text(one, _DESCRIPTION), _count(one))
            for number, one in enumerate(found, 1)
        ]


def instances_of(client: "DICOMwebClient", address: Address) -> list[str]:
    """The SOPInstanceUIDs of a series, as the server names them."""
    return [
        _text(one, _INSTANCE)
        for one in _paged(client, "search_for_instances", _INSTANCE, address.study, address.series)
    ]


def chosen_series(address: Address, name: str | None) -> Address:
    """The series of a study that is meant.

    Args:
        address: of a study.
        name: a number of the table, or a SeriesInstanceUID; None for the only series.

    Raises:
        UserError: none, several, or none of that name; the message is the table.
    """
    found = series_of_study(address)
    if not found:
        raise FileError(f"{address}: holds no series that may be a scan ({', '.join(MODALITIES)}).")
    chosen = [one for one in found if name is None or name in (str(one.number), one.uid)]
    if len(chosen) == 1:
        return replace(address, series=chosen[0].uid)
    if name is None:
        raise FileError(
            f"{address}: holds {len(found)} series that could be meant; choose with --series NUMBER, or add "
            f"/series/UID to the address.\n{remote_table(found)}"
        )
    raise UserError(f"{address}: has no series {name!r}.\n{remote_table(found)}")


def remote_table(series: Sequence[RemoteSeries]) -> str:
    """The series as lines of text."""
    return in_columns([COLUMNS, *map(_row, series)])


def _row(one: RemoteSeries) -> tuple[str, ...]:
    count = "" if one.instances is None else str(one.instances)
    return str(one.number), one.modality, one.description, count, one.uid


def _paged(client: "DICOMwebClient", search: str, tag: str, *uids: str) -> Iterator[Answer]:
    """All answers to a question, each once; a server that always gives the same ones is not asked for ever."""
    seen: set[str] = set()
    while True:
        page = getattr(client, search)(*uids, limit=PAGE, offset=len(seen))
        new = {uid: one for one in page if is_uid(uid := _text(one, tag)) and uid not in seen}
        if not new:
            return
        yield from new.values()
        seen.update(new)
        if len(seen) > MAX_ANSWERS:
            raise FileError(
                f"{client.host}: names more than {MAX_ANSWERS:,} answers. No study or series is that large."
            )


def _text(answer: Answer, tag: str) -> str:
    """The first value of a field; empty if there is none."""
    values = answer.get(tag, {}).get("Value") or [""]
    return str(values[0])


def _count(answer: Answer) -> int | None:
    text = _text(answer, _COUNT)
    return int(text) if text.isdigit() else None
