/*
 * stream.c - see stream.h for the contract.
 *
 * Two threads may use two streams at a time. `lock` guards the lists and the events; work that a
 * late stream has kept runs under it, since any thread may have to run it.
 */
#include "base/cuda/emulator/stream.h"

#include <pthread.h>
#include <string.h>

#include "base/alloc.h"
#include "base/array.h"
#include "base/clock.h"
#include "base/cuda/emulator/emulator.h"

struct operations {
    struct qr_emulator_operation *items; /* [n], each owned */
    int32_t n;
    int32_t capacity;
};

struct qr_cu_stream_opaque {
    struct qr_cu_stream_opaque *next;
    struct operations kept; /* late: not run yet, from `first` on */
    int32_t first;
    bool captures;
    struct operations captured;
};

struct qr_cu_event_opaque {
    struct qr_cu_stream_opaque *stream; /* of the last recording */
    int64_t n_enqueued, n_run;          /* recordings */
    int64_t ns;                         /* when the last one ran */
    bool timed;
};

struct qr_cu_graph_opaque {
    struct operations operations;
};

struct qr_cu_graph_exec_opaque {
    struct operations operations;
};

static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static struct qr_cu_stream_opaque *streams;
static __thread int n_captures; /* of this thread */

bool qr_emulator_captures(void)
{
    return n_captures > 0;
}

bool qr_emulator_stream_is_late(void)
{
    return qr_emulator_get_settings().late_streams;
}

static bool is_stream(const struct qr_cu_stream_opaque *stream)
{
    pthread_mutex_lock(&lock);
    const struct qr_cu_stream_opaque *found = streams;
    while (found != NULL && found != stream)
        found = found->next;
    pthread_mutex_unlock(&lock);
    return found != NULL;
}

/* ---- operations ---- */

static void release(struct qr_emulator_operation *operation)
{
    if (operation->kind == QR_EMULATOR_LAUNCH)
        qr_free((void *)(uintptr_t)operation->launch.params);
    qr_free(operation->staged);
}

static void release_all(struct operations *operations)
{
    for (int32_t i = 0; i < operations->n; i++)
        release(&operations->items[i]);
    qr_free(operations->items);
    *operations = (struct operations){0};
}

static qr_cu_result append(struct operations *operations, struct qr_emulator_operation *operation)
{
    struct qr_emulator_operation *items = qr_array_grow(
        QR_ARENA_ENGINE, operations->items, operations->n, &operations->capacity, sizeof(*items));
    if (items == NULL) {
        release(operation);
        return QR_CU_OUT_OF_MEMORY;
    }
    operations->items = items;
    items[operations->n++] = *operation;
    return QR_CU_OK;
}

static void *copy_of(const void *from, size_t n_bytes)
{
    void *copy = qr_aligned_alloc(QR_ARENA_ENGINE, 64, (n_bytes + 63) / 64 * 64);
    if (copy != NULL)
        memcpy(copy, from, n_bytes);
    return copy;
}

/* Appends copies of all of them. */
static qr_cu_result append_all(struct operations *to, const struct operations *from)
{
    for (int32_t i = 0; i < from->n; i++) {
        struct qr_emulator_operation operation = from->items[i];
        if (operation.kind == QR_EMULATOR_LAUNCH) {
            operation.launch.params =
                copy_of(operation.launch.params, operation.launch.kernel->params_bytes);
            if (operation.launch.params == NULL)
                return QR_CU_OUT_OF_MEMORY;
        }
        qr_cu_result result = append(to, &operation);
        if (result != QR_CU_OK)
            return result;
    }
    return QR_CU_OK;
}

static qr_cu_result admit(const struct qr_emulator_launch *launch)
{
    qr_emulator_count_launch(launch->kernel);
    return qr_emulator_fault_of_launch(launch->kernel->name);
}

static qr_cu_result run_launch(const struct qr_emulator_launch *launch)
{
    qr_cu_result result = admit(launch);
    if (result == QR_CU_OK)
        qr_emulator_run(launch);
    return result;
}

