"""Pictures of `emu inspect`: what the environment says a terminal can, what is drawn there, and what `--extract` writes."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from jobs.look.pictures import Graphics, decode, draw, graphics_of, sides
from jobs.look.sixel import sixel
from schemas.corpus import Corpus
from schemas.shard_reader import CorpusReader
from tests.emu_process import emu_here

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "corpus"
STORYBOARD = "00000004-000000"


@pytest.mark.parametrize(
    ("environment", "graphics"),
    [
        ({"TERM": "xterm-kitty"}, Graphics.KITTY),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, Graphics.KITTY),
        ({"TERM": "xterm-ghostty"}, Graphics.KITTY),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, Graphics.ITERM2),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, Graphics.ITERM2),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, Graphics.ITERM2),
        ({"TERM": "foot"}, Graphics.SIXEL),
        ({"TERM": "xterm-sixel"}, Graphics.SIXEL),
        ({"TERM": "xterm-256color"}, Graphics.BLOCKS),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/x"}, Graphics.BLOCKS),
        ({"TERM": "screen", "TERM_PROGRAM": "iTerm.app"}, Graphics.BLOCKS),
        ({"TERM": "dumb"}, Graphics.NONE),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, Graphics.NONE),
    ],
)
def test_graphics_by_the_environment_alone(environment: dict[str, str], graphics: Graphics) -> None:
    assert graphics_of(environment, is_terminal=True) is graphics
    assert graphics_of(environment, is_terminal=False) is Graphics.NONE


def quarters() -> Image.Image:
    picture = Image.new("RGB", (40, 40), "red")
    picture.paste("lime", (20, 0, 40, 20))
    picture.paste("blue", (0, 20, 20, 40))
    return picture


def drawn(graphics: Graphics, *, columns: int = 8, rows: int = 4) -> str:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system="truecolor", width=100)
    draw(quarters(), on=console, graphics=graphics, columns=columns, rows=rows)
    return stream.getvalue()


def test_blocks_have_the_colours_of_the_picture() -> None:
    lines = drawn(Graphics.BLOCKS).splitlines()
    assert [line.count("▀") for line in lines] == [8] * 4
    assert "38;2;254;0;0;48;2;254;0;0" in lines[0] or "38;2;255;0;0;48;2;255;0;0" in lines[0]
    assert "38;2;0;0;255" in lines[-1]
    assert "38;2;0;255;0" in lines[0]


def test_kitty_gets_a_png_in_chunks_and_its_place_in_cells() -> None:
    sequences = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", drawn(Graphics.KITTY))
    assert sequences[0][0].startswith("a=T,f=100,q=2,c=8,r=4,")
    assert [control[-1] for control, _ in sequences] == ["1"] * (len(sequences) - 1) + ["0"]
    assert all(len(data) <= 4096 for _, data in sequences)
    picture = Image.open(io.BytesIO(base64.b64decode("".join(data for _, data in sequences))))
    assert picture.getpixel((1, 1)) == (255, 0, 0)


def test_iterm2_gets_a_png_with_its_size() -> None:
    place = r"inline=1;width=8;height=4;preserveAspectRatio=1"
    match = re.search(rf"\x1b]1337;File={place};size=(\d+):([^\x07]*)\x07", drawn(Graphics.ITERM2))
    assert match is not None
    data = base64.b64decode(match[2])
    assert len(data) == int(match[1])
    assert Image.open(io.BytesIO(data)).format == "PNG"


def test_sixels_decode_to_the_picture() -> None:
    picture = quarters().resize((16, 16), Image.Resampling.NEAREST)
    assert _from_sixel(sixel(picture)) == picture.tobytes()
    assert sixel(picture) in drawn(Graphics.SIXEL, columns=8, rows=4) or "\x1bPq" in drawn(Graphics.SIXEL)


def _from_sixel(text: str) -> bytes:
    """A decoder of its own: what a terminal makes of it."""
    match = re.fullmatch(r'\x1bPq"1;1;(\d+);(\d+)(.*)\x1b\\', text, re.DOTALL)
    assert match is not None
    width, height = int(match[1]), int(match[2])
    pixels, palette = bytearray(3 * width * height), {}
    column, top, colour = 0, 0, 0
    for token in re.findall(r"#\d+;2;\d+;\d+;\d+|#\d+|!\d+.|[?-~]|\$|-", match[3]):
        if token[0] == "#" and ";" in token:
            number, _, *parts = map(int, token[1:].split(";"))
            palette[number] = bytes(255 * part // 100 for part in parts)
        elif token[0] == "#":
            colour = int(token[1:])
        elif token in "$-":
            column, top = 0, top + 6 * (token == "-")
        else:
            run, mark = (int(token[1:-1]), token[-1]) if token[0] == "!" else (1, token)
            for at in range(column, column + run):
                for row in range(6):
                    if ord(mark) - 63 >> row & 1:
                        start = 3 * ((top + row) * width + at)
                        pixels[start : start + 3] = palette[colour]
            column += run
    return bytes(pixels)


def test_nothing_is_drawn_where_nothing_can_be() -> None:
    assert drawn(Graphics.NONE) == ""


def test_pictures_stand_at_their_place(capsys: pytest.CaptureFixture[str]) -> None:
    lines = emu_here(capsys, "inspect", GOLDEN, "00000002-000000", "--pictures", "blocks").stdout.splitlines()
    first, second, then = (
        next(number for number, line in enumerate(lines) if words in line)
        for words in ("[image 0:", "[image 1:", "Now it is done.")
    )
    blocks = [number for number, line in enumerate(lines) if "▀" in line]
    assert any(first < number < second for number in blocks)
    assert any(second < number < then for number in blocks)
    assert "▀" not in emu_here(capsys, "inspect", GOLDEN, "00000002-000000").stdout  # no terminal


def test_bytes_that_are_no_picture_are_none(shared_fixtures: Path) -> None:
    assert (decode(b""), decode(b"no picture"), sides(b"")) == (None, None, None)
    hostile = sorted(
        path for path in (shared_fixtures / "images" / "hostile").iterdir() if path.stat().st_size < 200_000
    )
    assert len(hostile) > 20
    for path in hostile:
        picture = decode(path.read_bytes())
        assert picture is None or picture.mode == "RGB"


@pytest.mark.parametrize("box", [(-1, 0, 2, 2), (0, 0, 41, 1), (39, 39, 2, 1), (0, 0, 0, 3)])
def test_a_box_outside_its_sheet_is_none(box: tuple[int, int, int, int]) -> None:
    buffer = io.BytesIO()
    quarters().save(buffer, "PNG")
    assert decode(buffer.getvalue(), box=box) is None
    assert decode(buffer.getvalue(), box=(0, 0, 40, 40)) is not None


def test_extracted_boxes_are_the_pixels_of_their_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = CorpusReader(Corpus.open(str(GOLDEN))).get(STORYBOARD)
    run = emu_here(capsys, "inspect", GOLDEN, STORYBOARD, "--extract", tmp_path / "out", "--json")
    assert run.returncode == 0
    assert sorted(json.loads(run.stdout)["extracted"]) == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(stored.sample.images) == 70
    for number, image in enumerate(stored.sample.images):
        assert image.box is not None
        left, top, width, height = image.box
        sheet = Image.open(io.BytesIO(stored.media[image.member])).convert("RGB")
        cut = Image.open(tmp_path / "out" / f"{STORYBOARD}.image-{number:04d}.png")
        assert cut.size == (width, height) == (image.width, image.height)
        assert cut.tobytes() == sheet.crop((left, top, left + width, top + height)).tobytes()
    for name, data in stored.media.items():
        assert (tmp_path / "out" / f"{STORYBOARD}.{name}").read_bytes() == data


def test_extract_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert emu_here(capsys, "inspect", GOLDEN, STORYBOARD, "--extract", out).returncode == 0
    kept = out / f"{STORYBOARD}.0.webp"
    for path in out.iterdir():
        if path != kept:
            path.unlink()
    kept.write_bytes(b"mine")
    run = emu_here(capsys, "inspect", GOLDEN, STORYBOARD, "--extract", out)
    assert (run.returncode, "nothing was written" in run.stderr) == (2, True)
    assert [path.read_bytes() for path in out.iterdir()] == [b"mine"]
    shutil.rmtree(out)
    out.mkdir()
    (out / f"{STORYBOARD}.json").symlink_to(tmp_path / "elsewhere")
    assert emu_here(capsys, "inspect", GOLDEN, STORYBOARD, "--extract", out).returncode == 2
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("x")
    run = emu_here(capsys, "inspect", GOLDEN, STORYBOARD, "--extract", tmp_path / "file" / "out")
    assert (run.returncode, "cannot be written" in run.stderr) == (2, True)
