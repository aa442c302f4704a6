"""Messages in protobuf's text form, as TensorFlow Serving's files are written."""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf import text_format

from serving_app.config.errors import ConfigError
from serving_app.protocol import messages

Message = TypeVar("Message")


class ProtoTextError(ConfigError):
    """A text that is no protobuf text of its message. `parser_line` is what protobuf's own library would print of it.
    """

    def __init__(self, message: str, parser_line: str = "") -> None:
        super().__init__(message)
        self.parser_line = parser_line


def parse_proto_text(text: str, message: Message, file: str | None = None) -> Message:
    """`message`, filled from the text. Raises ProtoTextError with the line and column of what cannot be read.

    Nothing is taken of a text that cannot be read to its end. `file` is the name of where it comes from, if that is
    known.
    """
    try:
        text_format.Parse(text.removeprefix("\ufeff"), message, descriptor_pool=messages.POOL)
    except text_format.ParseError as error:
        raise ProtoTextError(
            f"{_opening(file)}{_place(error)}: {_reason(error)}", _parser_line(message, error)
        ) from error
    return message


def write_proto_text(message: Any) -> str:
    """The text form of a message, which reads back as the same message."""
    return str(text_format.MessageToString(message, as_utf8=True, descriptor_pool=messages.POOL))


def _opening(file: str | None) -> str:
    # TensorFlow Serving's sentence (model_servers/server.cc, ParseProtoTextFile)
    return f"Invalid protobuf file: '{file}'" if file else "Invalid protobuf text"


def _parser_line(message: Any, error: text_format.ParseError) -> str:
    # google/protobuf/text_format.cc, which names no place that it does not know
    place = "" if error.GetLine() is None else f"{error.GetLine()}:{error.GetColumn() or 1}: "
    return f"Error parsing text-format {message.DESCRIPTOR.full_name}: {place}{_reason(error)}"


def _place(error: text_format.ParseError) -> str:
    """Where the error is, for those that the parser has a place of."""
    line = error.GetLine()
    return "" if line is None else f", line {line}, column {error.GetColumn() or 1}"


def _reason(error: text_format.ParseError) -> str:
    """What the parser says, without the place that it puts in front."""
    return str(error).removeprefix(f"{error.GetLine()}:{error.GetColumn()} : ").strip()
