"""The cache of restored models, by its older names."""

from ..cache import DeltaCache
from ..transformers import from_pretrained_with_delta

__all__ = ["DeltaCache", "from_pretrained_with_delta"]
