"""`poise schema`: the contract for other languages."""

import json
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, Any

import typer

from poise.cli.console import err, print_json
from poise.cli.text import plural
from poise.errors import SetupError
from poise.kafka import asyncapi_document

app = typer.Typer(help="The contract: AsyncAPI and JSON Schemas.", no_args_is_help=True, add_completion=False)

OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Write files into this folder instead of to stdout.")
]


@app.command("asyncapi")
def asyncapi(
    out: OutOption = None,
    *,
    broker: Annotated[str, typer.Option(help="The server that the document names.")] = "127.0.0.1:9092",
) -> None:
    """Print the AsyncAPI 3.0 document: topics, bodies, headers, replies."""
    document = asyncapi_document.asyncapi_document(_version(), broker)
    if out is None:
        print_json(_text(document))
    else:
        _write(out, {"asyncapi.json": document})


@app.command("json")
def json_schemas(out: OutOption = None) -> None:
    """Print the JSON Schema of each body, by kind."""
    bodies = asyncapi_document.body_schemas()
    if out is None:
        print_json(_text(bodies))
    else:
        _write(out, {f"{kind.replace('/', '.')}.schema.json": body for kind, body in bodies.items()})


def _version() -> str:
    try:
        return version_of("poise")
    except PackageNotFoundError:
        return "0"


def _text(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _write(folder: Path, files: dict[str, Any]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            (folder / name).write_text(_text(value) + "\n", encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{folder} cannot be written to: {error.strerror}") from error
    err.print(f"{plural(len(files), 'file')} in {folder}", markup=False)
