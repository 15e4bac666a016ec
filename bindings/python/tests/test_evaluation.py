"""Models measured, chosen among and routed to; a program stands in for sparse-eval."""

import json
import sys
from pathlib import Path

import pytest
import sparse_llm
from sparse_llm import OptimizationConstraints, evaluate, optimize_model, suggest_optimal_model

ROOT = Path(__file__).parents[3]
STAND_IN = ROOT / "crates/sparse-optimize/tests/stand-in.sh"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")


@pytest.fixture
def model(tmp_path):
    """A folder that the stand-in takes for a model."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def test_evaluate(model):
    found = evaluate(model, against=model, latency=True, program=STAND_IN)
    assert found["perplexity"] == 10 and found["against"]["kl_mean"] == 0.02
    found = evaluate(model, prompts=["one"], program=STAND_IN)
    assert found["prompts"][0]["next"][0]["text"] == "a"


def test_optimize(model, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    given = tmp_path / "given.json"
    given.write_text(json.dumps([{"name": "awq", "bytes": 400, "ppl_delta": 3.0}]))
    options = {
        "weights": ["q8_0", "q3_k", "q2_k"],
        "commands": {"gptq": """echo '{"result":{"bytes":450,"ppl_delta":0.5}}'"""},
        "candidates": [given],
        "work": work,
        "program": STAND_IN,
        "price_per_hour": 3.6,
    }
    found = optimize_model(model, OptimizationConstraints(max_ppl_delta=2.0), **options)
    assert found.winner.candidate_name == "gptq"
    assert found.winner.provenance == "given" and found.winner.compression_ratio == 1000 / 450
    by_name = {c.candidate_name: c for c in found.candidates}
    assert by_name["q8_0"].cost_per_1m_tokens == 2.0
    assert by_name["awq"].misses == ("perplexity difference 3 exceeds 2 by 1",)
    assert found.failed == {"q3_k": "no such form"}
    # Nothing fits: no winner, and what comes nearest.
    limits = OptimizationConstraints(max_ppl_delta=0.05, max_bytes=100)
    found = optimize_model(model, limits, **options)
    assert found.winner is None and "nothing fits" in found.reasoning and found.nearest
    assert found.report["reused"] == 7


def test_one_text_is_no_list(model):
    with pytest.raises(sparse_llm.SparseError, match="give a list of texts"):
        evaluate(model, prompts="hello", program=STAND_IN)
    with pytest.raises(sparse_llm.SparseError, match="give a list, as"):
        optimize_model(model, weights="q8_0", program=STAND_IN)
    with pytest.raises(sparse_llm.SparseError, match="OptimizationConstraints"):
        optimize_model(model, {"max_ppl_delta": 2}, program=STAND_IN)
    with pytest.raises(sparse_llm.SparseError, match="prompts is empty"):
        evaluate(model, prompts=[], program=STAND_IN)


def test_numbers_that_cannot_be(model):
    for wrong in (-5, 0, 2.5, 1 << 70):
        with pytest.raises(sparse_llm.SparseError, match=f"context is {wrong}: give a whole number above 0"):
            evaluate(model, context=wrong, program=STAND_IN)
    for limits in ({"max_bytes": -1}, {"max_bytes": 0.5}, {"max_ppl_delta": "2"}):
        with pytest.raises(sparse_llm.SparseError, match=f"{next(iter(limits))} is "):
            optimize_model(model, OptimizationConstraints(**limits), program=STAND_IN)
    found = optimize_model(model, OptimizationConstraints(max_bytes=1e9), weights=["q8_0"], program=STAND_IN)
    assert found.winner


def test_errors_say_what_is_wrong(model, monkeypatch):
    with pytest.raises(sparse_llm.SparseError, match="objective"):
        optimize_model(model, objective="speed", program=STAND_IN)
    monkeypatch.delenv("SPARSE_EVAL", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(sparse_llm.SparseError, match="cargo install --path crates/sparse-eval"):
        evaluate(model)


CATALOGUE = {
    "version": 1,
    "currency": "EUR",
    "models": [
        {
            "id": "small",
            "role": "cheap",
            "offers": [{"price_per_million_input": 0.1, "price_per_million_output": 0.4}],
        },
        {
            "id": "large",
            "role": "strong",
            "offers": [{"price_per_million_input": 2.0, "price_per_million_output": 8.0}],
        },
    ],
}


def test_routing_without_labels_is_a_guess(tmp_path, monkeypatch):
    catalogue = tmp_path / "catalogue.json"
    catalogue.write_text(json.dumps(CATALOGUE))
    found = suggest_optimal_model("large", "What is two and two?", 0.5, catalogue=catalogue)
    assert found.recommended_model == "small" and found.is_guess and found.currency == "EUR"
    assert found.savings > 0.9 and any("guess" in why for why in found.reasoning)
    monkeypatch.setenv("SPARSE_CATALOGUE", str(catalogue))
    assert suggest_optimal_model("large", "What?", 0.5).recommended_model == "small"
    monkeypatch.delenv("SPARSE_CATALOGUE")
    with pytest.raises(sparse_llm.SparseError, match="no catalogue"):
        suggest_optimal_model("large", "What?")
    with pytest.raises(sparse_llm.SparseError, match="other"):
        suggest_optimal_model("other", "What?", catalogue=catalogue)
    catalogue.write_text("{}")
    with pytest.raises(sparse_llm.SparseError, match="catalogue.json"):
        suggest_optimal_model("large", "What?", catalogue=catalogue)
