/*
 * reflection.c - grpc.reflection.v1 and v1alpha, which differ in nothing but their name:
 * what services there are, and the .proto files behind them.
 */
#include <stdio.h>

#include "proto/grpc/reflection/v1/reflection.pb-c.h"
#include "runtime/server/call.h"
#include "runtime/server/descriptors.h"

typedef Grpc__Reflection__V1__ServerReflectionRequest reflection_request;
typedef Grpc__Reflection__V1__ServerReflectionResponse reflection_response;

#define REQUEST_IS(name)  GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_##name
#define RESPONSE_IS(name) GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_##name

enum { MAX_SERVICES = 16 };

static void list_services(struct qr_call *call, reflection_response *response)
{
    const Google__Protobuf__FileDescriptorSet *set = call->server->descriptors;
    Grpc__Reflection__V1__ListServiceResponse list =
        GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;
    Grpc__Reflection__V1__ServiceResponse services[MAX_SERVICES];
    Grpc__Reflection__V1__ServiceResponse *pointers[MAX_SERVICES];
    char names[MAX_SERVICES][128];

    list.service = pointers;
    for (size_t i = 0; i < set->n_file; i++) {
        const Google__Protobuf__FileDescriptorProto *file = set->file[i];
        for (size_t j = 0; j < file->n_service && list.n_service < MAX_SERVICES; j++) {
            size_t n = list.n_service++;
            snprintf(names[n], sizeof(names[n]), "%s.%s", file->package, file->service[j]->name);
            grpc__reflection__v1__service_response__init(&services[n]);
            services[n].name = names[n];
            pointers[n] = &services[n];
        }
    }
    response->message_response_case = RESPONSE_IS(LIST_SERVICES_RESPONSE);
    response->list_services_response = &list;
    qr_call_send(call, &response->base);
}

static void send_not_found(struct qr_call *call, reflection_response *response)
{
    Grpc__Reflection__V1__ErrorResponse error = GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;

    error.error_code = GRPC_STATUS_NOT_FOUND;
    error.error_message = (char *)"not found";
    response->message_response_case = RESPONSE_IS(ERROR_RESPONSE);
    response->error_response = &error;
    qr_call_send(call, &response->base);
}

static void send_file(struct qr_call *call, reflection_response *response,
                      const Google__Protobuf__FileDescriptorProto *file)
{
    Grpc__Reflection__V1__FileDescriptorResponse files =
        GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
    ProtobufCBinaryData bytes;

    if (file == NULL) {
        send_not_found(call, response);
        return;
    }
    grpc_slice packed = qr_message_pack_slice(&file->base);
    bytes.data = GRPC_SLICE_START_PTR(packed);
    bytes.len = GRPC_SLICE_LENGTH(packed);
    files.n_file_descriptor_proto = 1;
    files.file_descriptor_proto = &bytes;
    response->message_response_case = RESPONSE_IS(FILE_DESCRIPTOR_RESPONSE);
    response->file_descriptor_response = &files;
    qr_call_send(call, &response->base);
    grpc_slice_unref(packed);
}

static void on_received(struct qr_call *call, const ProtobufCMessage *message)
{
    const Google__Protobuf__FileDescriptorSet *set = call->server->descriptors;
    reflection_request *request = (reflection_request *)message;
    reflection_response response = GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;

    response.valid_host = request->host;
    response.original_request = request;
    switch (request->message_request_case) {
    case REQUEST_IS(LIST_SERVICES):
        list_services(call, &response);
        break;
    case REQUEST_IS(FILE_BY_FILENAME):
        send_file(call, &response, qr_descriptors_find_file(set, request->file_by_filename));
        break;
    case REQUEST_IS(FILE_CONTAINING_SYMBOL):
        send_file(call, &response,
                  qr_descriptors_find_symbol(set, request->file_containing_symbol));
        break;
    default: /* extensions: the served protocols have none */
        send_not_found(call, &response);
        break;
    }
}

static void on_phase_changed(struct qr_call *call)
{
    struct qr_rich_error error;

    if (qr_call_can_send(call) && qr_server_phase(call->server) == QR_SERVER_STOPPING) {
        qr_rich_error_draining(&error);
        qr_call_fail(call, NULL, &error);
    }
}

const struct qr_method qr_method_reflection = {
    .path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    .request = &grpc__reflection__v1__server_reflection_request__descriptor,
    .is_client_stream = true,
    .received = on_received,
    .phase_changed = on_phase_changed,
};

const struct qr_method qr_method_reflection_alpha = {
    .path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    .request = &grpc__reflection__v1__server_reflection_request__descriptor,
    .is_client_stream = true,
    .received = on_received,
    .phase_changed = on_phase_changed,
};
