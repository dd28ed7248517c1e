/* machine_probe.c - see machine_probe.h for the contract. */
#include "runtime/bench/cpu/machine_probe.h"

#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/thread_pool.h"
#include "runtime/bench/cpu/probe_kernels.h"

/* Passes are as short as a few steps of a model: what disturbs the machine leaves some alone. */
enum {
    PIECE_BYTES = 2 << 20,    /* that one thread reads before it takes the next piece */
    WINDOW_PIECES = 32,       /* of a pass, which goes on where the one before ended */
    N_READS = 3,              /* of the whole memory */
    PIECE_ITERATIONS = 50000, /* of arithmetic: some 100 us */
    PIECES_PER_THREAD = 50,   /* of a pass */
    N_ARITHMETIC_PASSES = 10,
    MEETINGS = 200, /* of a pass */
    N_MEETING_PASSES = 20,
    MEETING_SPINS = 10000,
};

struct reading {
    qr_probe_read read;
    const char *memory;   /* [n_pieces][PIECE_BYTES] */
    _Atomic uint64_t sum; /* so that the compiler cannot leave a read out */
};

struct arithmetic {
    const struct qr_peak_kernel *kernel;
    _Atomic uint64_t sum;
};

static void read_pieces(void *arg, int64_t first, int64_t last, int32_t worker)
{
    struct reading *reading = arg;
    (void)worker;
    reading->sum +=
        reading->read(reading->memory + first * PIECE_BYTES, (size_t)(last - first) * PIECE_BYTES);
}

static void compute_pieces(void *arg, int64_t first, int64_t last, int32_t worker)
{
    struct arithmetic *arithmetic = arg;
    alignas(64) char chains[QR_PEAK_CHAINS][64] = {{0}};
    alignas(64) uint16_t factors[32]; /* 1 as F32, 0 and 1 as BF16: no sum becomes denormal */
    uint64_t word;
    (void)worker;

    for (int i = 0; i < 32; i++)
        factors[i] = i % 2 == 0 ? 0 : 0x3F80;
    arithmetic->kernel->run((last - first) * PIECE_ITERATIONS, factors, chains);
    memcpy(&word, chains, sizeof(word));
    arithmetic->sum += word;
}

/* Seconds. */
static double timed_pass(struct qr_thread_pool *pool, int64_t n_pieces, qr_work_fn fn, void *arg)
{
    int64_t start_ns = qr_now_ns();

    qr_thread_pool_run(pool, n_pieces, 1, fn, arg);
    return (double)(qr_now_ns() - start_ns) * 1e-9;
}

static double larger(double a, double b)
{
    return a > b ? a : b;
}

/* Bytes a second over memory [n_pieces][PIECE_BYTES]: of the best pass, and of all. */
static double probe_reading(struct qr_thread_pool *pool, const char *memory, int64_t n_pieces,
                            double *mean)
{
    int64_t window = n_pieces < WINDOW_PIECES ? n_pieces : WINDOW_PIECES;
    double best = 0, n_bytes = 0, all_seconds = 0;
    const qr_probe_read read = qr_probe_reader();

    for (int i = 0; i < N_READS; i++) {
        for (int64_t first = 0; first + window <= n_pieces; first += window) {
            struct reading reading = {.read = read, .memory = memory + first * PIECE_BYTES};
            double seconds = timed_pass(pool, window, read_pieces, &reading);
            best = larger(best, (double)(window * PIECE_BYTES) / seconds);
            n_bytes += (double)(window * PIECE_BYTES);
            all_seconds += seconds;
        }
    }
    *mean = n_bytes / all_seconds;
    return best;
}

/* Operations a second of the best pass. */
static double probe_peak(struct qr_thread_pool *pool, const struct qr_peak_kernel *kernel)
{
    int64_t n_pieces = (int64_t)qr_thread_pool_size(pool) * PIECES_PER_THREAD;
    double operations = (double)(n_pieces * PIECE_ITERATIONS * kernel->operations);
    struct arithmetic arithmetic = {.kernel = kernel};
    double best = 0;

    for (int i = 0; i < N_ARITHMETIC_PASSES; i++)
        best = larger(best, operations / timed_pass(pool, n_pieces, compute_pieces, &arithmetic));
    return best;
}

/* Where the threads of a run meet, so that each of them has a piece. */
struct meeting {
    _Atomic int32_t n_here;
    int32_t n_wanted;
};

static void meet(void *arg, int64_t first, int64_t last, int32_t worker)
{
    struct meeting *meeting = arg;
    (void)first, (void)last, (void)worker;

    meeting->n_here++;
    for (int spins = 0; meeting->n_here < meeting->n_wanted; spins++) {
        if (spins > MEETING_SPINS) /* the other is not running */
            sched_yield();
    }
}

/* Seconds that starting all threads and waiting for them takes, of the best pass. */
static double probe_meeting(struct qr_thread_pool *pool)
{
    int32_t n_threads = qr_thread_pool_size(pool);
    double best = 0;

    for (int i = 0; i < N_MEETING_PASSES; i++) {
        int64_t start_ns = qr_now_ns();
        for (int run = 0; run < MEETINGS; run++) {
            struct meeting meeting = {.n_wanted = n_threads};
            qr_thread_pool_run(pool, n_threads, 1, meet, &meeting);
        }
        double seconds = (double)(qr_now_ns() - start_ns) * 1e-9 / MEETINGS;
        best = i == 0 || seconds < best ? seconds : best;
    }
    return best;
}

