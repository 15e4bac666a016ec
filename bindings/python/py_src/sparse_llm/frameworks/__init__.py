"""Arrays of numpy and tensors of torch, from bytes and to bytes. A file for each framework.

Neither is needed before it is asked for: numpy is imported for numpy's arrays, torch for torch's tensors.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from ..errors import _make

__all__ = ["TensorBytes", "framework"]

_NAMES = {"np": "numpy", "numpy": "numpy", "pt": "torch", "torch": "torch"}


def framework(name: str) -> ModuleType:
    """Return the module that makes a framework's tensors.

    >>> framework("np").__name__
    'sparse_llm.frameworks.numpy'
    """
    if name not in _NAMES:
        raise _make("invalid_argument", f"{name!r} is no framework: give 'np' or 'pt'")
    from importlib import import_module

    return import_module(f"{__name__}.{_NAMES[name]}")


def _of(tensor: Any) -> ModuleType:
    """Return the module that knows a tensor."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(tensor, torch.Tensor):
        return framework("pt")
    return framework("np")


class TensorBytes:
    """Bytes of the tensors of a state dictionary, read piece by piece.

    Only the tensor that is being read is ever copied, and only if it lies on a device or is not contiguous.

    Attributes:
        described: name, element type and shape of each tensor.
    """

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self.described: list[tuple[str, str, list[int]]] = []
        self._tensors: list[Any] = []
        self._last: tuple[int, memoryview] | None = None
        for name in tensors:
            if not isinstance(name, str):
                raise _make("invalid_argument", f"the name of a tensor is {name!r}, not a text")
            try:
                name.encode()
            except UnicodeEncodeError:
                raise _make("invalid_argument", f"the name {name!r} cannot be stored: it is no Unicode") from None
        # In the order of safetensors' own writers: by name.
        for name, tensor in sorted(tensors.items()):
            try:
                dtype, shape = _of(tensor).describe(tensor)
            except TypeError as error:
                raise _make("invalid_argument", str(error), (None, name, None)) from None
            self.described.append((name, dtype, shape))
            self._tensors.append(tensor)

    def read(self, index: int, start: int, end: int) -> bytes:
        """Return the bytes of a tensor from ``start`` to ``end``."""
        last = self._last
        if last is None or last[0] != index:
            tensor = self._tensors[index]
            last = self._last = (index, _of(tensor).view(tensor))
        return last[1][start:end].tobytes()
