"""Restored models that are kept: the cache behind ``from_pretrained_with_delta``.

An entry is found by the digests of what it holds, not by names. The folder is ``SPARSE_CACHE``, else one of the
platform's for caches; the command's ``sparse cache`` shows, prunes and verifies the same entries.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal, overload

from . import _core
from ._closing import Closing
from ._options import Name, Progress, common, name, optional, report
from .errors import _make
from .manifest import Manifest

__all__ = ["CachedModel", "DeltaCache", "Prefetch"]


class DeltaCache:
    """Cache of restored models, safe between processes.

    Args:
        folder: where it is; None for ``SPARSE_CACHE`` or the platform's folder.
        limit: bytes that it may hold; what was used longest ago goes first, and nothing that is in use. None for
            ``SPARSE_CACHE_LIMIT``, or no limit.

    >>> import pathlib
    >>> cache = DeltaCache(folder / "cache")
    >>> with cache.get_or_reconstruct(base, delta) as model:
    ...     sorted(path.name for path in pathlib.Path(model.path).iterdir())[:2]
    ['config.json', 'config_sentence_transformers.json']
    """

    def __init__(self, folder: Name | None = None, limit: int | None = None) -> None:
        self._cache = _core.DeltaCache(optional(folder), limit)

    @property
    def folder(self) -> str:
        """Folder of the cache."""
        return str(self._cache.folder())

    @overload
    def get_or_reconstruct(
        self,
        base_model_id: Name | None,
        delta_path: Name,
        background: Literal[False] = ...,
        *,
        threads: int | None = ...,
        stream: bool = ...,
        progress: Progress = ...,
    ) -> CachedModel: ...

    @overload
    def get_or_reconstruct(
        self,
        base_model_id: Name | None,
        delta_path: Name,
        background: Literal[True],
        *,
        threads: int | None = ...,
        stream: bool = ...,
        progress: Progress = ...,
    ) -> Prefetch: ...

    @overload
    def get_or_reconstruct(
        self,
        base_model_id: Name | None,
        delta_path: Name,
        background: bool,
        *,
        threads: int | None = ...,
        stream: bool = ...,
        progress: Progress = ...,
    ) -> CachedModel | Prefetch: ...

    def get_or_reconstruct(
        self,
        base_model_id: Name | None,
        delta_path: Name,
        background: bool = False,
        *,
        threads: int | None = None,
        stream: bool = False,
        progress: Progress = None,
    ) -> CachedModel | Prefetch:
        """Return the model that a delta restores, restored now unless it is there.

        Args:
            base_model_id: name of the base; None for that which the delta records, or if it needs none.
            delta_path: name of the delta. An adapter is merged into the base.
            background: whether to return at once with a handle, as :meth:`prefetch_deltas` does.
            threads, stream, progress: as :func:`sparse_llm.compress_delta`.

        Returns:
            The entry: a path that stays as long as the object does.

        An entry is looked at before it is returned: files that are missing, others, or of another size or time than
        when they were written make it be restored anew. What changes bytes and no stamp, as a failing disk does, only
        :meth:`verify` finds. The base is not looked at where the entry is there.
        """
        if background:
            if progress is not None:
                raise _make("invalid_argument", "in the background, ask the handle for its progress()")
            return self.prefetch_deltas(
                base_model_id, [delta_path], threads=threads, stream=stream
            )
        guard = self._cache.get_or_reconstruct(
            (optional(base_model_id), name(delta_path)), common(threads, progress, stream)
        )
        return CachedModel(guard)

    def prefetch_deltas(
        self,
        base_model_id: Name | None,
        delta_paths: Iterable[Name],
        *,
        threads: int | None = None,
        stream: bool = False,
    ) -> Prefetch:
        """Restore several deltas of a base in the background, one after the other.

        Args:
            base_model_id: name of the base; None for those which the deltas record.
            delta_paths: names of the deltas.
            threads, stream: as :func:`sparse_llm.compress_delta`.

        >>> job = DeltaCache(folder / "cache").prefetch_deltas(base, [delta])
        >>> len(job.wait())
        1
        """
        deltas = [name(delta) for delta in delta_paths]
        handle = self._cache.prefetch(
            optional(base_model_id), deltas, common(threads, None, stream)
        )
        return Prefetch(handle)

    prefetch = prefetch_deltas

    def list(self) -> list[dict[str, Any]]:
        """Return the entries: key, path, bytes, files, when they were used last."""
        entries: list[dict[str, Any]] = json.loads(self._cache.list())
        return entries

    def prune(self, limit: int) -> Manifest:
        """Remove what was used longest ago until at most ``limit`` bytes are left."""
        return Manifest(report(self._cache.prune(limit)))

    def clear(self) -> Manifest:
        """Remove all entries that are not in use."""
        return Manifest(report(self._cache.clear()))

    def verify(self, *, threads: int | None = None, progress: Progress = None) -> Manifest:
        """Read all entries, and say which are damaged; these are rebuilt when they are asked for."""
        return Manifest(report(self._cache.verify(common(threads, progress))))


class CachedModel(Closing, str):
    """Path of an entry of the cache, which is not removed as long as this is alive and not closed.

    A text, so that it can be given to whatever takes the path of a model. Copies are plain texts and keep nothing.
    """

    _guard: _core.CachedModel | None

    def __new__(cls, guard: _core.CachedModel) -> CachedModel:
        made = super().__new__(cls, guard.path())
        made._guard = guard
        return made

    @property
    def path(self) -> str:
        """The path."""
        return str(self)

    def __str__(self) -> str:
        return self[:]

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (self[:],)

    def __deepcopy__(self, memo: object) -> str:
        return self[:]

    def close(self) -> None:
        """Let the entry be removed when the cache needs its place."""
        self._guard = None


class Prefetch:
    """Deltas that are being restored in the background."""

    def __init__(self, handle: _core.Prefetch) -> None:
        self._handle = handle
        self._ended: list[tuple[str, CachedModel | None, Exception | None]] | None = None

    def progress(self) -> Manifest:
        """Return how far it is: deltas that are ``finished`` and ``failed``, ``bytes``, and all ``jobs``."""
        return Manifest(report(self._handle.progress()))

    def done(self) -> bool:
        """Return whether nothing is left to do."""
        return self._handle.done()

    def cancel(self) -> None:
        """Stop. What is finished stays in the cache."""
        self._handle.cancel()

    def wait(self) -> list[CachedModel]:
        """Wait, and return the entries, in the order of the deltas.

        Raises:
            SparseError: that of the first delta that failed; :meth:`entries` has the others.
        """
        for _, _, error in self._wait():
            if error is not None:
                raise error
        return list(self.entries().values())

    def entries(self) -> dict[str, CachedModel]:
        """Wait, and return the entries of the deltas that did not fail, by the name of the delta."""
        return {delta: entry for delta, entry, _ in self._wait() if entry is not None}

    def _wait(self) -> list[tuple[str, CachedModel | None, Exception | None]]:
        if self._ended is None:
            self._ended = [
                (delta, None if guard is None else CachedModel(guard), error)
                for delta, guard, error in self._handle.wait()
            ]
        return self._ended

    def errors(self) -> dict[str, str]:
        """Return what went wrong, by the name of the delta."""
        jobs = report(self._handle.progress())["jobs"]
        return {delta: state["message"] for delta, state in jobs if state["state"] == "failed"}
