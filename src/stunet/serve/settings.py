"""What a server allows and where it keeps its files."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from stunet.errors import FileError, UserError, listed
from stunet.files import home_folder
from stunet.serve.offered_models import name_of

SHORTEST_TOKEN = 16
"""Letters of a token; shorter ones can be guessed."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Addresses that only this machine reaches."""


@dataclass(frozen=True)
class Limits:
    """What one server takes on at most.

    Attributes:
        upload_bytes: of one scan, all its files together.
        upload_files: of one scan.
        upload_seconds: that an upload may take.
        idle_seconds: between two parts of an upload that arrive.
        uploads: that arrive at once.
        scans_of_one_user: that are kept at once.
        queued_jobs: of all users.
        jobs_of_one_user: that wait or run.
        kept_hours: after which scans and results are erased.
        attempts: of a job whose server was ended while it ran.
        body_bytes: of a request that is no upload.
    """

    upload_bytes: int = 4 * 2**30
    upload_files: int = 20_000
    upload_seconds: float = 1800.0
    idle_seconds: float = 30.0
    uploads: int = 16
    scans_of_one_user: int = 64
    queued_jobs: int = 100
    jobs_of_one_user: int = 20
    kept_hours: float = 24.0
    attempts: int = 3
    body_bytes: int = 64 * 2**10


@dataclass(frozen=True)
class ServerSettings:
    """How a server runs.

    Attributes:
        data: folder for the database, scans and results.
        host: address to listen on.
        port: to listen on; 0 for any that is free.
        models: names of the catalogue, model files or model folders; empty for all of the catalogue.
        device: as in `stunet.inference.predictor.InferenceConfig`, as are `backend` and `precision`.
        backend: what runs the network.
        precision: of the network.
        tokens: token to name of the user; empty if none is needed.
        hosts: further names by which browsers may call the server, such as the name of a proxy.
        certificate: TLS certificate, a PEM file; None without TLS.
        key: of the certificate.
        demo_scan: a scan that anyone may segment; None for none.
        folders: folders below which jobs may name scans of the server; empty for none.
        dicomweb: addresses of DICOMweb servers from which jobs may take series; empty for none.
        limits: on what users ask for.
    """

    data: Path = field(default_factory=lambda: home_folder() / "serve")
    host: str = "127.0.0.1"
    port: int = 8000
    models: tuple[str, ...] = ()
    device: str = "auto"
    backend: str = "auto"
    precision: str = "auto"
    tokens: dict[str, str] = field(default_factory=dict, repr=False)
    hosts: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    demo_scan: Path | None = None
    folders: tuple[Path, ...] = ()
    dicomweb: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Refuse a server that strangers could use.

        Raises:
            UserError: an address beyond loopback without tokens, models of one name, or a certificate that is none.
        """
        if not self.is_loopback and not self.tokens:
            raise UserError(
                f"--host {self.host} is reached from other machines, so users need tokens: give --tokens FILE with "
                "lines NAME:TOKEN, or set STUNET_TOKENS."
            )
        names = [name_of(source) for source in self.models]
        if len(set(names)) < len(names):
            raise UserError(f"--models: two models have the same name ({listed(names)}); rename a file.")
        if (self.certificate is None) != (self.key is None):
            raise UserError("--tls-certificate and --tls-key belong together; give both.")
        if self.certificate is not None and self.key is not None:
            require_certificate(self.certificate, self.key)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in LOOPBACK

    @property
    def known_hosts(self) -> frozenset[str]:
        """Names, in small letters, by which browsers may call the server."""
        own = () if self.host in ("0.0.0.0", "::") else (self.host,)
        return frozenset(name.lower() for name in (*LOOPBACK, *own, *self.hosts))


def require_certificate(certificate: Path, key: Path) -> None:
    """Find out that a certificate can be used before a server starts.

    Raises:
        UserError: a file is missing, is no PEM file, or the two do not belong together.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise FileError(f"{certificate} and {key}: are not a certificate and its key ({error}); see --help.") from error


def _no_password() -> str:
    raise ValueError("the key has a password")


def read_tokens(text: str) -> dict[str, str]:
    """Token to name, from lines NAME:TOKEN. Empty lines and lines that begin with # are skipped.

    Raises:
        UserError: another line, a token that is short, or one that two users have.

    >>> read_tokens("anna: 0123456789abcdef")
    {'0123456789abcdef': 'anna'}
    """
    tokens: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, token = (part.strip() for part in line.partition(":"))
        if not name or len(token) < SHORTEST_TOKEN:
            raise UserError(
                f"Line {number} of the tokens is not NAME:TOKEN with a token of {SHORTEST_TOKEN} letters or more. "
                "`openssl rand -hex 24` makes one."
            )
        if token in tokens:
            raise UserError(f"Line {number} of the tokens repeats a token; give each user another.")
        tokens[token] = name
    return tokens
