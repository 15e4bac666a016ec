"""Let torch from PyPI load without the GPU libraries that it links against: more than 2 GB.

    pip install --no-deps torch
    python scripts/torch_without_gpu.py

Writes a stand-in for each missing library into torch's own folder. A stand-in defines the symbols that torch
refers to; called, they return 35, by which CUDA says that there is no driver, so that torch finds no device. For
tests on processors alone: an environment with these must never be used with a GPU. Needs `cc` and `readelf`.
"""

import collections
import ctypes
import importlib.util
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

# What a function does, by machine: it returns 35; or a text, if its name says that it returns one.
NUMBER = {"x86_64": "movl $35, %eax\n ret", "aarch64": "mov w0, #35\n ret"}
TEXT = {
    "x86_64": "leaq text(%rip), %rax\n ret",
    "aarch64": "adrp x0, text\n add x0, x0, :lo12:text\n ret",
}
RETURNS_TEXT = re.compile(r"(Error|Status)(String|Name)|GetLastError(Msg|Message)$|Error_?String")


def readelf(*arguments):
    text = subprocess.run(["readelf", "-W", *arguments], capture_output=True, text=True, check=True)
    return text.stdout


def system_library(name):
    """Return whether the dynamic linker finds a library by itself."""
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def main():
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("torch is not installed here")
    folder = pathlib.Path(spec.submodule_search_locations[0]) / "lib"
    libraries = sorted(folder.glob("*.so*"))
    own = {library.name for library in libraries}
    needed = set()
    for library in libraries:
        needed |= set(re.findall(r"\(NEEDED\).*\[(.*)\]", readelf("-d", library)))
    missing = sorted(name for name in needed - own if not system_library(name))
    if not missing:
        print("torch lacks nothing")
        return

    # Symbols that no library at hand defines, by the library whose version they want.
    defined, wanted, homes = set(), set(), {}
    for library in libraries:
        for line in readelf("-V", library).splitlines():
            if match := re.search(r"File: (\S+)", line):
                file = match[1]
            elif match := re.search(r"Name: (\S+) +Flags:.*Version: \d", line):
                homes[match[1]] = file
        for line in readelf("--dyn-syms", library).splitlines():
            parts = line.split()
            if len(parts) < 8 or parts[4] not in ("GLOBAL", "WEAK"):
                continue
            name, _, version = parts[7].partition("@")
            if parts[6] != "UND":
                defined.add(name)
            elif parts[4] == "GLOBAL":
                wanted.add((name, version.strip("@")))
    symbols = collections.defaultdict(list)
    for name, version in sorted(wanted):
        home = homes.get(version)
        if home not in missing and (version or name in defined):
            continue
        # Without a version any library will do: the linker looks into all of them.
        symbols[home or missing[0]].append((name, version))

    number, text = NUMBER[platform.machine()], TEXT[platform.machine()]
    with tempfile.TemporaryDirectory() as scratch:
        for library in missing:
            versions = sorted({version for _, version in symbols[library] if version})
            lines = [".text"]
            for count, (name, version) in enumerate(symbols[library]):
                inner = f"standin_{count}" if version else name
                body = text if RETURNS_TEXT.search(name) else number
                lines += [f".globl {inner}", f".type {inner}, %function", f"{inner}:", f" {body}"]
                if version:
                    lines.append(f".symver {inner}, {name}@@@{version}")
            lines += [".section .rodata", 'text: .asciz "there is no GPU: this library is a stand-in"']
            lines.append('.section .note.GNU-stack,"",%progbits')
            source = pathlib.Path(scratch) / "standin.s"
            source.write_text("\n".join(lines) + "\n")
            script = pathlib.Path(scratch) / "versions"
            script.write_text("".join(f"{version} {{ }};\n" for version in versions))
            command = ["cc", "-shared", "-nostdlib", f"-Wl,-soname,{library}", "-o", folder / library, source]
            if versions:
                command.append(f"-Wl,--version-script={script}")
            subprocess.run(command, check=True)
    print(f"stand-ins for {len(missing)} libraries: {', '.join(missing)}")


if __name__ == "__main__":
    main()
