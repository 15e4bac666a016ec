"""Lets ``core`` and ``optimizer`` be imported as the ancestor of this package had them.

>>> import sparse_llm.compat
>>> from core.delta import compress_delta
>>> from core.fast_reconstruct import DeltaCache

A module ``core`` that your program has keeps its name: then importing this one fails, and says so. The names are in
:mod:`sparse_llm.core`, too, which needs no such alias. ``optimizer`` is an alias only where there is no other.
"""

import sys
from importlib.util import find_spec

from . import core, optimizer
from .core import dataset_delta, delta, fast_reconstruct
from .optimizer import routing

_MODULES = {
    "core": core,
    "core.delta": delta,
    "core.dataset_delta": dataset_delta,
    "core.fast_reconstruct": fast_reconstruct,
}

if sys.modules.get("core") is not core:
    if "core" in sys.modules or find_spec("core") is not None:
        raise ImportError("there is another module `core`: import from sparse_llm.core instead")
    sys.modules.update(_MODULES)

if "optimizer" not in sys.modules and find_spec("optimizer") is None:
    sys.modules.update({"optimizer": optimizer, "optimizer.routing": routing})
