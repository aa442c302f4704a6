"""What a version lacks, judged by its files' names and its graph."""

from __future__ import annotations

import pytest

from serving_app.store.completeness import find_lack
from tests.zoo import Zoo

GRAPH = "saved_model.pb"
INDEX = "variables/variables.index"


def shard(number: int, total: int) -> str:
    return f"variables/variables.data-{number:05}-of-{total:05}"


def field(number: int, content: bytes) -> bytes:
    """A field with a length, as protobuf writes it."""
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def graph(*parts: bytes) -> bytes:
    """A SavedModel with one graph that has these fields."""
    return field(2, b"".join(parts))


DEFINITION = field(2, b"\x08\x01" + b"\x11" + b"8" * 8 + b"\x1d" + b"4" * 4)
SAVER = field(3, b"\x0a\x00")
OBJECTS = field(7, field(1, field(4, b"")))
OBJECTS_WITH_VARIABLE = field(7, field(1, field(4, b"")) + field(1, field(7, b"")))


@pytest.mark.parametrize(
    ("platform", "names", "lack"),
    [
        ("tensorflow", {GRAPH, INDEX, shard(0, 1)}, None),
        ("tensorflow", {"saved_model.pbtxt", INDEX, shard(0, 1)}, None),
        ("tensorflow", {"saved_model.pbtxt"}, None),
        (
            "tensorflow",
            {"model.tflite"},
            "saved_model.pb is missing (there is a model.tflite, which prefer_tflite would serve)",
        ),
        ("tensorflow", set(), "saved_model.pb is missing"),
        ("tensorflow", {INDEX, shard(0, 1), "1/saved_model.pb"}, "saved_model.pb is missing"),
        ("tensorflow", {GRAPH, shard(0, 1)}, f"{INDEX} is missing"),
        ("tensorflow", {GRAPH, INDEX}, f"{shard(0, 1)} is missing"),
        ("tensorflow", {GRAPH, INDEX, shard(0, 3), shard(2, 3)}, f"{shard(1, 3)} is missing"),
        ("tensorflow", {GRAPH, INDEX, *(shard(each, 3) for each in range(3))}, None),
        ("tensorflow", {GRAPH, INDEX, shard(0, 1) + ".tempstate1"}, f"{shard(0, 1)} is missing"),
        ("tensorflow", {GRAPH, INDEX, shard(0, 1), shard(0, 2)}, f"{shard(1, 2)} is missing"),
        ("other", {"weights.bin"}, None),
        ("other", set(), "it has no files yet"),
    ],
)
def test_judges_by_names(platform: str, names: set[str], lack: str | None) -> None:
    """Each platform has the files that it needs, a SavedModel all shards of its variables; others do not matter."""
    assert find_lack(platform, names, lambda: graph(DEFINITION)) == lack


@pytest.mark.parametrize(
    ("names", "lack"),
    [
        ({"model.tflite"}, None),
        ({"model.tflite", GRAPH, INDEX}, None),
        ({GRAPH, INDEX}, f"{shard(0, 1)} is missing"),
        (set(), "saved_model.pb is missing"),
    ],
)
def test_a_tflite_file_suffices_where_it_is_preferred(names: set[str], lack: str | None) -> None:
    """With prefer_tflite the SavedModel beside a model.tflite does not matter; without such a file it does."""
    assert find_lack("tensorflow", names, lambda: graph(DEFINITION), prefer_tflite=True) == lack


@pytest.mark.parametrize(
    ("content", "lack"),
    [
        (graph(DEFINITION), None),
        (graph(DEFINITION, OBJECTS), None),
        (graph(DEFINITION, SAVER), f"{INDEX} is missing"),
        (graph(DEFINITION, OBJECTS_WITH_VARIABLE), f"{INDEX} is missing"),
        (graph(DEFINITION) + graph(SAVER), f"{INDEX} is missing"),
        (None, None),
        (b"", "saved_model.pb is empty"),
        (b"\x08\x01", "saved_model.pb is cut off or broken"),
        (b"no protobuf", "saved_model.pb is cut off or broken"),
    ],
)
def test_judges_by_the_graph(content: bytes | None, lack: str | None) -> None:
    """A SavedModel without variables is whole if its graph has none; one too large to be read is believed."""
    assert find_lack("tensorflow", {GRAPH}, lambda: content) == lack


@pytest.mark.parametrize("content", [graph(DEFINITION, OBJECTS), graph(DEFINITION, OBJECTS_WITH_VARIABLE)])
def test_a_graph_that_is_cut_off_lacks_something(content: bytes) -> None:
    """Wherever the file ends too early, it is not taken for a whole one."""
    for length in range(len(content)):
        assert find_lack("tensorflow", {GRAPH}, lambda: content[:length]) is not None  # noqa: B023 - called at once


def test_judges_models_that_tensorflow_made(zoo: Zoo) -> None:
    """Of every model that TensorFlow wrote the graph tells whether there are variables beside it."""
    lacks = {}
    for path in sorted(zoo.folder.glob("*/1/saved_model.pb")):
        has_index = (path.parent / INDEX).exists()
        lacks[path.parts[-3]] = find_lack("tensorflow", {GRAPH}, path.read_bytes), has_index
    assert lacks.pop("corrupt") == ("saved_model.pb is cut off or broken", False)
    assert lacks["dtypes"] == (None, False)
    assert set(lacks.values()) == {(None, False), (f"{INDEX} is missing", True)}
