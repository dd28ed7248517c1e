/* blockmgr.c - see blockmgr.h for the contract. */
#include "runtime/bench/blockmgr.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "blockmgr/block_manager.h"
#include "runtime/bench/cpu_time.h"
#include "runtime/sampling/philox.h"

enum {
    PAGE_SIZE = 16,
    SEQ_PAGES = 64, /* of one sequence */
    SEQ_TOKENS = SEQ_PAGES * PAGE_SIZE,
    PREFILL_PAGES = 32,
    STEP_PAGES = 512,      /* of a step, where caches are cold before each: 8,192 tokens, of */
    STEP_SEQUENCES = 64,   /* so many sequences at most */
    MAX_SAMPLES = 64,      /* such steps that are counted */
    SWEEP_BYTES = 1 << 27, /* more than the caches hold */
    CACHE_LINE = 64,
};

struct subject {
    struct qr_block_manager *mgr;
    int32_t n_sequences; /* that fill the pool */
    int32_t *tokens;     /* [n_sequences][SEQ_TOKENS] */
    uint64_t n_drawn;
    char *sweep; /* [SWEEP_BYTES]; NULL: caches stay warm */
};

static int32_t *tokens_of(const struct subject *subject, int32_t seq)
{
    return subject->tokens + (int64_t)seq * SEQ_TOKENS;
}

/* Other contents than before, so that nothing is found again. */
static void draw_tokens(struct subject *subject)
{
    subject->n_drawn++;
    for (int64_t i = 0; i < (int64_t)subject->n_sequences * SEQ_TOKENS; i += 4) {
        const struct qr_philox_block counter = {{(uint32_t)i, (uint32_t)(i >> 32), 0, 0}};
        struct qr_philox_block block = qr_philox(counter, subject->n_drawn);
        for (int k = 0; k < 4; k++)
            subject->tokens[i + k] = (int32_t)(block.word[k] % 50000);
    }
}

/* Written to: lines that are only read may be dropped before those that they should displace. */
static void sweep_caches(struct subject *subject)
{
    for (int64_t i = 0; i < SWEEP_BYTES; i += CACHE_LINE)
        subject->sweep[i]++;
}

static void open_all(struct subject *subject)
{
    struct qr_acquired acquired;

    for (int32_t seq = 0; seq < subject->n_sequences; seq++) {
        qr_block_manager_open(subject->mgr, seq, tokens_of(subject, seq), "", 0);
        QR_ASSERT(qr_block_manager_acquire(subject->mgr, seq, 1, 1, 0, &acquired) == QR_OK);
    }
}

static void close_all(struct subject *subject)
{
    for (int32_t seq = 0; seq < subject->n_sequences; seq++)
        qr_block_manager_close(subject->mgr, seq);
}

/* What is done to sequences [first, last) in one go. */
struct work {
    struct subject *subject;
    int32_t first;
    int32_t last;
    int32_t first_token; /* of those that append writes, and look_up and the others go through */
    int32_t n_tokens;
};

typedef void (*work_fn)(const struct work *work);

static void fetch(const struct work *work, int32_t seq, enum qr_fetch what)
{
    if (seq < work->last)
        qr_block_manager_prefetch(work->subject->mgr, seq, work->first_token,
                                  work->first_token + work->n_tokens, what);
}

static void append(const struct work *work)
{
    int32_t end = work->first_token + work->n_tokens;

    for (int32_t seq = work->first; seq < work->last; seq++) {
        fetch(work, seq + QR_TABLES_AHEAD, QR_FETCH_TABLE);
        fetch(work, seq + QR_BLOCKS_AHEAD, QR_FETCH_BLOCKS);
        fetch(work, seq + QR_INDEX_AHEAD, QR_FETCH_INDEX);
        QR_ASSERT(qr_block_manager_grow(work->subject->mgr, seq, work->first_token, end) == QR_OK);
        qr_block_manager_commit(work->subject->mgr, seq, end);
    }
}

static void release(const struct work *work)
{
    for (int32_t seq = work->first; seq < work->last; seq++)
        qr_block_manager_release(work->subject->mgr, seq, SEQ_TOKENS, QR_RELEASE_FINISHED);
}

