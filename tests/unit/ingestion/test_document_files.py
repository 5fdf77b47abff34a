import os
from pathlib import Path

import pytest

from poise.contracts import Document
from poise.contracts.document import MAX_DOCUMENT_CHARS
from poise.ingestion.document_files import File, Refusal, find, read, source_of


def write(path: Path, content: str | bytes = "words") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def ids(*paths: Path, prefix: str = "") -> list[str]:
    found = find(paths, prefix)
    assert not found.refused
    return [file.id for file in found.files]


def why(content: str | bytes, path: Path) -> str:
    refused = read(File(write(path, content), "id", "text"))
    assert isinstance(refused, Refusal)
    assert refused.name == str(path)
    return refused.why


def test_ids_are_the_paths_below_what_is_given(tmp_path: Path) -> None:
    for name in ("b.md", "a.TXT", "sub/c.rst", "sub/deeper/d.markdown"):
        write(tmp_path / name)
    assert ids(tmp_path) == ["a.TXT", "b.md", "sub/c.rst", "sub/deeper/d.markdown"]
    assert ids(tmp_path / "sub") == ["c.rst", "deeper/d.markdown"]
    assert ids(tmp_path / "b.md", prefix="book/") == ["book/b.md"]


def test_hidden_files_and_other_kinds_are_passed_over(tmp_path: Path) -> None:
    for name in (".hidden.md", ".git/x.md", "a.pdf", "b.py", "c.md"):
        write(tmp_path / name)
    found = find([tmp_path])
    assert [file.id for file in found.files] == ["c.md"]
    assert found.passed_over == 2
    assert not found.refused


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "a.md")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert ids(tmp_path) == ["a.md"]


def test_a_file_named_twice_is_one_document(tmp_path: Path) -> None:
    file = write(tmp_path / "a.md")
    assert ids(tmp_path, file) == ["a.md"]


def test_two_files_of_one_id_are_refused(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one/a.md"), write(tmp_path / "two/a.md")
    found = find([one.parent, two.parent])
    assert [file.path for file in found.files] == [one]
    assert found.refused == [Refusal(str(two), f"has the id a.md, as {one} has: ingest it apart, with --prefix")]


def test_what_is_not_there_or_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    found = find([tmp_path / "no.md", write(tmp_path / "a.pdf")])
    assert [str(refusal) for refusal in found.refused] == [
        f"{tmp_path}/no.md: there is no such file or folder",
        f"{tmp_path}/a.pdf: is not one of .txt, .rst, .md, .markdown",
    ]


def test_a_file_becomes_a_document(tmp_path: Path) -> None:
    path = write(tmp_path / "a.md", "\ufeffIntro\n\n```\n# not this\n```\n# The *Title* #\n")
    assert read(File(path, "sub/a.md", "markdown")) == Document(
        text="Intro\n\n```\n# not this\n```\n# The *Title* #\n", source="The *Title* (sub/a.md)", format="markdown"
    )


def test_what_has_no_title_is_known_by_its_path(tmp_path: Path) -> None:
    assert source_of(File(tmp_path, "a.md", "markdown"), "## two\ntext") == "a.md"
    assert source_of(File(tmp_path, "a.txt", "text"), "# one\ntext") == "a.txt"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n\t ", "is empty"),
        (b"a\0b", "is binary"),
        (b"caf\xe9", "is not UTF-8 text (byte 3)"),
        (b"x" * (MAX_DOCUMENT_CHARS + 1), "is too large: 800001 characters, of 800000 that it may have"),
        (b"x" * (4 * MAX_DOCUMENT_CHARS + 1), "is too large: 3200001 bytes"),
        (("\u4e16" * 400_000).encode(), "is too large: it takes 1200041 bytes, of 1000000 that it may"),
    ],
)
def test_what_cannot_be_a_document_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    assert why(content, tmp_path / "a.txt") == said


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    assert read(File(tmp_path / "pipe.txt", "pipe.txt", "text")) == Refusal(
        f"{tmp_path}/pipe.txt", "is no regular file"
    )


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt"))
    write(path)
    [file] = find([tmp_path]).files
    refused = read(file)
    assert isinstance(refused, Refusal)
    assert refused.why.startswith("its path cannot be an id: ")
