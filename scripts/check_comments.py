#!/usr/bin/env python3
"""Checks how documentation comments of functions begin.

    scripts/check_comments.py SOURCE...

The first sentence begins with a verb in the third person ("Decodes one chunk"); of a public function
it has at most 80 characters, and more is said after a blank line. A verb is told by its form: a word
with a capital that ends in "s" and is none of the plurals and other words listed here. Standard
library only; exits with 1 if there is a comment that begins otherwise.
"""

import re
import sys

WIDTH = 80
# Words that end in "s" and are not verbs; plurals that code speaks of.
NOT_VERBS = set(
    "always across as bits blocks bytes cells chunks classes codecs columns dimensions elements entries errors files"
    " folders its keys lengths less numbers parameters parts paths pieces rows schemes segments settings sizes strings"
    " symbols tables tensors this tokens types units unless values weights windows words".split()
)
# Verbs that are also plurals: these words follow the plural.
PLURAL = re.compile(r"(Codes|Digests|Groups|Pairs|Places|Samples|States)\s+(and|from|in|of|that|which|with)\b")
FUNCTION = re.compile(r"(?P<public>pub\s+)?(pub\([^)]*\)\s+)?((const|async|unsafe|default)\s+)*fn\s+(?P<name>\w+)")
SENTENCE = re.compile(r"(?<=[.:;])\s")


def comments(path):
    """Yields the line, the first paragraph and the declaration of each documented item."""
    doc, start = [], 0
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            line = line.strip()
            if line.startswith("///"):
                start = start if doc else number
                doc.append(line[3:].strip())
            elif doc and (line.startswith(("#[", "//", ")")) or line.endswith(")]") or line == "]"):
                continue
            else:
                if doc:
                    paragraph = doc[: doc.index("")] if "" in doc else doc
                    yield start, " ".join(paragraph), line
                doc = []


def complaints(path):
    for number, text, declaration in comments(path):
        function = FUNCTION.match(declaration)
        if not function:
            continue
        place = f"{path}:{number}: {function['name']}"
        word = re.match(r"[A-Z][a-z-]+", text)
        verb = word and word.group().endswith("s") and word.group().lower() not in NOT_VERBS
        if not verb or PLURAL.match(text):
            yield f"{place} does not begin with a verb in the third person: {text[:60]!r}"
        elif function["public"] and len(SENTENCE.split(text)[0]) > WIDTH:
            yield f"{place} begins with a sentence of more than {WIDTH} characters: {text[:60]!r}"


def main(paths):
    # What helps tests may say in its own way what it is for.
    sources = [path for path in paths if not re.search(r"/tests(/|\.rs$)", path)]
    found = [complaint for path in sources for complaint in complaints(path)]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
