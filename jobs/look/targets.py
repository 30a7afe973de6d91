"""What a path is: a corpus, a tar, or a folder of shards; each kind gives its whole, one sample, and its URLs.

`find_target` decides by what lies there, never by a name alone. Not here: options and their rules (`jobs.inspect`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from jobs.look import corpora
from jobs.look.corpora import CorpusLook
from jobs.look.domains import domain_of
from jobs.look.folders import SUCCESS, Folder, FolderTotals, Row, ledger_rows, ledger_schema
from jobs.look.notes import Notes
from jobs.look.tally import Tally
from jobs.look.tars import open_tar
from jobs.look.urls import Url, urls_of_folder, urls_of_tar
from jobs.look.whole import Whole
from jobs.terminal import count, share, size
from schemas.corpus import MANIFEST, Corpus
from schemas.errors import CorpusError, UserError
from schemas.foreign import FOREIGN_FORMAT, read_foreign_index
from schemas.index import Index
from schemas.sample import SAMPLE_FORMAT
from schemas.shard_reader import StoredSample

MOST_SAMPLES = 8_000
MOST_SHARDS = 48


@dataclass(frozen=True, slots=True)
class Found:
    """A sample and where it lies. Of targets that are no corpus, `stored.media` has every member, the JSON too."""

    stored: StoredSample
    place: str


@dataclass(frozen=True, slots=True)
class TarTarget:
    """One tar, of a corpus or of anyone."""

    path: Path

    def whole(self, notes: Notes, *, everything: bool) -> Whole:
        """Walk it, or its first samples."""
        tally = Tally()
        ours = 0
        with open_tar(self.path, notes) as tar:
            groups = tar.groups()
            for group in islice(groups, None if everything else MOST_SAMPLES):
                sample = tar.sample(group)
                ours += sample.format == SAMPLE_FORMAT and bool(sample.source.name)
                tally.add(sample, group.sizes)
            cut = not everything and next(groups, None) is not None
            walked, loose, number_bytes = tar.walked_bytes, tar.loose_members, tar.file_bytes
        fraction = share(walked, number_bytes)
        is_ours = 0 < tally.samples == ours
        facts = [("tar", str(self.path)), ("bytes", size(number_bytes)), *_of_corpus(self.path, notes)]
        at_least = "at least " if cut else ""
        facts.append(("samples", f"{at_least}{count(tally.samples)}, with {count(tally.images)} images"))
        facts.append(("kind", "samples of a corpus (emu-sample/1)" if is_ours else "WebDataset"))
        facts.append(("members", ", ".join(f"{name} in {count(n)}" for name, n, _ in tally.members) or "none"))
        if loose:
            facts.append(("besides", f"{count(loose)} members that belong to no key"))
        over = f"over the first {count(tally.samples)} samples ({fraction} of the bytes); --all reads the rest"
        return Whole(facts, tally, coverage=over if cut else None, ours=is_ours)

    def find(self, key: str, notes: Notes) -> Found | None:
        """The first sample of that key."""
        with open_tar(self.path, notes) as tar:
            group = tar.find(key)
            if group is None:
                return None
            return Found(tar.stored(group), str(self.path))

    def first_key(self, notes: Notes) -> str | None:
        """A key to try."""
        with open_tar(self.path, notes) as tar:
            group = next(tar.groups(), None)
        return None if group is None else group.key

    def urls(self, wanted: str, notes: Notes) -> Iterator[Url]:
        """See `urls_of_tar`."""
        with open_tar(self.path, notes) as tar:
            yield from urls_of_tar(tar, wanted)


@dataclass(frozen=True, slots=True)
class FolderTarget:
    """A folder of shards that are no corpus."""

    folder: Folder

    def whole(self, notes: Notes, *, everything: bool) -> tuple[Whole, FolderTotals]:
        """Totals from all stats; distributions from all shards, or from the first samples of some."""
        folder, totals, tally = self.folder, self.folder.totals(notes), Tally()
        shards = folder.in_drawn_order()[: None if everything else MOST_SHARDS]
        most = None if everything else -(-MOST_SAMPLES // max(1, len(shards)))
        cut = len(shards) < len(folder.shards)
        for shard in shards:
            has_ledger = False
            for row in islice(ledger_rows(shard, notes), most):
                has_ledger = True
                kept = row.status == SUCCESS
                tally.domains.add(domain_of(row.url), kept=kept, lost=not kept)
            seen = 0
            for sample, sizes in folder.samples(shard, notes, most=most):
                seen += 1
                tally.add(sample, sizes, count_domains=not has_ledger)
            cut = cut or seen == most
        facts = [
            ("folder", str(folder.path)),
            ("layout", f"{folder.layout}, {count(len(folder.shards))} shards"),
            ("members", ", ".join(name for name, _, _ in tally.members) or "none"),
        ]
        of = f"{count(len(shards))} of {count(len(folder.shards))} shards"
        words = f"over {count(tally.samples)} samples, the first of each of {of}"
        declared = ledger_schema(folder)
        return Whole(facts, tally, declared, coverage=f"{words}; --all reads all" if cut else None), totals

    def find(self, key: str, notes: Notes) -> Found | None:
        """The first sample of that key, over all shards."""
        found = self.folder.find(key, notes)
        if found is None:
            return None
        shard, stored = found
        return Found(stored, str(shard.data))

    def find_row(self, key: str, notes: Notes) -> Row | None:
        """The row of that key in the ledgers: how it failed."""
        found = self.folder.find_row(key, notes)
        return None if found is None else found[1]

    def first_key(self, notes: Notes) -> str | None:
        """A key to try."""
        for shard in self.folder.shards:
            for sample, _ in self.folder.samples(shard, notes, most=1):
                return sample.key
        return None

    def urls(self, wanted: str, notes: Notes) -> Iterator[Url]:
        """See `urls_of_folder`."""
        return urls_of_folder(self.folder, wanted, notes)


def find_target(text: str) -> Corpus | TarTarget | FolderTarget:
    """What lies at a path or URL. Raises `UserError` for what we cannot show, naming what we can."""
    if "://" in text:
        return Corpus.open(text)
    path = Path(text)
    if path.is_file():
        return TarTarget(path)
    if not path.is_dir():
        raise UserError(f"{text} is not a corpus, a tar or a folder of them: there is no such file or folder")
    if (path / MANIFEST).is_file():
        return Corpus.open(text)
    return FolderTarget(Folder.open(path))


def whole_of_corpus(corpus: Corpus, notes: Notes, *, everything: bool) -> tuple[Whole, CorpusLook]:
    """Totals of all records, and distributions of all samples or some."""
    look = corpora.look_at_corpus(corpus, notes, everything=everything)
    totals = look.columns.get("samples")
    coverage, declared = None, {}
    if totals is not None:
        declared = totals.attributes
        held = totals.counts.samples
        if look.tally.samples < held:
            coverage = (
                f"over {count(look.tally.samples)} of {count(held)} samples ({share(look.tally.samples, held)}), from "
                f"{count(look.looked_into_units)} of {count(totals.units)} units"
            )
            coverage += "" if everything else "; --all looks at all"
    return Whole([], look.tally, declared, coverage, ours=True), look


def _of_corpus(path: Path, notes: Notes) -> list[tuple[str, str]]:
    """Which part of which corpus a tar is, if an index beside it says so; and whether its record names it."""
    index_path = path.with_suffix(".arrow")
    if not index_path.is_file():
        return []
    try:
        data = index_path.read_bytes()
        if FOREIGN_FORMAT.encode() in data:
            index, _ = read_foreign_index(data, name=str(index_path))
            return [("index", f"{count(len(index))} samples, as emu index found them")]
        index = Index.parse(data, name=str(index_path))
    except (CorpusError, OSError) as error:
        notes.add(index_path.name, str(error).removeprefix(f"{index_path}: "))
        return []
    identity = index.identity
    facts = [
        (
            "index",
            f"{count(len(index))} samples: column {identity['column']}, unit {identity['unit']}, part {identity['part']}",
        )
    ]
    root = path.absolute().parents[1 + identity["column"].count("/")]
    try:
        corpus = Corpus.open(str(root))
        record = corpus.record(identity["column"], int(identity["unit"]))
    except (UserError, ValueError):
        return facts
    named = record is not None and any(part.data.name.endswith("/" + path.name) for part in record.content.parts)
    says = "its record names it" if named else "no record names it, so it is not part of it"
    return [*facts, ("corpus", f"{corpus.manifest.name} in {corpus.url}; {says}")]
