"""grpc.health.v1 and server reflection, with the clients of the gRPC project."""
import pathlib

import grpc
import pytest
from conftest import SOURCE, failure
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase)

SERVICES = ["quire.v1.InferenceService", "quire.v1.ControlService"]


@pytest.mark.parametrize("service", ["", *SERVICES])
def test_health_check(server, service):
    health = health_pb2_grpc.HealthStub(server.channel)
    answer = health.Check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_check_of_unknown_service(server):
    health = health_pb2_grpc.HealthStub(server.channel)
    error = failure(lambda: health.Check(health_pb2.HealthCheckRequest(service="no.Such")))
    assert error.code() == grpc.StatusCode.NOT_FOUND


def test_health_watch(server):
    health = health_pb2_grpc.HealthStub(server.channel)
    for service, status in (("", "SERVING"), ("no.Such", "SERVICE_UNKNOWN")):
        watch = health.Watch(health_pb2.HealthCheckRequest(service=service))
        assert next(watch).status == health_pb2.HealthCheckResponse.ServingStatus.Value(status)
        watch.cancel()


def test_reflection_describes_everything(server):
    """A client that knows nothing can build every request, and find the comments' fields."""
    database = ProtoReflectionDescriptorDatabase(server.channel)
    services = database.get_services()
    assert set(SERVICES) <= set(services)
    assert "grpc.health.v1.Health" in services
    assert "grpc.reflection.v1.ServerReflection" in services
    assert "grpc.reflection.v1alpha.ServerReflection" in services
    pool = descriptor_pool.DescriptorPool(database)
    for service in services:
        for method in pool.FindServiceByName(service).methods:
            assert method.input_type.full_name
    options = pool.FindMessageTypeByName("quire.v1.SamplingOptions")
    assert options.fields_by_name["temperature"].has_presence


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_versions(server, version):
    call = server.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString)
    symbols = ["quire.v1.InferenceService.Generate", "quire.v1.GenerateRequest.sampling",
               "quire.v1.FINISH_REASON_STOP", "quire.v1.SamplingOptions.LogitBiasEntry",
               "quire.v1.FinishReason"]
    requests = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=s) for s in symbols]
    requests += [
        reflection_pb2.ServerReflectionRequest(file_by_filename="google/protobuf/duration.proto"),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="quire.v1.Nothing"),
        reflection_pb2.ServerReflectionRequest(file_by_filename="quire/v2/x.proto"),
        reflection_pb2.ServerReflectionRequest(list_services=""),
    ]
    answers = list(call(iter(requests)))
    assert [a.original_request for a in answers] == requests
    names = []
    for answer in answers[:len(symbols) + 1]:
        [packed] = answer.file_descriptor_response.file_descriptor_proto
        names.append(descriptor_pb2.FileDescriptorProto.FromString(packed).name)
    assert names == ["quire/v1/inference.proto"] * len(symbols) + [
        "google/protobuf/duration.proto"]
    for answer in answers[-3:-1]:
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert len(answers[-1].list_services_response.service) >= 5


def test_reflection_serves_the_files_in_the_source(server):
    database = ProtoReflectionDescriptorDatabase(server.channel)
    for path in sorted((SOURCE / "proto/quire/v1").glob("*.proto")):
        name = str(path.relative_to(pathlib.Path(SOURCE) / "proto"))
        file = database.FindFileByName(name)
        assert file.package == "quire.v1"
        for message in file.message_type:
            assert f"message {message.name} {{" in path.read_text()
