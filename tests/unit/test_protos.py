"""What is compiled from protos/ agrees with the wire tables of CSI 1.12 and 1.13, number by number."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor, descriptor_pb2

from provisioner.generated import csi_pb2, pluginregistration_pb2

SPEC = Path(__file__).parent.parent / "spec"
VERSIONS = ["1.12", "1.13"]
FILE = csi_pb2.DESCRIPTOR
TYPES = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in vars(descriptor.FieldDescriptor).items()
    if name.startswith("TYPE_")
}
# 1.13 reserves these numbers; kubelets of 1.12 still use them, and 1.12's table says what they are.
KEPT_FROM_1_12 = {
    "ListVolumesResponse.VolumeStatus": {2},
    "ControllerGetVolumeResponse.VolumeStatus": {2},
    "NodeGetVolumeStatsResponse": {2},
}
KEPT_ENUM_VALUES = {("ControllerServiceCapability.RPC.Type", 11), ("NodeServiceCapability.RPC.Type", 4)}


def table(version: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((SPEC / f"csi-{version}.wire.json").read_text())
    return parsed


def messages(entries: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every message of a table with its dotted name, nested ones included."""
    for name, entry in entries.items():
        yield prefix + name, entry
        yield from messages(entry.get("messages", {}), f"{prefix}{name}.")


