"""The ledgers: images that have not fallen on their own fall with their row, each once."""

from pipelines.ledger import Ledger
from pipelines.pipeline import Draft, DraftImage
from schemas.reasons import Reason, Refusal
from schemas.rejects import Level
from schemas.sample import ImageSegment, Origin


def draft(images: int) -> Draft:
    return Draft(
        "00000000-000000",
        Origin("x", "x", 0),
        tuple(ImageSegment(i) for i in range(images)),
        tuple(DraftImage(i, f"http://a/{i}") for i in range(images)),
    )


def test_a_row_that_falls_takes_its_images_along_but_not_those_that_fell_before() -> None:
    ledger = Ledger()
    row = ledger.open_row()
    document = draft(3)
    ledger.ask_images(3)
    ledger.reject_image(document.images[1], Refusal(Reason.DNS), key=document.key, row=row)

    ledger.reject_row(Refusal(Reason.TEXT_TOO_SHORT), key=document.key, row=row, draft=document)

    found = [(r.level, r.image, r.reason, r.url) for r in ledger.rejects]
    assert found == [
        (Level.IMAGE, 1, Reason.DNS, "http://a/1"),
        (Level.IMAGE, 0, Reason.TEXT_TOO_SHORT, "http://a/0"),
        (Level.IMAGE, 2, Reason.TEXT_TOO_SHORT, "http://a/2"),
        (Level.ROW, None, Reason.TEXT_TOO_SHORT, "http://a/0"),
    ]
    assert ledger.images_asked == 3


def test_a_row_that_could_not_be_read_asks_for_nothing() -> None:
    ledger = Ledger()
    ledger.open_row()

    ledger.reject_row(Refusal(Reason.URL_INVALID, "empty"), key="00000000-000000", row=0, draft=None)

    assert (ledger.rows, ledger.images_asked, len(ledger.rejects)) == (1, 0, 1)


def test_rows_of_one_unit_do_not_mix() -> None:
    ledger = Ledger()
    for row in range(2):
        ledger.open_row()
        ledger.reject_row(Refusal(Reason.DNS), key=f"00000000-00000{row}", row=row, draft=draft(1))

    assert [(r.row, r.level) for r in ledger.rejects] == [(0, "image"), (0, "row"), (1, "image"), (1, "row")]
