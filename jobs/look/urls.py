"""`--urls`: which URLs were kept or refused, one a line, for tools that take lists of them.

What no URL can hold (blanks, control characters, marks that turn text around) is written percent-encoded, so a line is
one URL and a terminal shows what is there. Read at flat memory, in the order of units and rows.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from jobs.look.corpora import refused_urls, rejects_of, samples_of
from jobs.look.folders import SUCCESS, Folder, ledger_rows
from jobs.look.notes import Notes
from jobs.look.tars import TarShard
from schemas.corpus import Corpus
from schemas.errors import UserError
from schemas.reasons import Reason
from schemas.sample import Sample

KEPT, REJECTED = "kept", "rejected"
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp", "Zs")


@dataclass(frozen=True, slots=True)
class Url:
    """A URL with the key it stands under; reason: why it is not kept."""

    url: str
    key: str
    reason: str | None = None


def urls_of_corpus(corpus: Corpus, wanted: str, notes: Notes) -> Iterator[Url]:
    """`kept`, `rejected`, a reason (`http.404`) or a family of reasons (`http`). Raises `UserError` for anything else."""
    families = {reason.family for reason in Reason}
    if wanted not in {KEPT, REJECTED, *families, *(reason.value for reason in Reason)}:
        raise UserError(
            f"--urls {wanted}: expected kept, rejected, a reason such as http.404, or a family such as http"
        )
    for record in corpus.records():
        if wanted == KEPT:
            for part in record.content.parts:
                for _, sample in samples_of(corpus, part, notes):
                    yield from _of_sample(sample)
            continue
        rejects = rejects_of(corpus, record.content, notes)
        for refused in () if rejects is None else refused_urls(rejects):
            if wanted in (REJECTED, refused.reason, refused.reason.partition(".")[0]):
                yield Url(refused.url, refused.key, refused.reason)


def urls_of_folder(folder: Folder, wanted: str, notes: Notes) -> Iterator[Url]:
    """`kept`, `rejected`, or a status or message as the ledgers have it; of tars without ledgers, those of their samples."""
    for shard in folder.shards:
        if shard.ledger is None and wanted == KEPT:
            for sample, _ in folder.samples(shard, notes, most=None):
                yield from _of_sample(sample)
        for row in ledger_rows(shard, notes):
            failed = row.status != SUCCESS
            if row.url is not None and (
                (wanted == KEPT and not failed) or (failed and wanted in (REJECTED, row.status, row.message))
            ):
                yield Url(row.url, row.key, (row.message or row.status) if failed else None)


def urls_of_tar(tar: TarShard, wanted: str) -> Iterator[Url]:
    """Those of its samples: a tar tells nothing of what was refused. Raises `UserError` if that is asked."""
    if wanted != KEPT:
        raise UserError(f"--urls {wanted}: a tar holds what was kept; ask the corpus or folder it lies in")
    for group in tar.groups():
        yield from _of_sample(tar.sample(group))


def one_line(url: str) -> str:
    """The URL with what no URL can hold percent-encoded."""
    return "".join(_encoded(c) if unicodedata.category(c) in _UNSEEN else c for c in url)


def _encoded(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "replace"))


def _of_sample(sample: Sample) -> Iterator[Url]:
    """Each once: frames of a video share theirs."""
    for url in dict.fromkeys(image.url for image in sample.images):
        if url is not None:
            yield Url(url, sample.key)
