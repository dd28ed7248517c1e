/* The embedded descriptors: every kind of symbol is found in the file that defines it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/descriptor_set.h"
#include "runtime/server/descriptors.h"
#include "runtime/server/message.h"

static int load(void **state)
{
    size_t size;
    const uint8_t *bytes = qr_descriptor_set(&size);

    *state =
        qr_message_unpack_bytes(&google__protobuf__file_descriptor_set__descriptor, bytes, size);
    return *state != NULL ? 0 : -1;
}

static int unload(void **state)
{
    qr_message_free(*state);
    return 0;
}

static void test_files(void **state)
{
    const Google__Protobuf__FileDescriptorSet *set = *state;
    static const char *const names[] = {
        "quire/v1/inference.proto",
        "quire/v1/control.proto",
        "google/rpc/error_details.proto",
        "google/protobuf/any.proto",
        "google/protobuf/duration.proto",
        "grpc/health/v1/health.proto",
        "grpc/reflection/v1/reflection.proto",
        "grpc/reflection/v1alpha/reflection.proto",
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const Google__Protobuf__FileDescriptorProto *file = qr_descriptors_find_file(set, names[i]);
        assert_non_null(file);
        assert_string_equal(file->name, names[i]);
    }
    assert_null(qr_descriptors_find_file(set, "quire/v1"));
    assert_null(qr_descriptors_find_file(set, ""));
}

/* A client can resolve a file only if what it imports is there too. */
static void test_imports_are_complete(void **state)
{
    const Google__Protobuf__FileDescriptorSet *set = *state;

    for (size_t i = 0; i < set->n_file; i++) {
        for (size_t j = 0; j < set->file[i]->n_dependency; j++)
            assert_non_null(qr_descriptors_find_file(set, set->file[i]->dependency[j]));
    }
}

static void test_symbols(void **state)
{
    const Google__Protobuf__FileDescriptorSet *set = *state;
    static const struct {
        const char *symbol;
        const char *file; /* NULL: nothing has that name */
    } cases[] = {
        {"quire.v1.InferenceService", "quire/v1/inference.proto"},
        {"quire.v1.InferenceService.Generate", "quire/v1/inference.proto"},
        {"quire.v1.ControlService.GetStats", "quire/v1/control.proto"},
        {"quire.v1.GenerateRequest", "quire/v1/inference.proto"},
        {"quire.v1.GenerateRequest.sampling", "quire/v1/inference.proto"},
        {"quire.v1.SamplingOptions.LogitBiasEntry.value", "quire/v1/inference.proto"},
        {"quire.v1.FinishReason", "quire/v1/inference.proto"},
        {"quire.v1.FINISH_REASON_STOP", "quire/v1/inference.proto"},
        {"grpc.health.v1.HealthCheckResponse.ServingStatus", "grpc/health/v1/health.proto"},
        {"grpc.health.v1.HealthCheckResponse.SERVING", "grpc/health/v1/health.proto"},
        {"google.rpc.BadRequest.FieldViolation", "google/rpc/error_details.proto"},
        {"quire.v1", NULL},
        {"quire.v1.", NULL},
        {"", NULL},
        {"quire.v1.Infer", NULL},
        {"quire.v1.InferenceServiceX", NULL},
        {"quire.v1.InferenceService.", NULL},
        {"quire.v1.InferenceService.Nothing", NULL},
        {"InferenceService", NULL},
        {"quire.v1.FinishReason.FINISH_REASON_STOP", NULL},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const Google__Protobuf__FileDescriptorProto *file =
            qr_descriptors_find_symbol(set, cases[i].symbol);
        const char *found = file != NULL ? file->name : "none";
        const char *wanted = cases[i].file != NULL ? cases[i].file : "none";
        if (strcmp(found, wanted) != 0)
            fail_msg("\"%s\": found in %s, not %s", cases[i].symbol, found, wanted);
    }
}

/* What protobuf-c reads and writes again is what protoc wrote. */
static void test_packing_loses_nothing(void **state)
{
    size_t size;
    const uint8_t *bytes = qr_descriptor_set(&size);
    grpc_slice packed = qr_message_pack_slice(*state);

    assert_int_equal(GRPC_SLICE_LENGTH(packed), size);
    assert_memory_equal(GRPC_SLICE_START_PTR(packed), bytes, size);
    grpc_slice_unref(packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_imports_are_complete),
        cmocka_unit_test(test_symbols),
        cmocka_unit_test(test_packing_loses_nothing),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
