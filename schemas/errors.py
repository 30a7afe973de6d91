"""What goes wrong with a corpus in ways a person can mend: every message says which thing, found, expected, and what to do next."""


class UserError(Exception):
    """A mistake in what was asked, or a state that only the person can change; shown without a traceback, exit code 2."""


class CorpusError(UserError):
    """What lies on disk is not what the format promises; the message names shard, key and place."""


class DuplicateKeyError(CorpusError):
    """A unit was given two samples of one key."""


class AccountingError(CorpusError):
    """Rows in and rows out of a unit do not add up; nothing is committed."""


class DamagedSampleError(CorpusError):
    """The bytes of a sample in a tar are not what its index row says; `byte` is the offset in the tar, `finding` the rest."""

    def __init__(self, byte: int, finding: str) -> None:
        super().__init__(f"byte {byte}: {finding}")
        self.byte = byte
        self.finding = finding


class VerifyError(CorpusError):
    """What was read back from a file just written is not what was written; nothing is committed."""
