#!/usr/bin/env python3
"""Refuses import circles between the modules of a crate.

    scripts/check_imports.py CRATE ...      names of folders under crates/, or "benches"

A module is a file. It depends on another where a `use` line or a path that begins with `crate`,
`self`, `super` or the name of a child module leads there. A name that a module only re-exports
leads to the module that defines it, so that a `mod.rs` may re-export its children; a child that
takes from its `mod.rs` what is defined there makes a circle if that `mod.rs` uses the child.
Tests and comments do not count. Standard library only; exits with 1 if there is a circle.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Comments, strings and characters, in this order of precedence where they begin at one place.
NO_CODE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|b?r(?P<hash>\#*)".*?"(?P=hash)|b?"(?:\\.|[^"\\])*"|b?'(?:\\[^\n]{1,9}?|[^'\\])'""",
    re.S,
)
TEST_ATTRIBUTE = re.compile(r"#\[cfg\(\s*(?:test|all\(\s*test\b[^\]]*)\s*\)*\s*\]|#\[test\]")
MODULE = re.compile(r"(?:#\[path\s*=\s*(?P<path>\S+)\]\s*)?\bmod\s+(?P<name>\w+)\s*(?P<end>[;{])")
VISIBILITY = re.compile(r"\bpub\s*\(\s*in\b[^)]*\)")
USE = re.compile(r"\buse\s+([^;]+);")
PATH = re.compile(r"(?<![\w:])(?:\$?crate|super|self|[a-z_]\w*)(?:\s*::\s*\$?\w+)+")
ITEM = r"\b(?:struct|enum|union|trait|fn|const|static|type|macro_rules!|mod)\s+%s\b"


def blank_lines(found):
    """Spaces in place of a match, so that offsets and lines stay."""
    return re.sub(r"[^\n]", " ", found.group())


def blanked(text):
    """The code alone, without comments and strings."""
    return NO_CODE.sub(blank_lines, text)


