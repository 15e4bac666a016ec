"""Tensors of torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..errors import _make
from .names import PLAIN

# Of each element type of safetensors, the name in torch, which may be too old for it.
_NAMES = {
    **PLAIN,
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2": "float8_e5m2",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F4": "float4_e2m1fn_x2",
}


def dtype(name: str) -> torch.dtype:
    """Return torch's type for an element type of safetensors."""
    found: torch.dtype | None = getattr(torch, _NAMES.get(name, ""), None)
    if found is None:
        raise _make("invalid_argument", f"torch {torch.__version__} has no type for {name}")
    return found


def check_device(device: str) -> None:
    """Refuse what is no device; whether it is there, its first tensor shows."""
    try:
        torch.device(device)
    except RuntimeError as error:
        raise _make("invalid_argument", f"{device!r} is no device: {str(error).splitlines()[0]}") from None


def tensor(buffer: bytearray, name: str, shape: Sequence[int], device: str) -> torch.Tensor:
    """Return a tensor over a buffer, without a copy if it stays on the processor."""
    kind = dtype(name)
    if name == "F4":  # Two in a byte.
        shape = [*shape[:-1], shape[-1] // 2]
    if not buffer:
        made = torch.empty(tuple(shape), dtype=kind)
    else:
        # Through bytes, since frombuffer does not know all types.
        made = torch.frombuffer(buffer, dtype=torch.uint8).view(kind).reshape(tuple(shape))
    return made if device == "cpu" else made.to(device)


def describe(value: torch.Tensor) -> tuple[str, list[int]]:
    """Return element type and shape of a tensor.

    Raises:
        TypeError: for tensors that safetensors does not have.
    """
    if value.layout != torch.strided:
        raise TypeError(f"a tensor of layout {value.layout} cannot be stored: make it dense")
    if value.is_nested:
        raise TypeError("a nested tensor cannot be stored: give its parts")
    if value.is_meta:
        raise TypeError("a tensor on the device 'meta' has no values")
    for name, torch_name in _NAMES.items():
        if value.dtype == getattr(torch, torch_name, None):
            shape = list(value.shape)
            return name, [*shape[:-1], 2 * shape[-1]] if name == "F4" else shape
    raise TypeError(f"tensors of {value.dtype} cannot be stored")


def view(value: torch.Tensor) -> memoryview:
    """Return the bytes of a tensor, without a copy where it is contiguous and on the processor."""
    flat = value.detach().resolve_conj().resolve_neg().to("cpu").contiguous().reshape(-1)
    if not flat.numel():
        return memoryview(b"")
    raw = flat.view(torch.uint8)
    try:
        return memoryview(raw.numpy())  # type: ignore[arg-type]
    except (RuntimeError, ImportError):  # Without numpy.
        return memoryview(bytes(raw.untyped_storage())[raw.storage_offset() :][: raw.numel()])
