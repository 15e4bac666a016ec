"""Checks documents: lines of prose of at most 120 characters, and sources that are named as they are.

    python3 scripts/check_docs.py DOCUMENT...

Tables, blocks of code and lines that are one long link or word may be longer. Where a cell of a table
names a source file and then functions (`crates/a/src/b.rs`: `f`, `g`), the file has these functions.
"""

import os
import re
import sys

WIDTH = 120
SOURCE = re.compile(r"`((?:crates|benches|fuzz|examples|scripts)/[\w./-]+\.(?:rs|py))`((?:: `\w+`(?:, `\w+`)*)?)")


def too_long(path):
    """Yields the numbers of lines of prose that are too long."""
    fenced = False
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            line = line.rstrip("\n")
            if line.lstrip().startswith("```"):
                fenced = not fenced
            elif fenced or line.lstrip().startswith("|") or len(line) <= WIDTH:
                continue
            # Nothing can be wrapped where the line is one word, as a link may be.
            elif len(line.split(None, 1)) > 1 and " " in line[:WIDTH].strip():
                yield number


def missing(path):
    """Yields what the document says of sources that is not so."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for source, functions in SOURCE.findall(text):
        if not os.path.isfile(source):
            yield f"there is no {source}"
            continue
        with open(source, encoding="utf-8") as file:
            code = file.read()
        for function in re.findall(r"\w+", functions):
            if not re.search(rf"\bfn {function}\b", code):
                yield f"{source} has no function {function}"


def main(paths):
    found = [f"{path}:{number}: more than {WIDTH} characters" for path in paths for number in too_long(path)]
    found += [f"{path}: {what}" for path in paths for what in missing(path)]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
