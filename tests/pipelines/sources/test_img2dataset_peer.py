"""img2dataset really run on a web of this machine, in its three layouts, then imported."""

import http.server
import os
import struct
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.arguments import load_pipeline
from pipelines.worker import RunSettings
from schemas.corpus import Corpus
from schemas.sample import TextSegment
from schemas.shard_reader import CorpusReader
from schemas.validate import validate
from tests.img2dataset_outputs import LAYOUTS, picture
from tests.small_runs import build

PEER = Path(__file__).resolve().parents[3] / ".venv-peers" / "bin" / "img2dataset"
SHARD_ROWS = 20

FAILING = {
    "missing": "http.404",
    "teapot": "http.4xx",
    "broken": "http.503",
    "html": "decode.corrupt",
    "empty": "decode.corrupt",
    "noai": "policy.opt_out",
    "loop": "redirect.too_many",
    "short": "length_mismatch",
    "reset": "reset",
    "late": "first_byte",
}
ELSEWHERE = {
    "http://nowhere.invalid/a.jpg": "dns",
    "http://127.0.0.1:9/a.jpg": "connect",
    "ftp2://a.example/": "url.invalid",
}


class Page(http.server.BaseHTTPRequestHandler):
    """Pictures by number, and pages that fail in one way each."""

    def do_GET(self) -> None:
        name = self.path.strip("/").partition("?")[0]
        if name.isdigit():
            self._send(200, picture(int(name), side=90))
        elif name == "html":
            self._send(200, b"<html>")
        elif name == "noai":
            self._send(200, picture(1), ("X-Robots-Tag", "noai"))
        elif name == "loop":
            self._send(302, b"", ("Location", "/loop"))
        elif name == "short":
            self._send(200, b"x" * 10, ("Content-Length", "1000"))
        elif name == "reset":
            self.connection.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER 0: closing resets
            self.connection.close()
        elif name == "late":
            threading.Event().wait(4)
        else:
            self._send({"missing": 404, "teapot": 418, "broken": 503}.get(name, 200), b"")

    def log_message(self, *_: object) -> None:
        pass

    def _send(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
@pytest.mark.skipif(not PEER.exists(), reason="img2dataset is not installed: `make bench` makes .venv-peers")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_img2dataset_made_is_imported_byte_for_byte(layout: str, web: str, tmp_path: Path) -> None:
    expected = {f"{web}/{number}": "" for number in range(40)}
    expected |= {f"{web}/{name}": reason for name, reason in FAILING.items()} | ELSEWHERE
    urls = list(expected)
    captions = [None if number == 3 else f"caption {number} ☃" for number in range(len(urls))]
    table = {"URL": urls, "TEXT": captions, "similarity": [0.3] * len(urls), "hash": list(range(len(urls)))}
    pq.write_table(pa.table(table), tmp_path / "meta.parquet")
    _download(tmp_path, layout)
    corpus = tmp_path / "corpus"
    result = build(load_pipeline("import", inputs=[str(tmp_path / "out")]), corpus, RunSettings(workers=0))
    assert result.pending == 0, result.failures
    assert list(validate(Corpus.open(str(corpus)))) == []
    counts = result.totals.counts
    assert (counts.rows, counts.samples) == (len(urls), 40)
    assert result.totals.reasons["row"] == Counter(reason for reason in expected.values() if reason)
    stored = _stored(tmp_path / "out", layout)
    found = {s.sample.source.id: s for s in CorpusReader(Corpus.open(str(corpus)))}
    assert {key: next(iter(s.media.values())) for key, s in found.items()} == stored
    for s in found.values():
        image = s.sample.images[0]
        number = urls.index(str(image.url))
        texts = [segment.text for segment in s.sample.segments if isinstance(segment, TextSegment)]
        assert texts == ([captions[number]] if captions[number] else [])
        assert min(image.width, image.height) == 64
        assert image.sha256_original is not None
        attributes = s.sample.attributes
        assert attributes["similarity"] == 0.3
        assert attributes["hash"] == str(number)
        assert (attributes["original_width"], attributes["exif"]) == (90, "{}")


def _download(folder: Path, layout: str) -> None:
    settings = {
        "url_list": folder / "meta.parquet",
        "output_folder": folder / "out",
        "output_format": layout,
        "input_format": "parquet",
        "url_col": "URL",
        "caption_col": "TEXT",
        "save_additional_columns": '["similarity","hash"]',
        "image_size": 64,
        "resize_mode": "keep_ratio",
        "processes_count": 1,
        "thread_count": 8,
        "number_sample_per_shard": SHARD_ROWS,
        "timeout": 2,
        "enable_wandb": False,
    }
    flags = [f"--{name}={value}" for name, value in settings.items()]
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()} | {"NO_ALBUMENTATIONS_UPDATE": "1"}
    run = subprocess.run(
        [PEER, *flags], cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def _stored(output: Path, layout: str) -> dict[str, bytes]:
    """Pictures by key as another reader finds them."""
    if layout == "files":
        return {path.stem: path.read_bytes() for path in output.glob("*/*.jpg")}
    if layout == "parquet":
        rows = [row for path in output.glob("*.parquet") for row in pq.read_table(path).to_pylist()]
        return {row["key"]: row["jpg"] for row in rows if row["jpg"] is not None}
    import webdataset

    tars = sorted(map(str, output.glob("*.tar")))
    return {s["__key__"]: s["jpg"] for s in webdataset.WebDataset(tars, shardshuffle=False)}
