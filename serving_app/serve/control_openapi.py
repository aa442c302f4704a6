"""The OpenAPI document of the control endpoints, made from their table, their bodies and the shapes of the answers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints, is_typeddict

from serving_app.config.control import SCHEMAS, Nothing, body_schemas
from serving_app.serve.control_operations import MOST_DIGITS, OPERATIONS, PARAMETERS, Operation

Schema = dict[str, Any]

_ABOUT = """\
What `serving-app status`, `labels`, `traffic` and `rollout` do, by HTTP, with the same words and the same JSON.

Reading needs nothing. What changes something needs a token of `gateway.control_token_file`, as \
`Authorization: Bearer TOKEN`; bodies are JSON, with `Content-Type: application/json`, and unknown names in them are \
refused. An order is in force at every gateway and caller when it is answered.

An error is an object with a sentence: 400 what was asked for makes no sense, or not now; 401 no token that is \
accepted; 404 no such path, model, label or rollout; 405, 413, 415 as HTTP means them; 429 too many control requests \
at a time; 503 the controller cannot be found; 504 it has not answered, and then it is not known whether something was \
changed.
"""

_PLAIN: Mapping[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
    Any: {},
}


def make_document() -> Schema:
    """The whole document, in OpenAPI 3.1."""
    shapes: dict[str, Schema] = {}
    paths: dict[str, Schema] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation, shapes)
    bodies = body_schemas({operation.body for operation in OPERATIONS if operation.body is not Nothing})
    error = {
        "type": "object", "required": ["error"], "properties": {"error": {"type": "string"}},
        "description": "What was wrong, and what to do next.",
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Control of a serving app", "version": "1", "description": _ABOUT},
        "servers": [{"url": "v1", "description": "Beside this document, at every gateway and at Serve's HTTP door."}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted({**shapes, **bodies, "Error": error}.items())),
            "responses": {
                "Error": {"description": "An error.", "content": _json({"$ref": f"{SCHEMAS}Error"})},
                "Unauthorized": {
                    "description": "There is no token, or none that is accepted.",
                    "headers": {"WWW-Authenticate": {"schema": {"type": "string"}}},
                    "content": _json({"$ref": f"{SCHEMAS}Error"}),
                },
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _describe(operation: Operation, shapes: dict[str, Schema]) -> Schema:
    summary, _, more = operation.summary.partition("\n")
    parameters = [each[1:-1] for each in operation.segments if each.startswith("{")]
    described: Schema = {
        "operationId": operation.name,
        "summary": summary,
        **({"description": " ".join(more.split())} if more else {}),
        "parameters": [_parameter(name, "path") for name in parameters]
        + [_parameter(name, "query") for name in operation.query],
        "responses": {
            "200": {"description": "As it is then.", "content": _json(schema_of(operation.answer, shapes))},
            **({"401": {"$ref": "#/components/responses/Unauthorized"}} if operation.is_order else {}),
            "default": {"$ref": "#/components/responses/Error"},
        },
        "security": [{"token": []}] if operation.is_order else [],
    }
    if operation.body is not Nothing:
        content = _json({"$ref": f"{SCHEMAS}{operation.body.__name__}"}, dict(operation.example))
        described["requestBody"] = {"required": True, "content": content}
    return described


def _parameter(name: str, place: str) -> Schema:
    parameter = PARAMETERS[name]
    schema = dict(_PLAIN[parameter.kind])
    if parameter.kind is int:
        schema |= {"minimum": 0, "maximum": 10**MOST_DIGITS - 1}
    return {
        "name": name, "in": place, "required": place == "path", "description": parameter.meaning, "schema": schema,
        "example": parameter.example,
    }


def _json(schema: Schema, example: Any = None) -> Schema:
    return {"application/json": {"schema": schema, **({} if example is None else {"example": example})}}


def schema_of(kind: Any, shapes: dict[str, Schema]) -> Schema:
    """The JSON schema of a type; those of typed dictionaries are put among `shapes`, by name, and referred to."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return {**schema_of(arguments[0], shapes), **_notes(arguments[1:])}
    if origin in (Union, UnionType):
        choices = [schema_of(each, shapes) for each in arguments]
        if all(set(each) == {"type"} for each in choices):
            return {"type": [each["type"] for each in choices]}
        return {"anyOf": choices}
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0], shapes)}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(arguments[1], shapes)}
    return _refer(kind, shapes) if is_typeddict(kind) else dict(_PLAIN[kind])


def _notes(notes: tuple[Any, ...]) -> Schema:
    return {"enum" if isinstance(each, tuple) else "description": _listed(each) for each in notes}


def _listed(note: Any) -> Any:
    return list(note) if isinstance(note, tuple) else note


def _refer(kind: Any, shapes: dict[str, Schema]) -> Schema:
    name = kind.__name__.removesuffix("Document")
    if name not in shapes:
        shapes[name] = {}  # its place, for shapes that hold themselves
        hints = get_type_hints(kind, include_extras=True)
        shapes[name] = {
            "type": "object",
            "required": list(hints),
            "properties": {key: schema_of(hint, shapes) for key, hint in hints.items()},
            **({"description": inspect.cleandoc(kind.__doc__)} if kind.__doc__ else {}),
        }
    return {"$ref": f"{SCHEMAS}{name}"}
