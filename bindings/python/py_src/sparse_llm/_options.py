"""Arguments as the extension module takes them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from .errors import _make

Name: TypeAlias = "str | os.PathLike[str]"
"""Path, id on the Hub (``org/name``, ``org/name@revision``, ``hf://…``), URL, or object (``s3://…``)."""

Progress: TypeAlias = "Callable[[str, int, int], object] | bool | None"
"""Function that is called with phase, bytes done and bytes in total; True: a bar of tqdm; None: nothing."""


def name(value: Name) -> str:
    """Return a name as text, a path as it is."""
    text = os.fspath(value)
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    if not text:
        raise _make("invalid_argument", "an empty name: give a path, an id on the Hub or a URL")
    return text


def optional(value: Name | None) -> str | None:
    """Return a name as text, if there is one."""
    return None if value is None else name(value)


def path(value: Name) -> str:
    """Return the path of an output."""
    text = name(value)
    if "://" in text:
        raise _make(
            "invalid_argument",
            "nothing is written there: give a path, and publish that with `sparse push`",
            (text.split("?")[0], None, None),
        )
    return text


def common(threads: int | None, progress: Progress, stream: bool = False) -> dict[str, Any]:
    """Return the options that all jobs have."""
    # More would not be faster anywhere, and starting a hundred thousand brings a machine to its knees.
    if threads is not None and (not isinstance(threads, int) or not 1 <= threads <= 1024):
        raise _make("invalid_argument", f"{threads!r} threads: give 1 to 1024, or None for all cores")
    return {"threads": threads or 0, "progress": _watcher(progress), "stream": bool(stream)}


def check_share(share: float) -> None:
    """Refuse what is no share of a model to look at."""
    if not 0 < share <= 1:
        raise _make("invalid_argument", f"a share of {share}: give a number above 0 and at most 1")


def encoding(
    policy: str | Sequence[str], effort: str, sha256: bool, verify: bool, overwrite: bool
) -> dict[str, Any]:
    """Return the options of compressing."""
    rules = [policy] if isinstance(policy, str) else list(policy)
    return {
        "policy": rules,
        "effort": effort,
        "sha256": bool(sha256),
        "proof": bool(verify),
        "overwrite": bool(overwrite),
    }


def report(text: str) -> dict[str, Any]:
    """Return a report as a dictionary."""
    found: dict[str, Any] = json.loads(text)
    return found


def _watcher(progress: Progress) -> Callable[[str, int, int, str | None], object] | None:
    if progress is None or progress is False:
        return None
    if progress is True:
        return _Bars().tell
    if not callable(progress):
        raise _make("invalid_argument", "progress is a function of phase, done and total, or True")
    tell = progress

    def watch(phase: str, done: int, total: int, note: str | None) -> None:
        if note is None:
            tell(phase, done, total)

    return watch


class _Bars:
    """Shows a bar of tqdm for each phase; without tqdm, nothing."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.phase = ""
        try:
            from tqdm.auto import tqdm
        except ImportError:
            tqdm = None
        self.tqdm = tqdm

    def tell(self, phase: str, done: int, total: int, note: str | None) -> None:
        if self.tqdm is None:
            return
        if note is not None:
            self.tqdm.write(f"note: {note}")
            return
        if phase != self.phase or (self.bar is not None and done < self.bar.n):
            if self.bar is not None:
                self.bar.close()
            self.phase = phase
            self.bar = self.tqdm(
                total=total, desc=phase, unit="B", unit_scale=True, leave=False
            )
        self.bar.update(done - self.bar.n)
        if done >= total:
            self.bar.close()
            self.bar, self.phase = None, ""