/* Each sequence gets a twin that shares its pages. */
static void fork_sequences(const struct work *work)
{
    struct subject *subject = work->subject;

    for (int32_t seq = work->first; seq < work->last; seq++) {
        int32_t twin = subject->n_sequences + seq;
        qr_block_manager_open_fork(subject->mgr, twin, tokens_of(subject, seq), seq);
        qr_block_manager_fork(subject->mgr, seq, twin, SEQ_TOKENS);
    }
}

static void look_up(const struct work *work)
{
    struct qr_acquired acquired;

    for (int32_t seq = work->first; seq < work->last; seq++) {
        QR_ASSERT(qr_block_manager_acquire(work->subject->mgr, seq, SEQ_TOKENS, SEQ_TOKENS, 0,
                                           &acquired) == QR_OK);
        /* The last token is left to be computed: its page is found, but for that one. */
        QR_ASSERT(acquired.n_cached == SEQ_TOKENS - 1);
    }
}

/*
 * Adds up what work takes. Where caches are cold, they are swept before each batch that counts:
 * they hold then what they hold before a step of a server, which is a model's weights.
 */
struct meter {
    bool cold;
    int32_t batch; /* sequences in one go; with warm caches all of them */
    int64_t batches_a_sample;
    int64_t n_batches;
    int64_t n_pages;
    int64_t ns;
};

static void time_batch(struct meter *meter, work_fn fn, const struct work *work)
{
    bool counts = meter->n_batches++ % meter->batches_a_sample == 0;

    if (counts && meter->cold)
        sweep_caches(work->subject);
    int64_t begin = qr_cpu_ns();
    fn(work);
    if (counts) {
        meter->ns += qr_cpu_ns() - begin;
        meter->n_pages += (int64_t)(work->last - work->first) * (work->n_tokens / PAGE_SIZE);
    }
}

static void time_work(struct meter *meter, work_fn fn, struct work work)
{
    int32_t end = work.last;

    for (; work.first < end; work.first = work.last) {
        work.last = end - work.first < meter->batch ? end : work.first + meter->batch;
        time_batch(meter, fn, &work);
    }
}

static enum qr_status create(int32_t n_pages, bool cold, struct subject *subject)
{
    int32_t n_sequences = n_pages / SEQ_PAGES / 2; /* half of the pool is left free */
    const struct qr_block_manager_config config = {
        .page_count = n_sequences * SEQ_PAGES * 2,
        .page_size = PAGE_SIZE,
        .max_sequences = 2 * n_sequences,
        .max_seq_tokens = SEQ_TOKENS,
        .prefix_cache = true,
    };

    subject->n_sequences = n_sequences;
    subject->tokens = qr_calloc_huge(QR_ARENA_REQUEST, (size_t)n_sequences * SEQ_TOKENS,
                                     sizeof(*subject->tokens));
    if (cold)
        subject->sweep = qr_calloc_huge(QR_ARENA_REQUEST, SWEEP_BYTES, 1);
    if (subject->tokens == NULL || (cold && subject->sweep == NULL))
        return QR_ERR_NOMEM;
    return qr_block_manager_create(&config, &subject->mgr);
}

static void release_all(struct subject *subject, int32_t first)
{
    const struct work work = {subject, first, first + subject->n_sequences, 0, SEQ_TOKENS};

    release(&work);
}

static void empty_and_redraw(struct subject *subject)
{
    release_all(subject, 0);
    close_all(subject);
    draw_tokens(subject);
    open_all(subject);
}

/*
 * Every page is written once and given back empty: what a server touches for the first time
 * only in its first minutes is not part of the measurement.
 */
static void touch_all(struct subject *subject)
{
    for (int half = 0; half < 2; half++) {
        int32_t first_seq = half * subject->n_sequences;
        for (int32_t seq = 0; seq < subject->n_sequences; seq++) {
            qr_block_manager_open(subject->mgr, first_seq + seq, tokens_of(subject, seq), "", 0);
            QR_ASSERT(qr_block_manager_grow(subject->mgr, first_seq + seq, 0, SEQ_TOKENS) == QR_OK);
        }
    }
    for (int32_t seq = 0; seq < 2 * subject->n_sequences; seq++) {
        qr_block_manager_release(subject->mgr, seq, 0, QR_RELEASE_FINISHED);
        qr_block_manager_close(subject->mgr, seq);
    }
}

