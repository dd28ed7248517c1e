/* cuda.c - see cuda.h for the contract. */
#include "base/cuda/cuda.h"

#include <stdio.h>
#include <string.h>

#include "base/assert.h"

enum { MIN_CAPABILITY = 80, MIN_DRIVER_VERSION = 12000, EARLY_LAUNCH_CAPABILITY = 90 };

/* "CUDA_ERROR_NAME: text", for a message. */
static const char *describe(const struct qr_cu_driver *driver, qr_cu_result result, char *text,
                            size_t size)
{
    const char *name = NULL, *sentence = NULL;
    if (driver->get_error_name(result, &name) != QR_CU_OK || name == NULL ||
        driver->get_error_string(result, &sentence) != QR_CU_OK || sentence == NULL)
        snprintf(text, size, "CUDA error %d", result);
    else
        snprintf(text, size, "%s: %s", name, sentence);
    return text;
}

static enum qr_status status_of(qr_cu_result result)
{
    return result == QR_CU_OUT_OF_MEMORY ? QR_ERR_NOMEM : QR_ERR_DEVICE;
}

/* The failure of a call outside the latch. */
static enum qr_status fail(const struct qr_cu_driver *driver, qr_cu_result result,
                           struct qr_error *err, const char *what)
{
    char text[256];
    return qr_fail(err, status_of(result), "%s: %s", what,
                   describe(driver, result, text, sizeof(text)));
}

int32_t qr_cuda_count(const struct qr_cu_platform *platform, struct qr_error *err)
{
    const struct qr_cu_driver *driver = platform->driver;
    int count = 0;
    qr_cu_result result = driver->init(0);
    if (result == QR_CU_OK)
        result = driver->device_get_count(&count);
    if (result != QR_CU_OK) {
        (void)fail(driver, result, err, "no CUDA device can be used");
        return 0;
    }
    if (count == 0)
        (void)qr_fail(err, QR_ERR_NOT_FOUND, "the CUDA driver sees no device");
    return count;
}

static enum qr_status read_properties(const struct qr_cu_driver *driver, qr_cu_device device,
                                      struct qr_cuda_properties *out, struct qr_error *err)
{
    int major = 0, minor = 0, n_sms = 0, max_shared = 0, l2_bytes = 0, reaches_pinned = 0;
    const struct {
        int attribute;
        int *value;
    } wanted[] = {
        {QR_CU_ATTRIBUTE_MAJOR, &major},
        {QR_CU_ATTRIBUTE_MINOR, &minor},
        {QR_CU_ATTRIBUTE_N_SMS, &n_sms},
        {QR_CU_ATTRIBUTE_MAX_SHARED_PER_BLOCK, &max_shared},
        {QR_CU_ATTRIBUTE_L2_BYTES, &l2_bytes},
        {QR_CU_ATTRIBUTE_REGISTERED_HOST_POINTERS, &reaches_pinned},
    };
    qr_cu_result result = driver->device_get_name(out->name, sizeof(out->name), device);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]) && result == QR_CU_OK; i++)
        result = driver->device_get_attribute(wanted[i].value, wanted[i].attribute, device);
    if (result != QR_CU_OK)
        return fail(driver, result, err, "reading what the CUDA device is");
    out->capability = 10 * major + minor;
    out->n_sms = n_sms;
    out->max_shared = max_shared;
    out->l2_bytes = l2_bytes;
    out->reaches_pinned = reaches_pinned != 0;
    return QR_OK;
}

/* What can be said before anything is asked of the device's memory. */
static enum qr_status check_usable(const struct qr_cu_platform *platform, int32_t ordinal,
                                   struct qr_error *err)
{
    if (platform->n_images == 0)
        return qr_fail(err, QR_ERR_UNSUPPORTED,
                       "this build has no CUDA kernels: build it where nvcc is installed");
    int32_t count = qr_cuda_count(platform, err);
    if (count == 0)
        return QR_ERR_NOT_FOUND;
    if (ordinal < 0 || ordinal >= count)
        return qr_fail(err, QR_ERR_NOT_FOUND, "no CUDA device %d: there are %d, counted from 0",
                       ordinal, count);
    int version = 0;
    qr_cu_result result = platform->driver->driver_get_version(&version);
    if (result != QR_CU_OK)
        return fail(platform->driver, result, err, "the CUDA driver's version");
    if (version < MIN_DRIVER_VERSION)
        return qr_fail(err, QR_ERR_UNSUPPORTED,
                       "the CUDA driver is for CUDA %d.%d; 12.0 or later is needed: update it",
                       version / 1000, version % 1000 / 10);
    return QR_OK;
}

static enum qr_status load_kernels(struct qr_cuda *cuda, struct qr_error *err)
{
    const struct qr_cu_platform *platform = cuda->platform;
    QR_ASSERT(platform->n_images <= QR_CUDA_MAX_IMAGES);
    for (int32_t i = 0; i < platform->n_images; i++) {
        qr_cu_result result =
            cuda->driver->module_load_data(&cuda->modules[i], platform->images[i].data);
        if (result != QR_CU_OK) {
            enum qr_status status = fail(cuda->driver, result, err, platform->images[i].name);
            qr_error_prefix(err, "loading the CUDA kernels");
            return status;
        }
        cuda->n_modules = i + 1;
    }
    return QR_OK;
}

