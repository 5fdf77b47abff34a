"""Which mesh a command connects to: the given broker, else the configured one, else the stack that runs here."""

from pathlib import Path
from typing import Final

from poise.errors import SetupError
from poise.settings import MeshSettings
from poise.stack.state import running_stack

MAX_PORT: Final = 65_535


def resolve_settings(broker: str | None = None) -> MeshSettings:
    """Return the settings of the mesh to connect to.

    The broker is the first that is known of: `broker`, `POISE_BROKER` or the TOML file, the stack that runs in the
    state directory, the default. With that stack's broker comes its Redis, if none is configured.

    Raises:
        SetupError: A setting or the address is invalid, or the stack is still starting.
    """
    loaded = MeshSettings.load()
    update: dict[str, str | None] = {}
    if broker is None and "broker" not in loaded.model_fields_set:
        broker, redis_url = _running(loaded.state_dir)
        if redis_url is not None and "redis_url" not in loaded.model_fields_set:
            update["redis_url"] = redis_url
    address = loaded.broker if broker is None else broker
    settings = loaded.model_copy(update={**update, "broker": address})
    if not settings.bootstrap or not all(_is_address(part) for part in settings.bootstrap):
        raise SetupError(f"{address!r} is no address of a broker: give host:port, or several with commas between")
    return settings


def running_broker(state_dir: Path) -> str | None:
    """Return the broker of the stack that runs in a state directory; None if none does.

    Raises:
        SetupError: The stack is still starting.
    """
    return _running(state_dir)[0]


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return bool(host if colon else port) and (not colon or (port.isdecimal() and 0 < int(port) <= MAX_PORT))


def _running(state_dir: Path) -> tuple[str | None, str | None]:
    """Return the addresses of broker and Redis of the stack that runs in a state directory."""
    state = running_stack(state_dir)
    if state is None:
        return None, None
    if not state.ready or state.broker is None:
        raise SetupError(f"the stack in {state_dir} is still starting: try again when `poise status` says it is ready")
    return state.broker, state.redis_url
