"""Addresses of series on DICOMweb servers. Nothing here needs a DICOM library, or a network."""

import re
from dataclasses import dataclass, replace

from stunet.errors import UserError

SCHEMES = {"dicomweb": "", "dicomweb+http": "http", "dicomweb+https": "https"}
"""What an address begins with, and what is spoken then; plain `dicomweb` is http on this machine, and else https."""

FORM = "dicomweb://HOST[:PORT][/PREFIX]/studies/UID[/series/UID]"

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
LONGEST_UID = 64

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}")

_ADDRESS = re.compile(
    r"(?P<scheme>dicomweb(\+https?)?)://(?P<host>[\w.-]+(:\d{1,5})?)(?P<prefix>(/[^/?#]+)*?)"
    r"(/studies(/(?P<study>[^/?#]+)(/series(/(?P<series>[^/?#]+))?)?)?)?/?",
    re.IGNORECASE,
)
"""Of prefixes the shortest counts: no server is asked for a study in a study."""


@dataclass(frozen=True)
class Address:
    """A server, or a study or series on it.

    Attributes:
        scheme: http or https.
        host: with the port, if there is one.
        prefix: where on the server DICOMweb is, such as /dicom-web; empty for the top.
        study: StudyInstanceUID; empty for the server itself.
        series: SeriesInstanceUID; empty for a whole study.
    """

    scheme: str
    host: str
    prefix: str = ""
    study: str = ""
    series: str = ""

    def __str__(self) -> str:
        """As users write it."""
        scheme = "dicomweb" if self.scheme == _usual_scheme(self.host) else f"dicomweb+{self.scheme}"
        study = f"/studies/{self.study}" if self.study else ""
        series = f"/series/{self.series}" if self.series else ""
        return f"{scheme}://{self.host}{self.prefix}{study}{series}"

    @property
    def service(self) -> str:
        """The URL of the server's DICOMweb service."""
        return f"{self.scheme}://{self.host}{self.prefix}"

    @property
    def server(self) -> "Address":
        """The server alone."""
        return replace(self, study="", series="")

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine."""
        return _is_loopback(self.host)


def is_address(text: object) -> bool:
    """Whether a user means a DICOMweb server, and not a file.

    >>> is_address("dicomweb://pacs/studies/1.2"), is_address("dicomweb/scan.nii")
    (True, False)
    """
    return str(text).partition("://")[0].lower() in SCHEMES and "://" in str(text)


def parse_address(text: str) -> Address:
    """Read an address.

    Args:
        text: `dicomweb://HOST[:PORT][/PREFIX]`, and behind it `/studies/UID` or `/studies/UID/series/UID`.

    Raises:
        UserError: it has another form, or holds a password.

    >>> parse_address("dicomweb://localhost:8042/dicom-web/studies/1.2/series/1.2.3").service
    'http://localhost:8042/dicom-web'
    >>> str(parse_address("DICOMWEB+HTTP://pacs/studies/1.2/"))
    'dicomweb+http://pacs/studies/1.2'
    """
    if "@" in text:
        raise UserError(
            "An address must not hold a user or password, because others can see it. Set STUNET_DICOMWEB_USER and "
            "STUNET_DICOMWEB_PASSWORD, or STUNET_DICOMWEB_TOKEN."
        )
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise UserError(f"{text}: is not the address of a DICOMweb server. An address is {FORM}.")
    for uid in filter(None, (match["study"], match["series"])):
        if not is_uid(uid):
            raise UserError(f"{text}: {uid!r} is not a UID. An address is {FORM}.")
    host = match["host"].lower()
    scheme = SCHEMES[match["scheme"].lower()] or _usual_scheme(host)
    return Address(scheme, host, match["prefix"], match["study"] or "", match["series"] or "")


def is_uid(text: str) -> bool:
    """Whether a text is a UID of DICOM, which also is the safe name of a file."""
    return len(text) <= LONGEST_UID and _UID.fullmatch(text) is not None


def _usual_scheme(host: str) -> str:
    return "http" if _is_loopback(host) else "https"


def _is_loopback(host: str) -> bool:
    return _LOOPBACK.fullmatch(host.partition(":")[0]) is not None
