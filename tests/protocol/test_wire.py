"""Our messages against the classes that tensorflow and tensorflow-serving-api ship."""

from __future__ import annotations

import importlib
import math
import pkgutil
import random
import string
from collections.abc import Iterator
from typing import Any

import pytest
import tensorflow_serving
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from grpc_reflection.v1alpha import reflection_pb2
from tensorflow.core.example import example_pb2
from tensorflow.core.protobuf import config_pb2, saved_model_pb2

from serving_app.protocol import compile_protos, messages

OUTLINES = {"tensorflow.MetaGraphDef", "tensorflow.MetaGraphDef.MetaInfoDef"}
THEIR_MODULES = [
    importlib.import_module(module.name)
    for module in pkgutil.walk_packages(tensorflow_serving.__path__, "tensorflow_serving.")
    if module.name.endswith("_pb2")
]
THEIR_FILES = [
    *(module.DESCRIPTOR for module in THEIR_MODULES),
    example_pb2.DESCRIPTOR,
    config_pb2.DESCRIPTOR,
]
assert saved_model_pb2  # imported so that protobuf's default pool knows its messages
assert reflection_pb2  # likewise
THEIRS = descriptor_pool.Default()


def our_files() -> list[Any]:
    compiled = descriptor_pb2.FileDescriptorSet.FromString(compile_protos.DESCRIPTORS.read_bytes())
    return [messages.POOL.FindFileByName(file.name) for file in compiled.file]


def all_messages(files: list[Any]) -> Iterator[Descriptor]:
    stack = [message for file in files for message in file.message_types_by_name.values()]
    while stack:
        message = stack.pop()
        yield message
        stack += message.nested_types


def find_theirs(full_name: str) -> Descriptor | None:
    try:
        return THEIRS.FindMessageTypeByName(full_name)
    except KeyError:
        return None


def describe_field(field: FieldDescriptor) -> tuple[object, ...]:
    kind = field.message_type or field.enum_type
    return (
        field.number,
        field.type,
        field.is_repeated,
        field.is_packed,
        field.has_presence,
        field.json_name,
        field.default_value if field.message_type is None and not field.is_repeated else None,
        field.containing_oneof.name if field.containing_oneof else None,
        kind.full_name if kind else None,
        field.GetOptions().deprecated,
    )


def describe_fields(message: Descriptor) -> dict[str, tuple[object, ...]]:
    return {field.name: describe_field(field) for field in message.fields}


def describe_enum(enum: EnumDescriptor) -> tuple[str, list[tuple[str, int]]]:
    return enum.full_name, sorted((value.name, value.number) for value in enum.values)


def describe_methods(service: Any) -> list[str]:
    return sorted(str(method) for method in proto_of(service, descriptor_pb2.ServiceDescriptorProto).method)


def proto_of(descriptor: Any, kind: Any) -> Any:
    proto = kind()
    descriptor.CopyToProto(proto)
    return proto


SERVING_MESSAGES = sorted({message.full_name for message in all_messages([m.DESCRIPTOR for m in THEIR_MODULES])})
SHARED_MESSAGES = sorted(
    message.full_name
    for message in all_messages(our_files())
    if find_theirs(message.full_name)
    and not message.GetOptions().map_entry
    and not message.full_name.startswith("google.protobuf.")
)


def test_nothing_of_theirs_is_missing() -> None:
    """Every file, message, enum and service of tensorflow-serving-api exists here under the same path and name."""
    for module in THEIR_MODULES:
        theirs = module.DESCRIPTOR
        ours = messages.POOL.FindFileByName(theirs.name)
        assert ours.package == theirs.package
        assert ours.message_types_by_name.keys() == theirs.message_types_by_name.keys()
        assert ours.enum_types_by_name.keys() == theirs.enum_types_by_name.keys()
        assert ours.services_by_name.keys() == theirs.services_by_name.keys()
    assert len(SERVING_MESSAGES) > 60
    assert set(SERVING_MESSAGES) <= {message.full_name for message in all_messages(our_files())}


def test_what_fields_are_made_of_is_not_missing() -> None:
    """Every message that can occur inside one of tensorflow-serving-api's or inside a ConfigProto is one of ours."""
    stack = [message for file in THEIR_FILES for message in file.message_types_by_name.values()]
    seen = set()
    while stack:
        message = stack.pop()
        if message.full_name in seen:
            continue
        seen.add(message.full_name)
        assert messages.POOL.FindMessageTypeByName(message.full_name).file.name == message.file.name
        stack += [field.message_type for field in message.fields if field.message_type]
    assert len(seen) > 150


