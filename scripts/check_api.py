#!/usr/bin/env python3
"""Writes each crate's public interface as text, and compares it with docs/api/.

    scripts/check_api.py             compare: exits with 1 if an interface is not as recorded
    scripts/check_api.py --bless     record the interfaces as they are

A file of docs/api/ lists what a program can name that depends on the crate: items by the path under
which they are public, fields, variants, methods, traits, and the features that they need.

Sources are read, not compiled, so that this takes a second, needs no nightly toolchain and does not
depend on the version of one. It is exact because the lint `unreachable_pub` refuses an item that is
`pub` and cannot be reached. What macros make is listed as the macro has it, under its name.
Standard library only.
"""

import difflib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "docs" / "api"
TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<text>b?r(?P<hash>\#*)".*?"(?P=hash)|[bc]?"(?:\\.|[^"\\])*"|b?'(?:\\[^\n']+|\\'|[^'\\])')
    |(?P<word>'?\w+)|(?P<sign>->|=>|::|\.\.=?|.)""",
    re.S | re.X,
)
CLOSING = {"(": ")", "[": "]", "{": "}"}
MODIFIERS = {"async", "const", "unsafe", "extern", "default"}


class Group(list):
    """Tokens between brackets."""

    __hash__ = object.__hash__

    def __init__(self, opening):
        super().__init__()
        self.opening = opening


def tree(text):
    """Returns the tokens of a source as (has space before, token), with brackets as groups."""
    stack, space = [Group("")], False
    for found in TOKEN.finditer(text):
        token = found.group()
        if found.group("space"):
            space = True
            continue
        if token in CLOSING:
            group = Group(token)
            stack[-1].append((space, group))
            stack.append(group)
        elif token in CLOSING.values() and len(stack) > 1:
            stack.pop()
        else:
            stack[-1].append((space, token))
        space = False
    return stack[0]


def text_of(tokens):
    """Returns tokens as text on one line."""
    out = ""
    for space, token in tokens:
        out += " " if space and out else ""
        if isinstance(token, Group):
            inner = text_of(token).strip().removesuffix(",")
            pad = " " if token.opening == "{" and inner else ""
            out += token.opening + pad + inner + pad + CLOSING[token.opening]
        else:
            out += token
    # As if it had been written on one line.
    out = re.sub(r",\s*>", ">", re.sub(r"(?<=\w<) ", "", out))
    return re.sub(r"(?<=[(,] )mut (?=\w+:)|(?<=\()mut (?=\w+[:,)])", "", out).strip()


def is_group(token, opening):
    return isinstance(token, Group) and token.opening == opening


def split(tokens, sign=","):
    """Splits tokens at commas that are not within angle brackets."""
    parts, depth = [[]], 0
    for space, token in tokens:
        depth += (token == "<") - (token == ">")
        if token == sign and depth <= 0:
            parts.append([])
        else:
            parts[-1].append((space, token))
    return [part for part in parts if part]


class Item:
    """An item, a field or a variant: its attributes, visibility, kind, name and tokens."""

    def __init__(self, attributes, public, kind, name, tokens):
        self.attributes, self.public, self.kind, self.name, self.tokens = attributes, public, kind, name, tokens

    def has(self, attribute):
        return any(text_of(a).startswith(attribute) for a in self.attributes)

    def is_test(self):
        return any(re.search(r"\b(test|doctest)\b", c) for c in self.configured())

    def configured(self):
        return [text_of(a) for a in self.attributes if text_of(a).startswith("cfg(")]

    def marks(self):
        marks = [f"#[{c}]" for c in self.configured()]
        marks += [f"#[{word}]" for word in ("non_exhaustive", "must_use", "deprecated") if self.has(word)]
        return marks


def items(tokens):
    """Yields the items of a sequence of tokens."""
    at = 0
    while at < len(tokens):
        attributes = []
        while at + 1 < len(tokens) and tokens[at][1] == "#":
            inner = tokens[at + 1][1] == "!"
            group = tokens[at + (2 if inner else 1)][1]
            if not inner:
                attributes.append(group)
            at += 3 if inner else 2
        if at >= len(tokens):
            return
        start = at
        public = tokens[at][1] == "pub"
        at += public
        if public and at < len(tokens) and is_group(tokens[at][1], "("):
            public, at = False, at + 1
        first = at
        while at < len(tokens) and (tokens[at][1] in MODIFIERS or str(tokens[at][1]).startswith('"')):
            # `const NAME` is an item, `const fn` is not.
            if tokens[at][1] == "const" and at + 1 < len(tokens) and tokens[at + 1][1] not in MODIFIERS | {"fn"}:
                break
            at += 1
        kind = tokens[at][1] if at < len(tokens) else ""
        begin = at
        while at < len(tokens) and tokens[at][1] != ";":
            if is_group(tokens[at][1], "{") and kind not in ("use", "const", "static", "type"):
                break
            at += 1
        at += 1
        body = tokens[first:at]
        called = begin
        while called + 2 < len(tokens) and tokens[called + 1][1] == "::":
            called += 2
        if called + 1 < len(tokens) and tokens[called + 1][1] == "!":
            yield Item(attributes, False, "macro", tokens[called][1], tokens[begin:at])
            continue
        name = tokens[begin + 1][1] if begin + 1 < len(tokens) else ""
        if isinstance(kind, str) and at > start:
            yield Item(attributes, public, kind, name if isinstance(name, str) else "", body)


def members(group, kind):
    """Yields fields or variants as text; private fields are not told one by one."""
    private = False
    for part in split(group):
        attributes = []
        while part and part[0][1] == "#":
            attributes.append(part[1][1])
            part = part[2:]
        item = Item(attributes, True, kind, "", part)
        if not part or item.is_test() or item.has("doc(hidden"):
            continue
        if kind == "field":
            if part[0][1] != "pub" or (len(part) > 1 and is_group(part[1][1], "(")):
                private = True
                continue
        yield " ".join(item.marks() + [text_of(part)])
    if private:
        yield "(private fields)"


def head_name(tokens):
    """Returns the last name of a path before its generic arguments, without references."""
    name = ""
    for _, token in tokens:
        if token == "<" or isinstance(token, Group):
            break
        if re.match(r"\w", token) and token not in ("dyn", "mut", "const"):
            name = token
    return name


class Crate:
    """What a crate has, and what of it is public."""

    def __init__(self, folder):
        self.name = folder.name.replace("-", "_")
        self.definitions = []  # (module, module is public, conditions, item)
        self.exports = []  # (module, path, name, conditions)
        self.impls = []
        self.macros = []
        self.made = {}  # functions and further calls by the macro that makes them
        self.private = {}  # modules by the names of types that are not public
        self.read(folder / "src" / "lib.rs", (), True, [])

    def read(self, path, module, public, conditions):
        folder = path.parent if path.name in ("lib.rs", "mod.rs") else path.with_suffix("")
        self.walk(tree(path.read_text(encoding="utf-8")), folder, module, public, conditions)

    def walk(self, tokens, folder, module, public, conditions):
        for item in items(tokens):
            if item.is_test() or item.has("doc(hidden"):
                continue
            marks = conditions + [c for c in item.configured() if c not in conditions]
            if item.kind == "mod":
                inside, child = public and item.public, module + (item.name,)
                if is_group(item.tokens[-1][1], "{"):
                    self.walk(item.tokens[-1][1], folder / item.name, child, inside, marks)
                    continue
                paths = [folder / f"{item.name}.rs", folder / item.name / "mod.rs"]
                found = next((path for path in paths if path.is_file()), None)
                if found:
                    self.read(found, child, inside, marks)
                if inside:
                    self.definitions.append((module, True, marks, item))
            elif item.kind == "use":
                if item.public:
                    self.use(item.tokens[1:], (), module, public, marks)
            elif item.kind == "impl":
                self.impls.append((module, marks, item))
            elif item.kind == "macro" and item.name == "macro_rules":
                called, defined = len(self.macros), len(self.definitions)
                for arm in [t for _, t in item.tokens[-1][1] if is_group(t, "{")]:
                    self.walk(arm, folder, module, public, marks)
                name = item.tokens[2][1]
                self.made[name] = [(d[2], d[3]) for d in self.definitions[defined:] if d[3].kind == "fn"]
                self.made[name] += [(None, m[3]) for m in self.macros[called:]]
                self.definitions = [d for n, d in enumerate(self.definitions) if n < defined or d[3].kind != "fn"]
                del self.macros[called:]
            elif item.kind == "macro":
                self.macros.append((module, public, marks, item))
            elif item.public:
                self.definitions.append((module, public, marks, item))
            elif item.kind in ("struct", "enum", "union", "trait"):
                self.private.setdefault(item.name, []).append(module)

    def use(self, tokens, prefix, module, public, conditions):
        for part in split([t for t in tokens if t[1] != ";"]):
            path = list(prefix)
            for at, (_, token) in enumerate(part):
                if is_group(token, "{"):
                    self.use(token, tuple(path), module, public, conditions)
                    break
                if token == "as":
                    self.exports.append((module, public, tuple(path), part[at + 1][1], conditions))
                    break
                if token != "::":
                    path.append(token)
            else:
                name = path[-1] if path[-1] != "self" else path[-2]
                self.exports.append((module, public, tuple(path), name, conditions))

    def public(self):
        """Returns the public path of each definition, and of each foreign re-export."""
        paths, foreign = {}, []
        for number, (module, public, _, item) in enumerate(self.definitions):
            if public:
                paths.setdefault(number, []).append(("::".join((self.name, *module, item.name)), []))
        roots = {m[0] for m, *_ in self.definitions if m} | {i.name for *_, i in self.definitions}
        for module, public, path, name, conditions in self.exports:
            if not public:
                continue
            where = "::".join((self.name, *module, name))
            inner = [p for p in path if p not in ("crate", "self", "super")]
            candidates = [
                n for n, (m, _, _, item) in enumerate(self.definitions) if item.name == path[-1] and item.kind != "mod"
            ]
            own = path[0] in ("crate", "self", "super") or path[0] in roots or any(
                module + (path[0],) == m[: len(module) + 1] for m, *_ in self.definitions
            )
            near = [n for n in candidates if set(inner[:-1]) <= set(self.definitions[n][0])]
            if own and near:
                for number in near[:1]:
                    paths.setdefault(number, []).append((where, conditions))
            else:
                foreign.append((where, "::".join(path), conditions))
        return paths, foreign

    def lines(self):
        """Yields the interface, line by line."""
        paths, foreign = self.public()
        blocks = {}
        names = {}
        for number, found in paths.items():
            module, _, marks, item = self.definitions[number]
            (path, more), others = found[0], found[1:]
            if not self.definitions[number][1]:
                # Whatever its private module needs, the export needs too.
                marks = item.configured() + [c for c in more if c not in item.configured()]
            blocks[path] = self.block(path, marks, item)
            names.setdefault(item.name, []).append((path, module, marks))
            for other, _ in others:
                blocks[other] = ([f"pub use {path} as {other}"], [], [])
        for where, path, marks in foreign:
            blocks[where] = ([" ".join([f"#[{c}]" for c in marks] + [f"pub use {path} as {where}"])], [], [])
        for module, marks, item in self.impls:
            self.implementation(module, marks, item, names, blocks)
        for module, public, marks, item in self.macros:
            for conditions, made in self.functions(item.name) if public else ():
                path = "::".join((self.name, *module, made.name))
                known = marks + [c for c in conditions if c not in marks]
                blocks[path] = self.block(path, known, made)
            text = text_of(item.tokens)
            if any(re.search(rf"\b{name}\b", text) for name in names):
                where = "::".join((self.name, *module, item.name + "!"))
                blocks.setdefault(where, ([f"macro {where}"], [], []))[2].append(text)
        for path in sorted(blocks):
            head, fields, rest = blocks[path]
            yield from head
            yield from (f"    {line}" for line in fields + sorted(set(rest)))

    def block(self, path, marks, item):
        body = item.tokens
        text = text_of(body[:-1] if is_group(body[-1][1], "{") or body[-1][1] == ";" else body)
        text = re.sub(rf"\b{re.escape(item.name)}\b", path, text, count=1)
        fields = []
        last = body[-1][1]
        if item.kind in ("struct", "union"):
            tuples = [t for _, t in body if is_group(t, "(")]
            if is_group(last, "{"):
                fields = list(members(last, "field"))
            elif tuples:
                fields = list(members(tuples[0], "field"))
                text = re.sub(r"\(.*", "", text)
        elif item.kind == "enum":
            fields = list(members(last, "variant"))
        elif item.kind == "trait":
            for inner in items(last):
                if inner.kind == "macro" or inner.has("doc(hidden"):
                    continue
                provided = is_group(inner.tokens[-1][1], "{")
                line = text_of(inner.tokens[:-1]) + (" { .. }" if provided else "")
                fields.append(" ".join(inner.marks() + [line]))
        derived = [text_of(a[1][1]) for a in item.attributes if a and a[0][1] == "derive"]
        rest = ["derive " + ", ".join(sorted(n for names in derived for n in names.strip("()").split(", ")))]
        rest = rest if derived else []
        head = [f"#[{c}]" for c in marks] + [m for m in item.marks() if not m.startswith("#[cfg")]
        return ([" ".join(head + ["pub", text])], fields, rest)

    def functions(self, macro):
        """Yields the functions that a macro makes, with their conditions."""
        for conditions, item in self.made.get(macro, []):
            if conditions is None:
                yield from self.functions(item.name)
            else:
                yield conditions, item

    def owner(self, name, module, names):
        """Returns the public type or trait of that name, as seen from a module: its path and conditions."""
        found = names.get(name, [])
        hidden = self.private.get(name, [])
        if hidden:
            # Another type may have the same name and be private.
            found = [f for f in found if module not in hidden and (f[1][:1] == module[:1] or not f[1])]
        return (found[0][0], found[0][2]) if found else (None, [])

    def implementation(self, module, marks, item, names, blocks):
        head = [t for t in item.tokens if not is_group(t[1], "{")][1:]
        if head and head[0][1] == "<":
            depth, at = 0, 0
            for at, (_, token) in enumerate(head):
                depth += (token == "<") - (token == ">")
                if depth == 0:
                    break
            head = head[at + 1 :]
        where = next((i for i, t in enumerate(head) if t[1] == "where"), len(head))
        cut = next((i for i, t in enumerate(head[:where]) if t[1] == "for"), None)
        target = head_name(head[:where] if cut is None else head[cut + 1 : where])
        path, known = self.owner(target, module, names)
        if cut is not None:
            trait = head_name(head[:cut])
            if path is None and target not in self.private:
                path, known = self.owner(trait, module, names)
            if path and (trait not in self.private or trait in names):
                line = [f"#[{c}]" for c in marks if c not in known] + [text_of(item.tokens[:-1])]
                blocks[path][2].append(" ".join(line))
        elif path:
            inside = list(items(item.tokens[-1][1]))
            for made in [i for i in inside if i.kind == "macro"]:
                inside += [function for _, function in self.functions(made.name)]
            for inner in inside:
                if inner.public and not inner.has("doc(hidden") and not inner.is_test():
                    line = [f"#[{c}]" for c in marks if c not in known] + inner.marks()
                    blocks[path][2].append(" ".join(line + ["pub", text_of(inner.tokens[:-1])]))


def interface(folder):
    crate = Crate(folder)
    title = f"# Public interface of {folder.name}, made by scripts/check_api.py --bless"
    return "\n".join([title, "", *crate.lines()]) + "\n"


def main(arguments):
    bless = arguments == ["--bless"]
    if arguments and not bless:
        print(__doc__)
        return 2
    changed = 0
    folders = sorted(lib.parent.parent for lib in ROOT.glob("crates/*/src/lib.rs"))
    RECORDS.mkdir(exist_ok=True)
    for folder in folders:
        record = RECORDS / f"{folder.name}.txt"
        old = record.read_text(encoding="utf-8") if record.exists() else ""
        new = interface(folder)
        if bless:
            record.write_text(new, encoding="utf-8")
        elif old != new:
            changed += 1
            name = str(record.relative_to(ROOT))
            sys.stdout.writelines(
                line if line.endswith("\n") else line + "\n"
                for line in difflib.unified_diff(old.splitlines(True), new.splitlines(True), name, "now", n=1)
            )
    known = {folder.name for folder in folders}
    for record in RECORDS.glob("*.txt"):
        if record.stem not in known:
            print(f"{record.relative_to(ROOT)}: there is no such crate")
            if bless:
                record.unlink()
            changed += not bless
    if changed:
        print("If the interfaces are meant to change: scripts/check_api.py --bless, and say so in CHANGELOG.md")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