/* The work is done in n_parts for each sequence. */
static struct meter meter_of(const struct subject *subject, bool cold, int32_t n_parts)
{
    int32_t n_in_step = STEP_PAGES / (SEQ_PAGES / n_parts);
    struct meter meter = {.cold = cold, .batch = subject->n_sequences, .batches_a_sample = 1};

    if (!cold)
        return meter;
    meter.batch = n_in_step < STEP_SEQUENCES ? n_in_step : STEP_SEQUENCES;
    int64_t n_batches = (int64_t)n_parts * ((subject->n_sequences + meter.batch - 1) / meter.batch);
    meter.batches_a_sample = (n_batches + MAX_SAMPLES - 1) / MAX_SAMPLES;
    return meter;
}

static double ns_a_page(const struct meter *meter)
{
    return (double)meter->ns / (double)meter->n_pages;
}

/* All sequences grow in turn, n_pages at a time. */
static double measure_append(struct subject *subject, bool cold, int32_t n_pages)
{
    struct meter meter = meter_of(subject, cold, SEQ_PAGES / n_pages);
    int32_t n_tokens = n_pages * PAGE_SIZE;

    for (int32_t first = 0; first < SEQ_TOKENS; first += n_tokens)
        time_work(&meter, append, (struct work){subject, 0, subject->n_sequences, first, n_tokens});
    return ns_a_page(&meter);
}

/* Of whole sequences [first, first + n_sequences). */
static void time_all(struct meter *meter, work_fn fn, struct subject *subject, int32_t first)
{
    time_work(meter, fn,
              (struct work){subject, first, first + subject->n_sequences, 0, SEQ_TOKENS});
}

/* Each measurement leaves the pool as the next one needs it. */
static void measure(struct subject *subject, bool cold, double ns[QR_PAGE_OPERATIONS])
{
    draw_tokens(subject);
    touch_all(subject);
    open_all(subject);
    ns[QR_PAGE_APPEND_PREFILL] = measure_append(subject, cold, PREFILL_PAGES);

    struct meter forks = meter_of(subject, cold, 1);
    time_all(&forks, fork_sequences, subject, 0);
    ns[QR_PAGE_FORK] = ns_a_page(&forks);

    struct meter frees = meter_of(subject, cold, 1);
    time_all(&frees, release, subject, subject->n_sequences);
    time_all(&frees, release, subject, 0);
    ns[QR_PAGE_FREE] = ns_a_page(&frees);

    struct meter lookups = meter_of(subject, cold, 1);
    time_all(&lookups, look_up, subject, 0);
    ns[QR_PAGE_LOOKUP] = ns_a_page(&lookups);

    empty_and_redraw(subject);
    ns[QR_PAGE_APPEND_DECODE] = measure_append(subject, cold, 1);
    empty_and_redraw(subject);
    ns[QR_PAGE_APPEND_EVICT] = measure_append(subject, cold, PREFILL_PAGES);
}

const char *qr_page_operation_name(enum qr_page_operation operation)
{
    static const char *const names[] = {
        [QR_PAGE_APPEND_PREFILL] = "append, 32 pages a call",
        [QR_PAGE_APPEND_DECODE] = "append, 1 page a call",
        [QR_PAGE_APPEND_EVICT] = "append that evicts",
        [QR_PAGE_FORK] = "fork",
        [QR_PAGE_FREE] = "free",
        [QR_PAGE_LOOKUP] = "lookup",
    };
    return names[operation];
}

enum qr_status qr_measure_page_operations(int32_t n_pages, bool cold, double ns[QR_PAGE_OPERATIONS])
{
    struct subject subject = {0};
    enum qr_status status = create(n_pages, cold, &subject);

    if (status == QR_OK)
        measure(&subject, cold, ns);
    qr_block_manager_destroy(subject.mgr);
    qr_free(subject.tokens);
    qr_free(subject.sweep);
    return status;
}