/* The second one starts first, and goes as far as it can without the first. */
static qr_cu_result run_two_launches(const struct qr_emulator_launch *first,
                                     struct qr_emulator_launch second)
{
    qr_cu_result result = admit(first);
    if (result != QR_CU_OK)
        return result;
    result = admit(&second);
    second.previous = first;
    qr_emulator_run(result == QR_CU_OK ? &second : first);
    return result;
}

static void run_kept(struct qr_cu_stream_opaque *stream);

static void wait_for(struct qr_cu_event_opaque *event, int64_t record)
{
    pthread_mutex_lock(&lock);
    while (event->n_run < record)
        run_kept(event->stream);
    pthread_mutex_unlock(&lock);
}

static qr_cu_result run(const struct qr_emulator_operation *operation)
{
    qr_cu_result result = QR_CU_OK;
    switch (operation->kind) {
    case QR_EMULATOR_LAUNCH:
        return run_launch(&operation->launch);
    case QR_EMULATOR_COPY:
        result = qr_emulator_fault_of_copy();
        if (result == QR_CU_OK)
            memmove(operation->to, operation->from, operation->n_bytes);
        return result;
    case QR_EMULATOR_FILL:
        result = qr_emulator_fault_of_copy();
        if (result == QR_CU_OK)
            memset(operation->to, operation->value, operation->n_bytes);
        return result;
    case QR_EMULATOR_RECORD:
        pthread_mutex_lock(&lock);
        if (operation->event->n_run < operation->record) { /* of several streams: the last one */
            operation->event->n_run = operation->record;
            operation->event->ns = qr_now_ns();
        }
        pthread_mutex_unlock(&lock);
        return QR_CU_OK;
    case QR_EMULATOR_WAIT:
        wait_for(operation->event, operation->record);
        return QR_CU_OK;
    }
    return QR_EMULATOR_INVALID_VALUE;
}

/* A failure that the call which enqueued the work can no longer return loses the device. */
static void run_later(const struct qr_emulator_operation *operation)
{
    qr_cu_result result = run(operation);
    if (result != QR_CU_OK)
        qr_emulator_lose_device(result);
}

/* Whether the oldest two are launches of which the second may start before the first has ended. Of
 * a row of them, the seed says which are the first. */
static bool starts_early(const struct qr_cu_stream_opaque *stream)
{
    const struct qr_emulator_operation *next = stream->kept.items + stream->first;
    uint64_t n = (uint64_t)(stream->kept.n - stream->first);
    return n >= 2 && n % 2 == qr_emulator_get_settings().seed % 2 &&
           next[0].kind == QR_EMULATOR_LAUNCH && next[1].kind == QR_EMULATOR_LAUNCH &&
           next[1].launch.early;
}

/* Runs the oldest operation that the stream has kept, or the oldest two. */
static void run_kept(struct qr_cu_stream_opaque *stream)
{
    if (stream->first == stream->kept.n)
        qr_emulator_die("streams wait for an event that nothing records");
    struct qr_emulator_operation operation = stream->kept.items[stream->first];
    if (starts_early(stream)) {
        struct qr_emulator_operation early = stream->kept.items[++stream->first];
        qr_cu_result result = run_two_launches(&operation.launch, early.launch);
        if (result != QR_CU_OK)
            qr_emulator_lose_device(result);
        release(&early);
    } else {
        run_later(&operation);
    }
    release(&operation);
    if (++stream->first == stream->kept.n)
        stream->first = stream->kept.n = 0;
}

static void drain(struct qr_cu_stream_opaque *stream)
{
    pthread_mutex_lock(&lock);
    while (stream->first < stream->kept.n)
        run_kept(stream);
    pthread_mutex_unlock(&lock);
}

void qr_emulator_drain_all(void)
{
    pthread_mutex_lock(&lock);
    for (struct qr_cu_stream_opaque *stream = streams; stream != NULL; stream = stream->next)
        drain(stream);
    pthread_mutex_unlock(&lock);
}