def closing(text, at):
    """The offset behind the brace that closes the one at `at`."""
    depth = 0
    for i in range(at, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return i + 1
    return len(text)


def without_tests(text):
    """Blanks items under `#[cfg(test)]` and `#[test]`."""
    for found in TEST_ATTRIBUTE.finditer(text):
        start = found.start()
        end = re.compile(r"[;{]").search(text, found.end())
        if not end:
            continue
        stop = closing(text, end.start()) if end.group() == "{" else end.end()
        # A braced list of imports ends with a semicolon.
        if re.search(r"\buse\s[^;{]*\{$", text[start : end.end()]):
            stop = text.index(";", stop) + 1
        blank = re.sub(r"[^\n]", " ", text[start:stop])
        text = text[:start] + blank + text[stop:]
    return text


def leaves(tree):
    """The paths of a `use` tree, each a list of names and the name that it binds."""
    tree = tree.strip()
    if "{" not in tree:
        path, _, alias = tree.partition(" as ")
        names = [n.strip() for n in path.split("::")]
        last = names[-2] if names[-1] == "self" and len(names) > 1 else names[-1]
        if names[-1] == "self" and len(names) > 1:
            names.pop()
        yield names, alias.strip() or last
        return
    head, _, rest = tree.partition("{")
    prefix = [n.strip() for n in head.split("::") if n.strip()]
    depth, part = 0, ""
    for c in rest[: rest.rindex("}")] + ",":
        depth += (c == "{") - (c == "}")
        if c == "," and depth == 0:
            if part.strip():
                for names, bound in leaves(part):
                    alone = names == ["self"]
                    yield prefix + ([] if alone else names), (prefix[-1] if alone else bound)
            part = ""
        else:
            part += c


class Module:
    """One file: its code, and the inline modules in it, by range."""

    def __init__(self, path, file):
        self.path, self.file = path, file
        self.code = without_tests(VISIBILITY.sub(blank_lines, blanked(file.read_text())))
        self.children = []
        self.inline = []
        self.bindings, self.globs = {}, []
        for found in MODULE.finditer(self.code):
            if found["end"] == ";":
                self.children.append(found["name"])
            else:
                end = closing(self.code, found.end() - 1)
                self.inline.append((found.start(), end, found["name"]))

    def scope(self, at):
        """The names of the inline modules around an offset."""
        return [name for start, end, name in self.inline if start < at < end]

    def defines(self, name):
        return re.search(ITEM % re.escape(name), self.code) is not None


class Crate:
    def __init__(self, folder):
        self.name = folder.name
        self.modules = {}
        root = next(f for f in (folder / "src/lib.rs", folder / "src/main.rs") if f.exists())
        self.load((), root, root.parent)
        for module in self.modules.values():
            self.read_imports(module)

    def load(self, path, file, folder):
        module = self.modules[path] = Module(path, file)
        for name in module.children:
            for child in (folder / f"{name}.rs", folder / name / "mod.rs"):
                if child.exists():
                    self.load(path + (name,), child, folder / name)
                    break

    def absolute(self, module, scope, names):
        """A path from the root of the crate, or None for one that leads elsewhere."""
        here, names = list(module.path) + scope, list(names)
        if names[0] in ("crate", "$crate"):
            here = []
            names.pop(0)
        elif names[0] in ("self", "super"):
            while names and names[0] in ("self", "super"):
                if names.pop(0) == "super":
                    if not here:
                        return None
                    here.pop()
        elif scope or names[0] not in module.children:
            return None
        return here + names

    def read_imports(self, module):
        for found in USE.finditer(module.code):
            scope = module.scope(found.start())
            for names, bound in leaves(found.group(1)):
                path = self.absolute(module, scope, names)
                if path and bound == "*":
                    module.globs.append(path[:-1])
                elif path and not scope:
                    module.bindings[bound] = path

    def home(self, path, seen=()):
        """The module that a path leads to, through re-exports."""
        path = [n for n in path if n != "*"]
        depth = max(i for i in range(len(path) + 1) if tuple(path[:i]) in self.modules)
        module, rest = self.modules[tuple(path[:depth])], path[depth:]
        if not rest or (module.path, rest[0]) in seen:
            return module
        seen = seen + ((module.path, rest[0]),)
        bound = module.bindings.get(rest[0])
        if bound and bound != path[: depth + 1]:
            return self.home(bound + rest[1:], seen)
        if not module.defines(rest[0]):
            for glob in module.globs:
                there = self.home(glob, seen)
                if there is not module and there.defines(rest[0]):
                    return there
        return module

    def edges(self):
        """For each module those that it depends on, with the line of the first place."""
        edges = {path: {} for path in self.modules}
        for module in self.modules.values():
            places = []
            for found in USE.finditer(module.code):
                # A re-export is not a use.
                before = module.code[: found.start()].rstrip()
                if not re.search(r"\bpub(\s*\([^)]*\))?$", before):
                    places += [(found.start(), names) for names, _ in leaves(found.group(1))]
            no_use = USE.sub(blank_lines, module.code)
            for found in PATH.finditer(no_use):
                names = [n.strip() for n in found.group().split("::")]
                places.append((found.start(), names))
            for at, names in places:
                path = self.absolute(module, module.scope(at), names)
                if path is None:
                    continue
                there = self.home(path)
                if there is not module:
                    line = module.code.count("\n", 0, at) + 1
                    edges[module.path].setdefault(there.path, line)
        return edges


def circles(edges):
    """One shortest circle through each group of modules that reach each other."""
    reach = {}
    for start in edges:
        seen, todo = set(), list(edges[start])
        while todo:
            at = todo.pop()
            if at not in seen:
                seen.add(at)
                todo += edges[at]
        reach[start] = seen
    done = set()
    for start in sorted(edges):
        if start in done or start not in reach[start]:
            continue
        group = {m for m in reach[start] if start in reach[m]}
        done |= group
        best = None
        for first in sorted(group):
            came, todo = {first: None}, [first]
            while todo:
                at = todo.pop(0)
                if first in edges[at]:
                    circle = []
                    while at is not None:
                        circle.append(at)
                        at = came[at]
                    circle = circle[::-1]
                    if best is None or len(circle) < len(best):
                        best = circle
                    break
                for after in sorted(edges[at]):
                    if after in group and after not in came:
                        came[after] = at
                        todo.append(after)
        yield best, len(group)


def main(names):
    failed = False
    for name in names:
        folder = ROOT / name if name == "benches" else ROOT / "crates" / name
        crate = Crate(folder)
        edges = crate.edges()
        found = list(circles(edges))
        print(f"{name}: {len(edges)} modules, {len(found)} circles")
        for circle, size in found:
            failed = True
            print(f"  a circle ({size} modules reach each other):")
            for at, after in zip(circle, circle[1:] + circle[:1]):
                file = crate.modules[at].file.relative_to(ROOT)
                there = "::".join(("crate",) + after)
                print(f"    {file}:{edges[at][after]} uses {there}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
