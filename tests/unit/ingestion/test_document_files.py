import os
from pathlib import Path

import pytest

from poise.contracts import Document
from poise.contracts.document import MAX_DOCUMENT_CHARS
from poise.ingestion.document_files import DocumentFile, RejectedDocument, find_files, read_document, source_name


def write(path: Path, content: str | bytes = "words") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def ids(*paths: Path, prefix: str = "") -> list[str]:
    found = find_files(paths, prefix)
    assert not found.rejected
    return [file.id for file in found.files]


def why(content: str | bytes, path: Path) -> str:
    refused = read_document(DocumentFile(write(path, content), "id", "text"))
    assert isinstance(refused, RejectedDocument)
    assert refused.name == str(path)
    return refused.reason


def test_ids_are_relative_paths(tmp_path: Path) -> None:
    for name in ("b.md", "a.TXT", "sub/c.rst", "sub/deeper/d.markdown"):
        write(tmp_path / name)
    assert ids(tmp_path) == ["a.TXT", "b.md", "sub/c.rst", "sub/deeper/d.markdown"]
    assert ids(tmp_path / "sub") == ["c.rst", "deeper/d.markdown"]
    assert ids(tmp_path / "b.md", prefix="book/") == ["book/b.md"]


def test_hidden_files_and_other_file_types_are_skipped(tmp_path: Path) -> None:
    for name in (".hidden.md", ".git/x.md", "a.pdf", "b.py", "c.md"):
        write(tmp_path / name)
    found = find_files([tmp_path])
    assert [file.id for file in found.files] == ["c.md"]
    assert found.skipped == 2
    assert not found.rejected


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "a.md")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert ids(tmp_path) == ["a.md"]


def test_a_file_named_twice_is_one_document(tmp_path: Path) -> None:
    file = write(tmp_path / "a.md")
    assert ids(tmp_path, file) == ["a.md"]


def test_two_files_with_one_id_are_rejected(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one/a.md"), write(tmp_path / "two/a.md")
    found = find_files([one.parent, two.parent])
    assert [file.path for file in found.files] == [one]
    assert found.rejected == [
        RejectedDocument(str(two), f"has the same id a.md as {one}: ingest it separately, with --prefix")
    ]


def test_a_missing_file_or_another_file_type_is_rejected_by_name(tmp_path: Path) -> None:
    found = find_files([tmp_path / "no.md", write(tmp_path / "a.pdf")])
    assert [str(refusal) for refusal in found.rejected] == [
        f"{tmp_path}/no.md: there is no such file or folder",
        f"{tmp_path}/a.pdf: is not one of .txt, .rst, .md, .markdown",
    ]


def test_a_file_becomes_a_document(tmp_path: Path) -> None:
    path = write(tmp_path / "a.md", "\ufeffIntro\n\n```\n# not this\n```\n# The *Title* #\n")
    assert read_document(DocumentFile(path, "sub/a.md", "markdown")) == Document(
        text="Intro\n\n```\n# not this\n```\n# The *Title* #\n", source="The *Title* (sub/a.md)", format="markdown"
    )


def test_without_a_title_the_source_is_the_path(tmp_path: Path) -> None:
    assert source_name(DocumentFile(tmp_path, "a.md", "markdown"), "## two\ntext") == "a.md"
    assert source_name(DocumentFile(tmp_path, "a.txt", "text"), "# one\ntext") == "a.txt"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n\t ", "is empty"),
        (b"a\0b", "is binary"),
        (b"caf\xe9", "is not UTF-8 text (byte 3)"),
        (b"x" * (MAX_DOCUMENT_CHARS + 1), "is too large: 800001 characters; the limit is 800000"),
        (b"x" * (4 * MAX_DOCUMENT_CHARS + 1), "is too large: 3200001 bytes"),
        (("\u4e16" * 400_000).encode(), "is too large: 1200041 bytes as JSON; the limit is 1000000"),
    ],
)
def test_an_invalid_document_is_rejected(tmp_path: Path, content: bytes, said: str) -> None:
    assert why(content, tmp_path / "a.txt") == said


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    assert read_document(DocumentFile(tmp_path / "pipe.txt", "pipe.txt", "text")) == RejectedDocument(
        f"{tmp_path}/pipe.txt", "is not a regular file"
    )


def test_a_file_name_that_is_not_utf8_is_rejected(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))
    write(path)
    [file] = find_files([tmp_path]).files
    refused = read_document(file)
    assert isinstance(refused, RejectedDocument)
    assert refused.reason.startswith("its path cannot be an id: ")
