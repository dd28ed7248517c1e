/*
 * stream.h - streams, events and graphs of the emulated driver.
 *
 * Work is a list of operations. A stream runs each as it comes, or keeps them until something
 * waits (settings: late_streams), or records them while it captures a graph.
 */
#ifndef QUIRE_BASE_CUDA_EMULATOR_STREAM_H
#define QUIRE_BASE_CUDA_EMULATOR_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cuda/driver.h"
#include "base/cuda/emulator/machine.h"

/* CUresult, those that the emulated driver gives besides driver.h's. */
enum {
    QR_EMULATOR_INVALID_VALUE = 1,
    QR_EMULATOR_INVALID_DEVICE = 101,
    QR_EMULATOR_INVALID_IMAGE = 200,
    QR_EMULATOR_INVALID_CONTEXT = 201,
    QR_EMULATOR_INVALID_HANDLE = 400,
    QR_EMULATOR_CAPTURE_UNSUPPORTED = 900,
};

enum qr_emulator_operation_kind {
    QR_EMULATOR_LAUNCH,
    QR_EMULATOR_COPY,
    QR_EMULATOR_FILL,
    QR_EMULATOR_RECORD,
    QR_EMULATOR_WAIT,
};

struct qr_emulator_operation {
    enum qr_emulator_operation_kind kind;
    struct qr_emulator_launch launch; /* its params are owned: qr_free */
    void *to;
    const void *from;
    void *staged; /* copy of pageable memory that `from` points to, or NULL: owned, qr_free */
    unsigned char value;
    size_t n_bytes;
    struct qr_cu_event_opaque *event;
    int64_t record; /* RECORD, WAIT: which recording of the event */
};

/* Faults, and what became of the device (emulated_driver.c). */
qr_cu_result qr_emulator_fault_of_launch(const char *kernel);
qr_cu_result qr_emulator_fault_of_copy(void);
void qr_emulator_lose_device(qr_cu_result result);
void qr_emulator_count_launch(const struct qr_emulator_kernel *kernel);

/* Takes over what the operation owns, also when it fails. */
qr_cu_result qr_emulator_enqueue(qr_cu_stream stream, struct qr_emulator_operation *operation);
/* Runs everything that any stream has kept. */
void qr_emulator_drain_all(void);
/* This thread captures a graph: calls that could wait are errors. */
bool qr_emulator_captures(void);
bool qr_emulator_stream_is_late(void);

qr_cu_result qr_emulator_stream_create(qr_cu_stream *stream, unsigned flags);
qr_cu_result qr_emulator_stream_destroy(qr_cu_stream stream);
qr_cu_result qr_emulator_stream_synchronize(qr_cu_stream stream);
qr_cu_result qr_emulator_stream_wait_event(qr_cu_stream stream, qr_cu_event event, unsigned flags);
qr_cu_result qr_emulator_event_create(qr_cu_event *event, unsigned flags);
qr_cu_result qr_emulator_event_destroy(qr_cu_event event);
qr_cu_result qr_emulator_event_record(qr_cu_event event, qr_cu_stream stream);
qr_cu_result qr_emulator_event_query(qr_cu_event event);
qr_cu_result qr_emulator_event_synchronize(qr_cu_event event);
qr_cu_result qr_emulator_event_elapsed_time(float *ms, qr_cu_event start, qr_cu_event end);
qr_cu_result qr_emulator_begin_capture(qr_cu_stream stream, int mode);
qr_cu_result qr_emulator_end_capture(qr_cu_stream stream, qr_cu_graph *graph);
qr_cu_result qr_emulator_graph_instantiate(qr_cu_graph_exec *exec, qr_cu_graph graph,
                                           uint64_t flags);
qr_cu_result qr_emulator_graph_launch(qr_cu_graph_exec exec, qr_cu_stream stream);
qr_cu_result qr_emulator_graph_exec_destroy(qr_cu_graph_exec exec);
qr_cu_result qr_emulator_graph_destroy(qr_cu_graph graph);

#endif /* QUIRE_BASE_CUDA_EMULATOR_STREAM_H */
