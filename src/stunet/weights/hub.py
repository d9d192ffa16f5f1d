"""One file of the Hugging Face Hub, or of the mirror that `HF_ENDPOINT` names: found, pinned, and fetched bit by bit.

No token is sent: the published weights are open, and a mirror need not know who asks.
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
        url: of this very version.
        etag: the server's name of this version.
        bytes: its size; None if the server does not tell.
    """

    url: str
    etag: str
    bytes: int | None

    @property
    def sha256(self) -> str | None:
        """The Hub's own checksum; large files have it for their ETag."""
        return self.etag if len(self.etag) == hashlib.sha256().digest_size * 2 else None


def find(repository: str, file: str) -> Remote:
    """Ask the Hub for a file's newest version, and pin it.

    Raises:
        Exception: whatever huggingface_hub raises, and OSError where the server does not name the version.
    """
    endpoint = os.environ.get("HF_ENDPOINT") or None
    newest = get_hf_file_metadata(hf_hub_url(repository, file, endpoint=endpoint), token=False)
    if newest.etag is None:
        raise OSError("the server does not say which version of the file it has")
    pinned = hf_hub_url(repository, file, revision=newest.commit_hash, endpoint=endpoint)
    return Remote(pinned, newest.etag, newest.size)


def fetch(remote: Remote, name: str, partial: Path) -> None:
    """Append to `partial` what it lacks of a remote file; progress is written to stderr under `name`.

    `hf_hub_download` would drop what it has when it is interrupted (huggingface_hub 2.4), so its inner function, which
    resumes, is called with our file.

    Raises:
        Exception: whatever huggingface_hub raises.
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
