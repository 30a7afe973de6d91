"""Small runs over generated pictures, and what of a corpus two runs must have in common."""

import hashlib
import json
from pathlib import Path

from pipelines.fetch.policy import FetchPolicy, FetchSettings
from pipelines.pipeline import Pipeline
from pipelines.run import RunResult, run
from pipelines.runners.local import LocalRunner
from pipelines.sources.tables import Kind, Table
from pipelines.steps.filters import MaxAspect, MinSide, MinSimilarity
from pipelines.steps.images import EncodeImage, Fetch, ProbeImage
from pipelines.steps.text import CleanText
from pipelines.worker import RunSettings
from tests.servers.pictures import PictureServer


def small_pipeline(*paths: Path, rows_per_unit: int = 20) -> Pipeline:
    """The LAION steps over small units, robots left aside: the picture server has none."""
    keep = {"similarity": Kind.FLOAT, "hash": Kind.ID, "WIDTH": Kind.INT}
    return Pipeline(
        name="small",
        source=Table(tuple(map(str, paths)), name="laion-2b", keep=keep, rows_per_unit=rows_per_unit),
        steps=(
            MinSimilarity(cosine=0.31),
            CleanText(min_chars=5),
            Fetch(contact="mailto:tests@example.org", policy=FetchPolicy(respect_robots=False)),
            ProbeImage(max_pixels=1_000_000),
            MinSide(pixels=50),
            MaxAspect(ratio=3.0),
            EncodeImage(side_pixels=64, quality=90),
        ),
    )


def small_settings(web: PictureServer, *, workers: int = 0, **others: object) -> RunSettings:
    """Settings for a run against the picture server, at no politeness: it is ours."""
    fetch = FetchSettings(
        contact="mailto:tests@example.org",
        connect_to=web.connect_to,
        requests_per_second_per_host=1000,
        connections_per_host=16,
    )
    return RunSettings(workers=workers, fetch=fetch, decode_threads=1, **others)  # type: ignore[arg-type]


def build(pipeline: Pipeline, corpus: Path, settings: RunSettings) -> RunResult:
    """Run on the local engine."""
    return run(pipeline, str(corpus), runner=LocalRunner(), settings=settings)


def contents(corpus: Path) -> dict[str, str]:
    """Every file of the corpus that two runs must have in common, by name: its sha256, of records that of `content`."""
    found = {}
    for path in sorted(corpus.rglob("*")):
        name = str(path.relative_to(corpus))
        if not path.is_file() or name.startswith("run/"):
            continue
        data = path.read_bytes()
        if name.startswith("records/"):
            data = json.dumps(json.loads(data)["content"], sort_keys=True).encode()
        found[name] = hashlib.sha256(data).hexdigest()
    return found
