"""Fine-tune a small model, store what changed, and load it back: the same logits, bit for bit.

    pip install ./bindings/python torch transformers
    python examples/python/finetune_to_delta.py

Takes a model as `--base`, or the one in the repository's fixtures, and works in a folder that it removes. Read it
from top to bottom: each part is a cell of a notebook.
"""

# %% What is needed
import argparse
import pathlib
import tempfile

import sparse_llm
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = pathlib.Path(__file__).parent
TEXT = """A train leaves at noon and goes 60 miles an hour. How far is it at half past two? It has gone for two and a
half hours, so it is 150 miles away. A box holds 12 eggs. How many are in 4 boxes? There are 4 times 12, which is 48."""


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", default=str(HERE / "../../fixtures/llama-micro"))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--folder", help="where to work; by default a folder that is removed")
    return parser.parse_args()


# %% Fine-tune: a few steps on a text
def finetune(base, steps):
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    ids = tokenizer(TEXT, return_tensors="pt")["input_ids"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model.train()
    losses = []
    for _ in range(steps):
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    # As fine-tunes are published: in the type of the base.
    return model.eval().to(torch.bfloat16), tokenizer, ids, losses


def main():
    arguments = parse()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(arguments.folder or scratch)
        torch.manual_seed(0)
        model, tokenizer, ids, losses = finetune(arguments.base, arguments.steps)
        model.save_pretrained(folder / "finetuned")
        tokenizer.save_pretrained(folder / "finetuned")
        print(f"fine-tuned: loss {losses[0]:.3f} -> {losses[-1]:.3f}")

        # %% Store what changed
        estimate = sparse_llm.estimate_delta_savings(arguments.base, folder / "finetuned", share=1.0)
        manifest = sparse_llm.compress_delta(
            arguments.base, folder / "finetuned", folder / "my.sparse"
        )
        print(
            f"stored: {manifest['target_bytes']:,} bytes as {manifest['delta_bytes']:,} "
            f"({manifest['compression_ratio']:.2f} times smaller; estimated "
            f"{estimate['estimated_compression']:.2f})"
        )

        # %% Load it back over the base, without writing it
        restored = sparse_llm.from_pretrained_with_delta(folder / "my.sparse", arguments.base)
        true = AutoModelForCausalLM.from_pretrained(folder / "finetuned")
        with torch.inference_mode():
            same = torch.equal(restored(ids).logits, true(ids).logits)
        print(f"loaded back: logits are {'the same, bit for bit' if same else 'DIFFERENT'}")

        # %% Or the files
        sparse_llm.restore(arguments.base, folder / "my.sparse", folder / "restored")
        names = sorted(path.name for path in (folder / "finetuned").iterdir())
        equal = all(
            (folder / "finetuned" / name).read_bytes() == (folder / "restored" / name).read_bytes()
            for name in names
        )
        print(f"restored: {len(names)} files are {'the same, byte for byte' if equal else 'DIFFERENT'}")
        return 0 if same and equal else 1


if __name__ == "__main__":
    raise SystemExit(main())
