"""Tensors of torch, models of transformers."""

from pathlib import Path

import pytest
import sparse_llm

torch = pytest.importorskip("torch")


DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32"]
DTYPES += ["float64", "complex64", "float8_e4m3fn", "float8_e5m2"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 2), (3,), (5, 4)])
def test_every_type_goes_both_ways(tmp_path, dtype, shape):
    kind = getattr(torch, dtype)
    value = torch.randint(0, 2 if dtype == "bool" else 100, shape).to(torch.float32).to(kind)
    sparse_llm.compress({"x": value}, None, tmp_path / "d.sparse")
    found = sparse_llm.load_file(None, tmp_path / "d.sparse", "pt")["x"]
    assert found.dtype == kind and found.shape == value.shape
    assert torch.equal(
        found.reshape(-1).view(torch.uint8) if shape else found.to(torch.float32),
        value.reshape(-1).view(torch.uint8) if shape else value.to(torch.float32),
    )


def test_views_and_gradients(tmp_path):
    whole = torch.arange(24.0).reshape(4, 6).requires_grad_()
    state = {"turned": whole.t(), "part": whole[1:3, 2:], "tied": whole}
    sparse_llm.compress(state, None, tmp_path / "d.sparse")
    found = sparse_llm.load_file(None, tmp_path / "d.sparse", "pt")
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_what_has_no_values_is_refused(tmp_path):
    for bad in (torch.empty(3, device="meta"), torch.eye(3).to_sparse()):
        with pytest.raises(sparse_llm.InvalidArgumentError) as caught:
            sparse_llm.compress({"bad": bad}, None, tmp_path / "d.sparse")
        assert caught.value.tensor == "bad"


