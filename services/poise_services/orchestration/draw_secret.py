"""The draw secret: the secret that variants are drawn with, the same for all workers; from a setting or a file."""

import logging
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from poise.errors import SetupError
from poise.settings import MeshSettings
from poise.text.error_text import error_message
from poise_services.orchestration.settings import OrchestrationSettings

log = logging.getLogger(__name__)

FILE_NAME: Final = "draw.secret"
MIN_LENGTH: Final = 16
"""Minimum characters of a secret."""
_OTHER_USERS: Final = stat.S_IRWXO
"""The permissions of other users."""
_SETTING: Final = "POISE_ORCHESTRATION_DRAW_SECRET"
_HINT: Final = f"{MIN_LENGTH} or more random characters, such as the output of `openssl rand -hex 32`"


def load_secret(settings: OrchestrationSettings, mesh_settings: MeshSettings) -> bytes:
    """Return the secret of the settings, else that of the file.

    The default file is created if it is missing; a file that `draw_secret_file` names must exist.

    Raises:
        SetupError: It is too short, or the file can be neither read nor created.
    """
    if settings.draw_secret is not None:
        return _check(settings.draw_secret.get_secret_value(), _SETTING)
    if settings.draw_secret_file is not None:  # named by a setting: if missing, report it instead of creating it
        return _read(settings.draw_secret_file)
    path = (mesh_settings.shared_dir or mesh_settings.state_dir) / FILE_NAME
    try:
        if not path.exists():
            _create(path)
    except OSError as error:
        raise SetupError(
            f"the draw secret cannot be stored in {path} ({error.strerror}): make the folder writable, or set "
            f"{_SETTING}, the same for all orchestration workers: {_HINT}"
        ) from error
    return _read(path)


def _create(path: Path) -> None:
    """Create the file, complete and private from the start; of concurrent creations the first wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
        log.info("created %s, the secret that variants are drawn with", path)
    except FileExistsError:
        return
    finally:
        temporary.unlink()


def _read(path: Path) -> bytes:
    try:
        if (mode := stat.S_IMODE(path.stat().st_mode)) & _OTHER_USERS:
            log.warning("other users can read the draw secret: %s has mode %o; change it to 600", path, mode)
        return _check(path.read_text(encoding="utf-8").strip(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"the draw secret cannot be read from {path}: {error_message(error)}") from error


def _check(secret: str, origin: str) -> bytes:
    if len(secret) < MIN_LENGTH:
        raise SetupError(f"{origin} is too short for a secret: use {_HINT}")
    return secret.encode()