enum qr_status qr_cuda_open(const struct qr_cu_platform *platform, int32_t ordinal,
                            struct qr_cuda *out, struct qr_error *err)
{
    *out = (struct qr_cuda){.platform = platform, .driver = platform->driver};
    QR_TRY(check_usable(platform, ordinal, err));

    const struct qr_cu_driver *driver = platform->driver;
    qr_cu_device device;
    qr_cu_result result = driver->device_get(&device, ordinal);
    if (result != QR_CU_OK)
        return fail(driver, result, err, "the CUDA device");
    out->properties.ordinal = ordinal;
    QR_TRY(read_properties(driver, device, &out->properties, err));
    int32_t capability = out->properties.capability;
    if (capability < MIN_CAPABILITY)
        return qr_fail(err, QR_ERR_UNSUPPORTED,
                       "%s has compute capability %d.%d; the kernels need 8.0 or later",
                       out->properties.name, capability / 10, capability % 10);
    out->launch_early = capability >= EARLY_LAUNCH_CAPABILITY;

    size_t free_bytes, total_bytes = 0;
    enum qr_status status;
    result = driver->primary_ctx_retain(&out->context, device);
    if (result == QR_CU_OK)
        result = driver->ctx_set_current(out->context);
    if (result == QR_CU_OK)
        result = driver->stream_create(&out->stream, QR_CU_STREAM_NON_BLOCKING);
    if (result == QR_CU_OK)
        result = driver->mem_get_info(&free_bytes, &total_bytes);
    if (result != QR_CU_OK) {
        status = fail(driver, result, err, out->properties.name);
        goto fail;
    }
    out->properties.total_bytes = (int64_t)total_bytes;
    status = load_kernels(out, err);
    if (status == QR_OK)
        return QR_OK;
fail:
    qr_cuda_close(out);
    return status;
}

void qr_cuda_close(struct qr_cuda *cuda)
{
    if (cuda->driver != NULL && cuda->context != NULL) {
        cuda->driver->ctx_synchronize();
        if (cuda->stream != NULL)
            cuda->driver->stream_destroy(cuda->stream);
        for (int32_t i = 0; i < cuda->n_modules; i++)
            cuda->driver->module_unload(cuda->modules[i]);
        cuda->driver->primary_ctx_release(cuda->properties.ordinal);
    }
    *cuda = (struct qr_cuda){0};
}

enum qr_status qr_cuda_attach_thread(const struct qr_cuda *cuda, struct qr_error *err)
{
    qr_cu_result result = cuda->driver->ctx_set_current(cuda->context);
    return result == QR_CU_OK
               ? QR_OK
               : fail(cuda->driver, result, err, "making the CUDA device current for a thread");
}

/* ---- kernels ---- */

static qr_cu_result look_up(const struct qr_cuda *cuda, const char *name, qr_cu_function *out)
{
    qr_cu_result result = QR_CU_NOT_FOUND;
    for (int32_t i = 0; i < cuda->n_modules && result == QR_CU_NOT_FOUND; i++)
        result = cuda->driver->module_get_function(out, cuda->modules[i], name);
    return result;
}

enum qr_status qr_cuda_find_kernel(struct qr_cuda *cuda, const char *name, int32_t block_size,
                                   int32_t shared_bytes, struct qr_cuda_kernel *out,
                                   struct qr_error *err)
{
    *out = (struct qr_cuda_kernel){.block_size = block_size, .shared_bytes = shared_bytes};
    snprintf(out->name, sizeof(out->name), "%s", name);
    qr_cu_result result = look_up(cuda, name, &out->function);
    if (result == QR_CU_NOT_FOUND)
        return qr_fail(err, QR_ERR_NOT_FOUND, "no CUDA kernel %s in this build", name);
    if (result == QR_CU_OK)
        result = cuda->driver->func_set_attribute(out->function, QR_CU_FUNCTION_MAX_DYNAMIC_SHARED,
                                                  shared_bytes);
    int n_blocks = 0;
    if (result == QR_CU_OK)
        result = cuda->driver->occupancy_max_active_blocks(&n_blocks, out->function, block_size,
                                                           (size_t)shared_bytes);
    if (result == QR_CU_OK && n_blocks > 0) {
        out->blocks_per_sm = n_blocks;
        return QR_OK;
    }
    char text[256] = "not one block fits on a multiprocessor";
    if (result != QR_CU_OK)
        describe(cuda->driver, result, text, sizeof(text));
    return qr_fail(err, status_of(result),
                   "CUDA kernel %s, %d threads and %d bytes of shared memory a block: %s", name,
                   block_size, shared_bytes, text);
}

