"""The messages that are read from `.proto` files are the protocol's, by name and number."""

from typing import Any

import pytest
from tritonclient.grpc import service_pb2

from service.oip.schema import read_schema


def assert_is_part_of(ours: Any, theirs: Any, seen: set[str]) -> None:
    """Every field of ours is a field of theirs, down to the messages and values that it has."""
    if ours.full_name in seen:
        return
    seen.add(ours.full_name)
    assert ours.full_name == theirs.full_name
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated)
        assert getattr(field.containing_oneof, "name", None) == getattr(other.containing_oneof, "name", None)
        if field.message_type:
            assert field.message_type.GetOptions().map_entry == other.message_type.GetOptions().map_entry
            assert_is_part_of(field.message_type, other.message_type, seen)
        if field.enum_type:
            numbers = {value.name: value.number for value in other.enum_type.values}
            assert all(numbers[value.name] == value.number for value in field.enum_type.values)


def test_every_message_is_part_of_tritons() -> None:
    schema = read_schema("open_inference.proto")
    theirs = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    assert schema.service == theirs.full_name
    seen: set[str] = set()
    for method in schema.methods:
        other = theirs.methods_by_name[method.name]
        assert_is_part_of(method.request.DESCRIPTOR, other.input_type, seen)
        assert_is_part_of(method.response.DESCRIPTOR, other.output_type, seen)
        assert (method.streams_in, method.streams_out) == (other.client_streaming, other.server_streaming)
    assert len(schema.methods) == 12
    assert len(seen) == 44


def test_health_has_the_numbers_of_its_specification() -> None:
    schema = read_schema("health.proto")
    assert schema.service == "grpc.health.v1.Health"
    response = schema.messages["HealthCheckResponse"]
    assert response(status="SERVING").SerializeToString() == b"\x08\x01"
    assert response(status="NOT_SERVING").SerializeToString() == b"\x08\x02"
    assert schema.messages["HealthCheckRequest"](service="a").SerializeToString() == b"\x0a\x01a"


def test_what_is_no_proto_is_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from service.oip import schema

    (tmp_path / "bad.proto").write_text('syntax = "proto2";')
    monkeypatch.setattr(schema.resources, "files", lambda _: tmp_path)
    with pytest.raises(ValueError, match="proto3"):
        read_schema("bad.proto")
