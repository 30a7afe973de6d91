"""The two ledgers of a unit: every row and every image that came in, and what became of it.

Rows are opened once and closed once, as a sample (which the writer counts) or here with a reason; images are counted when a row
asks for them. The writer checks both sums before it commits. Not here: what reasons mean (`schemas.reasons`), the file of rejects
(`schemas.rejects`).
"""

from pipelines.pipeline import Draft, DraftImage
from schemas.reasons import Refusal
from schemas.rejects import Level, Reject


class Ledger:
    """What came in and what fell, for one unit. Used from one thread."""

    def __init__(self) -> None:
        self.rows = 0
        self.images_asked = 0
        self.rejects: list[Reject] = []
        self._fallen: dict[int, set[int]] = {}

    def open_row(self) -> int:
        """Count a row in and return its ordinal in the unit."""
        self.rows += 1
        return self.rows - 1

    def ask_images(self, count: int) -> None:
        """Count images in."""
        self.images_asked += count

    def reject_image(self, image: DraftImage, refusal: Refusal, *, key: str, row: int) -> None:
        """Put one image of a row into the rejects."""
        self._fallen.setdefault(row, set()).add(image.ordinal)
        self.rejects.append(
            Reject(key, row, Level.IMAGE, refusal.reason, refusal.detail, image=image.ordinal, url=image.url or None)
        )

    def reject_row(self, refusal: Refusal, *, key: str, row: int, draft: Draft | None, url: str | None = None) -> None:
        """Close a row that fell. Its images that have not fallen on their own fall with it, for its reason."""
        fallen = set(self._fallen.get(row, ()))
        images = draft.images if draft is not None else ()
        for image in images:
            if image.ordinal not in fallen:
                self.reject_image(image, refusal, key=key, row=row)
        url = images[0].url or None if images and url is None else url
        self.rejects.append(Reject(key, row, Level.ROW, refusal.reason, refusal.detail, url=url))
