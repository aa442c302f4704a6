"""gRPC's server reflection: what a client asks about the services of this server, and the answer, as bytes.

Both versions of the protocol are one: their messages differ only in the name of their package. The files are those that
`messages` has loaded, which carry TensorFlow Serving's names, so a client sees what it saw there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from serving_app.core.errors import NotFound, ServingError, Unimplemented
from serving_app.protocol import messages
from serving_app.protocol.model_spec_proto import parse


def reflect(service: str, encoded: bytes, services: Iterable[str]) -> bytes:
    """The answer to one ServerReflectionRequest that came to `service`, the one of v1 or of v1alpha; `services` are all
    that this server offers.

    InvalidArgument if the bytes are no such request. What does not exist is told within the answer, which leaves the
    stream open for the next question.
    """
    package = service.rpartition(".")[0]
    request = parse(messages.message_class(f"{package}.ServerReflectionRequest"), encoded)
    response = messages.message_class(f"{package}.ServerReflectionResponse")(
        valid_host=request.host, original_request=request
    )
    try:
        _answer(request, response, services)
    except ServingError as error:
        response.error_response.error_code = int(error.code)
        response.error_response.error_message = error.message
    answer: bytes = response.SerializeToString()
    return answer


def _answer(request: Any, response: Any, services: Iterable[str]) -> None:
    kind = request.WhichOneof("message_request")
    if kind == "list_services":
        response.list_services_response.SetInParent()
        for name in sorted(services):
            response.list_services_response.service.add(name=name)
    elif kind == "file_by_filename":
        file = _find(messages.POOL.FindFileByName, request.file_by_filename, "file")
        response.file_descriptor_response.file_descriptor_proto.extend(_with_imports([file]))
    elif kind == "file_containing_symbol":
        file = _find(_file_containing, request.file_containing_symbol, "symbol")
        response.file_descriptor_response.file_descriptor_proto.extend(_with_imports([file]))
    elif kind == "all_extension_numbers_of_type":
        found = _find(messages.POOL.FindMessageTypeByName, request.all_extension_numbers_of_type, "message")
        response.all_extension_numbers_response.base_type_name = found.full_name
    elif kind == "file_containing_extension":
        extension = request.file_containing_extension
        raise NotFound(f"{extension.containing_type} has no extension {extension.extension_number} here; none has any")
    else:
        raise Unimplemented("the request asks for nothing that this server knows of; list_services is a beginning")


def _find(find: Any, name: str, kind: str) -> Any:
    try:
        return find(name)
    except (KeyError, UnicodeError) as error:
        raise NotFound(f"there is no {kind} {name:.200}; list_services names all services") from error


def _file_containing(symbol: str) -> Any:
    service, _, method = symbol.rpartition(".")
    try:
        return messages.POOL.FindFileContainingSymbol(symbol)
    except KeyError:  # the pool knows no methods by name
        found = messages.POOL.FindServiceByName(service)
        return found.methods_by_name[method].containing_service.file


def _with_imports(files: Sequence[Any]) -> Iterator[bytes]:
    """These files and all that they import, each once."""
    seen: set[str] = set()
    waiting = list(files)
    while waiting:
        file = waiting.pop()
        if file.name not in seen:
            seen.add(file.name)
            waiting.extend(file.dependencies)
            yield file.serialized_pb