@pytest.mark.parametrize("full_name", SHARED_MESSAGES)
def test_descriptors_are_equal(full_name: str) -> None:
    """A message of ours has exactly the fields of theirs: names, numbers, types, presence, oneofs, JSON names."""
    ours, theirs = messages.POOL.FindMessageTypeByName(full_name), find_theirs(full_name)
    assert theirs is not None
    # Python's package has a file of gRPC's at a path of its own.
    assert ours.file.name == theirs.file.name.replace("grpc_reflection/", "grpc/reflection/")
    if full_name in OUTLINES:
        assert describe_fields(ours).items() <= describe_fields(theirs).items()
        return
    assert describe_fields(ours) == describe_fields(theirs)
    assert [describe_enum(enum) for enum in sorted(ours.enum_types, key=lambda enum: enum.name)] == [
        describe_enum(enum) for enum in sorted(theirs.enum_types, key=lambda enum: enum.name)
    ]
    ours_proto, theirs_proto = (proto_of(each, descriptor_pb2.DescriptorProto) for each in (ours, theirs))
    assert sorted((r.start, r.end) for r in ours_proto.reserved_range) == sorted(
        (r.start, r.end) for r in theirs_proto.reserved_range
    )
    assert sorted(ours_proto.reserved_name) == sorted(theirs_proto.reserved_name)


def test_enums_are_equal() -> None:
    """A top-level enum of ours has the values of theirs."""
    compared = 0
    for file in our_files():
        for name, ours in file.enum_types_by_name.items():
            try:
                theirs = THEIRS.FindEnumTypeByName(ours.full_name)
            except KeyError:
                continue
            assert describe_enum(ours) == describe_enum(theirs), name
            compared += 1
    assert compared >= 4


def test_services_are_equal() -> None:
    """The services have the same methods with the same requests and responses, and nothing streams."""
    for module in THEIR_MODULES:
        for theirs in module.DESCRIPTOR.services_by_name.values():
            ours = messages.POOL.FindServiceByName(theirs.full_name)
            assert describe_methods(ours) == describe_methods(theirs)


INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}


def random_value(field: FieldDescriptor, rng: random.Random) -> Any:
    kind = field.cpp_type
    if kind in INTEGERS:
        low, high = INTEGERS[kind]
        return rng.choice([low, high, rng.randint(low, high), rng.randint(max(low, -5), 300)])
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return rng.choice([0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, 2.0 ** rng.randint(-30, 30)])
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return rng.choice(field.enum_type.values).number
    if field.type == FieldDescriptor.TYPE_BYTES:
        return rng.randbytes(rng.randint(0, 9))
    return "".join(rng.choices(string.ascii_letters + "é漢😀\n\0", k=rng.randint(0, 9)))


def fill(message: Any, rng: random.Random, depth: int) -> None:
    """Sets nearly every field of a message, and of the messages in it down to some depth."""
    for field in message.DESCRIPTOR.fields:
        if rng.random() < 0.15 or (depth == 0 and field.message_type):
            continue
        times = rng.randint(1, 3) if field.is_repeated else 1
        for _ in range(times):
            if field.message_type and field.message_type.GetOptions().map_entry:
                entries = getattr(message, field.name)
                key = random_value(field.message_type.fields_by_name["key"], rng)
                value = field.message_type.fields_by_name["value"]
                if value.message_type:
                    fill(entries[key], rng, depth - 1)
                else:
                    entries[key] = random_value(value, rng)
            elif field.message_type:
                inner = getattr(message, field.name)
                inner = inner.add() if field.is_repeated else inner
                if not field.is_repeated:
                    inner.SetInParent()
                fill(inner, rng, depth - 1)
            elif field.is_repeated:
                getattr(message, field.name).append(random_value(field, rng))
            else:
                setattr(message, field.name, random_value(field, rng))


@pytest.mark.parametrize("full_name", [name for name in SHARED_MESSAGES if name not in OUTLINES])
def test_random_messages_mean_the_same(full_name: str) -> None:
    """What one side writes the other reads as the same message and writes as the same bytes, both ways."""
    theirs_class = message_factory.GetMessageClass(find_theirs(full_name))
    ours_class = messages.message_class(full_name)
    outline = "MetaGraphDef" in full_name or full_name == "tensorflow.SavedModel"
    for source, target in ((theirs_class, ours_class), (ours_class, theirs_class)):
        rng = random.Random(full_name)
        for depth in (0, 1, 2, 3, 3):
            sent = source()
            fill(sent, rng, depth)
            encoded = sent.SerializeToString(deterministic=True)
            received = target.FromString(encoded)
            assert source.FromString(received.SerializeToString()).SerializeToString(deterministic=True) == encoded
            if not outline:  # what an outline leaves out has no names and other places
                assert received.SerializeToString(deterministic=True) == encoded
                assert text_format.MessageToString(received) == text_format.MessageToString(sent)
