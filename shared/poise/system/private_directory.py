"""Private directories: data on disk (documents, logs, URLs with passwords) is readable by its owner only."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

OWNER_ONLY: Final = 0o700
OTHERS: Final = 0o077


def make_private_directory(path: Path, *, ours: bool = False) -> None:
    """Create a directory that only its owner can access.

    Args:
        path: The directory.
        ours: Whether it holds only files of Poise. The mode of an existing directory is then corrected. A directory
            chosen by the user may hold other files, and its mode is not changed.

    Raises:
        OSError: The directory cannot be created, or the path is not a directory.
    """
    path.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
    found = path.stat()
    if ours and found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & OTHERS:
        try:
            path.chmod(OWNER_ONLY)
        except OSError as error:
            if error.errno != errno.EROFS:  # Poise cannot write to a read-only file system anyway
                raise
