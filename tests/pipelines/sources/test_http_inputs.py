"""Metadata over HTTP, by ranges: nothing is fetched twice, and no file is fetched to find out that it is one."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.sources.tables import PairColumns, Table


class _Handler(http.server.BaseHTTPRequestHandler):
    """A static server with ranges, which counts the bytes that it sends."""

    files: ClassVar[dict[str, bytes]]
    sent = 0

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        data = self.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        part = data
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            part = data[int(first) : int(last) + 1 if last else None]
        self.send_response(206 if wanted else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"1"')
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if with_body:
            try:
                self.wfile.write(part)
                type(self).sent += len(part)
            except OSError:
                pass  # the client has seen enough

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[tuple[str, type[_Handler]]]:
    class Handler(_Handler):
        files: ClassVar[dict[str, bytes]] = {}

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", Handler
    server.shutdown()
    thread.join()
    server.server_close()


def urls(source: Table) -> list[str]:
    return [row["url"] for unit in source.units(first_ordinal=0, planned=[]) for row in source.rows(unit)]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_table_on_a_web_server_is_planned_and_read(
    tmp_path: Path, site: tuple[str, type[_Handler]], name: str
) -> None:
    root, handler = site
    rows = [(f"http://a.example/{i}.jpg", f"caption {i}") for i in range(2_000)]
    if name == "a.csv":
        handler.files[f"/{name}"] = ("url,text\n" + "".join(f"{url},{text}\n" for url, text in rows)).encode()
    else:
        pq.write_table(pa.table({"url": [u for u, _ in rows], "text": [t for _, t in rows]}), tmp_path / name)
        handler.files[f"/{name}"] = (tmp_path / name).read_bytes()
    source = Table((f"{root}/{name}",), columns=PairColumns(url="url", text="text"), rows_per_unit=700)
    source.check({})

    assert urls(source) == [url for url, _ in rows]
    assert source.units(first_ordinal=0, planned=[])[0].source == f"{root}/{name}"


def test_a_large_file_is_not_fetched_to_be_found(site: tuple[str, type[_Handler]]) -> None:
    root, handler = site
    handler.files["/big.csv"] = b"url,text\n" + b"http://a,x\n" * 5_000_000
    source = Table((f"{root}/big.csv",), columns=PairColumns(url="url", text="text"))

    source.check({})

    assert handler.sent < 40_000_000, "the head and the tail, with what is read ahead"