void qr_cuda_launch(struct qr_cuda *cuda, const struct qr_cuda_kernel *kernel, int32_t grid_x,
                    int32_t grid_y, const void *params)
{
    if (cuda->status != QR_OK || grid_x == 0 || grid_y == 0)
        return;
    struct qr_cu_launch_attribute early = {
        .id = QR_CU_LAUNCH_PROGRAMMATIC_SERIALIZATION,
        .value.programmatic_serialization_allowed = 1,
    };
    const struct qr_cu_launch_config config = {
        .grid_x = (uint32_t)grid_x,
        .grid_y = (uint32_t)grid_y,
        .grid_z = 1,
        .block_x = (uint32_t)kernel->block_size,
        .block_y = 1,
        .block_z = 1,
        .shared_bytes = (uint32_t)kernel->shared_bytes,
        .stream = cuda->stream,
        .attributes = &early,
        .n_attributes = cuda->launch_early ? 1 : 0,
    };
    void *arguments[] = {(void *)(uintptr_t)params};
    qr_cu_result result =
        cuda->driver->launch_kernel_ex(&config, kernel->function, arguments, NULL);
    (void)qr_cuda_check(cuda, result, "launching %s, %d x %d blocks of %d threads", kernel->name,
                        grid_x, grid_y, kernel->block_size);
}

/* ---- memory ---- */

qr_cu_address qr_cuda_alloc(struct qr_cuda *cuda, size_t n_bytes)
{
    qr_cu_address address = 0;
    return cuda->driver->mem_alloc(&address, n_bytes) == QR_CU_OK ? address : 0;
}

void qr_cuda_free(struct qr_cuda *cuda, qr_cu_address address)
{
    if (address != 0)
        cuda->driver->mem_free(address);
}

void *qr_cuda_host_alloc(struct qr_cuda *cuda, size_t n_bytes)
{
    void *memory = NULL;
    return cuda->driver->mem_host_alloc(&memory, n_bytes, QR_CU_HOST_PORTABLE) == QR_CU_OK ? memory
                                                                                           : NULL;
}

void qr_cuda_host_free(struct qr_cuda *cuda, void *memory)
{
    if (memory != NULL)
        cuda->driver->mem_free_host(memory);
}

int64_t qr_cuda_free_bytes(struct qr_cuda *cuda)
{
    size_t free_bytes = 0, total_bytes = 0;
    qr_cu_result result = cuda->driver->mem_get_info(&free_bytes, &total_bytes);
    return qr_cuda_check(cuda, result, "asking for the free device memory") ? (int64_t)free_bytes
                                                                            : 0;
}

/* ---- copies ---- */

void qr_cuda_copy_to_device(struct qr_cuda *cuda, const char *what, qr_cu_address to,
                            const void *from, size_t n_bytes)
{
    if (cuda->status != QR_OK || n_bytes == 0)
        return;
    qr_cu_result result = cuda->driver->memcpy_htod_async(to, from, n_bytes, cuda->stream);
    (void)qr_cuda_check(cuda, result, "copying %s to the device, %zu bytes", what, n_bytes);
}

void qr_cuda_copy_to_host(struct qr_cuda *cuda, const char *what, void *to, qr_cu_address from,
                          size_t n_bytes)
{
    if (cuda->status != QR_OK || n_bytes == 0)
        return;
    qr_cu_result result = cuda->driver->memcpy_dtoh_async(to, from, n_bytes, cuda->stream);
    (void)qr_cuda_check(cuda, result, "copying %s from the device, %zu bytes", what, n_bytes);
}

void qr_cuda_zero(struct qr_cuda *cuda, const char *what, qr_cu_address to, size_t n_bytes)
{
    if (cuda->status != QR_OK || n_bytes == 0)
        return;
    qr_cu_result result = cuda->driver->memset_d8_async(to, 0, n_bytes, cuda->stream);
    (void)qr_cuda_check(cuda, result, "filling %s with zeros, %zu bytes", what, n_bytes);
}

void qr_cuda_synchronize(struct qr_cuda *cuda)
{
    qr_cu_result result = cuda->driver->stream_synchronize(cuda->stream);
    (void)qr_cuda_check(cuda, result, "waiting for the device");
}

/* ---- the latch ---- */

bool qr_cuda_check(struct qr_cuda *cuda, qr_cu_result result, const char *format, ...)
{
    if (result == QR_CU_OK)
        return true;
    if (cuda->status != QR_OK)
        return false;
    char what[256], text[192];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    cuda->status =
        qr_fail(&cuda->failure, status_of(result), "%s: %s%s", what,
                describe(cuda->driver, result, text, sizeof(text)),
                qr_cu_loses_device(result) ? " (there or in what was enqueued before)" : "");
    return false;
}

enum qr_status qr_cuda_take_failure(struct qr_cuda *cuda, struct qr_error *err)
{
    enum qr_status status = cuda->status;
    if (status != QR_OK && err != NULL)
        *err = cuda->failure;
    cuda->status = QR_OK;
    return status;
}
