"""The files of a scan on disk: one folder for each, named by chance, with names of the server's own.

What users call their files decides no path. Of a name only the suffix is kept, by which readers know the format, and
which files lay in one folder.
"""

from pathlib import Path, PurePosixPath

from stunet.imaging.formats.registry import READERS, has_suffix
from stunet.serve.own_voxels import ONE_FILE
from stunet.serve.refusal import RefusedError

LONGEST_SUFFIX = 8


class FileNames:
    """Gives each file of an upload its place in a folder.

    Args:
        folder: of the upload.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._folders: dict[PurePosixPath, Path] = {}
        self._number = 0

    def place(self, name: str) -> Path | None:
        """Path for a file; None for a hidden file, which is not part of a scan.

        Args:
            name: as the user calls it, with folders.

        Raises:
            RefusedError: a name that leads out of its folder, or a header without its image.
        """
        given = PurePosixPath(name.replace("\\", "/"))
        if given.is_absolute() or ".." in given.parts or "\0" in name:
            raise RefusedError(400, "The name of a file leads out of its folder.")
        if any(part.startswith(".") or part == "__MACOSX" for part in given.parts):
            return None
        self._number += 1
        suffix = _suffix(given)
        if suffix in READERS and suffix not in ONE_FILE:
            raise RefusedError(400, "The image is in another file than its header; save the scan as one file.")
        return self._subfolder(given.parent) / f"{self._number:06d}{suffix}"

    def _subfolder(self, given: PurePosixPath) -> Path:
        if given not in self._folders:
            folder = self._folder / f"folder{len(self._folders) + 1:04d}"
            folder.mkdir(parents=True)
            self._folders[given] = folder
        return self._folders[given]


def _suffix(name: PurePosixPath) -> str:
    """What says the format; empty if it says none that is known."""
    for suffix in sorted(READERS, key=len, reverse=True):
        if name.name.lower().endswith(suffix):
            return suffix
    last = "".join(name.suffixes[-2:] if name.suffix.lower() == ".gz" else name.suffixes[-1:]).lower()
    return last if last.replace(".", "").isalpha() and last.isascii() and len(last) <= LONGEST_SUFFIX else ""


def files_in(place: Path) -> list[Path]:
    """The files of a scan, in the order in which they came: those below a folder, or a file itself."""
    return sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]


def images_in(place: Path) -> list[Path]:
    """The images of a scan; several are its channels."""
    return [path for path in files_in(place) if has_suffix(path, ONE_FILE)]
