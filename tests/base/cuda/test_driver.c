#include "base/cuda/driver.h"

#include <assert.h>
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Where CUDA is installed, our declarations against its own. */
#if __has_include(<cuda.h>)
#include <cuda.h>

static_assert(sizeof(struct qr_cu_launch_config) == sizeof(CUlaunchConfig), "");
static_assert(offsetof(struct qr_cu_launch_config, grid_x) == offsetof(CUlaunchConfig, gridDimX),
              "");
static_assert(offsetof(struct qr_cu_launch_config, block_x) == offsetof(CUlaunchConfig, blockDimX),
              "");
static_assert(offsetof(struct qr_cu_launch_config, shared_bytes) ==
                  offsetof(CUlaunchConfig, sharedMemBytes),
              "");
static_assert(offsetof(struct qr_cu_launch_config, stream) == offsetof(CUlaunchConfig, hStream),
              "");
static_assert(offsetof(struct qr_cu_launch_config, attributes) == offsetof(CUlaunchConfig, attrs),
              "");
static_assert(offsetof(struct qr_cu_launch_config, n_attributes) ==
                  offsetof(CUlaunchConfig, numAttrs),
              "");
static_assert(sizeof(struct qr_cu_launch_attribute) == sizeof(CUlaunchAttribute), "");
static_assert(offsetof(struct qr_cu_launch_attribute, id) == offsetof(CUlaunchAttribute, id), "");
static_assert(offsetof(struct qr_cu_launch_attribute, value.programmatic_serialization_allowed) ==
                  offsetof(CUlaunchAttribute, value.programmaticStreamSerializationAllowed),
              "");
static_assert(sizeof(qr_cu_result) == sizeof(CUresult), "");
static_assert(sizeof(qr_cu_device) == sizeof(CUdevice), "");
static_assert(sizeof(qr_cu_address) == sizeof(CUdeviceptr), "");

#define SAME(ours, theirs) static_assert((int)(ours) == (int)(theirs), #theirs)
SAME(QR_CU_OK, CUDA_SUCCESS);
SAME(QR_CU_OUT_OF_MEMORY, CUDA_ERROR_OUT_OF_MEMORY);
SAME(QR_CU_NO_DEVICE, CUDA_ERROR_NO_DEVICE);
SAME(QR_CU_NOT_FOUND, CUDA_ERROR_NOT_FOUND);
SAME(QR_CU_NOT_READY, CUDA_ERROR_NOT_READY);
SAME(QR_CU_ILLEGAL_ADDRESS, CUDA_ERROR_ILLEGAL_ADDRESS);
SAME(QR_CU_LAUNCH_OUT_OF_RESOURCES, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
SAME(QR_CU_LAUNCH_FAILED, CUDA_ERROR_LAUNCH_FAILED);
SAME(QR_CU_ATTRIBUTE_N_SMS, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
SAME(QR_CU_ATTRIBUTE_MAX_SHARED_PER_BLOCK, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
SAME(QR_CU_ATTRIBUTE_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
SAME(QR_CU_ATTRIBUTE_MINOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
SAME(QR_CU_ATTRIBUTE_L2_BYTES, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
SAME(QR_CU_FUNCTION_MAX_DYNAMIC_SHARED, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
SAME(QR_CU_STREAM_NON_BLOCKING, CU_STREAM_NON_BLOCKING);
SAME(QR_CU_EVENT_DISABLE_TIMING, CU_EVENT_DISABLE_TIMING);
SAME(QR_CU_HOST_PORTABLE, CU_MEMHOSTALLOC_PORTABLE);
SAME(QR_CU_CAPTURE_THREAD_LOCAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
SAME(QR_CU_LAUNCH_PROGRAMMATIC_SERIALIZATION,
     CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);

/* The names that cuda.h gives the functions whose versions differ. */
#define STRING(x)        STRING_OF(x)
#define STRING_OF(x)     #x
#define NAMED(theirs, n) assert_string_equal(STRING(theirs), n)
static void names_are_those_of_cuda_h(void **state)
{
    (void)state;
    NAMED(cuDevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2");
    NAMED(cuMemGetInfo, "cuMemGetInfo_v2");
    NAMED(cuMemAlloc, "cuMemAlloc_v2");
    NAMED(cuMemFree, "cuMemFree_v2");
    NAMED(cuMemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2");
    NAMED(cuMemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2");
    NAMED(cuMemcpyDtoDAsync, "cuMemcpyDtoDAsync_v2");
    NAMED(cuStreamDestroy, "cuStreamDestroy_v2");
    NAMED(cuEventDestroy, "cuEventDestroy_v2");
    NAMED(cuStreamBeginCapture, "cuStreamBeginCapture_v2");
    NAMED(cuGraphInstantiate, "cuGraphInstantiateWithFlags");
    NAMED(cuMemHostAlloc, "cuMemHostAlloc");
    NAMED(cuLaunchKernelEx, "cuLaunchKernelEx");
    NAMED(cuMemsetD8Async, "cuMemsetD8Async");
}
#else
static void names_are_those_of_cuda_h(void **state)
{
    (void)state;
    print_message("skipped: no cuda.h here\n");
}
#endif

static void without_a_driver_the_error_says_what_to_do(void **state)
{
    (void)state;
    const struct qr_cu_platform *platform = NULL;
    struct qr_error err = {0};
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY);
    enum qr_status status = qr_cu_platform_open(&platform, &err);
    if (driver != NULL) {
        assert_int_equal(status, QR_OK);
        assert_string_equal(platform->name, "cuda");
        dlclose(driver);
        return;
    }
    assert_int_equal(status, QR_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "no CUDA driver"));
    assert_non_null(strstr(err.message, "libcuda.so.1"));
}

static void the_emulated_table_is_whole(void **state)
{
    (void)state;
    const struct qr_cu_driver *driver = qr_cu_platform_emulated()->driver;
    void *const *functions = (void *const *)(const void *)driver;
    for (size_t i = 0; i < sizeof(*driver) / sizeof(void *); i++)
        assert_non_null(functions[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_those_of_cuda_h),
        cmocka_unit_test(without_a_driver_the_error_says_what_to_do),
        cmocka_unit_test(the_emulated_table_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
