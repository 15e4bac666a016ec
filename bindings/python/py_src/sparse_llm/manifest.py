"""What the functions report."""

from __future__ import annotations

from typing import Any

__all__ = ["Manifest"]


class Manifest(dict[str, Any]):
    """A report: a dictionary whose entries are attributes, too.

    >>> from sparse_llm import Manifest
    >>> manifest = Manifest(compression_ratio=8.5)
    >>> manifest.compression_ratio == manifest["compression_ratio"]
    True
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no entry {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]


def sizes(stored: int, original: int) -> dict[str, Any]:
    """Return what both sizes say: ratio and savings."""
    return {
        "compression_ratio": original / stored if stored else float("inf"),
        "size_stats": {
            "original_bytes": original,
            "delta_bytes": stored,
            "savings_bytes": original - stored,
            "savings_pct": 100.0 * (1 - stored / original) if original else 0.0,
        },
    }