/* Mapped and unmapped here, so that nothing of it is resident afterwards. Written, as all pages
 * that never were share one page of zeros. */
static void *map_memory(size_t n_bytes)
{
    void *memory = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return NULL;
    (void)madvise(memory, n_bytes, MADV_HUGEPAGE); /* a system without them says no */
    memset(memory, 1, n_bytes);
    return memory;
}

static enum qr_status probe_memory(struct qr_thread_pool *one, struct qr_thread_pool *all,
                                   int64_t memory_bytes, struct qr_machine_limits *out,
                                   struct qr_error *err)
{
    int64_t n_pieces = (memory_bytes - 1) / PIECE_BYTES + 1;
    size_t n_bytes = (size_t)n_pieces * PIECE_BYTES;
    void *memory = map_memory(n_bytes);

    if (memory == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "no memory to read: %zu bytes", n_bytes);
    double mean_one;
    out->read_one = probe_reading(one, memory, n_pieces, &mean_one);
    out->read_all = probe_reading(all, memory, n_pieces, &out->read_mean);
    munmap(memory, n_bytes);
    return QR_OK;
}

static void probe_arithmetic(struct qr_thread_pool *all, struct qr_machine_limits *out)
{
    out->n_peaks = 0;
    for (int32_t i = 0; i < qr_n_peak_kernels; i++) {
        const struct qr_peak_kernel *kernel = &qr_peak_kernels[i];
        if (!kernel->is_supported())
            continue;
        QR_ASSERT(out->n_peaks < QR_MACHINE_MAX_PEAKS);
        out->peaks[out->n_peaks++] =
            (struct qr_machine_peak){kernel->name, kernel->dtype, probe_peak(all, kernel)};
    }
}

struct pools {
    struct qr_thread_pool *one;
    struct qr_thread_pool *all;
};

static void close_pools(struct pools *pools)
{
    qr_thread_pool_destroy(pools->one);
    qr_thread_pool_destroy(pools->all);
}

/* On failure, too, for close_pools. */
static enum qr_status open_pools(int32_t n_threads, struct pools *pools, struct qr_error *err)
{
    *pools = (struct pools){.one = NULL};
    enum qr_status status = qr_thread_pool_create(1, &pools->one);
    if (status == QR_OK)
        status = qr_thread_pool_create(n_threads, &pools->all);
    if (status != QR_OK)
        return qr_fail(err, status, "cannot start %d threads", n_threads);
    return QR_OK;
}

enum qr_status qr_machine_probe_reading(int32_t n_threads, int64_t memory_bytes,
                                        struct qr_machine_limits *out, struct qr_error *err)
{
    struct pools pools;

    *out = (struct qr_machine_limits){.n_threads = n_threads};
    enum qr_status status = open_pools(n_threads, &pools, err);
    if (status == QR_OK)
        status = probe_memory(pools.one, pools.all, memory_bytes, out, err);
    close_pools(&pools);
    return status;
}

enum qr_status qr_machine_probe(int32_t n_threads, int64_t memory_bytes,
                                struct qr_machine_limits *out, struct qr_error *err)
{
    struct pools pools;

    *out = (struct qr_machine_limits){.n_threads = n_threads};
    enum qr_status status = open_pools(n_threads, &pools, err);
    if (status == QR_OK)
        status = probe_memory(pools.one, pools.all, memory_bytes, out, err);
    if (status == QR_OK) {
        out->meeting_s = probe_meeting(pools.all);
        probe_arithmetic(pools.all, out);
    }
    close_pools(&pools);
    return status;
}

struct qr_machine_limits qr_machine_limits_best(const struct qr_machine_limits *a,
                                                const struct qr_machine_limits *b)
{
    struct qr_machine_limits best = *a;

    best.read_one = larger(a->read_one, b->read_one);
    best.read_all = larger(a->read_all, b->read_all);
    best.read_mean = larger(a->read_mean, b->read_mean);
    best.meeting_s = a->meeting_s < b->meeting_s ? a->meeting_s : b->meeting_s;
    for (int32_t i = 0; i < best.n_peaks; i++)
        best.peaks[i].operations_per_s =
            larger(a->peaks[i].operations_per_s, b->peaks[i].operations_per_s);
    return best;
}

double qr_machine_bandwidth(const struct qr_machine_limits *limits)
{
    return larger(limits->read_one, limits->read_all);
}

static const struct qr_machine_peak *highest(const struct qr_machine_limits *limits,
                                             enum qr_dtype dtype)
{
    const struct qr_machine_peak *best = NULL;

    for (int32_t i = 0; i < limits->n_peaks; i++) {
        const struct qr_machine_peak *peak = &limits->peaks[i];
        if (peak->dtype == dtype &&
            (best == NULL || peak->operations_per_s > best->operations_per_s))
            best = peak;
    }
    return best;
}

const struct qr_machine_peak *qr_machine_peak_for(const struct qr_machine_limits *limits,
                                                  enum qr_dtype dtype)
{
    bool in_blocks = qr_dtype_block_size(dtype) > 1;
    const struct qr_machine_peak *own = highest(limits, in_blocks ? QR_DTYPE_INT8 : dtype);

    return own != NULL ? own : highest(limits, QR_DTYPE_F32);
}
