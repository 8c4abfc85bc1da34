"""Pickled dicts of arrays, as detectron2 publishes its models: read as they are, and never run."""

import codecs
import os
import pickle
import struct
import subprocess
import sys
import time
import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swin_transformer_pytorch.weights.files import CheckpointError, read_checkpoint

NUMBERS = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1", ">f4", ">i8")
PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)
MEGABYTE = 1 << 20


class Call:
    """What a pickle calls when it is loaded."""

    def __init__(self, function, *arguments, state=None):
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce__(self):
        return (self.function, self.arguments, self.state)


def arrays(kind="f4"):
    drawn = (np.random.default_rng(0).standard_normal((3, 4, 5)) * 9).astype(kind)
    return {
        "a.weight": drawn,
        "columns.first": np.asfortranarray(drawn[0]),
        "part": drawn[::2, :, 1:],
        "number": drawn[0, 0, :1].reshape(()),
        "scalar": drawn[0, 1, 2],
        "none": drawn[:0],
    }


def refused(path, said):
    """That reading it is one short error, at once and in little memory."""
    start = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=said) as error:
            read_checkpoint(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.name in str(error.value)
    assert len(str(error.value)) < 600
    assert peak < 64 * path.stat().st_size + 8 * MEGABYTE  # an instruction of one byte may make a list
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", NUMBERS)
def test_arrays_are_read_as_they_are(tmp_path, kind, protocol):
    path = tmp_path / "model_final.pkl"
    content = {"model": arrays(kind), "__author__": "third_party", "matching_heuristics": True}
    path.write_bytes(pickle.dumps(content, protocol))
    found = read_checkpoint(path)
    assert list(found.state_dict) == list(content["model"])
    for key, array in content["model"].items():
        tensor = found.state_dict[key]
        assert tensor.is_contiguous() and tensor.shape == array.shape
        # Of the machine's own order of bytes.
        assert tensor.numpy().dtype == array.dtype.newbyteorder("=")
        assert np.array_equal(tensor.numpy(), array)
    assert (found.metadata, found.beside, found.notes) == (None, (), ())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_training_code_writes_beside_them_is_read(tmp_path, protocol):
    model = OrderedDict(arrays())
    model._metadata = OrderedDict({"": {"version": 2}})
    shared = model["a.weight"]
    content = {"model": {**model, "again": shared}, "iteration": 3, "lr": 1e-4, "steps": [1, (2, 3, 4, 5), None, ()]}
    for inner in (content, {**content, "model": model}):
        (tmp_path / "m.pkl").write_bytes(pickle.dumps(inner, protocol))
        found = read_checkpoint(tmp_path / "m.pkl").state_dict
        assert all(np.array_equal(found[key].numpy(), array) for key, array in inner["model"].items())


def test_numpy_of_before_and_after_its_version_2(tmp_path):
    for protocol in (2, 3):
        written = pickle.dumps({"model": arrays()}, protocol)
        other = {b"numpy._core": b"numpy.core", b"numpy.core": b"numpy._core"}
        name = next(name for name in other if name + b".multiarray" in written)
        for content in (written, written.replace(name, other[name])):
            (tmp_path / "m.pkl").write_bytes(content)
            assert np.array_equal(read_checkpoint(tmp_path / "m.pkl").state_dict["part"].numpy(), arrays()["part"])


def test_tensors_are_their_own(tmp_path):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"model": arrays()}))
    first, second = (read_checkpoint(tmp_path / "m.pkl").state_dict for _ in range(2))
    first["a.weight"].zero_()
    assert second["a.weight"].abs().sum() > 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("hidden", [False, True])
