/*
 * emulated_driver.c - the table of driver.h on the emulator: one invented device, the kernels that
 * this program was linked with, and faults on demand (emulator.h).
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "base/cuda/emulator/emulator.h"
#include "base/cuda/emulator/memory.h"
#include "base/cuda/emulator/stream.h"

enum {
    DRIVER_VERSION = 13000,
    DEFAULT_DYNAMIC_SHARED = 48 << 10, /* bytes, until the attribute says more */
    MAX_KERNELS = 1024,
    L2_BYTES = 4 << 20,
};

struct qr_cu_context_opaque {
    int unused;
};
struct qr_cu_module_opaque {
    int unused;
};
struct qr_cu_function_opaque {
    const struct qr_emulator_kernel *kernel;
    int max_dynamic_shared;
    int64_t n_launches;
};

static struct qr_cu_context_opaque the_context;
static struct qr_cu_module_opaque the_module;
static const char the_image[] = "the kernels of this program";
static struct qr_cu_function_opaque functions[MAX_KERNELS];
static int n_functions;
static __thread bool context_is_current;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of what follows, and the functions */
static struct {
    int32_t nth_allocation;
    char kernel[128];
    int32_t nth_launch;
    qr_cu_result launch_result;
    int32_t nth_copy;
    qr_cu_result copy_result;
} faults;
static _Atomic int64_t bytes_to_host;
static _Atomic qr_cu_result lost; /* what every call returns since the device was lost */

/* ---- faults ---- */

/* True when *nth counts down to 0 with this event. Under the lock. */
static bool comes_now(int32_t *nth)
{
    return *nth > 0 && --*nth == 0;
}

void qr_emulator_fail_allocation(int32_t nth)
{
    pthread_mutex_lock(&lock);
    faults.nth_allocation = nth;
    pthread_mutex_unlock(&lock);
}

void qr_emulator_fail_launch(const char *kernel, int32_t nth, qr_cu_result result)
{
    pthread_mutex_lock(&lock);
    snprintf(faults.kernel, sizeof(faults.kernel), "%s", kernel);
    faults.nth_launch = nth;
    faults.launch_result = result;
    pthread_mutex_unlock(&lock);
}

void qr_emulator_fail_copy(int32_t nth, qr_cu_result result)
{
    pthread_mutex_lock(&lock);
    faults.nth_copy = nth;
    faults.copy_result = result;
    pthread_mutex_unlock(&lock);
}

void qr_emulator_heal(void)
{
    pthread_mutex_lock(&lock);
    memset(&faults, 0, sizeof(faults));
    pthread_mutex_unlock(&lock);
    atomic_store(&lost, QR_CU_OK);
}

void qr_emulator_lose_device(qr_cu_result result)
{
    qr_cu_result none = QR_CU_OK;
    atomic_compare_exchange_strong(&lost, &none, result);
}

qr_cu_result qr_emulator_fault_of_launch(const char *kernel)
{
    if (atomic_load(&lost) != QR_CU_OK)
        return atomic_load(&lost);
    pthread_mutex_lock(&lock);
    bool fails = strcmp(faults.kernel, kernel) == 0 && comes_now(&faults.nth_launch);
    qr_cu_result result = fails ? faults.launch_result : QR_CU_OK;
    pthread_mutex_unlock(&lock);
    return result;
}

qr_cu_result qr_emulator_fault_of_copy(void)
{
    if (atomic_load(&lost) != QR_CU_OK)
        return atomic_load(&lost);
    pthread_mutex_lock(&lock);
    qr_cu_result result = comes_now(&faults.nth_copy) ? faults.copy_result : QR_CU_OK;
    pthread_mutex_unlock(&lock);
    return result;
}

/* ---- the device ---- */

/* What every call asks first. */
static qr_cu_result usable(void)
{
    qr_cu_result result = atomic_load(&lost);
    if (result == QR_CU_OK && !context_is_current)
        result = QR_EMULATOR_INVALID_CONTEXT;
    return result;
}