qr_cu_result qr_emulator_enqueue(qr_cu_stream stream, struct qr_emulator_operation *operation)
{
    if (!is_stream(stream)) {
        release(operation);
        return QR_EMULATOR_INVALID_HANDLE;
    }
    if (stream->captures)
        return append(&stream->captured, operation);
    if (qr_emulator_stream_is_late()) {
        pthread_mutex_lock(&lock);
        qr_cu_result result = append(&stream->kept, operation);
        pthread_mutex_unlock(&lock);
        return result;
    }
    qr_cu_result result = run(operation);
    release(operation);
    /* A kernel that breaks is noticed by whatever comes next, as on a GPU. */
    if (qr_cu_loses_device(result)) {
        qr_emulator_lose_device(result);
        return QR_CU_OK;
    }
    return result;
}

/* ---- streams ---- */

qr_cu_result qr_emulator_stream_create(qr_cu_stream *stream, unsigned flags)
{
    if (flags != QR_CU_STREAM_NON_BLOCKING)
        qr_emulator_die("cuStreamCreate: a stream that waits for the NULL stream");
    *stream = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(**stream));
    if (*stream == NULL)
        return QR_CU_OUT_OF_MEMORY;
    pthread_mutex_lock(&lock);
    (*stream)->next = streams;
    streams = *stream;
    pthread_mutex_unlock(&lock);
    return QR_CU_OK;
}

qr_cu_result qr_emulator_stream_destroy(qr_cu_stream stream)
{
    if (!is_stream(stream))
        return QR_EMULATOR_INVALID_HANDLE;
    drain(stream);
    pthread_mutex_lock(&lock);
    struct qr_cu_stream_opaque **link = &streams;
    while (*link != stream)
        link = &(*link)->next;
    *link = stream->next;
    pthread_mutex_unlock(&lock);
    release_all(&stream->captured);
    qr_free(stream->kept.items);
    qr_free(stream);
    return QR_CU_OK;
}

qr_cu_result qr_emulator_stream_synchronize(qr_cu_stream stream)
{
    if (!is_stream(stream))
        return QR_EMULATOR_INVALID_HANDLE;
    if (stream->captures)
        return QR_EMULATOR_CAPTURE_UNSUPPORTED;
    drain(stream);
    return QR_CU_OK;
}

/* ---- events ---- */

qr_cu_result qr_emulator_event_create(qr_cu_event *event, unsigned flags)
{
    *event = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(**event));
    if (*event == NULL)
        return QR_CU_OUT_OF_MEMORY;
    (*event)->timed = (flags & QR_CU_EVENT_DISABLE_TIMING) == 0;
    return QR_CU_OK;
}

qr_cu_result qr_emulator_event_destroy(qr_cu_event event)
{
    qr_emulator_drain_all(); /* what was kept may name it */
    qr_free(event);
    return QR_CU_OK;
}

qr_cu_result qr_emulator_event_record(qr_cu_event event, qr_cu_stream stream)
{
    if (!is_stream(stream))
        return QR_EMULATOR_INVALID_HANDLE;
    if (stream->captures)
        return QR_EMULATOR_CAPTURE_UNSUPPORTED;
    pthread_mutex_lock(&lock);
    event->stream = stream;
    struct qr_emulator_operation operation = {
        .kind = QR_EMULATOR_RECORD, .event = event, .record = ++event->n_enqueued};
    /* Under the lock: who waits for this number must find what records it. */
    qr_cu_result result = qr_emulator_enqueue(stream, &operation);
    pthread_mutex_unlock(&lock);
    return result;
}

qr_cu_result qr_emulator_stream_wait_event(qr_cu_stream stream, qr_cu_event event, unsigned flags)
{
    if (flags != 0 || !is_stream(stream))
        return QR_EMULATOR_INVALID_HANDLE;
    if (stream->captures)
        return QR_EMULATOR_CAPTURE_UNSUPPORTED;
    pthread_mutex_lock(&lock);
    struct qr_emulator_operation operation = {
        .kind = QR_EMULATOR_WAIT, .event = event, .record = event->n_enqueued};
    pthread_mutex_unlock(&lock);
    return qr_emulator_enqueue(stream, &operation);
}

