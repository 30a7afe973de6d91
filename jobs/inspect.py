"""`emu inspect`: what a corpus, any WebDataset tar or an img2dataset folder holds; one sample of it; or an answer to a question.

Only reads. Decides what is asked, and of what; the answers are made in `jobs.look`. Nothing here imports a decoder, an engine or
a database until a picture or a question needs one. Not here: whether a corpus is sound (`validate`), a browser (`browse`).
"""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.cli import DONE, FAILED
from jobs.ledgers import ledgers, print_reasons, retryable
from jobs.look import charts
from jobs.look.corpora import CorpusLook, rejects_of
from jobs.look.extract import extract_sample
from jobs.look.folders import FolderTotals
from jobs.look.lines import shown_line
from jobs.look.notes import Notes
from jobs.look.one_sample import Page, reject_line
from jobs.look.pictures import Graphics, graphics_of
from jobs.look.targets import FolderTarget, Found, TarTarget, find_target, whole_of_corpus
from jobs.look.urls import one_line, urls_of_corpus
from jobs.look.whole import Whole, print_facts, print_notes
from jobs.terminal import console, count, error_console, print_json, share, shown, size
from schemas.corpus import SAMPLES, Corpus
from schemas.errors import CorpusError, UserError
from schemas.rejects import Level
from schemas.sample import split_key
from schemas.shard_reader import CorpusReader, StoredSample

_MOST_REASONS = 12
_MOST_ROWS_PRINTED = 1_000
_Target = Corpus | TarTarget | FolderTarget


def inspect(
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", help="A corpus, one tar of it, any WebDataset tar, or img2dataset output."),
    ],
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="One sample, or a row that was rejected.", show_default=False)
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Distributions from everything, samples in full; else bounded work.")
    ] = False,
    extract: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="With a KEY: write its members, and its boxes as PNG, there.")
    ] = None,
    pictures: Annotated[
        Graphics | None,
        typer.Option(
            help="How a KEY's pictures are drawn; by default what the terminal says it can.", show_default=False
        ),
    ] = None,
    sql: Annotated[
        str | None,
        typer.Option(
            metavar="QUESTION", help="Ask the tables records, shards, plan, rejects, index and samples of a corpus."
        ),
    ] = None,
    urls: Annotated[
        str | None,
        typer.Option(metavar="WHICH", help="URLs, one a line: kept, rejected, a reason (http.404) or family (http)."),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="JSON on stdout, for scripts: one object, or one a line for --sql and --urls."),
    ] = False,
) -> None:
    """Show what a target holds, one sample of it, or the answer to a question.

    Without a KEY: columns, both ledgers, why rows and images are not in it, schema, distributions. With one: text, pictures and
    times in reading order; for a row that was rejected, the reason. Ends with 1 if something could not be read.
    """
    if [key, sql, urls].count(None) < 2:
        raise UserError("a KEY, --sql and --urls are three questions; ask one at a time")
    if extract is not None and key is None:
        raise UserError("--extract writes one sample; name its KEY")
    opened, notes = find_target(target), Notes()
    if key is not None:
        drawn = pictures or graphics_of(os.environ, is_terminal=console().is_terminal)
        _show_one(opened, key, notes, extract=extract, graphics=drawn, everything=everything, as_json=as_json)
    elif sql is not None:
        _answer(opened, sql, notes, as_json=as_json)
    elif urls is not None:
        _list_urls(opened, urls, notes, as_json=as_json)
    else:
        _show_whole(opened, notes, everything=everything, as_json=as_json)
    if not as_json:
        print_notes(notes, error_console())
    raise typer.Exit(FAILED if notes else DONE)


# The whole


def _show_whole(opened: _Target, notes: Notes, *, everything: bool, as_json: bool) -> None:
    if isinstance(opened, Corpus):
        whole, look = whole_of_corpus(opened, notes, everything=everything)
        told, first_key, url = _corpus_dict(opened, look), look.first_key, opened.url
        whole.facts[:0] = _corpus_facts(opened, look)
        totals = None
    elif isinstance(opened, FolderTarget):
        whole, totals = opened.whole(notes, everything=everything)
        first_key, url = opened.first_key(Notes()), str(opened.folder.path)
        told = _folder_dict(opened, totals)
        whole.facts += _folder_facts(totals, notes)
    else:
        whole, totals = opened.whole(notes, everything=everything), None
        first_key, url = opened.first_key(Notes()), str(opened.path)
        told = {"tar": url}
    if as_json:
        print_json(told | whole.to_dict() | {"first_key": first_key, "problems": notes.lines})
        return
    out = console()
    print_facts(whole.facts, out)
    if isinstance(opened, Corpus):
        _print_ledgers(look, out)
    elif totals is not None and len(totals.reasons):
        _print_messages(totals, out)
    _print_distributions(whole, out)
    if first_key is not None:
        out.print(Text(f"One sample: emu inspect {shown(url)} {shown_line(first_key)}", style="dim"))


