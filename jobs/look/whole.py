"""The whole of a target on one page, and the same as JSON: facts, ledgers, schema, distributions.

A `Whole` is made from a corpus, a folder or a tar by `jobs.inspect`; here is only how it reads. Not here: where numbers come from
(`corpora`, `folders`, `tars`).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.look import charts
from jobs.look.lines import clipped, shown_line
from jobs.look.notes import Notes
from jobs.look.tally import Spread, Tally, TopCounts
from jobs.terminal import count, rows, share, size

MOST_NAMES_SHOWN = 10
_SCHEMA_FILE = Path(__file__).resolve().parents[2] / "schemas" / "json" / "sample.schema.json"
_SCHEMA_PARTS = {"segments[]": ("TextSegment", "ImageSegment"), "images[]": ("Image",), "captions[]": ("Caption",)}


@dataclass(slots=True)
class Whole:
    """What is shown of a target.

    facts: headings and values, first of all. declared: fields to the types that records or a ledger promise. coverage: what the
    distributions are drawn from, in words; absent where they are drawn from all. ours: the samples are `emu-sample/1`.
    """

    facts: list[tuple[str, str]]
    tally: Tally
    declared: dict[str, str] = field(default_factory=dict)
    coverage: str | None = None
    ours: bool = False

    def print_schema(self, on: Console) -> None:
        """Fields with the type that is declared, the type that was seen, and how many of the samples have them."""
        samples, found = self.tally.samples, self.schema_rows()
        if not found:
            return
        table = Table.grid(padding=(0, 2))
        table.add_row(*(Text(words, style="dim") for words in ("  field", "declared", "seen", "in samples")))
        for name, declared, seen, held in found:
            shown_share = Text(share(held, samples), justify="right") if samples else Text("–")
            table.add_row(Text("  " + clipped(shown_line(name), 44)), declared, seen, shown_share)
        on.print()
        on.print(Text("schema", style="bold"))
        on.print(table)
        if self.tally.attributes.more:
            on.print(Text("  and more fields than are counted", style="dim"))

    def schema_rows(self) -> list[tuple[str, str, str, int]]:
        """Field, type declared, type seen, number of samples that have it."""
        found: list[tuple[str, str, str, int]] = []
        if self.ours:
            promised = sample_fields()
            found += [(name, promised.get(name, "–"), "", held) for name, held in sorted(self.tally.parts.items())]
        attributes = self.tally.attributes
        prefix = "attributes." if self.ours else ""
        for name in sorted(self.declared.keys() | attributes.types.keys()):
            seen = attributes.types.get(name, "–")
            found.append((prefix + name, self.declared.get(name, "–"), seen, attributes.samples[name]))
        return found

    def print_distributions(self, on: Console) -> None:
        """Histograms in pairs, then languages and domains."""
        tally, cells = self.tally, charts.bar_cells(on)
        on.print()
        over = self.coverage or f"over all {count(tally.samples)} samples"
        on.print(Text("distributions", style="bold").append(f"  {over}", style="not bold dim"))
        on.print()
        parts = [
            charts.histogram(title, spread, words=words, cells=cells)
            for title, spread, words in _spreads(tally)
            if spread.total
        ]
        if parts:
            on.print(charts.columns(parts, on=on))
        if len(tally.languages):
            found, others = _largest(tally.languages)
            told = sum(tally.languages.sums)
            names = [(name, kept) for name, kept, _ in found]
            on.print(
                charts.top("languages", names, whole=told, cells=cells, others=others[0], note="  as attributes say")
            )
            on.print()
        if len(tally.domains):
            kept, lost = tally.domains.sums
            found, others = _largest(tally.domains)
            note = f"  {count(kept)} of {count(kept + lost)} URLs gave a picture"
            note += ", not counting what the recipe refused" if self.ours and lost else ""
            on.print(charts.success("success by domain", found, cells=cells, others=others, note=note))

    def to_dict(self) -> dict[str, Any]:
        """The same for scripts: distributions as quantiles and bins, names with their counts."""
        tally = self.tally
        return {
            "schema": [
                {"field": name, "declared": declared, "seen": seen, "samples": held}
                for name, declared, seen, held in self.schema_rows()
            ],
            "looked_at": {"samples": tally.samples, "images": tally.images, "words": self.coverage},
            "distributions": {_name(title): _spread_dict(spread) for title, spread, _ in _spreads(tally)},
            "members": {name: kept for name, kept, _ in tally.members},
            "languages": {name: kept for name, kept, _ in islice(tally.languages, 100)},
            "domains": [
                {"domain": name, "kept": kept, "lost": lost} for name, kept, lost in islice(tally.domains, 100)
            ],
        }


def print_facts(facts: list[tuple[str, str]], on: Console) -> None:
    """Headings and values; values are cut to their line by the terminal, not by us."""
    on.print(rows([(heading, shown_line(value)) for heading, value in facts]))


def print_notes(notes: Notes, on: Console) -> None:
    """What was wrong, last, so that it is seen."""
    if not notes:
        return
    on.print()
    on.print(Text("problems", style="bold yellow"))
    for line in notes.lines:
        on.print(Text("  " + shown_line(line), style="yellow"))
    if notes.more:
        on.print(Text(f"  and {count(notes.more)} more", style="yellow"))


def sample_fields() -> dict[str, str]:
    """Fields of `emu-sample/1` that not every sample has, with their types, as its JSON Schema states them."""
    schema = json.loads(_SCHEMA_FILE.read_bytes())
    found = {name: _type_of(node) for name, node in schema["properties"].items()}
    for path, titles in _SCHEMA_PARTS.items():
        for title in titles:
            properties = schema["$defs"][title]["properties"]
            found |= {f"{path}.{name}": _type_of(node) for name, node in properties.items()}
    found["source.id"] = _type_of(schema["$defs"]["Origin"]["properties"]["id"])
    return found


def _type_of(node: dict[str, Any]) -> str:
    branches = [branch for branch in node.get("anyOf", [node]) if branch.get("type") != "null"]
    branch = branches[0] if branches else node
    return str(branch.get("type", branch.get("$ref", "#/object").rpartition("/")[2].lower()))


def _spreads(tally: Tally) -> list[tuple[str, Spread, Callable[[float], str]]]:
    whole = partial(_rounded)
    return [
        ("shorter side, pixels", tally.shorter_side, whole),
        ("longer side, pixels", tally.longer_side, whole),
        ("aspect, width by height", tally.aspect, lambda thousandths: f"{thousandths / 1000:.3g}"),
        ("bytes of a media member", tally.media_bytes, size),
        ("text of a sample, characters", tally.text_chars, whole),
        ("images of a sample", tally.images_a_sample, whole),
    ]


def _rounded(number: float) -> str:
    return count(round(number))


def _name(title: str) -> str:
    return title.partition(",")[0].replace(" ", "_")


def _spread_dict(spread: Spread) -> dict[str, Any]:
    quantiles = {f"p{round(100 * q):02d}": spread.quantile(q) for q in (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)}
    made = [{"from": b.low, "below": b.high, "count": b.number} for b in charts.bins(spread)]
    return {"count": len(spread), "mean": spread.mean, **quantiles, "bins": made}


def _largest(counts: TopCounts) -> tuple[list[tuple[str, int, int]], tuple[int, int]]:
    """The most frequent names, and the sums of all others."""
    found = list(islice(counts, MOST_NAMES_SHOWN))
    kept, lost = counts.sums
    return found, (kept - sum(k for _, k, _ in found), lost - sum(x for _, _, x in found))
