"""Find, pin and download one file of the Hugging Face Hub, or of the mirror in `HF_ENDPOINT`; downloads can resume.

No token is sent: the published weights are open, and a mirror should not learn who downloads them.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers


@dataclass(frozen=True)
class Remote:
    """A file on the Hub.

    Attributes:
        url: URL of this version.
        etag: the server's identifier of this version.
        bytes: its size; None if the server does not say.
    """

    url: str
    etag: str
    bytes: int | None

    @property
    def sha256(self) -> str | None:
        """The Hub's checksum, which is the ETag of large files; None for others."""
        return self.etag if len(self.etag) == hashlib.sha256().digest_size * 2 else None


def find(repository: str, file: str, revision: str | None = None) -> Remote:
    """Ask the Hub for a version of a file and pin it.

    Args:
        repository: owner and name.
        file: path in the repository.
        revision: the commit; None for the newest.

    Raises:
        Exception: anything that huggingface_hub raises; OSError if the server does not name the version.
    """
    endpoint = os.environ.get("HF_ENDPOINT") or None
    found = get_hf_file_metadata(hf_hub_url(repository, file, revision=revision, endpoint=endpoint), token=False)
    if found.etag is None:
        raise OSError("the server does not report the version of the file")
    pinned = hf_hub_url(repository, file, revision=found.commit_hash, endpoint=endpoint)
    return Remote(pinned, found.etag, found.size)


def fetch(remote: Remote, name: str, partial: Path) -> None:
    """Append the missing rest of a remote file to `partial`. Progress is written to stderr under `name`.

    `hf_hub_download` discards partial downloads when interrupted (huggingface_hub 2.4), so this calls its inner
    function, which can resume, with our file.

    Raises:
        Exception: anything that huggingface_hub raises.
    """
    with partial.open("ab", buffering=0) as file:
        http_get(
            remote.url,
            file,  # type: ignore[arg-type]
            resume_size=file.tell(),
            headers=build_hf_headers(token=False, library_name="stunet"),
            expected_size=remote.bytes,
            displayed_filename=name,
        )
