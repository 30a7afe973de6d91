"""Text from outside on one line of a terminal: nothing that a terminal would obey, or that would hide.

Not here: text that may keep its line ends, and JSON (`jobs.terminal`).
"""

from jobs.terminal import shown


def shown_line(text: str) -> str:
    """`shown`, on one line."""
    return shown(text).replace("\n", "\\n")


def clipped(text: str, most: int) -> str:
    """At most so many characters; the last one says that there were more."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
