"""A picture that crashes its decoder costs one image: not its unit, not its worker's other units, not the run."""

import os
import subprocess
import sys
from pathlib import Path

from schemas.corpus import Corpus
from schemas.validate import validate
from tests.servers.pictures import PictureServer, write_laion

ROOT = Path(__file__).parents[3]

PLANT = """
import os, signal
from pipelines.media import pixels

decode = pixels.decode

def crash_on_mark(body, layout, **sizes):
    if b"666000" in body[:64]:
        os.kill(os.getpid(), signal.SIGSEGV)
    return decode(body, layout, **sizes)

pixels.decode = crash_on_mark
"""


def test_a_decoder_that_segfaults_costs_one_image(tmp_path: Path) -> None:
    (tmp_path / "plant").mkdir()
    (tmp_path / "plant" / "sitecustomize.py").write_text(PLANT)
    numbers = [*range(1, 40), 666000, *range(40, 60)]
    with PictureServer() as web:
        metadata = write_laion(tmp_path / "m.parquet", [f"http://h{n % 9}.example/jpg/{n}" for n in numbers])
        command = [
            sys.executable,
            "-m",
            "tests.small_driver",
            str(tmp_path / "corpus"),
            str(metadata),
            str(web.port),
            "2",
        ]
        environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'plant'}:{ROOT}"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=200, check=False)

    assert done.returncode == 0, done.stderr.decode()
    corpus = Corpus.open(str(tmp_path / "corpus"))
    assert corpus.totals().reasons["image"]["decode.crash"] == 1
    assert corpus.totals().reasons["row"]["decode.crash"] == 1
    assert corpus.totals().counts.rows == 60
    attempts = {record.content.unit: record.run.attempt for record in corpus.records()}
    assert attempts[1] == 2
    assert list(validate(corpus)) == []
