"""`--extract`: one sample as files. Members as they are, by names that are no paths; pictures that are boxes as PNG besides.

All names are checked, and none of the files may be there already, before the first byte is written.
"""

import io
import re
from collections.abc import Mapping
from pathlib import Path

from jobs.look.pictures import decode
from schemas.errors import CorpusError, UserError
from schemas.shard_reader import StoredSample

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


def extract_sample(stored: StoredSample, folder: Path) -> list[str]:
    """Write the sample as the tar has it, and its boxes as `KEY.image-0003.png`; return the names.

    Keys of other makers may hold slashes and more, which become `_`; a JSON member of theirs is written as it is. Raises
    `CorpusError` for a member whose name is a path, `UserError` if a file is there already, or cannot be written.
    """
    key = re.sub(r"[^A-Za-z0-9_-]", "_", stored.sample.key)[:150]
    files = {f"{key}.json": stored.sample.to_json()}
    files |= {f"{key}.{name}": data for name, data in stored.media.items()}
    files |= {f"{key}.image-{number:04d}.png": data for number, data in _boxes(stored).items()}
    for name in files:
        if not _PLAIN_NAME.fullmatch(name):
            raise CorpusError(f"sample {stored.sample.key}: the member {name!r} is no plain name; nothing was written")
    _write(files, folder)
    return sorted(files)


def _boxes(stored: StoredSample) -> dict[int, bytes]:
    """PNGs of the images that are boxes, by ordinal; those that cannot be cut are left to whoever has the member."""
    found = {}
    for number, image in enumerate(stored.sample.images):
        if image.box is None or image.member not in stored.media:
            continue
        picture = decode(stored.media[image.member], box=image.box)
        if picture is not None:
            buffer = io.BytesIO()
            picture.save(buffer, "PNG")
            found[number] = buffer.getvalue()
    return found


def _write(files: Mapping[str, bytes], folder: Path) -> None:
    there = [name for name in files if (folder / name).exists() or (folder / name).is_symlink()]
    if there:
        raise UserError(f"{folder / there[0]}: there is such a file already; nothing was written. Name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            with (folder / name).open("xb") as file:
                file.write(data)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); name another folder") from None
