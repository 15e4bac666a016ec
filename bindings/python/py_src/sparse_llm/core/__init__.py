"""The modules and functions by their older names: ``core``, ``core.delta``, ``core.dataset_delta``, ….

They are those of :mod:`sparse_llm`; ``import sparse_llm.compat`` lets them be imported as ``core`` alone.
"""

from .dataset_delta import (
    compress_dataset_delta,
    estimate_dataset_delta_savings,
    reconstruct_from_dataset_delta,
)
from .delta import (
    compress_adapter_delta,
    compress_delta,
    compress_delta_svd_full,
    estimate_delta_savings,
    reconstruct_from_delta,
    reconstruct_from_svd_delta,
    validate_int8_delta_quality,
)
from .fast_reconstruct import DeltaCache, from_pretrained_with_delta

__all__ = [
    "DeltaCache",
    "compress_adapter_delta",
    "compress_dataset_delta",
    "compress_delta",
    "compress_delta_svd_full",
    "estimate_dataset_delta_savings",
    "estimate_delta_savings",
    "from_pretrained_with_delta",
    "reconstruct_from_dataset_delta",
    "reconstruct_from_delta",
    "reconstruct_from_svd_delta",
    "validate_int8_delta_quality",
]
