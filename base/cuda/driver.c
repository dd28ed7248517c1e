/*
 * driver.c - see driver.h: the driver of this machine, found when it is first asked for.
 *
 * The exported names are those that cuda.h of CUDA 12 and 13 gives the functions: where the
 * driver has several versions of one, `_v2` is the one with 64-bit addresses and sizes.
 */
#include "base/cuda/driver.h"

#include <assert.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

#include "base/cuda/images.h"

static const struct {
    const char *name;
    size_t offset; /* in struct qr_cu_driver */
} entries[] = {
    {"cuInit", offsetof(struct qr_cu_driver, init)},
    {"cuDriverGetVersion", offsetof(struct qr_cu_driver, driver_get_version)},
    {"cuGetErrorName", offsetof(struct qr_cu_driver, get_error_name)},
    {"cuGetErrorString", offsetof(struct qr_cu_driver, get_error_string)},
    {"cuDeviceGetCount", offsetof(struct qr_cu_driver, device_get_count)},
    {"cuDeviceGet", offsetof(struct qr_cu_driver, device_get)},
    {"cuDeviceGetName", offsetof(struct qr_cu_driver, device_get_name)},
    {"cuDeviceGetAttribute", offsetof(struct qr_cu_driver, device_get_attribute)},
    {"cuDevicePrimaryCtxRetain", offsetof(struct qr_cu_driver, primary_ctx_retain)},
    {"cuDevicePrimaryCtxRelease_v2", offsetof(struct qr_cu_driver, primary_ctx_release)},
    {"cuCtxSetCurrent", offsetof(struct qr_cu_driver, ctx_set_current)},
    {"cuCtxSynchronize", offsetof(struct qr_cu_driver, ctx_synchronize)},
    {"cuModuleLoadData", offsetof(struct qr_cu_driver, module_load_data)},
    {"cuModuleUnload", offsetof(struct qr_cu_driver, module_unload)},
    {"cuModuleGetFunction", offsetof(struct qr_cu_driver, module_get_function)},
    {"cuFuncSetAttribute", offsetof(struct qr_cu_driver, func_set_attribute)},
    {"cuOccupancyMaxActiveBlocksPerMultiprocessor",
     offsetof(struct qr_cu_driver, occupancy_max_active_blocks)},
    {"cuMemGetInfo_v2", offsetof(struct qr_cu_driver, mem_get_info)},
    {"cuMemAlloc_v2", offsetof(struct qr_cu_driver, mem_alloc)},
    {"cuMemFree_v2", offsetof(struct qr_cu_driver, mem_free)},
    {"cuMemHostAlloc", offsetof(struct qr_cu_driver, mem_host_alloc)},
    {"cuMemFreeHost", offsetof(struct qr_cu_driver, mem_free_host)},
    {"cuMemHostRegister_v2", offsetof(struct qr_cu_driver, mem_host_register)},
    {"cuMemHostUnregister", offsetof(struct qr_cu_driver, mem_host_unregister)},
    {"cuMemsetD8Async", offsetof(struct qr_cu_driver, memset_d8_async)},
    {"cuMemcpyHtoDAsync_v2", offsetof(struct qr_cu_driver, memcpy_htod_async)},
    {"cuMemcpyDtoHAsync_v2", offsetof(struct qr_cu_driver, memcpy_dtoh_async)},
    {"cuMemcpyDtoDAsync_v2", offsetof(struct qr_cu_driver, memcpy_dtod_async)},
    {"cuStreamCreate", offsetof(struct qr_cu_driver, stream_create)},
    {"cuStreamDestroy_v2", offsetof(struct qr_cu_driver, stream_destroy)},
    {"cuStreamSynchronize", offsetof(struct qr_cu_driver, stream_synchronize)},
    {"cuStreamWaitEvent", offsetof(struct qr_cu_driver, stream_wait_event)},
    {"cuEventCreate", offsetof(struct qr_cu_driver, event_create)},
    {"cuEventDestroy_v2", offsetof(struct qr_cu_driver, event_destroy)},
    {"cuEventRecord", offsetof(struct qr_cu_driver, event_record)},
    {"cuEventQuery", offsetof(struct qr_cu_driver, event_query)},
    {"cuEventSynchronize", offsetof(struct qr_cu_driver, event_synchronize)},
    {"cuEventElapsedTime", offsetof(struct qr_cu_driver, event_elapsed_time)},
    {"cuLaunchKernelEx", offsetof(struct qr_cu_driver, launch_kernel_ex)},
    {"cuStreamBeginCapture_v2", offsetof(struct qr_cu_driver, stream_begin_capture)},
    {"cuStreamEndCapture", offsetof(struct qr_cu_driver, stream_end_capture)},
    {"cuGraphInstantiateWithFlags", offsetof(struct qr_cu_driver, graph_instantiate)},
    {"cuGraphLaunch", offsetof(struct qr_cu_driver, graph_launch)},
    {"cuGraphExecDestroy", offsetof(struct qr_cu_driver, graph_exec_destroy)},
    {"cuGraphDestroy", offsetof(struct qr_cu_driver, graph_destroy)},
};
static_assert(sizeof(entries) / sizeof(entries[0]) == sizeof(struct qr_cu_driver) / sizeof(void *),
              "every function of the table has a name");

static enum qr_status load(const char *library, struct qr_cu_driver *driver, struct qr_error *err)
{
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        return qr_fail(err, QR_ERR_NOT_FOUND,
                       "no CUDA driver on this machine (%s): install NVIDIA's, or use the CPU",
                       dlerror());
    for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
        void *symbol = dlsym(handle, entries[i].name);
        if (symbol == NULL) {
            dlclose(handle);
            return qr_fail(err, QR_ERR_UNSUPPORTED,
                           "the CUDA driver lacks %s, it is older than CUDA 12.0: update it",
                           entries[i].name);
        }
        memcpy((char *)driver + entries[i].offset, &symbol, sizeof(symbol));
    }
    return QR_OK; /* the library stays: the table points into it */
}

enum qr_status qr_cu_platform_open(const struct qr_cu_platform **out, struct qr_error *err)
{
    static struct qr_cu_driver driver;
    static struct qr_cu_platform platform = {
        .name = "cuda", .driver = &driver, .has_libraries = true};
    static bool is_loaded;
    if (!is_loaded) {
        QR_TRY(load("libcuda.so.1", &driver, err));
        if (&qr_cuda_images != NULL) {
            platform.images = qr_cuda_images.images;
            platform.n_images = qr_cuda_images.n_images;
        }
        is_loaded = true;
    }
    *out = &platform;
    return QR_OK;
}