def test_no_code_runs(tmp_path, protocol, hidden):
    path, trace = tmp_path / "evil.pkl", tmp_path / "ran"
    evil = Call(os.system, f"touch {trace}")
    content = pickle.dumps({"model": {**arrays(), "x": evil}, "y": evil} if hidden else evil, protocol)
    path.write_bytes(content)
    refused(path, r"is refused: it asks for posix\.system when it is read.*save its state dict")
    assert not trace.exists()
    subprocess.run([sys.executable, "-c", "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))", path])
    assert trace.exists()  # it would have run indeed


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (eval, ("1",)),
        (getattr, ("", "join")),
        (codecs.decode, (b"x", "latin1")),
        (np.load, ("m.npy",)),
        (np.zeros, (10**12,)),
        (np.ndarray, ((10**12,),)),
        (np.float32, (1.0,)),
        (torch.zeros, (10**12,)),
        (bytes, (10**12,)),
        (bytearray, (10**12,)),
        (range, (10**12,)),
        (set, ((),)),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_every_other_function_is_refused(tmp_path, function, arguments, protocol):
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps({"model": {"a": Call(function, *arguments)}}, protocol))
    # numpy.ndarray and, in protocol 2, bytes are names that arrays are pickled with, but not called so.
    refused(path, r"it asks for [\w.]+ when it is read|damaged or cut short")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (b"\x80\x02(S'touch ran'\nios\nsystem\n.", "it asks for STRING"),
        (b"\x80\x02(ios\nsystem\n.", "it asks for os.system"),
        (b"\x80\x02(cos\nsystem\n.", "it asks for os.system"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "it asks for os.system"),
        (b"\x80\x02\x82\x01.", "it asks for EXT1"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "it asks for NEWOBJ"),
        (b"\x80\x02(cnumpy\nndarray\no.", "it asks for OBJ"),
        (b"\x80\x02X\x01\x00\x00\x00aQ.", "it asks for BINPERSID"),
        (b"\x80\x02c" + b"o" * 100_000 + b"\nsystem\n.", "it asks for o{100} when"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "damaged"),
        (b"\x80\x02N)R.", "damaged"),
        (b"\x80\x02}X\x01\x00\x00\x00ab.", "no tensors"),
        (b"\x80\x02.", "damaged"),
        (b"\x80\x02u.", "damaged"),
        (b"\x80\x02Na.", "damaged"),
        (b"\x80\x02h\x07.", "damaged"),
        (b"\x80\x02}q\x00", "damaged"),
        (b"\x80\x02\xff\xff.", "damaged"),
        (b"\x80\x02N.", "NoneType, not a state dict"),
    ],
    ids=range(19),
)
def test_programs_that_arrays_need_not(tmp_path, program, said):
    path = tmp_path / "m.pkl"
    path.write_bytes(program)
    refused(path, said)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.array([1, "a", None], dtype=object),
        np.array([(1, 2.0)], dtype=[("x", "i4"), ("y", "f4")]),
        np.array(["abc"]),
        np.array([b"abc"]),
        np.array([1 + 2j]),
        np.array(["2020-01-01"], dtype="M8[D]"),
        np.array([1], dtype="u4"),
    ],
    ids=["objects", "structured", "text", "bytes", "complex", "dates", "unsigned"],
)
def test_arrays_that_no_tensor_holds(tmp_path, array, protocol):
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps({"model": {"a": array}}, protocol))
    refused(path, r"it asks for (an array of '\w+', which are no numbers|arrays whose elements have parts)")


def pickled_array(shape, data=b"\0" * 4, kind="f4", order="<"):
    """An array as NumPy pickles it, with any claim in it."""
    dtype = Call(np.dtype, kind, False, True, state=(3, order, None, None, None, -1, -1, 0))
    function, arguments, _ = np.ones(1).__reduce__()
    return Call(function, *arguments, state=(1, shape, dtype, False, data))


