"""Adapters of each kind that PEFT writes, for `check_peft.py`: packaged by `sparse`, and merged by both."""

import filecmp
import json
import pathlib
import subprocess
import tempfile

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

LINEAR = ["q_proj", "v_proj", "down_proj"]
CONV1D = ["c_attn", "c_proj", "c_fc"]


transformers.logging.disable_progress_bar()


def llama(bias=False):
    sizes = dict(hidden_size=64, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2)
    config = transformers.LlamaConfig(
        **sizes, num_hidden_layers=2, vocab_size=128, attention_bias=bias, tie_word_embeddings=False
    )
    return transformers.LlamaForCausalLM(config)


def gpt2():
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=128))


def experts():
    sizes = dict(hidden_size=64, intermediate_size=96, moe_intermediate_size=48, num_attention_heads=4)
    config = transformers.Qwen3MoeConfig(
        **sizes, num_key_value_heads=2, num_hidden_layers=2, vocab_size=128, num_experts=4, head_dim=16
    )
    return transformers.Qwen3MoeForCausalLM(config)


class Convolutions(torch.nn.Module):
    """Layers as of a U-Net, with the methods of `transformers` that are used here."""

    def __init__(self):
        super().__init__()
        self.down = torch.nn.Conv2d(8, 16, 3)
        self.proj = torch.nn.Conv2d(16, 8, 1)
        self.line = torch.nn.Conv1d(8, 16, 3)

    def forward(self, x):
        return self.proj(self.down(x))

    def save_pretrained(self, folder):
        pathlib.Path(folder).mkdir(parents=True)
        save_file({n: t.contiguous() for n, t in self.state_dict().items()}, f"{folder}/model.safetensors")


def lora(targets, **more):
    return LoraConfig(r=4, lora_alpha=6, target_modules=targets, **more)


FUSED = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
# Name, model, configuration of the adapter; whether the merge is done here.
KINDS = [
    ("plain", llama, lambda: lora(LINEAR), True),
    ("rslora", llama, lambda: lora(LINEAR, use_rslora=True), True),
    ("patterns", llama, lambda: lora(LINEAR, rank_pattern={"v_proj": 2}, alpha_pattern={"down_proj": 5}), True),
    ("lora-bias", lambda: llama(True), lambda: lora(["q_proj", "v_proj"], lora_bias=True), True),
    ("bias-all", lambda: llama(True), lambda: lora(["q_proj"], bias="all"), True),
    ("bias-lora-only", lambda: llama(True), lambda: lora(["q_proj"], bias="lora_only"), True),
    ("dora", llama, lambda: lora(LINEAR, use_dora=True), True),
    ("embeddings", llama, lambda: lora(["q_proj", "embed_tokens", "lm_head"]), True),
    ("embedding-dora", llama, lambda: lora(["embed_tokens"], use_dora=True), True),
    ("saved", llama, lambda: lora(["q_proj"], modules_to_save=["lm_head", "norm"]), True),
    ("token-rows", llama, lambda: lora(["q_proj"], trainable_token_indices=[1, 5, 7]), True),
    ("trainable-tokens", llama, lambda: peft.TrainableTokensConfig(token_indices=[2, 9]), True),
    ("tied-token-rows", gpt2, lambda: lora(["c_attn"], trainable_token_indices={"wte": [3, 4]}), True),
    ("experts", experts, lambda: lora(["q_proj"], target_parameters=FUSED), True),
    ("conv1d", gpt2, lambda: lora(CONV1D), True),
    ("conv1d-dora", gpt2, lambda: lora(CONV1D, use_dora=True, fan_in_fan_out=True), True),
    ("convolutions", Convolutions, lambda: lora(["down", "proj", "line"]), True),
    ("convolution-dora", Convolutions, lambda: lora(["down", "proj", "line"], use_dora=True), True),
    ("tied-embedding", gpt2, lambda: lora(["wte"]), False),
    ("replicated", llama, lambda: lora(LINEAR, layer_replication=[[0, 2], [1, 2]]), False),
    ("pissa", llama, lambda: lora(LINEAR, init_lora_weights="pissa"), False),
    ("loha", llama, lambda: peft.LoHaConfig(r=4, target_modules=LINEAR), False),
    ("lokr", llama, lambda: peft.LoKrConfig(r=4, target_modules=LINEAR), False),
    ("ia3", llama, lambda: peft.IA3Config(target_modules=LINEAR, feedforward_modules=["down_proj"]), False),
    ("vera", llama, lambda: peft.VeraConfig(r=4, target_modules=["q_proj"]), False),
    ("oft", llama, lambda: peft.OFTConfig(r=4, oft_block_size=0, target_modules=["q_proj"]), False),
    ("adalora", llama, lambda: peft.AdaLoraConfig(target_modules=LINEAR, total_step=10), False),
    ("pickle", llama, lambda: lora(LINEAR), False),
]


