"""`emu inspect`: what a corpus holds, or one sample of it, or why a row is not in it. Reads records, indexes and one sample.

Not here: whether it is sound (`validate`), pictures on a screen (`browse`).
"""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from jobs.ledgers import ledgers, print_reasons, retryable
from jobs.terminal import console, count, listed, print_json, rows, shown, size
from schemas.corpus import SAMPLES, Corpus
from schemas.errors import CorpusError, UserError
from schemas.rejects import Level, read_rejects
from schemas.sample import Image, ImageSegment, Sample, TextSegment, split_key
from schemas.shard_reader import CorpusReader, StoredSample

_MOST_IMAGES = 8
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def inspect(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="Folder of the corpus.")],
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="One sample, or a row that was rejected.", show_default=False)
    ] = None,
    extract: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="With a KEY: write its JSON and pictures there.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout, for scripts.")] = False,
) -> None:
    """Show what a corpus holds, or one sample of it.

    Without a KEY: recipe, attributes, both ledgers, and why rows and images are not in it. With one: text, pictures and times in
    reading order; for a row that was rejected, the reason.
    """
    opened = Corpus.open(corpus)
    if key is None:
        if extract is not None:
            raise UserError("--extract writes one sample; name its KEY")
        _inspect_corpus(opened, as_json=as_json)
        return
    rejects = _rejects_of(opened, key)
    try:
        stored = CorpusReader(opened).get(key)
    except CorpusError:
        # A retry may have brought the row after all, so rejects are only asked once no unit holds the key.
        if not any(reject["level"] == Level.ROW for reject in rejects):
            raise
        _tell_rejected(key, rejects, as_json=as_json)
        return
    if extract is not None:
        extract_sample(stored, extract)
    if as_json:
        print_json(_sample_json(stored, rejects))
    else:
        _print_sample(stored, [reject for reject in rejects if reject["level"] == Level.IMAGE], console())


# The whole


def _inspect_corpus(corpus: Corpus, *, as_json: bool) -> None:
    columns = {column: corpus.totals(column) for column in corpus.columns()}
    planned = len(corpus.plan())
    first_key = next(CorpusReader(corpus).keys(), None)
    manifest = corpus.manifest
    if as_json:
        print_json(
            {
                "corpus": corpus.url,
                "name": manifest.name,
                "format": manifest.format,
                "licence": manifest.licence,
                "recipe": manifest.recipe,
                "recipe_hash": manifest.recipe_hash,
                "units_planned": planned,
                "columns": {column: totals.to_dict() for column, totals in columns.items()},
                "first_key": first_key,
            }
        )
        return
    out = console()
    pairs = [
        ("corpus", f"{shown(manifest.name)}, {shown(manifest.format)}"),
        ("lies in", shown(corpus.url)),
        ("recipe", f"hash {manifest.recipe_hash[:8]}: {_recipe_line(manifest.recipe)}"),
    ]
    if manifest.licence is not None:
        pairs.append(("licence", shown(manifest.licence)))
    totals = columns.get(SAMPLES)
    if totals is None:
        out.print(rows([*pairs, ("units", f"{count(planned)} planned, none committed yet")]))
        return
    pending = f", {count(planned - totals.units)} pending" if planned > totals.units else ""
    pairs += [("units", f"{count(totals.units)} of {count(planned)} committed{pending}"), *ledgers(totals)]
    samples = max(1, totals.counts.samples)
    pairs.append(
        ("text", f"{count(totals.counts.text_chars)} characters, {totals.counts.text_chars / samples:.0f} a sample")
    )
    attributes = [f"{shown(name)} ({kind})" for name, kind in totals.attributes.items()]
    pairs.append(("attributes", listed(attributes, most=20) or "none"))
    pairs += [("column", f"{column}: {count(t.units)} units, {size(t.data_bytes)}") for column, t in columns.items()]
    out.print(rows(pairs))
    print_reasons(totals, console=out)
    out.print(retryable(totals), markup=False)
    if first_key is not None:
        out.print(f"One sample: emu inspect {shown(corpus.url)} {first_key}", markup=False)


def _recipe_line(recipe: dict[str, Any]) -> str:
    """Source and steps by their names; recipes of other makers may have another shape."""
    parts = [recipe.get("source"), *(recipe.get("steps") or ())]
    kinds = [str(part["kind"]) if isinstance(part, dict) and "kind" in part else str(part) for part in parts]
    return shown(" → ".join(kinds))


# One sample


