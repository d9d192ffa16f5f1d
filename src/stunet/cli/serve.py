"""`stunet serve`: the page and the API, for one person or for a group."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from stunet.cli.command import DONE, Options
from stunet.cli.output import MESSAGES, print_json
from stunet.errors import FileError

if TYPE_CHECKING:
    from stunet.serve.settings import ServerSettings

TOKENS_VARIABLE = "STUNET_TOKENS"


@dataclass
class Serve(Options):
    """Segment scans in a browser: starts a server on this machine.

    Examples: stunet serve
              stunet serve --host 0.0.0.0 --tokens tokens.txt --tls-certificate cert.pem --tls-key key.pem
    """

    host: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = "127.0.0.1"
    """Address to listen on. Default: only this machine can reach the server."""
    port: int = 8000
    """Port to listen on."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Folder for scans and results. Default: STUNET_HOME/serve."""
    models: Annotated[tuple[str, ...], tyro.conf.arg(metavar="MODEL...")] = ()
    """Models to offer: names, model files or model folders. Default: the named ones."""
    tokens: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """File with a line NAME:TOKEN for each user. Default: the variable STUNET_TOKENS, with commas between users."""
    allow_host: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME...")] = ()
    """Names by which browsers may call the server, such as that of a proxy."""
    tls_certificate: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """TLS certificate, a PEM file."""
    tls_key: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Key of the TLS certificate."""
    keep_hours: float = 24.0
    """Hours after which scans and results are erased."""
    upload_megabytes: float = 4096.0
    """Largest scan to accept."""
    queue: int = 100
    """Most jobs that may wait."""
    allow_folder: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="PATH...")] = ()
    """Folders of this machine from which users may name scans. Default: none."""
    allow_dicomweb: Annotated[tuple[str, ...], tyro.conf.arg(metavar="URL...")] = ()
    """Addresses of DICOMweb servers from which users may take series. Default: none."""
    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "auto"
    """auto, cpu, cuda, cuda:N or mps. auto: a CUDA GPU if there is one, else the CPU."""

    def run(self) -> int:
        """Start the server, and say where it is."""
        from stunet.extras import from_extra

        with from_extra("serve"):
            from stunet.serve.other_sources import require_servers
            from stunet.serve.run import run_server
        settings = self._settings()
        require_servers(settings.dicomweb)
        if not settings.is_loopback and settings.certificate is None:
            MESSAGES.print(
                "stunet: without TLS, scans and tokens can be read on the network. Give --tls-certificate and "
                "--tls-key, or put a proxy with TLS before the server.",
                soft_wrap=True,
            )
        run_server(settings, self._say_where)
        return DONE

    def _settings(self) -> "ServerSettings":
        from stunet.cli.demo import SCANS, scan_file
        from stunet.serve.settings import Limits, ServerSettings, read_tokens

        defaults = ServerSettings()
        limits = Limits(
            upload_bytes=int(self.upload_megabytes * 2**20), queued_jobs=self.queue, kept_hours=self.keep_hours
        )
        return ServerSettings(
            data=self.data or defaults.data,
            host=self.host,
            port=self.port,
            models=self.models,
            device=self.device,
            tokens=read_tokens(_tokens_text(self.tokens)),
            hosts=self.allow_host,
            certificate=self.tls_certificate,
            key=self.tls_key,
            demo_scan=scan_file(SCANS[0]),
            folders=tuple(folder.resolve() for folder in self.allow_folder),
            dicomweb=self.allow_dicomweb,
            limits=limits,
        )

    def _say_where(self, port: int) -> None:
        scheme = "http" if self.tls_certificate is None else "https"
        host = f"[{self.host}]" if ":" in self.host else self.host
        url = f"{scheme}://{host}:{port}"
        if self.json:
            print_json({"url": url})
            sys.stdout.flush()
        where = f"stunet serves {url} - end it with Ctrl-C. Not a medical device."
        MESSAGES.print(where, soft_wrap=True)


def _tokens_text(file: Path | None) -> str:
    """Lines NAME:TOKEN."""
    if file is None:
        return os.environ.get(TOKENS_VARIABLE, "").replace(",", "\n")
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise FileError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or error}).") from error
