"""A delta over its base, read like a safetensors file."""

import pytest
import sparse_llm

np = pytest.importorskip("numpy")
safetensors = pytest.importorskip("safetensors")


def test_tensors_equal_safetensors(base, finetuned, delta):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    raw = safetensors.deserialize((finetuned / "model.safetensors").read_bytes())
    with sparse_llm.open(base, delta) as file:
        assert file.keys() == [name for name, _ in raw] or set(file.keys()) == {n for n, _ in raw}
        for name, tensor in raw:
            found = file.get_tensor(name)
            assert found.dtype == ml_dtypes.bfloat16 and list(found.shape) == tensor["shape"]
            assert found.tobytes() == bytes(tensor["data"])


DTYPES = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
DTYPES += ["float16", "float32", "float64", "complex64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (5, 4), (2, 0, 3), (4, 3, 2)])
def test_every_type_and_shape_goes_both_ways(tmp_path, dtype, shape):
    draw = np.random.default_rng(3)
    array = draw.integers(0, 100, shape).astype(dtype)
    sparse_llm.compress({"x": array, "y/ü": array}, None, tmp_path / "d.sparse")
    with sparse_llm.open(None, tmp_path / "d.sparse") as file:
        for name in ("x", "y/ü"):
            found = file.get_tensor(name)
            assert found.dtype == array.dtype and found.shape == array.shape
            assert found.tobytes() == array.tobytes()
            assert found.flags.writeable


@pytest.mark.parametrize(
    "index",
    [
        (slice(2, 5),),
        (slice(None),),
        (slice(-3, None),),
        (slice(5, 2),),
        (slice(None, None, 2),),
        (slice(8, 1, -3),),
        (slice(None, None, -1),),
        (4,),
        (-1,),
        (slice(2, 5), slice(1, 3)),
        (3, 2),
        (slice(1, 4), ..., 0),
        (..., slice(0, 2)),
        (...,),
        (),
        (slice(100, 200),),
        (np.int64(3),),
        (True,),
        ([1, 2],),
        (np.array([0, 5]),),
    ],
)
def test_slices_select_as_numpy_does(tmp_path, index):
    array = np.arange(10 * 4 * 3, dtype=np.int32).reshape(10, 4, 3)
    sparse_llm.compress({"x": array}, None, tmp_path / "d.sparse")
    with sparse_llm.open(None, tmp_path / "d.sparse") as file:
        view = file.get_slice("x")
        assert view.get_shape() == [10, 4, 3] and view.get_dtype() == "I32"
        one = index[0] if len(index) == 1 else index
        assert np.array_equal(view[one], array[one])


def test_wrong_indices_are_errors(tmp_path):
    sparse_llm.compress({"x": np.zeros((3, 2))}, None, tmp_path / "d.sparse")
    with sparse_llm.open(None, tmp_path / "d.sparse") as file:
        with pytest.raises(IndexError):
            file.get_slice("x")[3]
        with pytest.raises(sparse_llm.NotFoundError) as caught:
            file.get_tensor("y")
        assert caught.value.tensor == "y"
        with pytest.raises(sparse_llm.InvalidArgumentError):
            sparse_llm.open(None, tmp_path / "d.sparse", framework="jax")
    with pytest.raises(sparse_llm.InvalidArgumentError):
        file.get_tensor("x")


def test_state_dictionary_against_a_base(base, finetuned, tmp_path):
    raw = safetensors.deserialize((finetuned / "model.safetensors").read_bytes())
    ml_dtypes = pytest.importorskip("ml_dtypes")
    state = {
        name: np.frombuffer(bytes(t["data"]), ml_dtypes.bfloat16).reshape(t["shape"])
        for name, t in raw
    }
    made = sparse_llm.compress(state, base, tmp_path / "d.sparse", metadata={"format": "pt"})
    assert made.compression_ratio > 5
    restored = tmp_path / "restored.safetensors"
    sparse_llm.restore(base, tmp_path / "d.sparse", restored)
    with safetensors.safe_open(restored, "np") as file:
        assert file.metadata() == {"format": "pt"} and len(file.keys()) == len(state)
    assert dict(safetensors.deserialize(restored.read_bytes())).keys() == state.keys()


def test_odd_state_dictionaries_are_refused(tmp_path):
    for state in ({"x": [1, 2]}, {1: np.zeros(3)}, {"x": np.array(["a"])}, {"x": None}, {"\udc80": np.zeros(1)}):
        with pytest.raises(sparse_llm.InvalidArgumentError):
            sparse_llm.compress(state, None, tmp_path / "d.sparse")
    with pytest.raises(sparse_llm.InvalidArgumentError):
        sparse_llm.compress(tmp_path, None, tmp_path / "d.sparse", metadata={})
    assert not any(tmp_path.iterdir())


def test_layouts_of_memory(tmp_path):
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    state = {
        "columns": np.asfortranarray(array),
        "part": array[::2, 1:4],
        "swapped": array.astype(">f4"),
        "scalar": np.float64(3.5),
    }
    sparse_llm.compress(state, None, tmp_path / "d.sparse")
    found = sparse_llm.load_file(None, tmp_path / "d.sparse")
    for name, tensor in state.items():
        assert np.array_equal(found[name], tensor), name


def test_files_and_info(base, finetuned, delta):
    with sparse_llm.open(base, delta) as file:
        for path in file.files():
            assert file.read_file(path) == (finetuned / path).read_bytes()
        assert file.info()["needs_base"] and len(file.changed()) <= len(file)
        with pytest.raises(sparse_llm.NotFoundError):
            file.read_file("nope.json")