def order(x):
    """Words of a 16- or 32-bit float as integers in the order of the values."""
    words = x.contiguous().view(torch.int16 if x.element_size() == 2 else torch.int32).to(torch.int64)
    top = 1 << (8 * x.element_size() - 1)
    return torch.where(words < 0, -top - words, words)


def run(*words):
    return subprocess.run(words, capture_output=True, text=True)


def same_folder(a, b):
    files = sorted(p.relative_to(a) for p in a.rglob("*") if p.is_file())
    others = sorted(p.relative_to(b) for p in b.rglob("*") if p.is_file())
    return files == others and all(filecmp.cmp(a / f, b / f, shallow=False) for f in files)


def make(kind, dtype, work):
    """A base and an adapter in folders, and PEFT's merge of the two."""
    name, model_of, config_of, _ = kind
    torch.manual_seed(sum(map(ord, name)))
    base = model_of().to(dtype)
    before = {n: t.clone() for n, t in base.state_dict().items()}
    if name == "experts":
        # As files that keep experts fused have them.
        (work / "base").mkdir()
        save_file(before, work / "base" / "model.safetensors")
        base.config.save_pretrained(str(work / "base"))
    else:
        base.save_pretrained(str(work / "base"))
    model = get_peft_model(base, config_of(), low_cpu_mem_usage=False)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += (0.05 * torch.randn(parameter.shape)).to(parameter.dtype)
    model.save_pretrained(str(work / "adapter"), safe_serialization=name != "pickle")
    fresh = model_of().to(dtype)
    fresh.load_state_dict(before)
    loaded = PeftModel.from_pretrained(fresh, str(work / "adapter"))
    merge = getattr(loaded, "merge_and_unload", None)
    return before, {n: t.clone() for n, t in merge().state_dict().items()} if merge else {}


def check(sparse, kind, dtype):
    """What is wrong, or None; and what to print."""
    name, merged_here = kind[0], kind[3]
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        before, theirs = make(kind, dtype, work)
        base, adapter, packed = str(work / "base"), str(work / "adapter"), str(work / "a.sparse")
        done = run(sparse, "compress-adapter", base, adapter, "-o", packed)
        if done.returncode:
            return f"packaging fails: {done.stderr.strip()}", ""
        run(sparse, "reconstruct", packed, "-o", str(work / "back"))
        if not same_folder(work / "adapter", work / "back"):
            return "another folder comes back", ""
        done = run(sparse, "reconstruct", base, packed, "-o", str(work / "merged"))
        if not merged_here:
            said = done.stderr.strip().splitlines()[-1:] or [""]
            return (None if done.returncode else "it is merged"), f"refused: {said[0][:150]}"
        if done.returncode:
            return f"merging fails: {done.stderr.strip()}", ""
        ours = load_file(work / "merged" / "model.safetensors")
        count = exact = worst = 0
        for tensor, got in ours.items():
            want = theirs[tensor].to(got.dtype)
            distance = (order(want) - order(got)).abs()
            if torch.equal(want, before[tensor]):
                if distance.any():
                    return f"{tensor} changed", ""
                continue
            count, exact = count + distance.numel(), exact + int((distance == 0).sum())
            # Next to zero, units in the last place are tiny: there, absolute errors count.
            large = want.abs() > 1e-3 * want.abs().max()
            worst = max(worst, int(distance[large].max()))
        text = f"{count} weights merged, {count - exact} differ from PEFT's, by up to {worst} ULP"
        return (None if count and worst <= (1 if dtype != torch.float32 else 16) else "not PEFT's merge"), text


def check_kinds(sparse):
    failed = 0
    for kind in KINDS:
        for dtype in [torch.bfloat16, torch.float32] if kind[3] else [torch.bfloat16]:
            try:
                wrong, text = check(sparse, kind, dtype)
            except Exception as error:  # PEFT's own limits differ between versions.
                wrong, text = None, f"skipped, PEFT says: {type(error).__name__}: {str(error)[:150]}"
            failed += wrong is not None
            print("FAIL" if wrong else "ok", kind[0], str(dtype).removeprefix("torch."), wrong or "", text)
    print(json.dumps({"peft": peft.__version__, "failed": failed}))
    return failed > 0