def _print_distributions(whole: Whole, out: Console) -> None:
    if whole.declared or whole.tally.samples:
        whole.print_schema(out)
    if whole.tally.samples or len(whole.tally.domains):
        whole.print_distributions(out)
        out.print()


def _corpus_facts(corpus: Corpus, look: CorpusLook) -> list[tuple[str, str]]:
    manifest, totals = corpus.manifest, look.columns.get(SAMPLES)
    facts = [
        ("corpus", f"{manifest.name}, {manifest.format}"),
        ("lies in", corpus.url),
        ("recipe", f"hash {manifest.recipe_hash[:8]}: {_recipe_line(manifest.recipe)}"),
    ]
    if manifest.licence is not None:
        facts.append(("licence", manifest.licence))
    if totals is None:
        return [*facts, ("units", f"{count(look.planned_units)} planned, none committed yet")]
    pending = look.planned_units - totals.units
    still = f", {count(pending)} pending" if pending > 0 else ""
    facts += [("units", f"{count(totals.units)} of {count(look.planned_units)} committed{still}"), *ledgers(totals)]
    chars = totals.counts.text_chars
    facts.append(("text", f"{count(chars)} characters, {chars / max(1, totals.counts.samples):.0f} a sample"))
    facts += [("column", f"{name}: {count(t.units)} units, {size(t.data_bytes)}") for name, t in look.columns.items()]
    return facts


def _recipe_line(recipe: dict[str, Any]) -> str:
    """Source and steps by their names; recipes of other makers may have another shape."""
    parts = [recipe.get("source"), *(recipe.get("steps") or ())]
    named = [next((p[n] for n in ("kind", "name") if n in p), p) if isinstance(p, dict) else p for p in parts]
    return " → ".join(map(str, named))


def _corpus_dict(corpus: Corpus, look: CorpusLook) -> dict[str, Any]:
    manifest = corpus.manifest
    return {
        "corpus": corpus.url,
        "name": manifest.name,
        "format": manifest.format,
        "licence": manifest.licence,
        "recipe": manifest.recipe,
        "recipe_hash": manifest.recipe_hash,
        "units_planned": look.planned_units,
        "columns": {column: totals.to_dict() for column, totals in look.columns.items()},
    }


def _print_ledgers(look: CorpusLook, out: Console) -> None:
    totals = look.columns.get(SAMPLES)
    if totals is None:
        return
    out.print()
    print_reasons(totals, console=out)
    if totals.counts.rejected_rows:
        out.print(retryable(totals), markup=False)


def _folder_facts(totals: FolderTotals, notes: Notes) -> list[tuple[str, str]]:
    if not totals.rows:
        return []
    failed = totals.rows - totals.samples
    facts = [("rows", f"{count(totals.rows)} = {count(totals.samples)} samples + {count(failed)} failed")]
    facts.append(("kept", f"{share(totals.samples, totals.rows)} of rows"))
    if totals.unfinished:
        facts.append(("unfinished", f"{count(totals.unfinished)} shards without stats; not in these sums"))
    return facts


def _folder_dict(target: FolderTarget, totals: FolderTotals) -> dict[str, Any]:
    return {
        "folder": str(target.folder.path),
        "layout": target.folder.layout.value,
        "shards": len(target.folder.shards),
        "shards_without_stats": totals.unfinished,
        "rows": totals.rows,
        "samples": totals.samples,
        "reasons": {message: lost for message, _, lost in totals.reasons},
    }


def _print_messages(totals: FolderTotals, out: Console) -> None:
    found = [(message, lost) for message, _, lost in totals.reasons]
    others = sum(lost for _, lost in found[_MOST_REASONS:]) + totals.reasons.rest[1]
    out.print()
    out.print(charts.top("failed rows", found[:_MOST_REASONS], whole=totals.rows, cells=30, others=others))


# One sample


