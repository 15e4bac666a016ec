#!/usr/bin/env python3
"""Checks what deltas certify against numbers that are worked out here, from the weights alone.

    python3 scripts/check_certificates.py --sparse target/release/sparse BASE FINETUNED [--sweep] [OPTIONS...]

For each of several policies (with `--sweep` those of `sparse-bench ladder --sweep`; or for the options of
`sparse compress` after `--`), a delta of the pair is made,
restored, and measured in numpy: by tensor the norm of the error and that of the change, which is the fine-tune
minus the base's tensor of its name and shape (of another length: of the rows of both), cast to the fine-tune's
type. What `compress`, `info` and
`quality` print must be the same to four digits, no tensor may be off by more than its change, and `--max-error`
must hold of each. Files are read by hand; needs numpy and nothing else. Tensors that the base has under
another name are compared by what `quality` says of their change, and counted.
"""
import argparse, json, os, struct, subprocess, sys, tempfile

try:
    import numpy as np
except ImportError:
    sys.exit('skipped: numpy is not here')

STORED = {'F16': '<f2', 'F32': '<f4', 'F64': '<f8', 'BF16': '<u2'}
POLICIES = (['--max-error', '0.05'], ['--max-error', '0.5'], ['--codec', 'sign'], ['--codec', 'svd=8'],
            ['--codec', 'sparse-int8=0.3'], ['--max-ulps', '4'])
# Those of benches/src/sweep.rs; a size for each codec by itself follows.
BOUNDS = (.001, .002, .005, .01, .02, .05, .1, .2, .3, .4, .5, .6, .7, .8, .9, .99)
ALONE = ('svd=1', 'svd=2', 'svd=3', 'svd=4', 'svd=6', 'svd=8', 'svd=12', 'svd=16', 'svd=32', 'svd=64', 'svd=0.5',
         'svd=0.9', 'sparse-int8=0.001', 'sparse-int8=0.01', 'sparse-int8=0.02', 'sparse-int8=0.05',
         'sparse-int8=0.1', 'sparse-int8=0.2', 'sparse-int8=0.3', 'sparse-int8=0.5', 'sparse-int8=0.8',
         'sparse=0.05', 'sparse=0.2', 'sparse=0.5', 'sparse=0.8', 'int8', 'sign', 'ulp-bounded=1', 'ulp-bounded=8')


def files(model):
    if os.path.isfile(model):
        return [model]
    found = [os.path.join(d, f) for d, _, fs in os.walk(model) for f in fs if f.endswith('.safetensors')]
    return sorted(found)


class Tensors:
    """The tensors of a model by name, read when they are asked for."""

    def __init__(self, model):
        self.places = {}
        for path in files(model):
            with open(path, 'rb') as f:
                length = struct.unpack('<Q', f.read(8))[0]
                head = json.loads(f.read(length))
            for name, t in head.items():
                if name != '__metadata__':
                    self.places[name] = (path, 8 + length + t['data_offsets'][0], t['dtype'], t['shape'])

    def values(self, name):
        """Values in binary64, or None for a type that is not measured."""
        path, at, dtype, shape = self.places[name]
        if dtype not in STORED:
            return None
        count = int(np.prod(shape, dtype=np.int64))
        a = np.fromfile(path, dtype=STORED[dtype], count=count, offset=at)
        if dtype == 'BF16':
            return (a.astype('<u4') << 16).view('<f4').astype('f8')
        return a.astype('f8')


def cast(values, dtype):
    """To a type, to nearest, ties to even, and back to binary64."""
    with np.errstate(over='ignore', invalid='ignore'):
        if dtype == 'BF16':
            u = values.astype('<f4').view('<u4').astype('u8')
            rounded = ((u + 0x7fff + ((u >> 16) & 1)) >> 16 << 16).astype('<u4').view('<f4')
            return rounded.astype('f8')
        return values.astype(STORED[dtype]).astype('f8')


def norm(x):
    return float(np.sqrt(np.square(x[np.isfinite(x)]).sum()))


def near(a, b):
    return abs(a - b) <= 1e-4 * max(abs(a), abs(b)) + 1e-12