/* The same for those that a thread may not call while it captures a graph. */
static qr_cu_result usable_outside_capture(void)
{
    return qr_emulator_captures() ? QR_EMULATOR_CAPTURE_UNSUPPORTED : usable();
}

static int max_shared_per_block(void)
{
    return (qr_emulator_get_settings().capability >= 90 ? 227 : 163) << 10;
}

static qr_cu_result emulated_init(unsigned flags)
{
    (void)flags;
    return qr_emulator_get_settings().n_devices > 0 ? QR_CU_OK : QR_CU_NO_DEVICE;
}

static qr_cu_result emulated_driver_get_version(int *version)
{
    *version = DRIVER_VERSION;
    return QR_CU_OK;
}

static const struct {
    qr_cu_result result;
    const char *name, *text;
} results[] = {
    {QR_CU_OK, "CUDA_SUCCESS", "no error"},
    {QR_EMULATOR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {QR_CU_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {QR_CU_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {QR_EMULATOR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {QR_EMULATOR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {QR_EMULATOR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {QR_EMULATOR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {QR_CU_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {QR_CU_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {QR_CU_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS",
     "an illegal memory access was encountered"},
    {QR_CU_LAUNCH_OUT_OF_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
     "too many resources requested for launch"},
    {QR_CU_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {QR_EMULATOR_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {0, NULL, NULL},
};

/* The row of a result; of one that the driver does not know, the one without names. */
static size_t row_of(qr_cu_result result)
{
    size_t i = 0;
    while (results[i].name != NULL && results[i].result != result)
        i++;
    return i;
}

static qr_cu_result emulated_get_error_name(qr_cu_result result, const char **name)
{
    *name = results[row_of(result)].name;
    return *name != NULL ? QR_CU_OK : QR_EMULATOR_INVALID_VALUE;
}

static qr_cu_result emulated_get_error_string(qr_cu_result result, const char **text)
{
    *text = results[row_of(result)].text;
    return *text != NULL ? QR_CU_OK : QR_EMULATOR_INVALID_VALUE;
}

static qr_cu_result emulated_device_get_count(int *count)
{
    *count = qr_emulator_get_settings().n_devices;
    return QR_CU_OK;
}

static qr_cu_result emulated_device_get(qr_cu_device *device, int ordinal)
{
    if (ordinal < 0 || ordinal >= qr_emulator_get_settings().n_devices)
        return QR_EMULATOR_INVALID_DEVICE;
    *device = ordinal;
    return QR_CU_OK;
}

static qr_cu_result emulated_device_get_name(char *name, int length, qr_cu_device device)
{
    (void)device;
    snprintf(name, (size_t)length, "emulated device");
    return QR_CU_OK;
}

static qr_cu_result emulated_device_get_attribute(int *value, int attribute, qr_cu_device device)
{
    (void)device;
    struct qr_emulator_settings settings = qr_emulator_get_settings();
    switch (attribute) {
    case QR_CU_ATTRIBUTE_N_SMS:
        *value = settings.n_sms;
        return QR_CU_OK;
    case QR_CU_ATTRIBUTE_MAX_SHARED_PER_BLOCK:
        *value = max_shared_per_block();
        return QR_CU_OK;
    case QR_CU_ATTRIBUTE_MAJOR:
        *value = settings.capability / 10;
        return QR_CU_OK;
    case QR_CU_ATTRIBUTE_MINOR:
        *value = settings.capability % 10;
        return QR_CU_OK;
    case QR_CU_ATTRIBUTE_L2_BYTES:
        *value = L2_BYTES;
        return QR_CU_OK;
    case QR_CU_ATTRIBUTE_REGISTERED_HOST_POINTERS:
        *value = 1;
        return QR_CU_OK;
    default:
        return QR_EMULATOR_INVALID_VALUE;
    }
}

static qr_cu_result emulated_primary_ctx_retain(qr_cu_context *ctx, qr_cu_device device)
{
    (void)device;
    *ctx = &the_context;
    return atomic_load(&lost);
}

static qr_cu_result emulated_primary_ctx_release(qr_cu_device device)
{
    (void)device;
    qr_emulator_memory_check();
    return QR_CU_OK;
}

static qr_cu_result emulated_ctx_set_current(qr_cu_context ctx)
{
    if (ctx != NULL && ctx != &the_context)
        return QR_EMULATOR_INVALID_CONTEXT;
    context_is_current = ctx != NULL;
    return QR_CU_OK;
}

static qr_cu_result emulated_ctx_synchronize(void)
{
    qr_cu_result result = usable_outside_capture();
    if (result != QR_CU_OK)
        return result;
    qr_emulator_drain_all();
    qr_emulator_memory_check();
    return atomic_load(&lost);
}

/* ---- kernels ---- */

static qr_cu_result emulated_module_load_data(qr_cu_module *module, const void *image)
{
    qr_cu_result result = usable();
    if (result != QR_CU_OK)
        return result;
    if (image != the_image)
        return QR_EMULATOR_INVALID_IMAGE;
    *module = &the_module;
    return QR_CU_OK;
}

static qr_cu_result emulated_module_unload(qr_cu_module module)
{
    return module == &the_module ? usable() : QR_EMULATOR_INVALID_HANDLE;
}

/* Under the lock. NULL: no such kernel. */
static struct qr_cu_function_opaque *find_function(const char *name)
{
    for (int i = 0; i < n_functions; i++)
        if (strcmp(functions[i].kernel->name, name) == 0)
            return &functions[i];
    const struct qr_emulator_kernel *kernel = qr_emulator_find(name);
    if (kernel == NULL)
        return NULL;
    if (n_functions == MAX_KERNELS)
        qr_emulator_die("more than %d kernels", MAX_KERNELS);
    functions[n_functions] = (struct qr_cu_function_opaque){
        .kernel = kernel, .max_dynamic_shared = DEFAULT_DYNAMIC_SHARED};
    return &functions[n_functions++];
}

static qr_cu_result emulated_module_get_function(qr_cu_function *function, qr_cu_module module,
                                                 const char *name)
{
    if (module != &the_module)
        return QR_EMULATOR_INVALID_HANDLE;
    qr_cu_result result = usable();
    if (result != QR_CU_OK)
        return result;
    pthread_mutex_lock(&lock);
    *function = find_function(name);
    pthread_mutex_unlock(&lock);
    return *function != NULL ? QR_CU_OK : QR_CU_NOT_FOUND;
}

static qr_cu_result emulated_func_set_attribute(qr_cu_function function, int attribute, int value)
{
    if (attribute != QR_CU_FUNCTION_MAX_DYNAMIC_SHARED || value < 0 ||
        value > max_shared_per_block())
        return QR_EMULATOR_INVALID_VALUE;
    function->max_dynamic_shared = value;
    return usable();
}

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

/* As if the kernel used all the registers that its launch bounds leave it. */
static qr_cu_result emulated_occupancy(int *n_blocks, qr_cu_function function, int block_size,
                                       size_t shared_bytes)
{
    enum {
        MAX_BLOCKS = 32,
        MAX_THREADS = 2048,
        N_REGISTERS = 65536,
        MAX_REGISTERS = 255, /* of a thread */
        SHARED_PER_BLOCK = 1 << 10,
    };
    if (block_size < 1 || block_size > function->kernel->max_threads)
        return QR_EMULATOR_INVALID_VALUE;
    int shared_of_sm = max_shared_per_block() + SHARED_PER_BLOCK;
    int by_registers = N_REGISTERS / (MAX_REGISTERS * block_size);
    if (by_registers < function->kernel->min_blocks)
        by_registers = function->kernel->min_blocks;
    int by_shared = shared_of_sm / ((int)shared_bytes + SHARED_PER_BLOCK);
    *n_blocks = smaller(smaller(MAX_BLOCKS, MAX_THREADS / block_size),
                        smaller(by_registers > 0 ? by_registers : 1, by_shared));
    return usable();
}

/* A word of the parameters that is the address of host memory which a GPU cannot reach: a bug that
 * the emulator would not show otherwise. Small addresses are numbers. */
static void check_parameters(const struct qr_emulator_kernel *kernel, const void *params)
{
    enum { PAGE_BYTES = 4096 };
    const uintptr_t lowest = 0x550000000000u, highest = 0x7fffffffffffu;
    for (size_t at = 0; at + sizeof(uintptr_t) <= kernel->params_bytes; at += sizeof(uintptr_t)) {
        uintptr_t word;
        memcpy(&word, (const char *)params + at, sizeof(word));
        const void *p = (const void *)word;
        if (word < lowest || word > highest || qr_emulator_memory_holds(QR_EMULATOR_DEVICE, p, 0) ||
            qr_emulator_memory_holds(QR_EMULATOR_PINNED, p, 0))
            continue;
        void *page = (void *)(word / PAGE_BYTES * PAGE_BYTES);
        if (msync(page, PAGE_BYTES, MS_ASYNC) == 0)
            qr_emulator_die("kernel %s: the parameter at byte %zu is an address of host memory",
                            kernel->name, at);
    }
}

static bool launches_early(const struct qr_cu_launch_config *config)
{
    for (uint32_t i = 0; i < config->n_attributes; i++)
        if (config->attributes[i].id == QR_CU_LAUNCH_PROGRAMMATIC_SERIALIZATION)
            return config->attributes[i].value.programmatic_serialization_allowed != 0;
    return false;
}

static qr_cu_result emulated_launch(const struct qr_cu_launch_config *config,
                                    qr_cu_function function, void **params, void **extra)
{
    qr_cu_result result = usable();
    if (result != QR_CU_OK)
        return result;
    const struct qr_emulator_kernel *kernel = function->kernel;
    if (config->grid_x == 0 || config->grid_y == 0 || config->grid_y > 65535 ||
        config->grid_z != 1 || config->block_x == 0 || config->block_y != 1 ||
        config->block_z != 1 || params == NULL || extra != NULL ||
        config->block_x > (uint32_t)kernel->max_threads)
        return QR_EMULATOR_INVALID_VALUE;
    if (config->block_x % QR_EMULATOR_WARP != 0)
        qr_emulator_die("kernel %s: a block of %u threads, not whole warps", kernel->name,
                        config->block_x);
    if (config->shared_bytes > (uint32_t)function->max_dynamic_shared)
        qr_emulator_die("kernel %s: %u bytes of shared memory, %d are allowed", kernel->name,
                        config->shared_bytes, function->max_dynamic_shared);
    void *copy = qr_aligned_alloc(QR_ARENA_ENGINE, 64, (kernel->params_bytes + 63) / 64 * 64);
    if (copy == NULL)
        return QR_CU_OUT_OF_MEMORY;
    memcpy(copy, params[0], kernel->params_bytes);
    kernel->clear_padding(copy);
    check_parameters(kernel, copy);
    struct qr_emulator_operation operation = {
        .kind = QR_EMULATOR_LAUNCH,
        .launch = {.kernel = kernel,
                   .params = copy,
                   .grid_x = config->grid_x,
                   .grid_y = config->grid_y,
                   .block_size = config->block_x,
                   .shared_bytes = config->shared_bytes,
                   .early = launches_early(config)},
    };
    return qr_emulator_enqueue(config->stream, &operation);
}

void qr_emulator_count_launch(const struct qr_emulator_kernel *kernel)
{
    pthread_mutex_lock(&lock);
    find_function(kernel->name)->n_launches++;
    pthread_mutex_unlock(&lock);
}

int64_t qr_emulator_count_launches(const char *kernel)
{
    int64_t n = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < n_functions; i++)
        if (kernel == NULL || strcmp(functions[i].kernel->name, kernel) == 0)
            n += functions[i].n_launches;
    pthread_mutex_unlock(&lock);
    return n;
}

int64_t qr_emulator_bytes_to_host(void)
{
    return atomic_load(&bytes_to_host);
}

/* ---- memory ---- */

static qr_cu_result emulated_mem_get_info(size_t *free_bytes, size_t *total_bytes)
{
    *total_bytes = (size_t)qr_emulator_get_settings().device_bytes;
    *free_bytes = *total_bytes - qr_emulator_memory_in_use(QR_EMULATOR_DEVICE);
    return usable();
}

static qr_cu_result allocate(enum qr_emulator_memory kind, size_t n_bytes, void **out)
{
    qr_cu_result result = usable_outside_capture();
    if (result != QR_CU_OK)
        return result;
    if (n_bytes == 0)
        return QR_EMULATOR_INVALID_VALUE;
    pthread_mutex_lock(&lock);
    bool fails = comes_now(&faults.nth_allocation);
    pthread_mutex_unlock(&lock);
    size_t used = qr_emulator_memory_in_use(QR_EMULATOR_DEVICE);
    if (fails || (kind == QR_EMULATOR_DEVICE &&
                  n_bytes > (size_t)qr_emulator_get_settings().device_bytes - used))
        return QR_CU_OUT_OF_MEMORY;
    *out = qr_emulator_memory_alloc(kind, n_bytes);
    return *out != NULL ? QR_CU_OK : QR_CU_OUT_OF_MEMORY;
}

static qr_cu_result release_memory(enum qr_emulator_memory kind, void *memory)
{
    qr_cu_result result = usable_outside_capture();
    if (memory == NULL)
        return result;
    qr_emulator_drain_all();
    if (!qr_emulator_memory_free(kind, memory))
        return QR_EMULATOR_INVALID_VALUE;
    return result;
}

static qr_cu_result emulated_mem_alloc(qr_cu_address *address, size_t n_bytes)
{
    void *memory = NULL;
    qr_cu_result result = allocate(QR_EMULATOR_DEVICE, n_bytes, &memory);
    *address = (qr_cu_address)(uintptr_t)memory;
    return result;
}

static qr_cu_result emulated_mem_free(qr_cu_address address)
{
    return release_memory(QR_EMULATOR_DEVICE, (void *)(uintptr_t)address);
}

static qr_cu_result emulated_mem_host_alloc(void **memory, size_t n_bytes, unsigned flags)
{
    (void)flags;
    *memory = NULL;
    return allocate(QR_EMULATOR_PINNED, n_bytes, memory);
}

static qr_cu_result emulated_mem_free_host(void *memory)
{
    return release_memory(QR_EMULATOR_PINNED, memory);
}

static qr_cu_result emulated_mem_host_register(void *memory, size_t n_bytes, unsigned flags)
{
    qr_cu_result result = usable();
    (void)flags;
    if (result != QR_CU_OK)
        return result;
    if (n_bytes == 0 || qr_emulator_memory_holds(QR_EMULATOR_PINNED, memory, 1))
        return QR_EMULATOR_INVALID_VALUE;
    return qr_emulator_memory_register(memory, n_bytes) ? QR_CU_OK : QR_CU_OUT_OF_MEMORY;
}

static qr_cu_result emulated_mem_host_unregister(void *memory)
{
    return qr_emulator_memory_unregister(memory) ? QR_CU_OK : QR_EMULATOR_INVALID_VALUE;
}

static bool on_device(qr_cu_address address, size_t n_bytes)
{
    return qr_emulator_memory_holds(QR_EMULATOR_DEVICE, (const void *)(uintptr_t)address, n_bytes);
}

static qr_cu_result emulated_memset(qr_cu_address address, unsigned char value, size_t n_bytes,
                                    qr_cu_stream stream)
{
    qr_cu_result result = usable();
    if (result != QR_CU_OK)
        return result;
    if (!on_device(address, n_bytes))
        return QR_EMULATOR_INVALID_VALUE;
    struct qr_emulator_operation operation = {.kind = QR_EMULATOR_FILL,
                                              .to = (void *)(uintptr_t)address,
                                              .value = value,
                                              .n_bytes = n_bytes};
    return qr_emulator_enqueue(stream, &operation);
}

static qr_cu_result copy(void *to, const void *from, size_t n_bytes, void *staged,
                         qr_cu_stream stream)
{
    struct qr_emulator_operation operation = {
        .kind = QR_EMULATOR_COPY, .to = to, .from = from, .n_bytes = n_bytes, .staged = staged};
    return qr_emulator_enqueue(stream, &operation);
}

/* Host memory that is not pinned: the driver has read it when it returns. */
static qr_cu_result emulated_memcpy_htod(qr_cu_address to, const void *from, size_t n_bytes,
                                         qr_cu_stream stream)
{
    qr_cu_result result = usable();
    if (result != QR_CU_OK)
        return result;
    if (!on_device(to, n_bytes))
        return QR_EMULATOR_INVALID_VALUE;
    bool pinned = qr_emulator_memory_holds(QR_EMULATOR_PINNED, from, n_bytes);
    if (pinned || !qr_emulator_stream_is_late() || qr_emulator_captures())
        return copy((void *)(uintptr_t)to, from, n_bytes, NULL, stream);
    void *staged = qr_malloc(QR_ARENA_ENGINE, n_bytes);
    if (staged == NULL)
        return QR_CU_OUT_OF_MEMORY;
    memcpy(staged, from, n_bytes);
    return copy((void *)(uintptr_t)to, staged, n_bytes, staged, stream);
}

/* And has written it. */
static qr_cu_result emulated_memcpy_dtoh(void *to, qr_cu_address from, size_t n_bytes,
                                         qr_cu_stream stream)
{
    qr_cu_result result = usable();
    if (result != QR_CU_OK)
        return result;
    if (!on_device(from, n_bytes))
        return QR_EMULATOR_INVALID_VALUE;
    atomic_fetch_add(&bytes_to_host, (int64_t)n_bytes);
    result = copy(to, (const void *)(uintptr_t)from, n_bytes, NULL, stream);
    if (result == QR_CU_OK && !qr_emulator_captures() &&
        !qr_emulator_memory_holds(QR_EMULATOR_PINNED, to, n_bytes))
        result = qr_emulator_stream_synchronize(stream);
    return result;
}

static qr_cu_result emulated_memcpy_dtod(qr_cu_address to, qr_cu_address from, size_t n_bytes,
                                         qr_cu_stream stream)
{
    qr_cu_result result = usable();
    if (result != QR_CU_OK)
        return result;
    if (!on_device(to, n_bytes) || !on_device(from, n_bytes))
        return QR_EMULATOR_INVALID_VALUE;
    return copy((void *)(uintptr_t)to, (const void *)(uintptr_t)from, n_bytes, NULL, stream);
}

int64_t qr_emulator_bytes_in_use(void)
{
    return (int64_t)(qr_emulator_memory_in_use(QR_EMULATOR_DEVICE) +
                     qr_emulator_memory_in_use(QR_EMULATOR_PINNED));
}

/* ---- streams: those of stream.h, when the device can be used ---- */

static qr_cu_result emulated_stream_create(qr_cu_stream *stream, unsigned flags)
{
    qr_cu_result result = usable();
    return result != QR_CU_OK ? result : qr_emulator_stream_create(stream, flags);
}

static qr_cu_result emulated_stream_synchronize(qr_cu_stream stream)
{
    qr_cu_result result = usable();
    if (result == QR_CU_OK)
        result = qr_emulator_stream_synchronize(stream);
    return result != QR_CU_OK ? result : atomic_load(&lost);
}

static qr_cu_result emulated_event_create(qr_cu_event *event, unsigned flags)
{
    qr_cu_result result = usable();
    return result != QR_CU_OK ? result : qr_emulator_event_create(event, flags);
}

static qr_cu_result emulated_event_record(qr_cu_event event, qr_cu_stream stream)
{
    qr_cu_result result = usable();
    return result != QR_CU_OK ? result : qr_emulator_event_record(event, stream);
}

static qr_cu_result emulated_event_query(qr_cu_event event)
{
    qr_cu_result result = usable_outside_capture();
    if (result == QR_CU_OK)
        result = qr_emulator_event_query(event);
    return atomic_load(&lost) != QR_CU_OK ? atomic_load(&lost) : result;
}

static qr_cu_result emulated_event_synchronize(qr_cu_event event)
{
    qr_cu_result result = usable_outside_capture();
    if (result == QR_CU_OK)
        result = qr_emulator_event_synchronize(event);
    return result != QR_CU_OK ? result : atomic_load(&lost);
}

static qr_cu_result emulated_begin_capture(qr_cu_stream stream, int mode)
{
    qr_cu_result result = usable();
    return result != QR_CU_OK ? result : qr_emulator_begin_capture(stream, mode);
}

static qr_cu_result emulated_graph_launch(qr_cu_graph_exec exec, qr_cu_stream stream)
{
    qr_cu_result result = usable();
    return result != QR_CU_OK ? result : qr_emulator_graph_launch(exec, stream);
}

static const struct qr_cu_driver emulated_driver = {
    .init = emulated_init,
    .driver_get_version = emulated_driver_get_version,
    .get_error_name = emulated_get_error_name,
    .get_error_string = emulated_get_error_string,
    .device_get_count = emulated_device_get_count,
    .device_get = emulated_device_get,
    .device_get_name = emulated_device_get_name,
    .device_get_attribute = emulated_device_get_attribute,
    .primary_ctx_retain = emulated_primary_ctx_retain,
    .primary_ctx_release = emulated_primary_ctx_release,
    .ctx_set_current = emulated_ctx_set_current,
    .ctx_synchronize = emulated_ctx_synchronize,
    .module_load_data = emulated_module_load_data,
    .module_unload = emulated_module_unload,
    .module_get_function = emulated_module_get_function,
    .func_set_attribute = emulated_func_set_attribute,
    .occupancy_max_active_blocks = emulated_occupancy,
    .mem_get_info = emulated_mem_get_info,
    .mem_alloc = emulated_mem_alloc,
    .mem_free = emulated_mem_free,
    .mem_host_alloc = emulated_mem_host_alloc,
    .mem_host_register = emulated_mem_host_register,
    .mem_host_unregister = emulated_mem_host_unregister,
    .mem_free_host = emulated_mem_free_host,
    .memset_d8_async = emulated_memset,
    .memcpy_htod_async = emulated_memcpy_htod,
    .memcpy_dtoh_async = emulated_memcpy_dtoh,
    .memcpy_dtod_async = emulated_memcpy_dtod,
    .stream_create = emulated_stream_create,
    .stream_destroy = qr_emulator_stream_destroy,
    .stream_synchronize = emulated_stream_synchronize,
    .stream_wait_event = qr_emulator_stream_wait_event,
    .event_create = emulated_event_create,
    .event_destroy = qr_emulator_event_destroy,
    .event_record = emulated_event_record,
    .event_query = emulated_event_query,
    .event_synchronize = emulated_event_synchronize,
    .event_elapsed_time = qr_emulator_event_elapsed_time,
    .launch_kernel_ex = emulated_launch,
    .stream_begin_capture = emulated_begin_capture,
    .stream_end_capture = qr_emulator_end_capture,
    .graph_instantiate = qr_emulator_graph_instantiate,
    .graph_launch = emulated_graph_launch,
    .graph_exec_destroy = qr_emulator_graph_exec_destroy,
    .graph_destroy = qr_emulator_graph_destroy,
};

const struct qr_cu_platform *qr_cu_platform_emulated(void)
{
    static const struct qr_cu_image images[] = {{"emulated kernels", the_image}};
    static const struct qr_cu_platform platform = {
        .name = "cuda-emulated", .driver = &emulated_driver, .images = images, .n_images = 1};
    return &platform;
}
