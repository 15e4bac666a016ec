"""The older names."""

import subprocess
import sys

import pytest
import sparse_llm
import sparse_llm.core


def test_functions_are_the_same():
    for name in sparse_llm.core.__all__:
        assert getattr(sparse_llm.core, name) is getattr(sparse_llm, name), name


def run(code, folder):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60
    )


def test_core_by_its_own_name(tmp_path):
    code = (
        "import sparse_llm.compat, sparse_llm\n"
        "from core.delta import compress_delta, validate_int8_delta_quality\n"
        "from core.dataset_delta import compress_dataset_delta\n"
        "from core.fast_reconstruct import DeltaCache, from_pretrained_with_delta\n"
        "import core\n"
        "assert core.compress_delta is sparse_llm.compress_delta\n"
    )
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_module_of_the_users_keeps_its_name(tmp_path):
    (tmp_path / "core.py").write_text("mine = True\n")
    done = run("import sparse_llm.compat", tmp_path)
    assert done.returncode == 1 and "sparse_llm.core" in done.stderr
    done = run("import sparse_llm.core, core; assert core.mine", tmp_path)
    assert done.returncode == 0, done.stderr


def test_int8_says_what_it_loses(tmp_path):
    np = pytest.importorskip("numpy")
    save_file = pytest.importorskip("safetensors.numpy").save_file
    draw = np.random.default_rng(2)
    for name, scale in (("base", 0), ("tuned", 0.05)):
        (tmp_path / name).mkdir()
        first = np.random.default_rng(1).standard_normal((3, 64, 64)).astype(np.float32)
        moved = first + scale * draw.standard_normal(first.shape).astype(np.float32)
        tensors = {f"layer.{i}.weight": matrix for i, matrix in enumerate(moved)}
        save_file(tensors, tmp_path / name / "model.safetensors")
    found = sparse_llm.validate_int8_delta_quality(
        tmp_path / "base", tmp_path / "tuned", sample_layers=2, prompts=[]
    )
    assert found["status"] == "ok" and found["logits"] is None
    assert len(found["layer_metrics"]) == 2
    assert all(0 < layer["max_abs_error"] < 0.01 for layer in found["layer_metrics"])


def test_answers_to_prompts_are_compared(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from conftest import FIXTURES

    tuned = transformers.AutoModelForCausalLM.from_pretrained(FIXTURES / "llama-micro")
    with torch.no_grad():
        for weight in tuned.parameters():
            weight += 0.01 * torch.randn_like(weight)
    tuned.save_pretrained(tmp_path / "tuned")
    transformers.AutoTokenizer.from_pretrained(FIXTURES / "llama-micro").save_pretrained(tmp_path / "tuned")
    found = sparse_llm.validate_int8_delta_quality(FIXTURES / "llama-micro", tmp_path / "tuned")
    assert set(found.logits) == {
        "max_abs_error",
        "mean_kl",
        "top1_agreement",
        "perplexity",
        "perplexity_difference",
        "perplexity_difference_interval",
    }
    low, high = found.logits["perplexity_difference_interval"]
    assert low <= found.logits["perplexity_difference"] <= high
    assert 0 < found.logits["max_abs_error"] and found.logits["top1_agreement"] > 0.5


def test_optimizer_by_its_own_name(tmp_path):
    code = (
        "import sparse_llm.compat, sparse_llm\n"
        "from optimizer import OptimizationConstraints, optimize_model\n"
        "from optimizer.routing import suggest_optimal_model\n"
        "assert optimize_model is sparse_llm.optimize_model\n"
    )
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "optimizer.py").write_text("mine = True\n")
    done = run("import sparse_llm.compat, optimizer; assert optimizer.mine", tmp_path)
    assert done.returncode == 0, done.stderr
