"""The card of a corpus: `README.md` for people and for Hugging Face `datasets`, and `shards.parquet`, the list of its shards.

Both are derived from manifest, plan and records, and may be rewritten at will; nothing else depends on them. The front matter
declares every field of the sample JSON and one picture for each member that some sample has, since `datasets` fills what a
sample lacks only where it is declared. Nothing of a run stands here (no time, no machine), so equal corpora have equal cards.
Names and values that came with the metadata are escaped. Not here: what a step or setting means (the recipe says it).
"""

import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from schemas import canonical
from schemas.card_features import declared_features, undeclared_attributes
from schemas.corpus import SAMPLES, Corpus, Manifest
from schemas.reasons import Reason
from schemas.record import Content, Part, Totals

README = "README.md"
SHARDS = "shards.parquet"
SHARDS_FORMAT = "emu-shards/1"
SHARDS_SCHEMA = pa.schema(
    [
        pa.field("column", pa.string(), nullable=False),
        pa.field("unit", pa.int64(), nullable=False),
        pa.field("part", pa.int32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("samples", pa.int64(), nullable=False),
        pa.field("images", pa.int64(), nullable=False),
        pa.field("index_name", pa.string()),
        pa.field("index_bytes", pa.int64()),
    ],
    metadata={"format": SHARDS_FORMAT},
)

# Those of the Hub's identifiers that data sets bear; anything else is `other`, and said in full.
_HUB_LICENCES = frozenset({
    "apache-2.0", "mit", "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0", "odc-by", "odbl", "pddl", "unlicense",
})  # fmt: skip
_SIZES = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"]


@dataclass(frozen=True, slots=True)
class Card:
    """What a card says. columns: totals by column, `samples` first. planned_units: how many units the plan has."""

    manifest: Manifest
    planned_units: int
    columns: dict[str, Totals]

    def render(self) -> str:
        """The text of `README.md`."""
        samples = self.columns.get(SAMPLES, Totals())
        sections = [
            f"---\n{_yaml(_front_matter(self.manifest, samples))}---",
            f"# {_escaped(self.manifest.name)}",
            _summary(self.manifest, samples, planned_units=self.planned_units),
            "## What is in it\n\n" + _facts(samples),
            *(["## Columns\n\n" + _columns(self.columns)] if len(self.columns) > 1 else []),
            *(["## Attributes\n\n" + _attributes(samples)] if samples.attributes else []),
            "## What is not in it, and why\n\n" + _reasons(samples),
            "## How to load it\n\n" + (_LOADING if samples.counts.samples else "There are no samples to load."),
            "## Recipe\n\n" + _recipe(self.manifest),
            "## Before you use it\n\n" + _RESPONSIBLE_USE,
        ]
        return "\n\n".join(sections) + "\n"


def write_card(corpus: Corpus) -> None:
    """Write or rewrite `README.md` and `shards.parquet` from what is committed now."""
    columns: dict[str, Totals] = {}
    shards: list[dict[str, Any]] = []
    for column in corpus.columns():
        totals = Totals()
        for record in corpus.records(column):
            totals = totals.add(record.content)
            shards.extend(_shard_rows(record.content))
        columns[column] = totals
    card = Card(corpus.manifest, planned_units=len(corpus.plan()), columns=columns)
    corpus.storage.replace(SHARDS, _shards_bytes(shards))
    corpus.storage.replace(README, card.render().encode("utf-8", "replace"))


def _shard_rows(content: Content) -> Iterable[dict[str, Any]]:
    for number, part in enumerate(content.parts):
        yield {"column": content.column, "unit": content.unit, "part": number, **_files(part)}


def _files(part: Part) -> dict[str, Any]:
    return {
        "name": part.data.name,
        "bytes": part.data.bytes,
        "sha256": part.data.sha256,
        "samples": part.samples,
        "images": part.images,
        "index_name": part.index.name if part.index else None,
        "index_bytes": part.index.bytes if part.index else None,
    }


def _shards_bytes(shards: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(shards, schema=SHARDS_SCHEMA), sink, compression="zstd")
    return sink.getvalue()


def _front_matter(manifest: Manifest, samples: Totals) -> dict[str, Any]:
    """What the Hub and `datasets` read. Without samples there is no file to name, and `datasets` would fail on the pattern."""
    matter: dict[str, Any] = {"pretty_name": manifest.name, **_licence(manifest.licence)}
    matter["tags"] = ["webdataset", "image-text", "interleaved", "emu-corpus"]
    if samples.counts.samples:
        matter["size_categories"] = [_size_category(samples.counts.samples)]
        files = [{"split": "train", "path": f"{SAMPLES}/*.tar"}]
        matter["configs"] = [{"config_name": "default", "data_files": files}]
        matter["dataset_info"] = {"features": declared_features(samples)}
    return matter


def _licence(licence: str | None) -> dict[str, str]:
    if licence is None:
        return {}
    if licence.lower() in _HUB_LICENCES:
        return {"license": licence.lower()}
    return {"license": "other", "license_name": licence}


def _size_category(samples: int) -> str:
    """The Hub's class of a number of samples: `1K<n<10K`."""
    if samples < 1000:
        return "n<1K"
    place = min(len(str(samples)) - 4, len(_SIZES) - 1)
    return f"n>{_SIZES[-1]}" if place == len(_SIZES) - 1 else f"{_SIZES[place]}<n<{_SIZES[place + 1]}"


def _summary(manifest: Manifest, samples: Totals, *, planned_units: int) -> str:
    counts = samples.counts
    words = (
        f"A corpus of {counts.samples:,} samples with {counts.images:,} images, made from {counts.rows:,} rows. "
        f"Every row is either a sample or stands in `rejects/` with a reason."
        if counts.samples
        else f"This corpus holds no samples: {counts.rows:,} rows were read and none was kept."
    )
    if samples.units < planned_units:
        words += f" It is not complete: {samples.units:,} of {planned_units:,} planned units are committed."
    licence = f"Licence of the whole: {_escaped(manifest.licence)}." if manifest.licence else "No licence is stated."
    return (
        f"{words}\n\n{licence} The format is `{_code(manifest.format)}`, described in `docs/format.md` of the "
        "`emu-corpus` package: interleaved image–text documents in WebDataset shards."
    )


def _facts(samples: Totals) -> str:
    counts = samples.counts
    return _table(
        ["", "number"],
        [
            ("rows read", counts.rows),
            ("samples", counts.samples),
            ("rejected rows", counts.rejected_rows),
            ("images asked for", counts.images_asked),
            ("images", counts.images),
            ("rejected images", counts.rejected_images),
            ("characters of text", counts.text_chars),
            ("committed units", samples.units),
            ("shards (tars)", samples.parts),
            ("bytes of shards", samples.data_bytes),
            ("most media members of one sample", samples.max_members),
        ],
    )


def _columns(columns: dict[str, Totals]) -> str:
    rows = [
        (f"`{_code(column)}`", totals.units, totals.counts.samples, totals.counts.images, totals.data_bytes)
        for column, totals in columns.items()
    ]
    return _table(["column", "units", "samples", "images", "bytes"], rows)


def _attributes(samples: Totals) -> str:
    """Attributes and their types, and which of them `datasets` cannot show."""
    table = _table(["attribute", "type"], [(_escaped(n), f"`{_code(k)}`") for n, k in samples.attributes.items()])
    hidden = undeclared_attributes(samples.attributes)
    if not hidden:
        return table
    names = ", ".join(_escaped(name) for name in hidden)
    return (
        f"{table}\n\nNo single type holds every value of {names}. `datasets` cannot have such a column and leaves "
        "it out of `attributes`; every other way of reading shows it."
    )


def _reasons(samples: Totals) -> str:
    rows = [
        (level, f"`{_code(reason)}`", _retryable(reason), count)
        for level in sorted(samples.reasons, reverse=True)
        for reason, count in sorted(samples.reasons[level].items(), key=lambda item: (-item[1], item[0]))
    ]
    if not rows:
        return "Nothing was rejected."
    return _table(["level", "reason", "may be tried again", "number"], rows)


def _retryable(reason: str) -> str:
    try:
        return "yes" if Reason(reason).retryable else "no"
    except ValueError:
        return "unknown"  # a reason of a newer minor version


def _recipe(manifest: Manifest) -> str:
    # As `corpus.json` holds it: whoever began the corpus may have had the settings in another order.
    text = _yaml(json.loads(canonical.dumps(manifest.recipe)))
    ticks = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, ticks + 1)
    return f"sha256 of the recipe: `{_code(manifest.recipe_hash)}`\n\n{fence}yaml\n{text}{fence}"


