"""Whether all files are there that a version needs, judged by their names and, where these leave it open, by the graph.

A version that passes may still be too new to trust: see serving_app.store.source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator

_INDEX = "variables/variables.index"
_SHARD = re.compile(r"variables/variables\.data-(\d{5})-of-(\d{5})")


_EMPTY = "saved_model.pb is empty"
_TORN = "saved_model.pb is cut off or broken"

BROKEN = frozenset({_EMPTY, _TORN})
"""What may be wrong with a file that is there. No file that is still to come would mend it."""


def find_lack(
    platform: str, names: Collection[str], read_graph: Callable[[], bytes | None], *, prefer_tflite: bool = False
) -> str | None:
    """What a version with files of these names lacks, in words; None if nothing.

    `read_graph` gives the content of saved_model.pb, or None if that is too much to read; it is called only if the
    names leave open whether the version has variables. With `prefer_tflite` a model.tflite is all that is needed.
    """
    if platform != "tensorflow":
        return None if names else "it has no files yet"
    if prefer_tflite and "model.tflite" in names:
        return None
    if not {"saved_model.pb", "saved_model.pbtxt"} & set(names):
        if "model.tflite" in names:
            return "saved_model.pb is missing (there is a model.tflite, which prefer_tflite would serve)"
        return "saved_model.pb is missing"
    shards = [match for match in map(_SHARD.fullmatch, names) if match]
    if shards or _INDEX in names:
        return _find_lack_of_variables(names, [(int(shard[1]), int(shard[2])) for shard in shards])
    if "saved_model.pb" not in names:
        return None
    graph = read_graph()
    return None if graph is None else _find_lack_of_graph(graph)


def _find_lack_of_variables(names: Collection[str], shards: Collection[tuple[int, int]]) -> str | None:
    if _INDEX not in names:
        return f"{_INDEX} is missing"
    total = max((total for _, total in shards), default=1)
    for number in range(total):
        if (number, total) not in shards:
            return f"variables/variables.data-{number:05}-of-{total:05} is missing"
    return None


def _find_lack_of_graph(graph: bytes) -> str | None:
    """What is wrong with a SavedModel that comes without variables.

    TensorFlow loads a graph whose variables are not there without a complaint, and fails at the requests.
    """
    try:
        if not graph:
            return _EMPTY
        if _has_variables(memoryview(graph)):
            return f"{_INDEX} is missing"
    except _TornError:
        return _TORN
    return None


# Only these few fields matter, of messages whose other fields can have hundreds of megabytes (saved_model.proto,
# meta_graph.proto, saved_object_graph.proto). So lengths are followed and nothing is decoded.
_META_GRAPHS = 2  # of SavedModel
_SAVER_DEF = 3  # of MetaGraphDef
_OBJECT_GRAPH_DEF = 7  # of MetaGraphDef
_NODES = 1  # of SavedObjectGraph
_VARIABLE = 7  # of SavedObject


def _has_variables(saved_model: memoryview) -> bool:
    # Every length is looked at before the answer, so that a file which is cut off is never taken for a whole one.
    graphs = [graph for number, graph in _fields(saved_model) if number == _META_GRAPHS]
    if not graphs:
        raise _TornError
    parts = [part for graph in graphs for part in _fields(graph)]
    if any(number == _SAVER_DEF for number, _ in parts):
        return True
    objects = (part for number, part in parts if number == _OBJECT_GRAPH_DEF)
    nodes = (node for graph in objects for number, node in _fields(graph) if number == _NODES)
    return any(number == _VARIABLE for node in nodes for number, _ in _fields(node))


class _TornError(Exception):
    """The bytes are no message."""


_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Each field's number and, of those that have a length, content; of the others nothing."""
    at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        kind = tag & 7
        start = end = at
        if kind == _VARINT:
            _, end = _read_varint(message, at)
            start = end
        elif kind == _BYTES:
            length, start = _read_varint(message, at)
            end = start + length
        elif kind in (_FIXED64, _FIXED32):
            start = end = at + (8 if kind == _FIXED64 else 4)
        else:
            raise _TornError
        if end > len(message) or tag < 8:
            raise _TornError
        yield tag >> 3, message[start:end]
        at = end


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _TornError
