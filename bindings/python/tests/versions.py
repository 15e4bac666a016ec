"""Print the versions of what the package was tested with."""

import importlib.metadata
import platform

NAMES = ["sparse-llm", "numpy", "ml_dtypes", "safetensors", "pyarrow", "torch", "transformers", "peft", "datasets"]

if __name__ == "__main__":
    found = [f"Python {platform.python_version()}"]
    for name in NAMES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} not installed")
    print(", ".join(found))
