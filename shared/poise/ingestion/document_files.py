"""Finds the files below some paths and reads each as a document, or rejects it with a reason."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from pydantic import TypeAdapter, ValidationError

from poise.contracts.document import MAX_DOCUMENT_BYTES, MAX_DOCUMENT_CHARS, Document, DocumentId
from poise.text.markdown import open_fence, parse_heading

DocumentFormat = Literal["text", "markdown"]

FORMAT_OF_SUFFIX: Final[dict[str, DocumentFormat]] = {
    ".txt": "text",
    ".rst": "text",
    ".md": "markdown",
    ".markdown": "markdown",
}
SUFFIXES: Final = ", ".join(FORMAT_OF_SUFFIX)
MAX_BYTES_PER_CHAR: Final = 4
"""In UTF-8."""
MAX_TITLE_CHARS: Final = 200

_ID: Final = TypeAdapter(DocumentId)


@dataclass(frozen=True, slots=True)
class DocumentFile:
    """A file to be read as a document."""

    path: Path
    id: str
    format: DocumentFormat


@dataclass(frozen=True, slots=True)
class RejectedDocument:
    """A file or document that was rejected, and the reason."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(slots=True)
class FoundFiles:
    """The files found below the paths."""

    files: list[DocumentFile] = field(default_factory=list)
    rejected: list[RejectedDocument] = field(default_factory=list)
    skipped: int = 0
    """Number of files with other suffixes inside folders."""


def find_files(paths: Iterable[Path], prefix: str = "") -> FoundFiles:
    """Find files to ingest.

    A document's id is its path relative to the given folder, or the name of the given file, so it does not depend on
    where the folder is. Hidden files and folders are skipped; links to folders are not followed.

    Args:
        paths: Files and folders.
        prefix: Put before each id.
    """
    found = FoundFiles()
    by_id: dict[str, DocumentFile] = {}
    for file in _files(paths, prefix, found):
        other = by_id.setdefault(file.id, file)
        if other is file:
            found.files.append(file)
        elif other.path.resolve() != file.path.resolve():
            reason = f"has the same id {file.id} as {other.path}: ingest it separately, with --prefix"
            found.rejected.append(RejectedDocument(str(file.path), reason))
    return found


def _files(paths: Iterable[Path], prefix: str, found: FoundFiles) -> Iterator[DocumentFile]:
    for path in paths:
        if path.is_dir():
            for inner in _below(path, found):
                format_ = FORMAT_OF_SUFFIX.get(inner.suffix.lower())
                if format_ is None:
                    found.skipped += 1
                else:
                    yield DocumentFile(inner, prefix + inner.relative_to(path).as_posix(), format_)
        elif not path.exists():
            found.rejected.append(RejectedDocument(str(path), "there is no such file or folder"))
        elif path.suffix.lower() not in FORMAT_OF_SUFFIX:
            found.rejected.append(RejectedDocument(str(path), f"is not one of {SUFFIXES}"))
        else:
            yield DocumentFile(path, prefix + path.name, FORMAT_OF_SUFFIX[path.suffix.lower()])


def _below(folder: Path, found: FoundFiles) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        found.rejected.append(RejectedDocument(str(error.filename), f"cannot be read: {error.strerror}"))

    for where, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(where, name)


class _RejectedError(Exception):
    """A file cannot be a document."""


def read_document(file: DocumentFile) -> Document | RejectedDocument:
    """Return a file's document, or its rejection."""
    try:
        return _read(file)
    except _RejectedError as error:
        reason = str(error)
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 text (byte {error.start})"
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except ValidationError as error:
        reason = f"its path cannot be an id: {error.errors()[0]['msg']}"
    return RejectedDocument(str(file.path), reason)


def _read(file: DocumentFile) -> Document:
    _ID.validate_python(file.id)
    if not file.path.is_file():
        raise _RejectedError("is not a regular file")  # reading a pipe could block forever
    if (size := file.path.stat().st_size) > MAX_DOCUMENT_CHARS * MAX_BYTES_PER_CHAR:
        raise _RejectedError(f"is too large: {size} bytes")
    text = file.path.read_bytes().decode("utf-8-sig")
    if "\0" in text:
        raise _RejectedError("is binary")
    if not text.strip():
        raise _RejectedError("is empty")
    if len(text) > MAX_DOCUMENT_CHARS:
        raise _RejectedError(f"is too large: {len(text)} characters; the limit is {MAX_DOCUMENT_CHARS}")
    document = Document(text=text, source=source_name(file, text), format=file.format)
    if (size := len(document.encode())) > MAX_DOCUMENT_BYTES:
        raise _RejectedError(f"is too large: {size} bytes as JSON; the limit is {MAX_DOCUMENT_BYTES}")
    return document


def source_name(file: DocumentFile, text: str) -> str:
    """Return the name shown to readers: for Markdown its title and path, else its path."""
    title = _title(text) if file.format == "markdown" else None
    return f"{title[:MAX_TITLE_CHARS]} ({file.id})" if title else file.id


def _title(text: str) -> str | None:
    """Return the first level-1 title outside of code."""
    fence = ""
    for line in text.split("\n"):
        fence = open_fence(line, fence)
        if not fence and (title := parse_heading(line)) is not None and title.level == 1:
            return title.text
    return None
