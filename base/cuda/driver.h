/*
 * driver.h - the part of the CUDA driver that Quire uses, as a table of functions.
 *
 * The shipped table is filled from libcuda.so.1 when it is first wanted (driver.c), so one
 * binary serves machines with and without a GPU and links no library of CUDA. Tests link the
 * emulator's table besides (emulator/), which runs the same kernels on the CPU.
 *
 * Names, arguments and results are those of the CUDA driver API (CUDA 12.0 and later), reference:
 * https://docs.nvidia.com/cuda/cuda-driver-api/. 0 is success. Thread-safe as the driver is: a
 * thread must have made the context current (ctx_set_current).
 */
#ifndef QUIRE_BASE_CUDA_DRIVER_H
#define QUIRE_BASE_CUDA_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef int qr_cu_result;
typedef int qr_cu_device;
typedef uint64_t qr_cu_address; /* CUdeviceptr */
typedef struct qr_cu_context_opaque *qr_cu_context;
typedef struct qr_cu_module_opaque *qr_cu_module;
typedef struct qr_cu_function_opaque *qr_cu_function;
typedef struct qr_cu_stream_opaque *qr_cu_stream;
typedef struct qr_cu_event_opaque *qr_cu_event;
typedef struct qr_cu_graph_opaque *qr_cu_graph;
typedef struct qr_cu_graph_exec_opaque *qr_cu_graph_exec;

enum {
    QR_CU_OK = 0,
    QR_CU_OUT_OF_MEMORY = 2,
    QR_CU_NO_DEVICE = 100,
    QR_CU_NOT_FOUND = 500,
    QR_CU_NOT_READY = 600,
    QR_CU_ILLEGAL_ADDRESS = 700,
    QR_CU_LAUNCH_OUT_OF_RESOURCES = 701,
    QR_CU_LAUNCH_FAILED = 719,
};
/* An error of a kernel that ran: the driver tells it at whatever call comes next, and nothing works
 * any more. Too few resources are told by the launch itself. */
static inline bool qr_cu_loses_device(qr_cu_result result)
{
    return result >= QR_CU_ILLEGAL_ADDRESS && result <= QR_CU_LAUNCH_FAILED &&
           result != QR_CU_LAUNCH_OUT_OF_RESOURCES;
}

enum { /* CUdevice_attribute */
       QR_CU_ATTRIBUTE_N_SMS = 16,
       QR_CU_ATTRIBUTE_MAX_SHARED_PER_BLOCK = 97, /* opt-in */
       QR_CU_ATTRIBUTE_MAJOR = 75,
       QR_CU_ATTRIBUTE_MINOR = 76,
       QR_CU_ATTRIBUTE_L2_BYTES = 38,
       QR_CU_ATTRIBUTE_REGISTERED_HOST_POINTERS = 91, /* are those of kernels too */
};
enum { QR_CU_FUNCTION_MAX_DYNAMIC_SHARED = 8 };                     /* CUfunction_attribute */
enum { QR_CU_STREAM_NON_BLOCKING = 1 };                             /* CUstream_flags */
enum { QR_CU_EVENT_DISABLE_TIMING = 2 };                            /* CUevent_flags */
enum { QR_CU_HOST_PORTABLE = 1 };                                   /* CU_MEMHOSTALLOC_PORTABLE */
enum { QR_CU_REGISTER_PORTABLE = 1, QR_CU_REGISTER_DEVICEMAP = 2 }; /* CU_MEMHOSTREGISTER_* */
enum { QR_CU_CAPTURE_THREAD_LOCAL = 1 };                            /* CUstreamCaptureMode */
enum { QR_CU_LAUNCH_PROGRAMMATIC_SERIALIZATION = 6 };               /* CUlaunchAttributeID */

/* CUlaunchAttribute and CUlaunchConfig, as the driver lays them out. */
struct qr_cu_launch_attribute {
    int32_t id;
    char pad[4];
    union {
        char bytes[64];
        int32_t programmatic_serialization_allowed;
    } value;
};
struct qr_cu_launch_config {
    uint32_t grid_x, grid_y, grid_z;
    uint32_t block_x, block_y, block_z;
    uint32_t shared_bytes;
    qr_cu_stream stream;
    struct qr_cu_launch_attribute *attributes; /* [n_attributes] */
    uint32_t n_attributes;
};

