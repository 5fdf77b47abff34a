"""Private directories: what Poise keeps on disk (documents, logs, addresses with passwords) is for its owner alone."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

OWNER_ONLY: Final = 0o700
OTHERS: Final = 0o077


def make_private_directory(path: Path, *, ours: bool = False) -> None:
    """Make a directory that its owner alone may enter.

    Args:
        path: The directory.
        ours: It holds nothing but Poise's: one that is there, and lets others in, is closed to them. A directory that
            somebody chose may hold other things too, and is left as it is.

    Raises:
        OSError: It cannot be made, or is none.
    """
    path.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
    found = path.stat()
    if ours and found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) & OTHERS:
        try:
            path.chmod(OWNER_ONLY)
        except OSError as error:
            if error.errno != errno.EROFS:  # where nothing can be written, nothing of ours will stand
                raise
