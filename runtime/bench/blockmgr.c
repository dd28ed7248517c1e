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
};

struct subject {
    struct qr_block_manager *mgr;
    int32_t n_sequences; /* that fill the pool */
    int32_t *tokens;     /* [n_sequences][SEQ_TOKENS] */
    uint64_t n_drawn;
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

static void fetch(const struct subject *subject, int32_t seq, int32_t first, int32_t n_tokens,
                  enum qr_fetch what)
{
    if (seq < subject->n_sequences)
        qr_block_manager_prefetch(subject->mgr, seq, first, first + n_tokens, what);
}

/* All sequences grow in turn, n_pages at a time. */
static void append(struct subject *subject, int32_t n_pages)
{
    int32_t n_tokens = n_pages * PAGE_SIZE;

    for (int32_t first = 0; first < SEQ_TOKENS; first += n_tokens) {
        for (int32_t seq = 0; seq < subject->n_sequences; seq++) {
            fetch(subject, seq + QR_TABLES_AHEAD, first, n_tokens, QR_FETCH_TABLE);
            fetch(subject, seq + QR_BLOCKS_AHEAD, first, n_tokens, QR_FETCH_BLOCKS);
            fetch(subject, seq + QR_INDEX_AHEAD, first, n_tokens, QR_FETCH_INDEX);
            QR_ASSERT(qr_block_manager_grow(subject->mgr, seq, first, first + n_tokens) == QR_OK);
            qr_block_manager_commit(subject->mgr, seq, first + n_tokens);
        }
    }
}

static void release_all(struct subject *subject, int32_t first)
{
    for (int32_t seq = 0; seq < subject->n_sequences; seq++)
        qr_block_manager_release(subject->mgr, first + seq, SEQ_TOKENS, QR_RELEASE_FINISHED);
}

static void fork_all(struct subject *subject)
{
    int32_t n_sequences = subject->n_sequences;

    for (int32_t seq = 0; seq < n_sequences; seq++) {
        qr_block_manager_open_fork(subject->mgr, n_sequences + seq, tokens_of(subject, seq), seq);
        qr_block_manager_fork(subject->mgr, seq, n_sequences + seq, SEQ_TOKENS);
    }
}

static void look_up_all(struct subject *subject)
{
    struct qr_acquired acquired;

    for (int32_t seq = 0; seq < subject->n_sequences; seq++) {
        QR_ASSERT(qr_block_manager_acquire(subject->mgr, seq, SEQ_TOKENS, SEQ_TOKENS, 0,
                                           &acquired) == QR_OK);
        /* The last token is left to be computed: its page is found, but for that one. */
        QR_ASSERT(acquired.n_cached == SEQ_TOKENS - 1);
    }
}

static enum qr_status create(int32_t n_pages, struct subject *subject)
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
    if (subject->tokens == NULL)
        return QR_ERR_NOMEM;
    return qr_block_manager_create(&config, &subject->mgr);
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

/* Each measurement leaves the pool as the next one needs it. */
static void measure(struct subject *subject, double ns[QR_PAGE_OPERATIONS])
{
    double n_pages = (double)subject->n_sequences * SEQ_PAGES;
    int64_t at[QR_PAGE_OPERATIONS + 1];

    draw_tokens(subject);
    touch_all(subject);
    open_all(subject);
    at[0] = qr_cpu_ns();
    append(subject, PREFILL_PAGES);
    at[1] = qr_cpu_ns();
    fork_all(subject);
    at[2] = qr_cpu_ns();
    release_all(subject, subject->n_sequences);
    release_all(subject, 0);
    at[3] = qr_cpu_ns();
    look_up_all(subject);
    at[4] = qr_cpu_ns();
    ns[QR_PAGE_APPEND_PREFILL] = (double)(at[1] - at[0]) / n_pages;
    ns[QR_PAGE_FORK] = (double)(at[2] - at[1]) / n_pages;
    ns[QR_PAGE_FREE] = (double)(at[3] - at[2]) / n_pages / 2;
    ns[QR_PAGE_LOOKUP] = (double)(at[4] - at[3]) / n_pages;

    empty_and_redraw(subject);
    at[0] = qr_cpu_ns();
    append(subject, 1);
    at[1] = qr_cpu_ns();
    ns[QR_PAGE_APPEND_DECODE] = (double)(at[1] - at[0]) / n_pages;

    empty_and_redraw(subject);
    at[0] = qr_cpu_ns();
    append(subject, PREFILL_PAGES);
    at[1] = qr_cpu_ns();
    ns[QR_PAGE_APPEND_EVICT] = (double)(at[1] - at[0]) / n_pages;
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

enum qr_status qr_measure_page_operations(int32_t n_pages, double ns[QR_PAGE_OPERATIONS])
{
    struct subject subject = {0};

    enum qr_status status = create(n_pages, &subject);
    if (status == QR_OK)
        measure(&subject, ns);
    qr_block_manager_destroy(subject.mgr);
    qr_free(subject.tokens);
    return status;
}
