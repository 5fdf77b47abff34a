"""Files that become documents: which there are below some paths, and what each says or why it is refused."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from pydantic import TypeAdapter, ValidationError

from poise.contracts.document import MAX_DOCUMENT_BYTES, MAX_DOCUMENT_CHARS, Document, DocumentId
from poise.text.markdown import fence_after, title_of

Format = Literal["text", "markdown"]

FORMATS: Final[dict[str, Format]] = {".txt": "text", ".rst": "text", ".md": "markdown", ".markdown": "markdown"}
KINDS: Final = ", ".join(FORMATS)
BYTES_PER_CHAR: Final = 4
"""At most, in UTF-8."""
TITLE_CHARS: Final = 200

_ID: Final = TypeAdapter(DocumentId)


@dataclass(frozen=True, slots=True)
class File:
    """A file that is to become a document."""

    path: Path
    id: str
    format: Format


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file or document that cannot be taken, and why."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


@dataclass(slots=True)
class Found:
    """What there is below the paths."""

    files: list[File] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    passed_over: int = 0
    """Files of other kinds inside folders."""


def find(paths: Iterable[Path], prefix: str = "") -> Found:
    """Look for files to ingest.

    A document's id is its path below the folder that is given, or the name of the file that is given: it stays the same
    wherever the folder lies. Hidden files and folders are passed over, links to folders are not followed.

    Args:
        paths: Files and folders.
        prefix: Put before each id.
    """
    found = Found()
    by_id: dict[str, File] = {}
    for file in _files(paths, prefix, found):
        other = by_id.setdefault(file.id, file)
        if other is file:
            found.files.append(file)
        elif other.path.resolve() != file.path.resolve():
            why = f"has the id {file.id}, as {other.path} has: ingest it apart, with --prefix"
            found.refused.append(Refusal(str(file.path), why))
    return found


def _files(paths: Iterable[Path], prefix: str, found: Found) -> Iterator[File]:
    for path in paths:
        if path.is_dir():
            for inner in _below(path, found):
                form = FORMATS.get(inner.suffix.lower())
                if form is None:
                    found.passed_over += 1
                else:
                    yield File(inner, prefix + inner.relative_to(path).as_posix(), form)
        elif not path.exists():
            found.refused.append(Refusal(str(path), "there is no such file or folder"))
        elif path.suffix.lower() not in FORMATS:
            found.refused.append(Refusal(str(path), f"is not one of {KINDS}"))
        else:
            yield File(path, prefix + path.name, FORMATS[path.suffix.lower()])


def _below(folder: Path, found: Found) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        found.refused.append(Refusal(str(error.filename), f"cannot be read: {error.strerror}"))

    for where, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(where, name)


class _RefusedError(Exception):
    """A file cannot become a document."""


def read(file: File) -> Document | Refusal:
    """Read a file as a document, or say why it cannot be one."""
    try:
        return _read(file)
    except _RefusedError as error:
        why = str(error)
    except UnicodeDecodeError as error:
        why = f"is not UTF-8 text (byte {error.start})"
    except OSError as error:
        why = f"cannot be read: {error.strerror}"
    except ValidationError as error:
        why = f"its path cannot be an id: {error.errors()[0]['msg']}"
    return Refusal(str(file.path), why)


def _read(file: File) -> Document:
    _ID.validate_python(file.id)
    if not file.path.is_file():
        raise _RefusedError("is no regular file")  # reading a pipe would wait for ever
    if (size := file.path.stat().st_size) > MAX_DOCUMENT_CHARS * BYTES_PER_CHAR:
        raise _RefusedError(f"is too large: {size} bytes")
    text = file.path.read_bytes().decode("utf-8-sig")
    if "\0" in text:
        raise _RefusedError("is binary")
    if not text.strip():
        raise _RefusedError("is empty")
    if len(text) > MAX_DOCUMENT_CHARS:
        raise _RefusedError(f"is too large: {len(text)} characters, of {MAX_DOCUMENT_CHARS} that it may have")
    document = Document(text=text, source=source_of(file, text), format=file.format)
    if (size := len(document.encode())) > MAX_DOCUMENT_BYTES:
        raise _RefusedError(f"is too large: it takes {size} bytes, of {MAX_DOCUMENT_BYTES} that it may")
    return document


def source_of(file: File, text: str) -> str:
    """What a reader knows a file by: in Markdown its title and its path, else its path."""
    title = _title(text) if file.format == "markdown" else None
    return f"{title[:TITLE_CHARS]} ({file.id})" if title else file.id


def _title(text: str) -> str | None:
    """The first title of the first level, outside of code."""
    fence = ""
    for line in text.split("\n"):
        fence = fence_after(line, fence)
        if not fence and (title := title_of(line)) is not None and title.level == 1:
            return title.text
    return None
