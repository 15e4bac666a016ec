"""Measure the package beside the command and the Rust reader, in the same run.

    python bindings/python/measure.py BASE FINETUNED --sparse PATH --bench PATH [--runs 5]

Prints, as medians: `compress_delta` by the time of `sparse compress`; all tensors by `load_file`, by that of
`sparse-bench tensors`, both bit for bit equal to the fine-tune's; and, with transformers, the most memory that
`from_pretrained_with_delta` takes beyond what the model's weights are. Runs of the two sides alternate.
"""

import argparse
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import sparse_llm

PEAK = """
import sys, threading, time, torch, transformers, sparse_llm
base, delta, cls = sys.argv[1:4]
cls = getattr(transformers, cls)
# Once for all that is imported by then, which is not the loading's.
sparse_llm.from_pretrained_with_delta(delta, base, cls)
def now(field):
    return next(int(l.split()[1]) << 10 for l in open('/proc/self/status') if l.startswith(field))
before = now('RssAnon')
most, done = [0], threading.Event()
def watch():
    while not done.is_set():
        most[0] = max(most[0], now('RssAnon'))
        time.sleep(0.002)
thread = threading.Thread(target=watch)
thread.start()
model = sparse_llm.from_pretrained_with_delta(delta, base, cls)
done.set()
thread.join()
weights = sum(p.numel() * p.element_size() for p in model.parameters())
largest = max(p.numel() * p.element_size() for p in model.parameters())
print(weights, largest, most[0] - before)
"""


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base")
    parser.add_argument("finetuned")
    parser.add_argument("--sparse", required=True, help="the command")
    parser.add_argument("--bench", required=True, help="sparse-bench")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cls", default="AutoModel", help="class of transformers")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        delta = str(pathlib.Path(scratch, "delta.sparse"))
        command = [arguments.sparse, "compress", "-qf", arguments.base, arguments.finetuned, "-o", delta]
        ours, theirs = [], []
        for _ in range(arguments.runs):
            theirs.append(timed(lambda: subprocess.run(command, check=True)))
            ours.append(
                timed(
                    lambda: sparse_llm.compress_delta(
                        arguments.base, arguments.finetuned, delta, overwrite=True
                    )
                )
            )
        a, b = statistics.median(ours), statistics.median(theirs)
        print(f"compress: Python {a:.3f} s, command {b:.3f} s, ratio {a / b:.3f}")

        ours, theirs = [], []
        reader = [arguments.bench, "tensors", arguments.base, delta, "--runs", "1"]
        for _ in range(arguments.runs):
            text = subprocess.run(reader, check=True, capture_output=True, text=True).stdout
            theirs.append(float(re.search(r"in ([0-9.]+) s", text)[1]))
            ours.append(timed(lambda: sparse_llm.load_file(arguments.base, delta)))
        a, b = statistics.median(ours), statistics.median(theirs)
        print(f"all tensors: Python {a:.3f} s, Rust {b:.3f} s, speed {b / a:.3f} of Rust's")

        try:
            import transformers  # noqa: F401
        except ImportError:
            return
        peak = [sys.executable, "-c", PEAK, arguments.base, delta, arguments.cls]
        done = subprocess.run(peak, capture_output=True, text=True)
        if done.returncode:
            print(done.stderr[-500:])
            return
        weights, largest, most = map(int, done.stdout.split()[-3:])
        print(
            f"loading: weights {weights / 1e6:.1f} MB, largest {largest / 1e6:.1f} MB, "
            f"most anonymous memory {most / 1e6:.1f} MB, beyond weights and one tensor "
            f"{(most - weights - largest) / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    main()
