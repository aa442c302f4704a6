"""Whether a version is worth an upload: what would make its load fail, found where that costs nothing yet."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from serving_app.core.errors import FailedPrecondition, InvalidArgument, NotFound, ServingError
from serving_app.core.signatures import Signature
from serving_app.protocol import messages
from serving_app.protocol.prediction_log import MAX_WARMUP_RECORDS, decode_log, logged_call
from serving_app.protocol.signature_proto import decode_signature
from serving_app.protocol.tfrecord import decode_records
from serving_app.store.completeness import find_lack
from serving_app.store.files import list_files
from serving_app.store.listing import parse_version

TENSORFLOW = "tensorflow"
"""The platform of SavedModels and TFLite models."""

_GRAPH = "saved_model.pb"
_TFLITE = "model.tflite"
_TFLITE_MARK = b"TFL3"
"""Bytes 4 to 7 of every TFLite file."""

_INDEX = "variables/variables.index"
_INDEX_END = (0xDB4775248B80FB57).to_bytes(8, "little")
"""The last bytes of every index of variables; one that was cut off lacks them (tensorflow/core/lib/io/format.h)."""

_INTERNAL = "__saved_model_"
"""How the names of signatures begin that TensorFlow keeps for its own use."""


def list_version(directory: Path) -> dict[str, Path]:
    """The files of a version by their names below its directory. Raises NotFound or FailedPrecondition without any."""
    if not directory.is_dir():
        what = "is a file" if directory.exists() else "does not exist"
        raise NotFound(f"{directory} {what}; give the directory of a SavedModel, which holds its {_GRAPH}")
    files = {name: directory / name for name in sorted(list_files(str(directory)))}
    if not files:
        raise FailedPrecondition(f"{directory} is empty; give the directory of a SavedModel, which holds its {_GRAPH}")
    return files


def check_version(
    directory: Path,
    names: Collection[str],
    *,
    platform: str = TENSORFLOW,
    prefer_tflite: bool | None = None,
    tags: Collection[str] = ("serve",),
) -> dict[str, Signature]:
    """The signatures of a version with files of these names that can be served, as far as its files tell.

    With `prefer_tflite` a TFLite model is what is served; None: if there is no SavedModel. Such a model, and one of
    another platform, has no signatures that could be read here. Raises FailedPrecondition, saying what is wrong and
    what to do about it.
    """
    if platform != TENSORFLOW:
        return {}
    if prefer_tflite is None:
        prefer_tflite = _TFLITE in names and _GRAPH not in names
    lack = find_lack(TENSORFLOW, names, lambda: (directory / _GRAPH).read_bytes(), prefer_tflite=prefer_tflite)
    if lack is not None:
        tops = sorted({name.partition("/")[0] for name in names})
        if all(parse_version(top) is not None for top in tops):
            raise FailedPrecondition(
                f"{directory} is no model, but holds versions of one; give the directory of one, such as "
                f"{directory}/{tops[0]}"
            )
        raise FailedPrecondition(f"{directory} is no whole model: {lack}; export it again")
    if prefer_tflite and _TFLITE in names:
        _check_tflite(directory / _TFLITE)
        return {}
    if _GRAPH not in names:  # a saved_model.pbtxt, which only TensorFlow reads
        return {}
    graph = _find_graph(directory / _GRAPH, tags)
    _check_variables(directory, names)
    _check_assets(directory, names, graph)
    signatures = {name: decode_signature(graph.signature_def[name]) for name in graph.signature_def}
    if not any(not name.startswith(_INTERNAL) for name in signatures):
        raise FailedPrecondition(
            f"{directory} has no signature, so no request could reach it; export it with signatures="
        )
    return signatures


def check_warmup(encoded: bytes, signatures: Mapping[str, Signature], where: str) -> None:
    """Raise what the first request of a warm-up file would be refused with: such a version would not load."""
    number = 0
    try:
        for number, record in enumerate(decode_records(encoded), 1):
            if number > MAX_WARMUP_RECORDS:
                raise InvalidArgument(f"more than {MAX_WARMUP_RECORDS} are too many; leave some out")
            logged_call(decode_log(record), signatures)
    except ServingError as error:
        raise FailedPrecondition(
            f"the warm-up of {where} does not fit the model, so it would not load: {error.message} (record {number})"
        ) from error


def _check_tflite(file: Path) -> None:
    with file.open("rb") as opened:
        head = opened.read(8)
    if head[4:] != _TFLITE_MARK:
        raise FailedPrecondition(f"{file} is no TFLite model; convert the model again")


def _find_graph(file: Path, tags: Collection[str]) -> Any:
    try:
        saved = messages.SavedModel.FromString(file.read_bytes())
    except DecodeError as error:
        raise FailedPrecondition(f"{file} is cut off or broken ({error}); export the model again") from error
    there = [set(graph.meta_info_def.tags) for graph in saved.meta_graphs]
    for graph, its_tags in zip(saved.meta_graphs, there, strict=True):
        if its_tags == set(tags):
            return graph
    known = " and ".join(_tags(its_tags) for its_tags in there) or "none"
    raise FailedPrecondition(
        f"{file} has no graph with the tags {_tags(tags)}, which is what is loaded; it has {known}. Export it with "
        "these tags, or set the model's `tags`"
    )


def _tags(tags: Collection[str]) -> str:
    return "{" + ", ".join(sorted(tags)) + "}"


def _check_variables(directory: Path, names: Collection[str]) -> None:
    if _INDEX not in names:
        return
    with (directory / _INDEX).open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - len(_INDEX_END)))
        if file.read() != _INDEX_END:
            raise FailedPrecondition(f"{directory / _INDEX} is cut off; export the model again")


def _check_assets(directory: Path, names: Collection[str], graph: Any) -> None:
    for name in _asset_names(graph):
        if f"assets/{name}" not in names:
            raise FailedPrecondition(
                f"{directory}/assets/{name} is missing, which the graph reads when it is loaded; copy the whole export"
            )


# meta_graph.proto: of a MetaGraphDef the assets, of each of them the file's name. Our own messages know neither.
_ASSET_FILE_DEF = 6
_FILENAME = 2


def _asset_names(graph: Any) -> Iterator[str]:
    for asset in UnknownFieldSet(graph):
        if asset.field_number == _ASSET_FILE_DEF:
            for field in UnknownFieldSet(Empty.FromString(asset.data)):
                if field.field_number == _FILENAME:
                    yield field.data.decode()