def _show_one(
    opened: _Target,
    key: str,
    notes: Notes,
    *,
    extract: Path | None,
    graphics: Graphics,
    everything: bool,
    as_json: bool,
) -> None:
    rejects = _rejects_of_key(opened, key, notes) if isinstance(opened, Corpus) else []
    found = _find(opened, key, rejects, notes)
    if found is None:
        where = "the corpus" if isinstance(opened, Corpus) else "the folder"
        _tell_rejected(key, rejects, where=where, as_json=as_json)
        return
    written = [] if extract is None else extract_sample(found.stored, extract)
    lost = [reject for reject in rejects if reject["level"] == Level.IMAGE]
    if as_json:
        print_json(_sample_dict(found.stored, rejects) | {"lies_in": found.place, "extracted": written})
        return
    out = console()
    place = None if isinstance(opened, Corpus) else found.place
    Page(found.stored, out, graphics, everything=everything, place=place).print(lost)
    if extract is not None:
        out.print(Text(f"written to {shown(str(extract))}: {len(written)} files", style="dim"))


def _find(opened: _Target, key: str, rejects: list[dict[str, Any]], notes: Notes) -> Found | None:
    """The sample; None if it was rejected. Raises `UserError` if nobody knows the key."""
    if isinstance(opened, Corpus):
        try:
            return Found(CorpusReader(opened).get(key), opened.url)
        except (CorpusError, OSError) as error:
            # A retry may have brought the row after all, so rejects only count once no unit holds the key.
            if any(reject["level"] == Level.ROW for reject in rejects):
                return None
            if isinstance(error, OSError):
                raise CorpusError(
                    f"{opened.url}: key {key}: {error.filename} cannot be read ({error.strerror}); run `emu validate`"
                ) from None
            raise
    found = opened.find(key, notes)
    if found is None and isinstance(opened, FolderTarget):
        row = opened.find_row(key, notes)
        if row is not None:
            reason = row.status or "unknown"
            rejects.append({"key": key, "level": "row", "reason": reason, "detail": row.message, "url": row.url})
            return None
    if found is None:
        known = opened.first_key(Notes())
        advice = f"its first key is {known!r}" if known is not None else "it holds no samples"
        raise UserError(f"no sample has the key {key!r}; {advice}")
    return found


def _rejects_of_key(corpus: Corpus, key: str, notes: Notes) -> list[dict[str, Any]]:
    """The rejects of a key in its unit of origin, that of the row first; none if the unit is not committed."""
    record = corpus.record(SAMPLES, split_key(key)[0])
    table = None if record is None else rejects_of(corpus, record.content, notes)
    return [] if table is None else [row for row in table.to_pylist() if row["key"] == key]


def _sample_dict(stored: StoredSample, rejects: list[dict[str, Any]]) -> dict[str, Any]:
    members = {name: len(data) for name, data in stored.media.items()}
    return {"sample": json.loads(stored.sample.to_json()), "member_bytes": members, "rejected_images": rejects}


def _tell_rejected(key: str, rejects: list[dict[str, Any]], *, where: str, as_json: bool) -> None:
    if as_json:
        print_json({"key": key, "rejected": rejects})
        return
    out = console()
    out.print(f"{shown_line(key)} is not in {where}:", markup=False)
    for reject in rejects:
        what = "the row" if reject["level"] == Level.ROW else f"image {reject['image']}"
        out.print(f"  {what}: {reject_line(reject)}", markup=False)


# Questions and lists


def _answer(opened: _Target, question: str, notes: Notes, *, as_json: bool) -> None:
    if not isinstance(opened, Corpus):
        raise UserError("--sql asks the tables of a corpus; make one of this with emu import")
    from jobs.look.sql import Answer

    answer = Answer(opened, question, notes)
    try:
        if as_json:
            for row in answer:
                print_json(dict(zip(answer.columns, row, strict=True)))
            return
        out, table, more = console(), Table(box=None, pad_edge=False, header_style="bold"), False
        for column in answer.columns:
            table.add_column(Text(shown_line(column)), overflow="fold")
        for number, row in enumerate(answer):
            if number == _MOST_ROWS_PRINTED:
                more = True
                break
            table.add_row(*(_cell(value) for value in row))
        out.print(table)
        if more:
            out.print(Text(f"… cut after {count(_MOST_ROWS_PRINTED)} rows; --json prints all", style="dim"))
    finally:
        answer.close()


def _cell(value: Any) -> Text:
    if value is None:
        return Text("null", style="dim")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Text(shown_line(str(value)))
    return Text(f"{value:,}" if isinstance(value, int) else f"{value:.6g}", justify="right")


def _list_urls(opened: _Target, wanted: str, notes: Notes, *, as_json: bool) -> None:
    found = urls_of_corpus(opened, wanted, notes) if isinstance(opened, Corpus) else opened.urls(wanted, notes)
    for url in found:
        if as_json:
            print_json({"url": url.url, "key": url.key, "reason": url.reason})
        else:
            print(one_line(url.url))