def enums(content: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every enum of a table with its dotted name."""
    yield from content["enums"].items()
    for name, entry in messages(content["messages"]):
        for enum, values in entry.get("enums", {}).items():
            yield f"{name}.{enum}", values


def compiled(name: str) -> descriptor.Descriptor:
    return FILE.pool.FindMessageTypeByName(f"csi.v1.{name}")


def compiled_enum(name: str) -> descriptor.EnumDescriptor:
    return FILE.pool.FindEnumTypeByName(f"csi.v1.{name}")


def compiled_messages() -> Iterator[descriptor.Descriptor]:
    def walk(item: descriptor.Descriptor) -> Iterator[descriptor.Descriptor]:
        if not item.GetOptions().map_entry:
            yield item
        for nested in item.nested_types:
            yield from walk(nested)

    for top in FILE.message_types_by_name.values():
        yield from walk(top)


def options(item: Any) -> set[str]:
    return {field.name for field, value in item.GetOptions().ListFields() if field.is_extension and value is True}


def field_type(field: descriptor.FieldDescriptor) -> str:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        parts = field.message_type.fields_by_name
        return f"map<{field_type(parts['key'])}, {field_type(parts['value'])}>"
    if field.message_type is not None:
        return field.message_type.full_name
    if field.enum_type is not None:
        return field.enum_type.full_name
    return TYPES[field.type]


def field_facts(field: descriptor.FieldDescriptor) -> dict[str, Any]:
    """A compiled field as the tables write it."""
    return {
        "number": field.number,
        "name": field.name,
        "type": field_type(field),
        "repeated": field.is_repeated and not field_type(field).startswith("map<"),
        "oneof": field.containing_oneof.name if field.containing_oneof is not None else None,
        "options": options(field),
    }


def told_facts(field: dict[str, Any]) -> dict[str, Any]:
    """A field of the table with what it leaves out filled in."""
    return {
        "number": field["number"],
        "name": field["name"],
        "type": field["type"],
        "repeated": field.get("repeated", False),
        "oneof": field.get("oneof"),
        "options": set(field.get("options", [])),
    }


def number_of(value: int | dict[str, Any]) -> int:
    number: int = value if isinstance(value, int) else value["number"]
    return number


@pytest.mark.parametrize("version", VERSIONS)
def test_the_package_and_its_imports_are_the_specifications(version: str) -> None:
    proto = descriptor_pb2.FileDescriptorProto()
    FILE.CopyToProto(proto)

    assert proto.package == table(version)["package"]
    assert sorted(proto.dependency) == sorted(table(version)["imports"])
    assert proto.syntax == "proto3"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_message_has_the_tables_fields_with_number_type_oneof_and_options(version: str) -> None:
    for name, entry in messages(table(version)["messages"]):
        fields = compiled(name).fields_by_number
        for told in entry["fields"]:
            assert field_facts(fields[told["number"]]) == told_facts(told), f"{name}.{told['name']}"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_message_has_the_tables_options(version: str) -> None:
    for name, entry in messages(table(version)["messages"]):
        assert options(compiled(name)) == set(entry.get("options", [])), name


def test_there_is_no_message_or_field_that_neither_table_knows() -> None:
    told: dict[str, set[int]] = {}
    for version in VERSIONS:
        for name, entry in messages(table(version)["messages"]):
            told.setdefault(name, set()).update(field["number"] for field in entry["fields"])

    found = {item.full_name.removeprefix("csi.v1."): set(item.fields_by_number) for item in compiled_messages()}

    assert found == told


def test_a_number_that_1_13_reserves_is_used_only_for_what_1_12_has_there() -> None:
    used = {}
    for name, entry in messages(table("1.13")["messages"]):
        reserved = {number for first, last in entry.get("reserved", []) for number in range(first, last + 1)}
        if clash := reserved & set(compiled(name).fields_by_number):
            used[name] = clash

    assert used == KEPT_FROM_1_12


@pytest.mark.parametrize("version", VERSIONS)
def test_every_enum_has_the_tables_values_and_options(version: str) -> None:
    for name, values in enums(table(version)):
        found = compiled_enum(name).values_by_name
        for told, value in values.items():
            wanted = set() if isinstance(value, int) else set(value.get("options", []))
            assert found[told].number == number_of(value), f"{name}.{told}"
            assert options(found[told]) == wanted, f"{name}.{told}"


def test_there_is_no_enum_value_that_1_13_lacks_but_the_two_that_it_dropped() -> None:
    told = {(name, number_of(value)) for name, values in enums(table("1.13")) for value in values.values()}
    older = {(name, number_of(value)) for name, values in enums(table("1.12")) for value in values.values()}
    found = {(name, number) for name, _ in enums(table("1.13")) for number in compiled_enum(name).values_by_number}

    assert found - told == KEPT_ENUM_VALUES
    assert found == told | older


@pytest.mark.parametrize("version", VERSIONS)
def test_every_service_has_the_tables_methods(version: str) -> None:
    for name, methods in table(version)["services"].items():
        found = FILE.services_by_name[name].methods_by_name
        for told, method in methods.items():
            assert {
                "request": found[told].input_type.name,
                "response": found[told].output_type.name,
                "server_streaming": found[told].server_streaming,
                "client_streaming": found[told].client_streaming,
                "options": options(found[told]),
            } == {
                "request": method["request"],
                "response": method["response"],
                "server_streaming": method.get("server_streaming", False),
                "client_streaming": method.get("client_streaming", False),
                "options": set(method.get("options", [])),
            }, f"{name}.{told}"


def test_there_is_no_service_or_method_that_1_13_lacks() -> None:
    assert {name: set(service.methods_by_name) for name, service in FILE.services_by_name.items()} == {
        name: set(methods) for name, methods in table("1.13")["services"].items()
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_the_options_themselves_extend_what_the_table_says(version: str) -> None:
    found = {
        (item.containing_type.full_name, item.name, item.number, TYPES[item.type])
        for item in FILE.extensions_by_name.values()
        if item.containing_type is not None
    }
    told = {(item["extends"], item["name"], item["number"], item["type"]) for item in table(version)["options_defined"]}

    assert found == told


def test_the_registration_protocol_is_the_kubelets() -> None:
    file = pluginregistration_pb2.DESCRIPTOR
    fields = {
        name: {field.number: (field.name, TYPES[field.type], field.is_repeated) for field in message.fields}
        for name, message in file.message_types_by_name.items()
    }
    methods = {
        method.full_name: (method.input_type.name, method.output_type.name)
        for service in file.services_by_name.values()
        for method in service.methods
    }

    assert fields == {
        "InfoRequest": {},
        "PluginInfo": {
            1: ("type", "string", False),
            2: ("name", "string", False),
            3: ("endpoint", "string", False),
            4: ("supported_versions", "string", True),
        },
        "RegistrationStatus": {1: ("plugin_registered", "bool", False), 2: ("error", "string", False)},
        "RegistrationStatusResponse": {},
    }
    assert methods == {
        "pluginregistration.Registration.GetInfo": ("InfoRequest", "PluginInfo"),
        "pluginregistration.Registration.NotifyRegistrationStatus": (
            "RegistrationStatus",
            "RegistrationStatusResponse",
        ),
    }