struct qr_cu_driver {
    qr_cu_result (*init)(unsigned flags);
    qr_cu_result (*driver_get_version)(int *version); /* 13000: CUDA 13.0 */
    qr_cu_result (*get_error_name)(qr_cu_result result, const char **name);
    qr_cu_result (*get_error_string)(qr_cu_result result, const char **text);
    qr_cu_result (*device_get_count)(int *count);
    qr_cu_result (*device_get)(qr_cu_device *device, int ordinal);
    qr_cu_result (*device_get_name)(char *name, int length, qr_cu_device device);
    qr_cu_result (*device_get_attribute)(int *value, int attribute, qr_cu_device device);
    qr_cu_result (*primary_ctx_retain)(qr_cu_context *ctx, qr_cu_device device);
    qr_cu_result (*primary_ctx_release)(qr_cu_device device);
    qr_cu_result (*ctx_set_current)(qr_cu_context ctx);
    qr_cu_result (*ctx_synchronize)(void);
    qr_cu_result (*module_load_data)(qr_cu_module *module, const void *image);
    qr_cu_result (*module_unload)(qr_cu_module module);
    qr_cu_result (*module_get_function)(qr_cu_function *function, qr_cu_module module,
                                        const char *name);
    qr_cu_result (*func_set_attribute)(qr_cu_function function, int attribute, int value);
    /* Blocks of the function that fit on one multiprocessor at a time. */
    qr_cu_result (*occupancy_max_active_blocks)(int *n_blocks, qr_cu_function function,
                                                int block_size, size_t shared_bytes);
    qr_cu_result (*mem_get_info)(size_t *free_bytes, size_t *total_bytes);
    qr_cu_result (*mem_alloc)(qr_cu_address *address, size_t n_bytes);
    qr_cu_result (*mem_free)(qr_cu_address address);
    qr_cu_result (*mem_host_alloc)(void **memory, size_t n_bytes, unsigned flags);
    qr_cu_result (*mem_free_host)(void *memory);
    qr_cu_result (*mem_host_register)(void *memory, size_t n_bytes, unsigned flags);
    qr_cu_result (*mem_host_unregister)(void *memory);
    qr_cu_result (*memset_d8_async)(qr_cu_address address, unsigned char value, size_t n_bytes,
                                    qr_cu_stream stream);
    qr_cu_result (*memcpy_htod_async)(qr_cu_address to, const void *from, size_t n_bytes,
                                      qr_cu_stream stream);
    qr_cu_result (*memcpy_dtoh_async)(void *to, qr_cu_address from, size_t n_bytes,
                                      qr_cu_stream stream);
    qr_cu_result (*memcpy_dtod_async)(qr_cu_address to, qr_cu_address from, size_t n_bytes,
                                      qr_cu_stream stream);
    qr_cu_result (*stream_create)(qr_cu_stream *stream, unsigned flags);
    qr_cu_result (*stream_destroy)(qr_cu_stream stream);
    qr_cu_result (*stream_synchronize)(qr_cu_stream stream);
    qr_cu_result (*stream_wait_event)(qr_cu_stream stream, qr_cu_event event, unsigned flags);
    qr_cu_result (*event_create)(qr_cu_event *event, unsigned flags);
    qr_cu_result (*event_destroy)(qr_cu_event event);
    qr_cu_result (*event_record)(qr_cu_event event, qr_cu_stream stream);
    qr_cu_result (*event_query)(qr_cu_event event);
    qr_cu_result (*event_synchronize)(qr_cu_event event);
    qr_cu_result (*event_elapsed_time)(float *ms, qr_cu_event start, qr_cu_event end);
    qr_cu_result (*launch_kernel_ex)(const struct qr_cu_launch_config *config,
                                     qr_cu_function function, void **params, void **extra);
    qr_cu_result (*stream_begin_capture)(qr_cu_stream stream, int mode);
    qr_cu_result (*stream_end_capture)(qr_cu_stream stream, qr_cu_graph *graph);
    qr_cu_result (*graph_instantiate)(qr_cu_graph_exec *exec, qr_cu_graph graph, uint64_t flags);
    qr_cu_result (*graph_launch)(qr_cu_graph_exec exec, qr_cu_stream stream);
    qr_cu_result (*graph_exec_destroy)(qr_cu_graph_exec exec);
    qr_cu_result (*graph_destroy)(qr_cu_graph graph);
};

/* An image with kernels (a fatbin), as nvcc made it. */
struct qr_cu_image {
    const char *name; /* of the source file, for messages */
    const void *data;
};

/* A driver, and the kernels that it can load. */
struct qr_cu_platform {
    const char *name; /* "cuda", "cuda-emulated" */
    const struct qr_cu_driver *driver;
    const struct qr_cu_image *images; /* [n_images] */
    int32_t n_images;                 /* 0: this build has no kernels */
    bool has_libraries;               /* NVIDIA's libraries work on it: not on the emulator */
};

QR_BEGIN_DECLS

/*
 * The driver of this machine and the kernels of this build; lives as long as the process.
 * QR_ERR_NOT_FOUND: there is no driver here; QR_ERR_UNSUPPORTED: it lacks a function, which err
 * names. Not thread-safe: call it from one thread.
 */
QR_MUST_CHECK enum qr_status qr_cu_platform_open(const struct qr_cu_platform **out,
                                                 struct qr_error *err);
/* The emulator. Defined in base/cuda/emulator, which only tests link. */
const struct qr_cu_platform *qr_cu_platform_emulated(void);

QR_END_DECLS

#endif /* QUIRE_BASE_CUDA_DRIVER_H */
