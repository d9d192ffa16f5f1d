"""The folders that a user opened to a language model; nothing outside is read or written, by no link either."""

import os
from collections.abc import Sequence
from pathlib import Path

from stunet.errors import UserError, listed
from stunet.files import require_output
from stunet.imaging.formats.registry import READERS, has_suffix
from stunet.serve.mcp.refused import ToolRefusedError
from stunet.serve.own_voxels import ONE_FILE, require_own_voxels

MOST_FILES = 200_000
"""That a folder with DICOM may hold."""


class Folders:
    """The folders that are open.

    Args:
        allowed: at least one. A path that does not begin at the root begins at the first of them.

    Raises:
        UserError: one that is no folder, or the whole disk, which is the current folder of programs that were started
            by a desktop.
    """

    def __init__(self, allowed: Sequence[Path]):
        for folder in allowed:
            if not folder.is_dir():
                raise UserError(f"{folder}: there is no such folder; give --folder the folder of your scans.")
            if folder.resolve() == Path(folder.resolve().anchor):
                raise UserError(f"{folder.resolve()} is the whole disk; give --folder the folder of your scans.")
        self.allowed = tuple(folder.resolve() for folder in allowed)

    def inside(self, path: str) -> Path:
        """The place that a path means, once all links in it are followed.

        Raises:
            ToolRefusedError: it lies outside.
        """
        if "\0" in path or not path.strip():
            raise ToolRefusedError("The path is empty or damaged; name a file or folder.")
        place = (self.allowed[0] / path).resolve()
        if not any(place.is_relative_to(folder) for folder in self.allowed):
            raise ToolRefusedError(
                f"{path}: lies outside of the folders that may be used, which are {listed(self.allowed)}. The user can "
                "open another one with `stunet mcp --folder`."
            )
        return place

    def existing(self, path: str) -> Path:
        """A file or folder that is there.

        Raises:
            ToolRefusedError: it lies outside, or is not there.
        """
        place = self.inside(path)
        if not place.exists():
            raise ToolRefusedError(f"{path}: there is no such file or folder.")
        return place

    def whole(self, path: str) -> Path:
        """A file, or a folder of which nothing lies elsewhere.

        Raises:
            ToolRefusedError: as `existing`, or a link in the folder leads outside.
        """
        place = self.existing(path)
        if place.is_dir():
            self._require_no_way_out(path, place)
        return place

    def scan(self, path: str) -> Path:
        """An image in one file, or a file, zip or folder of DICOM, that refers to nothing outside.

        Raises:
            UserError: as `whole`, or an image that refers to another file.
        """
        place = self.whole(path)
        if place.is_dir():
            return place
        if has_suffix(place, ONE_FILE):
            require_own_voxels(place)
        elif has_suffix(place, READERS):
            raise ToolRefusedError(f"{path}: this kind of image is in two files; save it as one, such as .nii.gz.")
        return place

    def new_file(self, path: str) -> Path:
        """Where a file may be written: nothing is there yet.

        Raises:
            UserError: it lies outside, is there, or cannot be written.
        """
        place = self.inside(path)
        if place.exists():
            raise ToolRefusedError(f"{path}: is there already, and nothing is overwritten; choose another name.")
        require_output(place)
        return place

    def _require_no_way_out(self, path: str, folder: Path) -> None:
        count = 0
        for parent, folders, files in os.walk(folder):
            count += len(files)
            if count > MOST_FILES:
                raise ToolRefusedError(f"{path}: holds more than {MOST_FILES:,} files; name the folder of one study.")
            for name in (*folders, *files):
                one = Path(parent, name)
                if one.is_symlink():
                    self._require_inside(path, one)

    def _require_inside(self, path: str, link: Path) -> None:
        if not any(link.resolve().is_relative_to(folder) for folder in self.allowed):
            raise ToolRefusedError(f"{path}: holds a link that leads out of the folders that may be used.")
