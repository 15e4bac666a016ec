"""Deltas of models, by their older names."""

from ..models import (
    compress_adapter_delta,
    compress_delta,
    compress_delta_svd_full,
    estimate_delta_savings,
)
from ..transformers import reconstruct_from_delta, reconstruct_from_svd_delta
from ..validation import validate_int8_delta_quality

__all__ = [
    "compress_adapter_delta",
    "compress_delta",
    "compress_delta_svd_full",
    "estimate_delta_savings",
    "reconstruct_from_delta",
    "reconstruct_from_svd_delta",
    "validate_int8_delta_quality",
]