def test_a_made_array_is_one(tmp_path):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({"a": pickled_array((1, 1))}, 2))
    assert torch.equal(read_checkpoint(tmp_path / "m.pkl").state_dict["a"], torch.zeros(1, 1))


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "array",
    [
        pickled_array((10**12,)),
        pickled_array((10**9, 10**9, 0)),
        pickled_array((1 << 62, 0), b""),
        pickled_array((-1,)),
        pickled_array((-1, -1)),
        pickled_array((1,) * 40),
        pickled_array((True,)),
        pickled_array((1.0,)),
        pickled_array(("1",)),
        pickled_array(1),
        pickled_array((1,), None),
        pickled_array((1,), [0.0]),
        pickled_array((1,), b"\0" * 5),
        pickled_array((1,), order="<f8,"),
        pickled_array((1,), order=10**30),
        Call(np.ones(1).__reduce__()[0], np.ndarray, (10**12,), b"b"),
        Call(np.ones(1).__reduce__()[0], np.ndarray),
    ],
    ids=range(17),
)
def test_arrays_that_claim_what_is_not_there(tmp_path, array, protocol):
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps({"model": {"a": array}}, protocol))
    if array.state and array.state[1] == (1,) and array.state[2].state[1] in ("<f8,", 10**30):
        # Not an order of bytes, so the machine's own.
        assert read_checkpoint(path).state_dict["a"].tolist() == [0.0]
    else:
        refused(path, "damaged or cut short")


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x04}r" + struct.pack("<I", 0xFFFFFFFF) + b".",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"abc.",
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"abc.",
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"abc.",
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"}.",
        b"\x80\x04B" + struct.pack("<I", 0xFFFFFFFF) + b"abc.",
        b"\x80\x04\x8b" + struct.pack("<I", 0x7FFFFFFF) + b"abc.",
        b"\x80\x04\x8b" + struct.pack("<i", -1) + b"abc.",
    ],
    ids=range(8),
)
def test_lengths_that_the_file_has_not(tmp_path, program):
    refused_or_none = "damaged or cut short|no tensors"
    path = tmp_path / "m.pkl"
    path.write_bytes(program)
    refused(path, refused_or_none)


def test_the_same_bytes_are_not_made_into_arrays_without_end(tmp_path):
    path, text = tmp_path / "m.pkl", "x" * MEGABYTE
    calls = [Call(codecs.encode, text, "latin1") for _ in range(500)]
    path.write_bytes(pickle.dumps({"model": calls}, 4))
    refused(path, "its arrays have more bytes than it has")
    data = b"\0" * MEGABYTE
    many = {str(i): pickled_array((MEGABYTE // 4,), data, order=">") for i in range(500)}
    path.write_bytes(pickle.dumps({"model": many}, 4))
    assert path.stat().st_size < 1.2 * MEGABYTE
    refused(path, "its arrays have more bytes than it has")


def test_dicts_in_dicts_without_end(tmp_path):
    path = tmp_path / "m.pkl"
    loop = {}
    loop["model"] = loop
    path.write_bytes(pickle.dumps(loop))
    refused(path, "a dict in a dict")
    path.write_bytes(b"\x80\x04" + b"](" * 60_000 + b"a" * 60_000 + b".")
    refused(path, "not a state dict|damaged")
    path.write_bytes(b"\x80\x04]" + b"\x85" * 190_000 + b".")
    refused(path, "holds a tuple")
    # Each is a key that takes twice as long to hash as the one before.
    doubled = b")\x94" + b"".join(b"h%ch%c\x86\x94" % (i, i) for i in range(60))
    path.write_bytes(b"\x80\x04" + doubled + b"}h\x3cNs.")
    refused(path, "damaged or cut short .a tuple stands where a str belongs")


def test_more_instructions_than_any_model_takes(tmp_path):
    path = tmp_path / "m.pkl"
    path.write_bytes(b"\x80\x04" + b"]" * 4_000_000 + b".")
    refused(path, r"is refused: it has over 200,000 instructions")


def test_cut_anywhere_it_is_named(tmp_path):
    path = tmp_path / "m.pkl"
    for protocol in PROTOCOLS:
        whole = pickle.dumps({"model": {"a.weight": np.ones((2, 3), np.float32)}}, protocol)
        for end in range(1, len(whole)):
            path.write_bytes(whole[:end])
            with pytest.raises(CheckpointError, match=r"m\.pkl"):
                read_checkpoint(path)


@settings(max_examples=300)
@given(data=st.data())
def test_mutated_files_are_read_or_named(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("mutated") / "m.pkl"
    protocol = data.draw(st.sampled_from(PROTOCOLS))
    content = bytearray(pickle.dumps({"model": arrays(data.draw(st.sampled_from(NUMBERS)))}, protocol))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(1, len(content) - 1))
        kind = data.draw(st.sampled_from(["set", "cut", "double"]))
        if kind == "set":
            content[place] = data.draw(st.integers(0, 255))
        else:
            piece = content[place : place + data.draw(st.integers(1, 40))]
            content[place : place + len(piece)] = b"" if kind == "cut" else piece * 2
    path.write_bytes(content)
    said = path.name
    try:
        read_checkpoint(path)
    except CheckpointError as error:
        said = str(error)
    assert path.name in said
    assert len(said) < 2000