def _table(head: list[str], rows: list[tuple[Any, ...]]) -> str:
    """A Markdown table; columns of numbers stand to the right."""
    marks = ["---:" if isinstance(cell, int) else "---" for cell in rows[0]]
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(marks)}|"]
    lines += [f"| {' | '.join(f'{cell:,}' if isinstance(cell, int) else cell for cell in row)} |" for row in rows]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Text from elsewhere as one line of Markdown that means nothing: no markup, no HTML, no link, no border of a cell."""
    line = _one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]#|~.:@])", r"\\\1", line)


def _code(text: str) -> str:
    """Text between single backticks, on one line, in a table or out of one."""
    return _one_line(text).replace("`", "'").replace("|", "\\|")


def _one_line(text: str) -> str:
    return re.sub(r"[\x00-\x1f\x7f]", "\ufffd", " ".join(text.split()))


class _Dumper(yaml.SafeDumper):
    """Writes equal values out in full: an alias in front matter helps nobody."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(value: Any) -> str:
    # ASCII with escapes: U+2028 and its like end a line for some readers of front matter, and not for others.
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=False, width=120)
    return text


_LOADING = """With Hugging Face `datasets`, from a folder or from the Hub, streaming or not:

```python
import datasets

samples = datasets.load_dataset("PATH/OF/THIS/FOLDER", split="train", streaming=True)
for sample in samples:
    document = sample["json"]  # segments in reading order; a picture is sample[document["images"][i]["member"]]
```

With `webdataset`:

```python
import glob
import webdataset

shards = sorted(glob.glob("PATH/OF/THIS/FOLDER/samples/*.tar"))
for sample in webdataset.WebDataset(shards, shardshuffle=False).decode("pil"):
    document = sample["json"]
```

With `emu-corpus`, by key or in order, each sample by one ranged read:

```python
from schemas.corpus import Corpus
from schemas.shard_reader import CorpusReader

for stored in CorpusReader(Corpus.open("PATH/OF/THIS/FOLDER")):
    stored.sample.segments, stored.media
```

`shards.parquet` lists the shards of every column with their hashes. The patterns above take every tar in the folder; where
builds were killed, run `emu validate --fix` first, which removes what no record names."""

_RESPONSIBLE_USE = """\
- Pictures and texts were made by others, most of them on the open web. Whoever made them holds the rights; licences differ
  from picture to picture and are mostly unknown. A licence of the whole is not one of its pictures.
- They were not looked at one by one. Filters cut by scores of models that err: expect content that offends, persons who can be
  recognised, personal data in text, and the biases of what gets written and shown on the web.
- What the recipe fetched, it fetched by the rules for robots and opt-outs that stand in it; what it took from files, others had
  fetched by theirs. Opt-outs given later are not known here: honour those that reach you. `url` and `sha256_original` find a
  picture, its key names its sample.
- Addresses are kept so that a picture can be traced, not so that it be fetched again without asking its host."""
