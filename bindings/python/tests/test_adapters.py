"""Adapters: stored, merged, found in deltas."""

import json

import pytest
import sparse_llm

np = pytest.importorskip("numpy")
save_file = pytest.importorskip("safetensors.numpy").save_file


def write_adapter(folder, rank=2):
    """Write a base of one layer and an adapter of it."""
    draw = np.random.default_rng(5)
    name = "model.layers.0.self_attn.q_proj"
    (folder / "base").mkdir()
    save_file(
        {f"{name}.weight": draw.standard_normal((256, 192)).astype(np.float32)},
        folder / "base" / "model.safetensors",
    )
    (folder / "adapter").mkdir()
    factors = {
        f"base_model.model.{name}.lora_A.weight": draw.standard_normal((rank, 192)).astype(np.float32),
        f"base_model.model.{name}.lora_B.weight": draw.standard_normal((256, rank)).astype(np.float32),
    }
    save_file(factors, folder / "adapter" / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": "base",
        "bias": "none",
        "fan_in_fan_out": False,
        "task_type": "CAUSAL_LM",
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "rank_pattern": {},
        "alpha_pattern": {},
    }
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    return name, factors


def test_stored_and_restored(tmp_path):
    name, factors = write_adapter(tmp_path)
    delta = tmp_path / "adapter.sparse"
    made = sparse_llm.compress_adapter_delta(tmp_path / "base", tmp_path / "adapter", delta)
    assert made.delta_type == "adapter" and made.compression_ratio > 0
    adapter = sparse_llm.get_peft_adapter(delta)
    assert adapter.config["r"] == 2
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        with open(f"{adapter.path}/{file}", "rb") as found:
            assert found.read() == (tmp_path / "adapter" / file).read_bytes()


def test_merged_by_default_where_a_base_is_given(tmp_path):
    name, factors = write_adapter(tmp_path)
    delta = tmp_path / "adapter.sparse"
    sparse_llm.compress_adapter_delta(tmp_path / "base", tmp_path / "adapter", delta)
    sparse_llm.restore(tmp_path / "base", delta, tmp_path / "merged")
    merged = sparse_llm.load_file(None, _stored(tmp_path / "merged", tmp_path))[f"{name}.weight"]
    whole = sparse_llm.load_file(None, _stored(tmp_path / "base", tmp_path))[f"{name}.weight"]
    a, b = factors.values()
    assert np.allclose(merged - whole, 2 * b @ a, atol=1e-4)
    with sparse_llm.DeltaCache(tmp_path / "cache").get_or_reconstruct(tmp_path / "base", delta) as entry:
        kept = (tmp_path / "merged" / "model.safetensors").read_bytes()
        with open(f"{entry.path}/model.safetensors", "rb") as file:
            assert file.read() == kept


def _stored(folder, scratch):
    out = scratch / f"{folder.name}.alone.sparse"
    sparse_llm.compress_delta(None, folder, out)
    return out


def test_first_layer_of_a_delta(tmp_path):
    name, factors = write_adapter(tmp_path)
    base = sparse_llm.load_file(None, _stored(tmp_path / "base", tmp_path))[f"{name}.weight"]
    a, b = factors.values()
    (tmp_path / "tuned").mkdir()
    save_file({f"{name}.weight": base + 2 * b @ a}, tmp_path / "tuned" / "model.safetensors")
    delta = tmp_path / "svd.sparse"
    sparse_llm.compress_delta_svd_full(tmp_path / "base", tmp_path / "tuned", delta, rank=2)
    adapter = sparse_llm.get_peft_adapter(delta, tmp_path / "base", rank=2)
    assert adapter.config["r"] >= 2 and "q_proj" in str(adapter.config["target_modules"])


def test_other_deltas_have_none(base, delta):
    with pytest.raises(sparse_llm.InvalidArgumentError):
        sparse_llm.get_peft_adapter(delta, base)


def test_applied_by_peft(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    peft = pytest.importorskip("peft")
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4
    )
    model = transformers.LlamaForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "base")
    lora = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"]))
    with torch.no_grad():
        for key, weight in lora.named_parameters():
            if "lora_" in key:
                weight.copy_(torch.randn_like(weight) * 0.1)
    lora.save_pretrained(tmp_path / "adapter")
    ids = torch.arange(10)[None]
    with torch.inference_mode():
        want = lora.eval()(ids).logits
    delta = tmp_path / "d.sparse"
    sparse_llm.compress_adapter_delta(tmp_path / "base", tmp_path / "adapter", delta)
    fresh = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base")
    with torch.inference_mode():
        found = sparse_llm.get_peft_adapter(delta).apply(fresh)(ids).logits
        assert torch.equal(found, want)
        merged = sparse_llm.from_pretrained_with_delta(delta, tmp_path / "base")(ids).logits
    assert torch.allclose(merged, want, atol=1e-4)
