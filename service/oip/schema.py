"""`.proto` files -> message classes, when they are first needed: no compiler, no generated code.

The messages live in a descriptor pool of their own. A process may therefore import another description of the same
package beside it, as the tests do with Triton's client; protobuf's default pool takes the first and
refuses the rest.

Source: "Protocol Buffers Version 3 Language Specification"; `FileDescriptorProto` in protobuf's descriptor.proto.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Method", "Schema", "read_schema"]

_SCALARS: Final = {"int64": 3, "uint64": 4, "int32": 5, "uint32": 13, "float": 2, "double": 1} | {
    "bool": 8,
    "string": 9,
    "bytes": 12,
}
_MESSAGE: Final = 11
_ENUM: Final = 14
_OPTIONAL: Final = 1
_REPEATED: Final = 3
_TOKEN: Final = re.compile(r'"[^"]*"|[\w.]+|[{}()<>=;,]')


class Method(NamedTuple):
    """A method of a service: its name, its messages, and which of them are streams."""

    name: str
    request: type[Any]
    response: type[Any]
    streams_in: bool
    streams_out: bool


@dataclass(frozen=True)
class Schema:
    """What a `.proto` file describes.

    Attributes:
        service: Full name of its service.
        methods: The service's methods.
        messages: Its outermost messages by name.
    """

    service: str
    methods: tuple[Method, ...]
    messages: dict[str, type[Any]]


def read_schema(name: str) -> Schema:
    """Read a `.proto` file that lies beside this module and has one service."""
    text = resources.files(__package__ or "").joinpath(name).read_text("utf-8")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_Reader(name, text).file())
    file = pool.FindFileByName(name)
    messages = {
        short: message_factory.GetMessageClass(message) for short, message in file.message_types_by_name.items()
    }
    (service,) = file.services_by_name.values()
    methods = tuple(
        Method(
            method.name,
            messages[method.input_type.name],
            messages[method.output_type.name],
            method.client_streaming,
            method.server_streaming,
        )
        for method in service.methods
    )
    return Schema(service.full_name, methods, messages)


class _Reader:
    """Reads the part of the language that the files of this package use, by recursive descent."""

    def __init__(self, name: str, text: str) -> None:
        lines = (line for line in text.splitlines() if not line.lstrip().startswith("//"))
        self._tokens: Iterator[str] = iter(_TOKEN.findall("\n".join(lines)))
        self._file = descriptor_pb2.FileDescriptorProto(name=name, syntax="proto3")
        self._enums = set(re.findall(r"\benum (\w+)", text))

    def file(self) -> Any:
        """The whole file as a `FileDescriptorProto`."""
        for keyword in self._tokens:
            name = next(self._tokens)
            match keyword:
                case "syntax":
                    self._expect('"proto3"', ";")
                case "package":
                    self._file.package = name
                    self._expect(";")
                case "service":
                    self._service(self._file.service.add(name=name))
                case "message":
                    self._message(self._file.message_type.add(name=name))
                case "enum":
                    self._enum(self._file.enum_type.add(name=name))
                case _:
                    raise ValueError(f"{self._file.name}: expected a declaration, got {keyword!r}")
        return self._file

    def _expect(self, *wanted: str) -> None:
        for token in wanted:
            if (got := next(self._tokens)) != token:
                raise ValueError(f"{self._file.name}: expected {token!r}, got {got!r}")

    def _service(self, service: Any) -> None:
        self._expect("{")
        while next(self._tokens) != "}":  # rpc
            method = service.method.add(name=next(self._tokens))
            method.client_streaming, method.input_type = self._streamed_type()
            self._expect("returns")
            method.server_streaming, method.output_type = self._streamed_type()
            self._expect(";")

    def _streamed_type(self) -> tuple[bool, str]:
        self._expect("(")
        first = next(self._tokens)
        streamed = first == "stream"
        name = next(self._tokens) if streamed else first
        self._expect(")")
        return streamed, name

    def _enum(self, enum: Any) -> None:
        self._expect("{")
        while (name := next(self._tokens)) != "}":
            self._expect("=")
            enum.value.add(name=name, number=int(next(self._tokens)))
            self._expect(";")

    def _message(self, message: Any) -> None:
        self._expect("{")
        while (first := next(self._tokens)) != "}":
            match first:
                case "message":
                    self._message(message.nested_type.add(name=next(self._tokens)))
                case "enum":
                    self._enum(message.enum_type.add(name=next(self._tokens)))
                case "oneof":
                    self._oneof(message)
                case "map":
                    self._map(message)
                case "repeated":
                    self._field(message, next(self._tokens), label=_REPEATED)
                case _:
                    self._field(message, first)

    def _oneof(self, message: Any) -> None:
        index = len(message.oneof_decl)
        message.oneof_decl.add(name=next(self._tokens))
        self._expect("{")
        while (kind := next(self._tokens)) != "}":
            self._field(message, kind).oneof_index = index

    def _map(self, message: Any) -> None:
        """A map is a repeated message of `key` and `value`, nested where it is declared and marked as an entry."""
        self._expect("<", "string", ",")
        value = next(self._tokens)
        self._expect(">")
        name = next(self._tokens)
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=_OPTIONAL, type=_SCALARS["string"])
        entry.field.add(name="value", number=2, label=_OPTIONAL, type_name=value, type=_MESSAGE)
        self._number(message.field.add(name=name, label=_REPEATED, type_name=entry.name, type=_MESSAGE))

    def _field(self, message: Any, kind: str, label: int = _OPTIONAL) -> Any:
        field = message.field.add(name=next(self._tokens), label=label)
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            field.type_name = kind
            field.type = _ENUM if kind in self._enums else _MESSAGE
        self._number(field)
        return field

    def _number(self, field: Any) -> None:
        self._expect("=")
        field.number = int(next(self._tokens))
        self._expect(";")