def _print_sample(stored: StoredSample, rejects: list[dict[str, Any]], out: Console) -> None:
    sample = stored.sample
    origin = sample.source
    place = f"{origin.name}, {origin.file}, row {count(origin.row)}"
    pairs = [("key", sample.key), ("from", shown(place if origin.id is None else f"{place}, id {origin.id}"))]
    if sample.licence is not None:
        pairs.append(("licence", shown(sample.licence)))
    out.print(rows(pairs))
    for segment in sample.segments:
        out.print(Text.assemble("  ", *_segment(segment, sample)))
    for number, image in enumerate(sample.images[:_MOST_IMAGES]):
        out.print(f"[bold]image {number}[/]")
        out.print(rows(_image_facts(image, stored)))
    if sample.images[_MOST_IMAGES:]:
        out.print(f"and {len(sample.images) - _MOST_IMAGES} more images; --json has them all", markup=False)
    if sample.captions:
        out.print("[bold]captions[/]")
        out.print(
            rows(
                [
                    (f"  {'–' if c.similarity is None else format(c.similarity, '.3f')}", shown(c.text))
                    for c in sample.captions
                ]
            )
        )
    if sample.attributes:
        out.print("[bold]attributes[/]")
        out.print(
            rows(
                [
                    (f"  {name}", shown(json.dumps(value, ensure_ascii=False)))
                    for name, value in sample.attributes.items()
                ]
            )
        )
    for reject in rejects:
        out.print(f"lost image {reject['image']}: {_reject_line(reject)}", markup=False)


def _segment(segment: TextSegment | ImageSegment, sample: Sample) -> list[tuple[str, str]]:
    parts: list[tuple[str, str]] = []
    if segment.time is not None:
        parts.append((f"{segment.time:8.2f} s  ", "cyan"))
    if segment.role is not None:
        parts.append((f"{segment.role}: ", "magenta"))
    if isinstance(segment, TextSegment):
        return [*parts, (shown(segment.text), "")]
    image = sample.images[segment.image]
    return [*parts, (f"[image {segment.image}: {image.width} × {image.height}]", "green")]


def _image_facts(image: Image, stored: StoredSample) -> list[tuple[str, str]]:
    held = stored.media.get(image.member, b"")
    box = "" if image.box is None else f", box {image.box}"
    facts = [("  stored", f"{image.width} × {image.height}, {size(len(held))}, member {shown(image.member)}{box}")]
    if image.original is not None:
        was = image.original
        facts.append(("  was", f"{was.width} × {was.height}, {size(was.bytes)}, {shown(was.format)}"))
    for heading, value in (("url", image.url), ("sha256", image.sha256_original), ("phash", image.phash)):
        if value is not None:
            facts.append((f"  {heading}", shown(value)))
    if image.match is not None:
        facts.append(("  match", f"sentence {image.match.sentence}, similarity {image.match.similarity:.3f}"))
    return facts


def _sample_json(stored: StoredSample, rejects: list[dict[str, Any]]) -> dict[str, Any]:
    members = {name: len(data) for name, data in stored.media.items()}
    return {"sample": json.loads(stored.sample.to_json()), "member_bytes": members, "rejected_images": rejects}


def extract_sample(stored: StoredSample, folder: Path) -> None:
    """Write the sample as the tar has it; only names that are no paths are ever written."""
    files = {f"{stored.sample.key}.json": stored.sample.to_json()}
    files |= {f"{stored.sample.key}.{name}": data for name, data in stored.media.items()}
    for name in files:
        if not _PLAIN_NAME.fullmatch(name):
            raise CorpusError(f"sample {stored.sample.key}: the member {name!r} is no plain name; nothing was written")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); name another folder") from None


# What is not there


def _rejects_of(corpus: Corpus, key: str) -> list[dict[str, Any]]:
    """The rejects of a key in its unit of origin, that of the row first; none if the unit is not committed."""
    record = corpus.record(SAMPLES, split_key(key)[0])
    if record is None or record.content.rejects is None:
        return []
    name = record.content.rejects.name
    table = read_rejects(corpus.storage.read(name), name=name)
    return [row for row in table.to_pylist() if row["key"] == key]


def _tell_rejected(key: str, rejects: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json({"key": key, "rejected": rejects})
        return
    out = console()
    out.print(f"{key} is not in the corpus:", markup=False)
    for reject in rejects:
        what = "the row" if reject["level"] == Level.ROW else f"image {reject['image']}"
        out.print(f"  {what}: {_reject_line(reject)}", markup=False)


def _reject_line(reject: dict[str, Any]) -> str:
    detail = f" ({reject['detail']})" if reject["detail"] else ""
    url = f" {reject['url']}" if reject["url"] else ""
    return shown(f"{reject['reason']}{detail}{url}")
