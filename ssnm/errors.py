"""Errors that a user can mend: one line that says what was got, what was wanted and what to do.

Library code raises these; the commands print them as one line and exit with status 2.
"""


class UserError(Exception):
    """Marker for errors whose message is meant for the person at the keyboard."""


class ConfigError(UserError, ValueError):
    """A configuration that cannot be used: unknown key, wrong type, value out of range."""


class DataError(UserError, ValueError):
    """An image, mask, index or folder that is not what it should be."""


class CheckpointError(UserError, ValueError):
    """A weights file that does not fit: foreign, damaged, other keys or shapes."""


class TrainingError(UserError, ArithmeticError):
    """A run that cannot go on: its loss is not a number."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that should be there and is not."""

    def __str__(self) -> str:  # FileNotFoundError formats two arguments as errno, text
        return " ".join(str(a) for a in self.args)


class MissingPackageError(UserError, ImportError):
    """An optional package that the requested feature needs."""