def tiny(folder, kind, tied, shards=False, dtype="float32"):
    """Write a tiny model and a fine-tune of it."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    if kind == "llama":
        config = transformers.LlamaConfig(
            vocab_size=96, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=tied,
        )
        model = transformers.LlamaForCausalLM(config)
    else:
        config = transformers.GPT2Config(
            vocab_size=96, n_embd=32, n_layer=2, n_head=4, n_positions=64, tie_word_embeddings=tied
        )
        model = transformers.GPT2LMHeadModel(config)
    model = model.to(getattr(torch, dtype)).eval()
    size = "40KB" if shards else "5GB"
    model.save_pretrained(folder / "base", max_shard_size=size)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 1e-3 * torch.randn_like(weight)
    model.generation_config.max_new_tokens = 7
    model.save_pretrained(folder / "tuned", max_shard_size="30KB" if shards else "5GB")
    sparse_llm.compress_delta(folder / "base", folder / "tuned", folder / "d.sparse")
    return folder / "base", folder / "tuned", folder / "d.sparse"


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shards", [False, True])
def test_logits_are_those_of_the_finetune(tmp_path, kind, tied, shards):
    transformers = pytest.importorskip("transformers")
    base, tuned, delta = tiny(tmp_path, kind, tied, shards)
    true = transformers.AutoModelForCausalLM.from_pretrained(tuned)
    model = sparse_llm.from_pretrained_with_delta(delta, base)
    assert type(model) is type(true) and not model.training
    assert model.generation_config.max_new_tokens == 7
    assert model.config._name_or_path == str(delta)
    state, wanted = model.state_dict(), true.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)
    ids = torch.arange(24)[None]
    with torch.inference_mode():
        assert torch.equal(model(ids).logits, true(ids).logits)
    assert tied == (model.get_output_embeddings().weight is model.get_input_embeddings().weight)


@pytest.mark.parametrize("dtype", ["bfloat16", "auto", torch.float16])
def test_other_types_and_classes(tmp_path, dtype):
    transformers = pytest.importorskip("transformers")
    base, tuned, delta = tiny(tmp_path, "llama", False, dtype="bfloat16")
    cls = transformers.LlamaForCausalLM
    true = cls.from_pretrained(tuned, dtype=dtype)
    model = sparse_llm.from_pretrained_with_delta(delta, base, cls, dtype=dtype)
    assert model.dtype == true.dtype
    wanted = true.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())
    assert type(sparse_llm.reconstruct_from_delta(base, delta)) is cls


def test_device_map(tmp_path):
    pytest.importorskip("accelerate")
    base, tuned, delta = tiny(tmp_path, "llama", False)
    model = sparse_llm.from_pretrained_with_delta(delta, base, device_map="cpu")
    assert {str(weight.device) for weight in model.parameters()} == {"cpu"}


def test_arguments_that_the_delta_answers(tmp_path, base, delta):
    pytest.importorskip("transformers")
    with pytest.raises(sparse_llm.InvalidArgumentError):
        sparse_llm.from_pretrained_with_delta(delta, base, state_dict={})


def test_each_tensor_is_decoded_once(tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    base, tuned, delta = tiny(tmp_path, "gpt2", True, shards=True)
    from sparse_llm.reading import DeltaFile

    read, get = [], DeltaFile.get_tensor
    monkeypatch.setattr(DeltaFile, "get_tensor", lambda file, key: read.append(key) or get(file, key))
    sparse_llm.from_pretrained_with_delta(delta, base)
    with sparse_llm.open(base, delta) as file:
        assert sorted(read) == sorted(file.keys())


def test_arguments_of_the_configuration(tmp_path):
    transformers = pytest.importorskip("transformers")
    base, tuned, delta = tiny(tmp_path, "llama", False)
    for options in ({"use_cache": False}, {"num_labels": 3}):
        true = transformers.AutoModelForCausalLM.from_pretrained(tuned, **options)
        model = sparse_llm.from_pretrained_with_delta(delta, base, **options)
        for name in options:
            assert getattr(model.config, name) == getattr(true.config, name) == options[name]
    for cls in (5, "AutoModel"):
        with pytest.raises(sparse_llm.InvalidArgumentError):
            sparse_llm.from_pretrained_with_delta(delta, base, cls)
    config = sparse_llm.from_pretrained_with_delta(delta, base, transformers.AutoConfig)
    assert config.model_type == "llama"


def test_conjugates_and_nested(tmp_path):
    value = torch.complex(torch.rand(3), torch.rand(3)).conj()
    sparse_llm.compress({"x": value}, None, tmp_path / "d.sparse")
    assert torch.equal(sparse_llm.load_file(None, tmp_path / "d.sparse", "pt")["x"], value)
    nested = torch.nested.nested_tensor([torch.rand(2), torch.rand(3)])
    with pytest.raises(sparse_llm.InvalidArgumentError):
        sparse_llm.compress({"x": nested}, None, tmp_path / "e.sparse")
    with pytest.raises(sparse_llm.InvalidArgumentError):
        sparse_llm.open(None, tmp_path / "d.sparse", "pt", "wat")


def test_weights_in_folders_of_the_model_are_not_the_models(tmp_path):
    transformers = pytest.importorskip("transformers")
    import safetensors.torch

    base, tuned, _ = tiny(tmp_path, "llama", False)
    (tuned / "adapter").mkdir()
    safetensors.torch.save_file({"lora_A.weight": torch.ones(2, 2)}, tuned / "adapter" / "adapter_model.safetensors")
    delta = tmp_path / "with.sparse"
    sparse_llm.compress_delta(base, tuned, delta)
    taken = []

    class Watching(transformers.LlamaForCausalLM):
        @classmethod
        def from_pretrained(cls, name, *args, **kwargs):
            taken.append((name, kwargs.get("state_dict")))
            return super().from_pretrained(name, *args, **kwargs)

    model = sparse_llm.from_pretrained_with_delta(delta, base, Watching)
    (name, state), = taken
    assert state is None and (Path(name) / "adapter").is_dir(), "from a restored folder, as transformers reads one"
    true = transformers.AutoModelForCausalLM.from_pretrained(tuned)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), true.parameters()))
