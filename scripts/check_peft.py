"""Hold `sparse` against the real `peft`: adapters that either wrote are merged by both, and compared.

    python3 scripts/check_peft.py SPARSE [BASE FINETUNED]

SPARSE is the program. With two models, an adapter is exported, loaded by PEFT, and merged. Without, PEFT makes an
adapter of each kind for small models of its own: the folder has to come back byte for byte, and the merge has to be
PEFT's, or refused where it is not done here (scripts/peft_kinds.py; needs transformers). Prints why and exits with 0 where torch or peft is missing; exits with 1 when something differs.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

try:
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
except ImportError as missing:
    print(f"skipped: {missing}; `pip install torch peft safetensors` to run it")
    sys.exit(0)


def run(*words):
    print("$", *words)
    subprocess.run(words, check=True)


def model_of(tensors):
    """A tree of modules with these parameters: linear layers where weights are matrices."""
    root = torch.nn.Module()
    for name, value in tensors.items():
        *path, leaf = name.split(".")
        module = root
        for at, part in enumerate(path):
            if not hasattr(module, part):
                whole = ".".join(path[: at + 1])
                weight = tensors.get(whole + ".weight") if at + 1 == len(path) else None
                if weight is not None and weight.dim() == 2 and "embed" not in whole:
                    bias = whole + ".bias" in tensors
                    child = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias, dtype=weight.dtype)
                else:
                    child = torch.nn.Module()
                module.add_module(part, child)
            module = getattr(module, part)
        if leaf not in dict(module.named_parameters(recurse=False)):
            module.register_parameter(leaf, torch.nn.Parameter(value.clone(), requires_grad=False))
        with torch.no_grad():
            getattr(module, leaf).copy_(value)
    return root


def order(x):
    """Words of a 16- or 32-bit float as integers in the order of the values."""
    words = x.view(torch.int16 if x.element_size() == 2 else torch.int32).to(torch.int64)
    top = 1 << (8 * x.element_size() - 1)
    return torch.where(words < 0, -top - words, words)


def check(sparse, base, tuned, work, profile, *options):
    adapter, packed, merged = work / profile, work / f"{profile}.sparse", work / f"{profile}-merged"
    run(sparse, "export-adapter", base, tuned, "-o", str(adapter), "--profile", profile, *options)
    run(sparse, "compress-adapter", base, str(adapter), "-o", str(packed))
    run(sparse, "reconstruct", base, str(packed), "-o", str(merged))

    before = load_file(pathlib.Path(base) / "model.safetensors")
    ours = load_file(merged / "model.safetensors")
    floats = {n: t for n, t in before.items() if t.is_floating_point()}
    keys = set(load_file(adapter / "adapter_model.safetensors"))
    loaded = PeftModel.from_pretrained(model_of(floats), str(adapter))
    state = {n.replace(".default", "") for n in loaded.state_dict() if "lora_" in n}
    if state != keys:
        sys.exit(f"peft has other keys than the file: {sorted(state ^ keys)[:4]}")
    theirs = loaded.merge_and_unload().state_dict()
    changed = exact = worst = 0
    for name, want in theirs.items():
        want = want.contiguous()
        if torch.equal(want, before[name]):
            continue
        distance = (order(want) - order(ours[name].contiguous())).abs()
        changed += distance.numel()
        exact += int((distance == 0).sum())
        # Next to zero, units in the last place are tiny: there, absolute errors count.
        large = want.abs() > 1e-3 * want.abs().max()
        worst = max(worst, int(distance[large].max()))
    config = json.loads((adapter / "adapter_config.json").read_text())
    print(f"{profile}: rank {config['r']}, {len(keys)} tensors, {changed} weights merged,"
          f" {100 * exact / max(changed, 1):.3f} % equal to peft's, others within {worst} ULP")
    if changed == 0 or exact < 0.99 * changed or worst > 2:
        sys.exit(f"{profile}: the merged weights differ from peft's")


def main():
    if len(sys.argv) == 2:
        from peft_kinds import check_kinds

        sys.exit(check_kinds(sys.argv[1]))
    sparse, base, tuned = sys.argv[1:4]
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        check(sparse, base, tuned, work, "portable", "--rank", "8")
        check(sparse, base, tuned, work, "peft", "--energy", "0.5")
    print("1 passed, 0 failed")


main()
