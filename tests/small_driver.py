"""Run a small build as a process of its own, to be killed: `python -m tests.small_driver CORPUS METADATA PORT WORKERS`."""

import sys
from pathlib import Path

from pipelines.fetch.policy import FetchSettings
from pipelines.worker import RunSettings
from tests.small_runs import build, small_pipeline


def main() -> None:
    corpus, metadata, port, workers = sys.argv[1:5]
    fetch = FetchSettings(
        contact="mailto:tests@example.org",
        connect_to=(f"::127.0.0.1:{port}",),
        requests_per_second_per_host=1000,
        connections_per_host=16,
    )
    settings = RunSettings(
        workers=int(workers),
        units_per_worker=1,
        fetch=fetch,
        decode_threads=1,
        max_attempts=100,
        stall_seconds=8,
    )
    result = build(small_pipeline(Path(metadata)), Path(corpus), settings)
    sys.exit(1 if result.pending else 0)


if __name__ == "__main__":
    main()
