"""An S3 server that fails on request: listing, HEAD and GET of one bucket, from files of a folder."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

BUCKET = "inbox"
PAGE = 3  # objects in an answer to a listing


class FakeS3:
    """`fault[key]` or `fault["*"]` says how reading an object fails; `fault["list"]` how the listing does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fault: dict[str, str] = {}
        self.asked: Counter[str] = Counter()
        self.hanging = threading.Event()  # set: those that hang are let go
        self.url = ""

    @contextmanager
    def serving(self) -> Iterator[FakeS3]:
        """The server at work; `url` is its address."""
        from s3fs import S3FileSystem

        # One that was made for another server is kept, and knows its address only.
        S3FileSystem.clear_instance_cache()
        handler = type("Handler", (_Handler,), {"store": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            self.hanging.set()
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    store: FakeS3
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self._object(head=True)

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        asked = parse_qs(address.query, keep_blank_values=True)
        if address.path.strip("/") == BUCKET:
            self._list({name: values[0] for name, values in asked.items()})
        else:
            self._object(head=False)

    def _list(self, asked: dict[str, str]) -> None:
        prefix = asked.get("prefix", "")
        folder = self.store.folder
        files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        names = sorted(name for name in files if name.startswith(prefix))
        first = int(asked.get("continuation-token", "0"))
        self.store.asked[f"list from {first}"] += 1
        fault = self.store.fault.get("list")
        if fault and first:  # only after the first page
            self._fail(fault)
            return
        page, more = names[first : first + PAGE], first + PAGE < len(names)
        rows = "".join(self._row(name) for name in page)
        following = f"<NextContinuationToken>{first + PAGE}</NextContinuationToken>" if more else ""
        self._answer(
            200,
            f"<ListBucketResult><Name>{BUCKET}</Name><KeyCount>{len(page)}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{following}{rows}</ListBucketResult>".encode(),
        )

    def _row(self, name: str) -> str:
        path = self.store.folder / name
        at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        return (
            f"<Contents><Key>{escape(name)}</Key><LastModified>{at:%Y-%m-%dT%H:%M:%S}.000Z</LastModified>"
            f"<ETag>&quot;{_tag(path)}&quot;</ETag><Size>{path.stat().st_size}</Size></Contents>"
        )

    def _object(self, *, head: bool) -> None:
        name = urlsplit(self.path).path.split("/", 2)[-1]
        path, store = self.store.folder / name, self.store
        if not path.is_file():
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        store.asked[name] += 1
        fault = store.fault.get(name) or store.fault.get("*", "")
        if fault.startswith("twice ") and store.asked[name] > 2:
            fault = ""
        content = path.read_bytes()
        if fault and not head and not fault.endswith(("reset", "cut", "short", "hang")):
            self._fail(fault.removeprefix("twice "))
            return
        if asked := self.headers.get("Range"):
            start, _, stop = asked.removeprefix("bytes=").partition("-")
            content = content[int(start) : int(stop) + 1 if stop else None]
        headers = {
            "ETag": f'"{_tag(path)}"',
            "Last-Modified": format_datetime(datetime.fromtimestamp(path.stat().st_mtime, UTC), usegmt=True),
        }
        if head:
            self._answer(200, content, headers, body=False)
            return
        if fault == "short":  # whole, as far as HTTP can tell
            self._answer(200, content[: len(content) // 2], headers)
            return
        self._answer(206 if asked else 200, content, headers, body=not fault)
        if fault:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            if fault == "hang":
                store.hanging.wait(120)
            self.close_connection = True

    def _fail(self, fault: str) -> None:
        """`fault` is a status with the code of an error, such as "403 ExpiredToken"."""
        status, _, code = fault.partition(" ")
        self._answer(int(status), f"<Error><Code>{code}</Code><Message>as asked</Message></Error>".encode())

    def _answer(
        self, status: int, content: bytes, headers: dict[str, Any] | None = None, *, body: bool = True
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


def _tag(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
