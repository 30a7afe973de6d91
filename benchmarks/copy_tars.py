"""What a user would write to copy WebDataset tars with `webdataset`'s own reader and writer. As a program: FOLDER OUT."""

import sys
from pathlib import Path

import webdataset


def main(folder: Path, out: Path) -> None:
    out.mkdir(parents=True)
    for path in sorted(folder.glob("*.tar")):
        with webdataset.TarWriter(str(out / path.name)) as writer:
            for sample in webdataset.WebDataset(str(path), shardshuffle=False):
                writer.write(
                    {name: value for name, value in sample.items() if name not in ("__url__", "__local_path__")}
                )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
