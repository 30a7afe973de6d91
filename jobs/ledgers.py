"""The two ledgers of a corpus in words and bars: rows and images that came in, what was kept, and why the others were not."""

from rich.console import Console

from jobs.terminal import bars, count, share, size
from schemas.reasons import Reason
from schemas.record import Totals

_MOST_REASONS = 12
_RETRYABLE = frozenset(reason.value for reason in Reason if reason.retryable)


def ledgers(totals: Totals) -> list[tuple[str, str]]:
    """Both ledgers and what lies on disk, as headings and values."""
    counts = totals.counts
    return [
        ("rows", f"{count(counts.rows)} = {count(counts.samples)} samples + {count(counts.rejected_rows)} rejected"),
        (
            "images",
            f"{count(counts.images_asked)} = {count(counts.images)} kept + {count(counts.rejected_images)} rejected",
        ),
        (
            "kept",
            f"{share(counts.samples, counts.rows)} of rows, {share(counts.images, counts.images_asked)} of images",
        ),
        ("shards", f"{count(totals.parts)} of {count(totals.units)} units, {size(totals.data_bytes)}"),
    ]


def print_reasons(totals: Totals, *, console: Console) -> None:
    """Why rows fell; and why images fell, where that is another story than the one of their rows."""
    by_row, by_image = totals.reasons.get("row", {}), totals.reasons.get("image", {})
    if by_row:
        console.print("[bold]rejected rows[/]")
        console.print(bars(by_row, whole=totals.counts.rows, most=_MOST_REASONS))
    if by_image and any(by_row.get(reason) != number for reason, number in by_image.items()):
        console.print("[bold]rejected images[/]")
        console.print(bars(by_image, whole=totals.counts.images_asked, most=_MOST_REASONS))


def retryable(totals: Totals) -> str:
    """How many of the rejected rows another day may bring."""
    again = sum(number for reason, number in totals.reasons.get("row", {}).items() if reason in _RETRYABLE)
    return f"{count(again)} of {count(totals.counts.rejected_rows)} rejected rows may answer differently another day."