class Checker:
    def __init__(self, sparse, base, tuned):
        self.sparse, self.base, self.tuned = sparse, base, tuned
        self.wrong = []
        self.sizes = set()

    def run(self, *args):
        p = subprocess.run([self.sparse, *map(str, args), '--json'], capture_output=True)
        if p.returncode:
            sys.exit('%s failed: %s' % (args[0], p.stdout.decode() + p.stderr.decode()))
        return json.loads(p.stdout)

    def same(self, what, told, true):
        if not near(told, true):
            self.wrong.append('%s: told %.6g, is %.6g' % (what, told, true))

    def check(self, policy):
        """One policy; returns a line about it."""
        with tempfile.TemporaryDirectory() as folder:
            delta, out = os.path.join(folder, 'd.sparse'), os.path.join(folder, 'out')
            made = self.run('compress', self.base, self.tuned, '-o', delta, *policy)
            self.sizes.add(made['delta_bytes'])
            found = self.run('quality', self.base, self.tuned, delta)
            info = self.run('info', delta)
            self.run('reconstruct', self.base, delta, '-o', out)
            error, change, elsewhere = self.measure(Tensors(out), found, policy)
        total = error / change if change else 0.0
        told = {'compress': made['quality'], 'quality': found['total'], 'info': info['certificate']}
        if policy[0] == '--target-size' and made['delta_bytes'] > int(policy[1]):
            self.wrong.append('%s: %d bytes' % (' '.join(policy), made['delta_bytes']))
        for command, numbers in told.items():
            self.same('%s: total of %s' % (' '.join(policy), command), numbers['relative_error'], total)
        what = '%d bytes, error %.4f of the change' % (made['delta_bytes'], total)
        return what + (', %d tensors elsewhere in the base' % elsewhere if elsewhere else '')

    def measure(self, restored, found, policy):
        base, tuned = Tensors(self.base), Tensors(self.tuned)
        most = min(float(policy[1]), 1.0) if policy[0] == '--max-error' else 1.0
        squares, elsewhere = [0.0, 0.0], 0
        for t in found['tensors']:
            name = t['name']
            want = tuned.values(name)
            if want is None:
                continue
            place, of_base = tuned.places[name], base.places.get(name)
            error = norm(restored.values(name) - want)
            if of_base and of_base[3][1:] == place[3][1:] and of_base[2] in STORED:
                # The first rows of both, if it is longer or shorter.
                before = cast(base.values(name), place[2])[:want.size]
                before = np.concatenate([before, np.zeros(want.size - before.size)])
                change = norm(want - np.where(np.isfinite(before), before, 0))
            elif near(t['change'], norm(want)):
                change = norm(want)
            else:
                change, elsewhere = t['change'], elsewhere + 1
            label = '%s: %s' % (' '.join(policy), name)
            self.same(label + ', error', t['error'], error)
            self.same(label + ', change', t['change'], change)
            if error > most * change * (1 + 1e-6):
                self.wrong.append('%s: the error %.6g exceeds %g of the change %.6g' % (label, error, most, change))
            squares[0] += error * error
            squares[1] += change * change
        return squares[0] ** .5, squares[1] ** .5, elsewhere


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--sparse', required=True, help='the program')
    p.add_argument('base')
    p.add_argument('finetuned')
    p.add_argument('--sweep', action='store_true', help='bounds, codecs by themselves, and a size for each of these')
    p.add_argument('policy', nargs='*', help='options of compress instead of several policies, after --')
    o = p.parse_args()
    checker = Checker(o.sparse, o.base, o.finetuned)
    def check(policies):
        for policy in policies:
            known = len(checker.wrong)
            print('%s: %s' % (' '.join(policy), checker.check(policy)), flush=True)
            # At once: who stops a long sweep still has the verdict on what was made until then.
            for line in checker.wrong[known:]:
                print('WRONG', line, flush=True)
    if o.sweep:
        check(['--max-error', str(e)] for e in BOUNDS)
        checker.sizes.clear()
        check(['--codec', c] for c in ALONE)
        check(['--target-size', str(size)] for size in sorted(checker.sizes))
    else:
        check([o.policy] if o.policy else POLICIES)
    print('%d wrong' % len(checker.wrong))
    sys.exit(1 if checker.wrong else 0)


if __name__ == '__main__':
    main()
