"""The examples of the README, as they are written, one after the other."""

import importlib.util
import os
import pathlib
import re
import shutil

import pytest

README = pathlib.Path(__file__).parents[1] / "README.md"


CATALOGUE = README.parents[2] / "examples/catalogue.json"


def is_there(what):
    """Whether a module, or the program, is installed."""
    if what == "sparse-eval":
        return bool(os.environ.get("SPARSE_EVAL") or shutil.which(what))
    return importlib.util.find_spec(what) is not None


def blocks():
    text = README.read_text(encoding="utf-8")
    pattern = r"(?:<!-- needs: ([a-z -]+) -->\n)?```python\n(.*?)```"
    return [(needs.split(), code) for needs, code in re.findall(pattern, text, re.DOTALL)]


def test_examples_run(workplace):
    shutil.copy(CATALOGUE, "catalogue.json")
    names = {}
    ran = 0
    for needs, code in blocks():
        if all(is_there(what) for what in needs):
            exec(compile(code, "README.md", "exec"), names)
            ran += 1
    assert ran >= 7


def test_the_readme_has_examples():
    assert len(blocks()) >= 11


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(\w+)`", README.read_text(encoding="utf-8")))))
def test_functions_that_it_names_exist(name):
    import sparse_llm
    import sparse_llm.core

    if name.endswith("_delta") or "_delta_" in name:
        assert hasattr(sparse_llm, name) or hasattr(sparse_llm.core, name)
