#!/usr/bin/env python3
"""Logits of tiny models by transformers, for the tests of crates/sparse-eval.

    pip install torch transformers numpy
    scripts/make_eval_references.py

It writes two files in crates/sparse-eval/tests/data. `architectures.json` has logits of tiny models of each kind.
The weights are no file: both sides compute them from the tensors' names (`weights`). One entry for each setting that
changes what a decoder computes: architectures, biases, ties, ways of scaling rotary positions. Logits in float32, eager
attention.

`llama-micro.json` has figures of fixtures/llama-micro on `text.txt`, and of the same model with its matrices changed a
little, in windows of 64 tokens that do not overlap and that start every 32: each token is scored once, by the first
window that has it and a token before it.
"""

import json
import math
import pathlib

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT / "crates/sparse-eval/tests/data"
MICRO = ROOT / "fixtures/llama-micro"
WINDOW = 64
TOKENS = [3, 17, 42, 8, 8, 31, 0, 47, 25, 11, 39, 2, 14, 29, 45, 6, 33, 21, 9, 40, 1, 27, 36, 12]

LLAMA = dict(
    vocab_size=48, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=40, max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0,
    tie_word_embeddings=False, hidden_act="silu", bos_token_id=0, eos_token_id=0, pad_token_id=None,
)  # fmt: skip
GPT2 = dict(
    vocab_size=48, n_positions=64, n_embd=32, n_layer=2, n_head=4, n_inner=None, activation_function="gelu_new",
    layer_norm_epsilon=1e-5, bos_token_id=0, eos_token_id=0, pad_token_id=None,
)  # fmt: skip


def scaled(**how):
    """Rotary positions in the form of transformers 5."""
    return {**LLAMA, "rope_parameters": {"rope_theta": 10000.0, **how}, "model_type": "llama"}


MODELS = {
    "llama": {**LLAMA, "model_type": "llama"},
    "llama tied, one head of keys": {**LLAMA, "model_type": "llama", "tie_word_embeddings": True, "num_key_value_heads": 1},
    "llama with biases, heads of 16": {**LLAMA, "model_type": "llama", "attention_bias": True, "mlp_bias": True, "head_dim": 16},
    "llama, gelu": {**LLAMA, "model_type": "llama", "hidden_act": "gelu"},
    "linear": scaled(rope_type="linear", factor=3.0),
    "dynamic": scaled(rope_type="dynamic", factor=2.0),
    "llama3": scaled(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                     original_max_position_embeddings=16),
    "yarn": scaled(rope_type="yarn", factor=4.0, original_max_position_embeddings=16),
    "yarn with all settings": scaled(rope_type="yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=8.0,
                                     beta_slow=0.5, attention_factor=1.25, truncate=False),
    "yarn with scales": scaled(rope_type="yarn", factor=4.0, original_max_position_embeddings=16, mscale=0.7,
                               mscale_all_dim=1.3),
    "mistral": {**LLAMA, "model_type": "mistral", "sliding_window": None, "head_dim": 12},
    "qwen2": {**LLAMA, "model_type": "qwen2", "tie_word_embeddings": True, "use_sliding_window": False},
    "qwen3": {**LLAMA, "model_type": "qwen3", "head_dim": 16, "use_sliding_window": False},
    "gpt2": {**GPT2, "model_type": "gpt2"},
    "gpt2, all options": {**GPT2, "model_type": "gpt2", "n_inner": 48, "activation_function": "relu",
                          "scale_attn_by_inverse_layer_idx": True, "tie_word_embeddings": False},
    "gpt2, unscaled": {**GPT2, "model_type": "gpt2", "activation_function": "gelu", "scale_attn_weights": False},
}  # fmt: skip


def weights(name, shape):
    """Multiples of 2^-18 that follow from the name: FNV-1a of it seeds splitmix64."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    count = int(np.prod(shape))
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    part = (z >> np.uint64(48)).astype(np.float64) / 65536 - 0.5
    if len(shape) == 1 and name.endswith(".weight"):
        part = 1 + part / 2
    return torch.from_numpy(part.reshape(shape).astype(np.float32))


def architectures():
    models = []
    for title, settings in MODELS.items():
        config = AutoConfig.for_model(**settings)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().float()
        tied = getattr(config, "tie_word_embeddings", True)
        parameters = dict(model.named_parameters())
        tensors = {n: list(p.shape) for n, p in parameters.items() if not (tied and n == "lm_head.weight")}
        for name, parameter in model.named_parameters():
            if name in tensors:
                parameter.copy_(weights(name, tensors[name]))
        logits = model(torch.tensor([TOKENS]), use_cache=False).logits[0]
        models.append(
            dict(
                title=title,
                config=json.loads(config.to_json_string()),
                tensors=tensors,
                logits=[[round(float(x), 5) for x in row] for row in logits[::3]],
            )
        )
    head = dict(made_by="scripts/make_eval_references.py", tokens=TOKENS, positions="every third")
    lines = ",\n".join(json.dumps(m) for m in models)
    text = json.dumps(head)[:-1] + ', "models": [\n' + lines + "\n]}\n"
    (DATA / "architectures.json").write_text(text)


def load_micro(changed):
    model = AutoModelForCausalLM.from_pretrained(MICRO, dtype=torch.float32, attn_implementation="eager").eval()
    if changed:
        for name, p in model.named_parameters():
            if p.dim() == 2:
                p.copy_((p + weights(name, list(p.shape)) / 64).to(torch.bfloat16).float())
    return model


def windows(count, stride):
    start = new = 0
    while new < count:
        end = min(start + WINDOW, count)
        yield start, end, new
        new, start = end, start + stride


def micro():
    tokenizer = Tokenizer.from_file(str(MICRO / "tokenizer.json"))
    ids = tokenizer.encode((DATA / "text.txt").read_text(), add_special_tokens=False).ids
    models = dict(model=load_micro(False), changed=load_micro(True))
    out = dict(made_by="scripts/make_eval_references.py", tokens=len(ids), first_tokens=ids[:16])
    for stride in (WINDOW, WINDOW // 2):
        figures = dict(windows=0, scored=0, nll={name: 0.0 for name in models})
        kl, agree = [], []
        for start, end, new in windows(len(ids), stride):
            logs = {}
            for name, model in models.items():
                logits = model(torch.tensor([ids[start:end]]), use_cache=False).logits[0]
                logs[name] = torch.log_softmax(logits.double(), -1)
                first = max(new, start + 1)
                for i in range(first, end):
                    figures["nll"][name] -= float(logs[name][i - 1 - start, ids[i]])
            figures["windows"] += 1
            figures["scored"] += end - first
            p, q = (logs[name][new - start :] for name in models)
            kl += (p.exp() * (p - q)).sum(-1).tolist()
            agree += (p.argmax(-1) == q.argmax(-1)).tolist()
        figures["perplexity"] = {name: math.exp(nll / figures["scored"]) for name, nll in figures["nll"].items()}
        figures.update(positions=len(kl), kl_mean=float(np.mean(kl)), kl_p99=float(np.percentile(kl, 99)), kl_max=max(kl))
        out["stride_%d" % stride] = figures | dict(top1=float(np.mean(agree)))
    (DATA / "llama-micro.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.no_grad():
        architectures()
        micro()
