/* timing.c - see timing.h for the contract. */
#include "runtime/bench/cuda/timing.h"

#include "base/assert.h"
#include "runtime/bench/report.h"

struct clock_events {
    qr_cu_event start;
    qr_cu_event end;
};

struct recording {
    qr_cu_graph graph;
    qr_cu_graph_exec exec;
};

struct qr_times qr_timing_summary(double *values, int32_t n)
{
    double median = qr_median(values, n); /* sorts */

    return (struct qr_times){median, qr_percentile(values, n, 25), qr_percentile(values, n, 75)};
}

static bool open_events(struct qr_cuda *cuda, struct clock_events *events)
{
    *events = (struct clock_events){NULL, NULL};
    return qr_cuda_check(cuda, cuda->driver->event_create(&events->start, 0), "creating events") &&
           qr_cuda_check(cuda, cuda->driver->event_create(&events->end, 0), "creating events");
}

static void close_events(struct qr_cuda *cuda, struct clock_events *events)
{
    if (events->start != NULL)
        (void)cuda->driver->event_destroy(events->start);
    if (events->end != NULL)
        (void)cuda->driver->event_destroy(events->end);
}

static bool record(struct qr_cuda *cuda, qr_cu_event event)
{
    return qr_cuda_check(cuda, cuda->driver->event_record(event, cuda->stream),
                         "recording an event");
}

/* Seconds between the events, once the second has come. */
static double elapsed(struct qr_cuda *cuda, const struct clock_events *events)
{
    float ms = 0;

    if (qr_cuda_check(cuda, cuda->driver->event_synchronize(events->end), "waiting for a replay"))
        qr_cuda_check(cuda, cuda->driver->event_elapsed_time(&ms, events->start, events->end),
                      "reading events");
    return (double)ms * 1e-3;
}

static void enqueue_all(const struct qr_timing_subject *subject)
{
    for (int32_t call = 0; call < subject->n_calls; call++)
        subject->enqueue(subject->arg, call);
}

static bool capture(struct qr_cuda *cuda, const struct qr_timing_subject *subject,
                    struct recording *out)
{
    const struct qr_cu_driver *driver = cuda->driver;

    if (!qr_cuda_check(cuda, driver->stream_begin_capture(cuda->stream, QR_CU_CAPTURE_THREAD_LOCAL),
                       "beginning to capture a graph"))
        return false;
    enqueue_all(subject);
    return qr_cuda_check(cuda, driver->stream_end_capture(cuda->stream, &out->graph),
                         "capturing a graph of %d calls", subject->n_calls) &&
           qr_cuda_check(cuda, driver->graph_instantiate(&out->exec, out->graph, 0),
                         "instantiating a graph of %d calls", subject->n_calls);
}

static void discard(struct qr_cuda *cuda, struct recording *recording)
{
    if (recording->exec != NULL)
        (void)cuda->driver->graph_exec_destroy(recording->exec);
    if (recording->graph != NULL)
        (void)cuda->driver->graph_destroy(recording->graph);
}

static bool launch(struct qr_cuda *cuda, const struct recording *recording)
{
    return qr_cuda_check(cuda, cuda->driver->graph_launch(recording->exec, cuda->stream),
                         "launching a graph");
}

/* seconds[i][r]: a call of subject i in replay r; the first replay of each only warms up. */
static void replay(struct qr_cuda *cuda, const struct qr_timing_subject *subjects, int32_t n,
                   const struct recording *recordings, int32_t n_replays,
                   double seconds[][QR_TIMING_MAX_REPLAYS])
{
    struct clock_events events;
    bool ok = open_events(cuda, &events);

    for (int32_t i = 0; ok && i < n; i++)
        ok = launch(cuda, &recordings[i]);
    for (int32_t r = 0; ok && r < n_replays; r++) {
        for (int32_t i = 0; ok && i < n; i++) {
            ok = record(cuda, events.start) && launch(cuda, &recordings[i]) &&
                 record(cuda, events.end);
            if (ok)
                seconds[i][r] = elapsed(cuda, &events) / subjects[i].n_calls;
        }
    }
    close_events(cuda, &events);
}

enum qr_status qr_timing_run(struct qr_cuda *cuda, const struct qr_timing_subject *subjects,
                             int32_t n, int32_t n_replays, struct qr_times *times,
                             struct qr_error *err)
{
    double seconds[QR_TIMING_MAX_SUBJECTS][QR_TIMING_MAX_REPLAYS] = {{0}};
    struct recording recordings[QR_TIMING_MAX_SUBJECTS] = {{0}};
    bool ok = true;

    QR_ASSERT(n <= QR_TIMING_MAX_SUBJECTS && n_replays <= QR_TIMING_MAX_REPLAYS);
    for (int32_t i = 0; ok && i < n; i++)
        ok = capture(cuda, &subjects[i], &recordings[i]);
    if (ok)
        replay(cuda, subjects, n, recordings, n_replays, seconds);
    qr_cuda_synchronize(cuda);
    for (int32_t i = 0; i < n; i++) {
        times[i] = qr_timing_summary(seconds[i], n_replays);
        discard(cuda, &recordings[i]);
    }
    return qr_cuda_take_failure(cuda, err);
}

enum qr_status qr_timing_run_uncaptured(struct qr_cuda *cuda,
                                        const struct qr_timing_subject *subject, int32_t n_replays,
                                        struct qr_times *times, struct qr_error *err)
{
    double seconds[QR_TIMING_MAX_REPLAYS] = {0};
    struct clock_events events;
    bool ok = open_events(cuda, &events);

    QR_ASSERT(n_replays <= QR_TIMING_MAX_REPLAYS);
    enqueue_all(subject); /* to warm up */
    for (int32_t r = 0; ok && r < n_replays; r++) {
        ok = record(cuda, events.start);
        enqueue_all(subject);
        ok = ok && record(cuda, events.end);
        if (ok)
            seconds[r] = elapsed(cuda, &events) / subject->n_calls;
    }
    qr_cuda_synchronize(cuda);
    close_events(cuda, &events);
    *times = qr_timing_summary(seconds, n_replays);
    return qr_cuda_take_failure(cuda, err);
}
