"""What a metadata file is, told by the end of its name: `.parquet`, or text (`.csv.gz`), compressed or not."""

from dataclasses import dataclass
from enum import StrEnum

from schemas.errors import UserError


class Format(StrEnum):
    """How rows are written. JSONL has one JSON object per line, TXT one URL per line."""

    PARQUET = "parquet"
    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    TXT = "txt"


class Compression(StrEnum):
    """How a text file is compressed as a whole. Such a file is one unit: only reading it tells where its rows are."""

    NONE = ""
    GZIP = ".gz"
    ZSTD = ".zst"
    BZIP2 = ".bz2"


_FORMATS = {
    ".parquet": Format.PARQUET,
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".txt": Format.TXT,
}
_TEXT = tuple(ending for ending, format in _FORMATS.items() if format is not Format.PARQUET)

ENDINGS = (".parquet", *(ending + compression for ending in _TEXT for compression in Compression))
"""Every end of a name that is read."""

TXT_ENDINGS = tuple(".txt" + compression for compression in Compression)
"""Those of lists of URLs."""


@dataclass(frozen=True, slots=True)
class FileType:
    """Format and compression."""

    format: Format
    compression: Compression


def file_type(path: str) -> FileType:
    """The type of a file by its name. Raises `UserError` for a name that ends in none of `ENDINGS`."""
    for compression in (Compression.GZIP, Compression.ZSTD, Compression.BZIP2, Compression.NONE):
        if path.endswith(compression):
            stem = path.removesuffix(compression)
            for ending, format in _FORMATS.items():
                if stem.endswith(ending) and ending + compression in ENDINGS:
                    return FileType(format, compression)
    raise UserError(f"{path}: its name tells no format; metadata files end in {', '.join(ENDINGS)}")
