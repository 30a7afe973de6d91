"""Small corpora without pipelines: units of four rows, of which three become samples and the third is rejected with its image."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schemas.corpus import SAMPLES, Corpus
from schemas.plan import Unit, append_generation
from schemas.reasons import Reason
from schemas.record import Record, RunInfo
from schemas.rejects import Level, Reject
from schemas.sample import Image, ImageSegment, Origin, Sample, TextSegment, make_key
from schemas.shard_writer import ShardWriter

RUN = RunInfo(started_unix_seconds=0.0, seconds=1.0, engine="test")
ROWS = 4


@dataclass
class Builder:
    """Makes a corpus and commits units to it; `salt` makes other bytes of the same rows."""

    corpus: Corpus
    rejected: tuple[int, ...] = (2,)
    run: RunInfo = field(default=RUN)

    @property
    def root(self) -> Path:
        return Path(self.corpus.url)

    def plan(self, units: int, *, rows: int | None = ROWS) -> None:
        append_generation(self.corpus.storage, [Unit(n, "metadata.parquet", "f", n * ROWS, rows) for n in range(units)])

    def plan_more(self, *units: Unit) -> None:
        append_generation(self.corpus.storage, units)

    def sample(self, key: str, *, salt: str = "") -> tuple[Sample, list[bytes]]:
        sample = Sample(
            key=key,
            source=Origin(name="test", file="metadata.parquet", row=int(key[9:])),
            segments=(ImageSegment(0), TextSegment(f"A sentence about {key}{salt}")),
            images=(Image(member="0.jpg", width=4, height=3, phash="0" * 16),),
            attributes={"similarity": 0.5, "NSFW": None},
        )
        return sample, [f"picture of {key}{salt}".encode() * 40]

    def writer(self, unit: int, **settings: int) -> ShardWriter:
        recipe_hash = self.corpus.manifest.recipe_hash
        return ShardWriter(self.corpus, column=SAMPLES, unit=unit, recipe_hash=recipe_hash, **settings)

    def rejects(self, unit: int, *, keys: Sequence[str] | None = None) -> list[Reject]:
        found = []
        for row in self.rejected:
            if keys and row >= len(keys):
                continue
            key = keys[row] if keys else make_key(unit, row)
            found.append(Reject(key, row, Level.ROW, Reason.HTTP_404))
            found.append(Reject(key, row, Level.IMAGE, Reason.HTTP_404, image=0, url="http://example.com/0.jpg"))
        return found

    def commit(self, unit: int, *, salt: str = "", keys: Sequence[str] | None = None, **settings: int) -> Record:
        """Commit the unit: every row but the rejected ones, written last to first."""
        rows = len(keys) if keys else ROWS
        with self.writer(unit, **settings) as writer:
            for row in reversed([row for row in range(rows) if row not in self.rejected]):
                writer.write(*self.sample(keys[row] if keys else make_key(unit, row), salt=salt), row=row)
            return writer.commit(self.rejects(unit, keys=keys), rows=rows, images_asked=rows, run=self.run)

    def files(self, *folders: str) -> dict[str, bytes]:
        """Everything under these folders, or in the corpus, without `run/`."""
        found = [path for path in sorted(self.root.rglob("*")) if path.is_file()]
        named = {str(path.relative_to(self.root)): path.read_bytes() for path in found}
        return {name: data for name, data in named.items() if name.partition("/")[0] in folders or not folders}
