"""Bring a corpus's plan up to date with its source: new files become a new generation, what is planned never changes.

Not here: how a source cuts files into units (`sources`), the file format (`schemas.plan`).
"""

from pathlib import Path

from pipelines.pipeline import Pipeline
from pipelines.sources.files import is_remote
from schemas.corpus import Corpus
from schemas.errors import UserError
from schemas.plan import Unit, append_generation


def extend_plan(corpus: Corpus, pipeline: Pipeline) -> list[Unit]:
    """Every unit of the corpus, new files included. Raises `UserError` if a planned file has changed."""
    while True:
        planned = corpus.plan()
        new = pipeline.source.units(first_ordinal=len(planned), planned=planned)
        if not new:
            return planned
        try:
            append_generation(corpus.storage, new)
        except FileExistsError:
            continue  # another launcher appended a generation: look again at what is new
        return planned + new


def refuse_overlap(corpus_url: str, inputs: tuple[str, ...]) -> None:
    """Raise `UserError` if the corpus would lie in an input folder, or an input in the corpus: a run would read what it writes."""
    if is_remote(corpus_url):
        pairs = [(path.rstrip("/") + "/", corpus_url.rstrip("/") + "/") for path in inputs if is_remote(path)]
        clash = any(one.startswith(other) or other.startswith(one) for one, other in pairs)
    else:
        root = Path(corpus_url).expanduser().absolute()
        paths = [Path(path).expanduser().absolute() for path in inputs if not is_remote(path)]
        clash = any(root.is_relative_to(path) or path.is_relative_to(root) for path in paths)
    if clash:
        raise UserError(f"the corpus {corpus_url} and its input overlap; choose an output folder outside the input")
