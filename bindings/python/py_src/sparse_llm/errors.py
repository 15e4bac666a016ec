"""Exceptions of the package.

Every one is a :class:`SparseError` and says what is wrong, where, and what to do. Where Python has an
exception for the same thing, the class is one of these, too: a missing file can be caught as
:class:`FileNotFoundError`.

>>> import sparse_llm
>>> try:
...     sparse_llm.info("no-such-delta.sparse")
... except sparse_llm.SparseError as error:
...     print(error.kind, error.file)
not_found no-such-delta.sparse
"""

from __future__ import annotations

__all__ = [
    "AccessDeniedError",
    "AlreadyExistsError",
    "BaseMismatchError",
    "CancelledError",
    "CorruptError",
    "InvalidArgumentError",
    "InvalidInputError",
    "LimitExceededError",
    "NotFoundError",
    "NotThisFormatError",
    "SparseError",
    "SparseOSError",
    "UnavailableError",
    "UnsupportedError",
]


class SparseError(Exception):
    """Error of sparse.

    Attributes:
        kind: name of the kind, as in the JSON of the command, such as ``base_mismatch``.
        file: the file, folder or URL, if one is to blame.
        tensor: the tensor, if one is to blame.
        offset: bytes from the start of the file, if a place in it is to blame.
    """

    kind: str = "fault"
    file: str | None = None
    tensor: str | None = None
    offset: int | None = None


class InvalidArgumentError(SparseError, ValueError):
    """An argument cannot be used."""


class InvalidInputError(SparseError, ValueError):
    """An input is not what it should be, such as a broken safetensors file."""


class NotThisFormatError(SparseError, ValueError):
    """The file is no delta."""


class UnsupportedError(SparseError, NotImplementedError):
    """The delta needs a newer version, or a codec that this build lacks."""


class CorruptError(SparseError, ValueError):
    """The delta is damaged or cut short."""


class BaseMismatchError(SparseError, ValueError):
    """The base is not the one that the delta was made against."""


class NotFoundError(SparseError, FileNotFoundError):
    """There is no such file, repository or tensor."""


class AlreadyExistsError(SparseError, FileExistsError):
    """The output exists; ``overwrite=True`` replaces it."""


class LimitExceededError(SparseError, MemoryError):
    """More memory or output would be needed than is allowed."""


class AccessDeniedError(SparseError, PermissionError):
    """A server wants a token, or this token may not read it."""


class UnavailableError(SparseError, ConnectionError):
    """A server cannot be reached, or does not answer."""


class CancelledError(SparseError):
    """The job was stopped."""


class SparseOSError(SparseError, OSError):
    """Reading or writing failed."""


_KINDS = {
    "access_denied": AccessDeniedError,
    "already_exists": AlreadyExistsError,
    "base_mismatch": BaseMismatchError,
    "cancelled": CancelledError,
    "codec_disabled": UnsupportedError,
    "corrupt": CorruptError,
    "invalid_argument": InvalidArgumentError,
    "invalid_input": InvalidInputError,
    "io": SparseOSError,
    "limit_exceeded": LimitExceededError,
    "not_found": NotFoundError,
    "not_this_format": NotThisFormatError,
    "truncated": CorruptError,
    "unavailable": UnavailableError,
    "unknown_codec": UnsupportedError,
    "unsupported_version": UnsupportedError,
}


def _make(
    kind: str, message: str, place: tuple[str | None, str | None, int | None] = (None, None, None)
) -> SparseError:
    """Create the exception of a kind. Called by the extension module."""
    error = _KINDS.get(kind, SparseError)(message)
    error.kind = kind
    error.file, error.tensor, error.offset = place
    return error
