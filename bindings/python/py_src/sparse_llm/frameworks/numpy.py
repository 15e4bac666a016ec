"""Arrays of numpy. bfloat16 and the types of 8 bits come from ml_dtypes, if it is installed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import _make
from .names import PLAIN

ml_dtypes: ModuleType | None
try:
    ml_dtypes = importlib.import_module("ml_dtypes")
except ImportError:  # What numpy has no type for is then an unsigned integer of the same width.
    ml_dtypes = None

# Name in ml_dtypes, and what stands for it without.
_MORE = {
    "BF16": ("bfloat16", "uint16"),
    "F8_E4M3": ("float8_e4m3fn", "uint8"),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", "uint8"),
    "F8_E5M2": ("float8_e5m2", "uint8"),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", "uint8"),
    "F8_E8M0": ("float8_e8m0fnu", "uint8"),
}


def dtype(name: str) -> np.dtype[Any]:
    """Return numpy's type for an element type of safetensors.

    >>> dtype("F32")
    dtype('float32')
    """
    if name in PLAIN:
        return np.dtype(np.dtype(PLAIN[name]).newbyteorder("<").str)
    if name in _MORE:
        full, raw = _MORE[name]
        return np.dtype(getattr(ml_dtypes, full, raw))
    raise _make("invalid_argument", f"numpy has no type for {name}: read it with framework='pt'")


def check_device(device: str) -> None:
    """Refuse devices that arrays cannot be on."""
    if device != "cpu":
        raise _make("invalid_argument", f"numpy has no device {device!r}: use framework='pt'")


def tensor(buffer: bytearray, name: str, shape: Sequence[int], device: str) -> np.ndarray[Any, Any]:
    """Return an array over a buffer, without a copy."""
    check_device(device)
    kind = dtype(name)
    if not buffer:
        return np.empty(tuple(shape), kind)
    return np.frombuffer(buffer, dtype=kind).reshape(tuple(shape))


def describe(array: Any) -> tuple[str, list[int]]:
    """Return element type and shape of an array.

    Raises:
        TypeError: for what is no array, and for types that safetensors does not have.
    """
    if not isinstance(array, (np.ndarray, np.generic)):
        raise TypeError(f"a {type(array).__name__} is no tensor: give an array of numpy or torch")
    name = array.dtype.name
    for known, plain in PLAIN.items():
        if name == plain:
            return known, list(array.shape)
    for known, (full, _) in _MORE.items():
        if name == full:
            return known, list(array.shape)
    raise TypeError(f"arrays of {array.dtype} cannot be stored")


def view(array: Any) -> memoryview:
    """Return the bytes of an array, little-endian, without a copy where it is contiguous."""
    array = np.ascontiguousarray(array)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    return memoryview(array.reshape(-1).view(np.uint8))
