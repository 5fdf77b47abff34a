"""Downloads from a Maven repository: no more bytes are read than the jar has, and nothing is decompressed."""

import gzip
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from jgo.maven import MavenContext

from poise.errors import SetupError
from poise.stack.maven import Jar, fetch_jars

CONTENT = b"a jar" * 1_000
JAR = Jar("org", "one", "1.0", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


class ScriptedRepository(BaseHTTPRequestHandler):
    """A repository that sends the body of its class in pieces, with the content encoding of its class."""

    body = CONTENT
    encoding = "identity"
    sent = 0

    def do_GET(self) -> None:
        assert self.headers["accept-encoding"] == "identity"
        self.send_response(200)
        self.send_header("content-encoding", self.encoding)
        self.end_headers()
        self.connection.settimeout(5)
        for start in range(0, len(self.body), 65_536):
            self.wfile.write(self.body[start : start + 65_536])
            type(self).sent += 65_536

    def log_message(self, *_: object) -> None:
        pass


def got(handler: type[ScriptedRepository], directory: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # the client is meant to disconnect
    Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"

    def context(repo_cache: Path) -> MavenContext:
        made = MavenContext(repo_cache=repo_cache)
        made.remote_repos = {"central": address}
        return made

    monkeypatch.setattr("jgo.maven.MavenContext", context)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    try:
        return [path.read_bytes() for path in fetch_jars([JAR], directory)]
    finally:
        server.shutdown()
        server.server_close()


def test_jar_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert got(ScriptedRepository, tmp_path, monkeypatch) == [CONTENT]


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (CONTENT + b" " * 50_000_000, "identity"),
        (gzip.compress(CONTENT), "gzip"),
        (gzip.compress(CONTENT + b" " * 50_000_000), "gzip"),
    ],
    ids=["too long", "gzip", "bomb"],
)
def test_wrong_content_is_rejected_before_it_is_read_completely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes, encoding: str
) -> None:
    class Hostile(ScriptedRepository):
        """A repository that sends the parametrized body."""

    Hostile.body, Hostile.encoding = body, encoding
    with pytest.raises(SetupError, match=r"checksum of one-1\.0\.jar"):
        got(Hostile, tmp_path, monkeypatch)
    assert Hostile.sent < 20_000_000