static bool has_run(const struct qr_cu_event_opaque *event)
{
    return event->n_run == event->n_enqueued;
}

qr_cu_result qr_emulator_event_query(qr_cu_event event)
{
    pthread_mutex_lock(&lock);
    if (!has_run(event)) /* whoever asks again and again gets on */
        run_kept(event->stream);
    qr_cu_result result = has_run(event) ? QR_CU_OK : QR_CU_NOT_READY;
    pthread_mutex_unlock(&lock);
    return result;
}

qr_cu_result qr_emulator_event_synchronize(qr_cu_event event)
{
    pthread_mutex_lock(&lock);
    wait_for(event, event->n_enqueued);
    pthread_mutex_unlock(&lock);
    return QR_CU_OK;
}

qr_cu_result qr_emulator_event_elapsed_time(float *ms, qr_cu_event start, qr_cu_event end)
{
    pthread_mutex_lock(&lock);
    qr_cu_result result = QR_CU_OK;
    if (!start->timed || !end->timed || start->n_enqueued == 0 || end->n_enqueued == 0)
        result = QR_EMULATOR_INVALID_HANDLE;
    else if (!has_run(start) || !has_run(end))
        result = QR_CU_NOT_READY;
    else
        *ms = (float)((double)(end->ns - start->ns) * 1e-6);
    pthread_mutex_unlock(&lock);
    return result;
}

/* ---- graphs ---- */

qr_cu_result qr_emulator_begin_capture(qr_cu_stream stream, int mode)
{
    if (!is_stream(stream) || stream->captures || mode != QR_CU_CAPTURE_THREAD_LOCAL)
        return QR_EMULATOR_INVALID_VALUE;
    stream->captures = true;
    n_captures++;
    return QR_CU_OK;
}

qr_cu_result qr_emulator_end_capture(qr_cu_stream stream, qr_cu_graph *graph)
{
    if (!is_stream(stream) || !stream->captures)
        return QR_EMULATOR_INVALID_VALUE;
    stream->captures = false;
    n_captures--;
    *graph = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(**graph));
    if (*graph == NULL) {
        release_all(&stream->captured);
        return QR_CU_OUT_OF_MEMORY;
    }
    (*graph)->operations = stream->captured;
    stream->captured = (struct operations){0};
    return QR_CU_OK;
}

qr_cu_result qr_emulator_graph_instantiate(qr_cu_graph_exec *exec, qr_cu_graph graph,
                                           uint64_t flags)
{
    if (flags != 0)
        return QR_EMULATOR_INVALID_VALUE;
    *exec = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(**exec));
    if (*exec == NULL)
        return QR_CU_OUT_OF_MEMORY;
    qr_cu_result result = append_all(&(*exec)->operations, &graph->operations);
    if (result != QR_CU_OK) {
        qr_emulator_graph_exec_destroy(*exec);
        *exec = NULL;
    }
    return result;
}

qr_cu_result qr_emulator_graph_launch(qr_cu_graph_exec exec, qr_cu_stream stream)
{
    if (!is_stream(stream))
        return QR_EMULATOR_INVALID_HANDLE;
    if (stream->captures)
        return QR_EMULATOR_CAPTURE_UNSUPPORTED;
    if (qr_emulator_stream_is_late()) {
        pthread_mutex_lock(&lock);
        qr_cu_result result = append_all(&stream->kept, &exec->operations);
        pthread_mutex_unlock(&lock);
        return result;
    }
    for (int32_t i = 0; i < exec->operations.n; i++)
        run_later(&exec->operations.items[i]);
    return QR_CU_OK;
}

qr_cu_result qr_emulator_graph_exec_destroy(qr_cu_graph_exec exec)
{
    release_all(&exec->operations);
    qr_free(exec);
    return QR_CU_OK;
}

qr_cu_result qr_emulator_graph_destroy(qr_cu_graph graph)
{
    release_all(&graph->operations);
    qr_free(graph);
    return QR_CU_OK;
}
