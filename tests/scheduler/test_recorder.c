/*
 * The flight recorder's format: what is recorded is read again, in a few bytes; a torn end
 * is told from a damaged file, and damage is found and located.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/recording.h"

enum { MAX_RUNNING = 8, MAX_SEQ_TOKENS = 1000, N_TRANSFERS = 6 };

static const struct qr_block_manager_config blocks_config = {
    .page_count = 300,
    .page_size = 16,
    .max_sequences = MAX_RUNNING + 100 + 4,
    .max_seq_tokens = MAX_SEQ_TOKENS,
    .tier_slots = {[QR_TIER_HOST] = 500, [QR_TIER_DISK] = 70000},
    .max_transfers = N_TRANSFERS,
    .window = 700,
    .max_rows = 512,
    .prefix_cache = true,
};
static const struct qr_scheduler_config scheduler_config = {
    .max_batch_tokens = 2048,
    .max_running = MAX_RUNNING,
    .max_waiting = 100,
    .max_parked = 4,
    .max_logit_rows = 64,
    .max_prefill_chunk = 512,
    .max_stall_ms = 75,
    .discipline = QR_DISCIPLINE_SWAP,
};
static const struct qr_record_origin origin = {
    .version = "1.2.3", .start_unix_ns = 1764000000000000000, .start_ns = 5000};

static struct qr_buffer bytes;

static struct qr_recorder *start(void)
{
    struct qr_record_sink sink = recording_sink(&bytes);
    struct qr_recorder *rec;

    qr_buffer_clear(&bytes);
    assert_int_equal(qr_recorder_create(&origin, &blocks_config, &scheduler_config, &sink, &rec),
                     QR_OK);
    return rec;
}

static int free_bytes(void **state)
{
    (void)state;
    qr_buffer_free(&bytes);
    return 0;
}

static void the_configurations_come_first(void **state)
{
    (void)state;
    qr_recorder_destroy(start());
    struct qr_record_reader *reader = recording_open(&bytes);
    const struct qr_record_header *header = qr_record_reader_header(reader);
    struct qr_record record;

    assert_string_equal(header->version, "1.2.3");
    assert_true(header->start_unix_ns == origin.start_unix_ns);
    assert_true(header->start_ns == origin.start_ns);
    assert_int_equal(header->blocks.page_count, 300);
    assert_int_equal(header->blocks.page_size, 16);
    assert_int_equal(header->blocks.max_sequences, blocks_config.max_sequences);
    assert_int_equal(header->blocks.max_seq_tokens, MAX_SEQ_TOKENS);
    assert_int_equal(header->blocks.tier_slots[QR_TIER_HOST], 500);
    assert_int_equal(header->blocks.tier_slots[QR_TIER_DISK], 70000);
    assert_int_equal(header->blocks.max_transfers, N_TRANSFERS);
    assert_int_equal(header->blocks.window, 700);
    assert_int_equal(header->blocks.max_rows, 512);
    assert_true(header->blocks.prefix_cache);
    assert_int_equal(header->scheduler.max_batch_tokens, 2048);
    assert_int_equal(header->scheduler.max_running, MAX_RUNNING);
    assert_int_equal(header->scheduler.max_waiting, 100);
    assert_int_equal(header->scheduler.max_parked, 4);
    assert_int_equal(header->scheduler.max_logit_rows, 64);
    assert_int_equal(header->scheduler.max_prefill_chunk, 512);
    assert_int_equal(header->scheduler.max_stall_ms, 75);
    assert_int_equal(header->scheduler.discipline, QR_DISCIPLINE_SWAP);
    recording_next(reader, QR_RECORD_END, &record);
    assert_true(record.end.is_marked);
    assert_int_equal(record.end.reason, QR_RECORD_END_CLOSED);
    qr_record_reader_close(reader);
}

static void an_addition_keeps_every_field(void **state)
{
    (void)state;
    enum { N_PROMPT = 900 };
    int32_t tokens[N_PROMPT];
    for (int32_t i = 0; i < N_PROMPT; i++)
        tokens[i] = i % 7 == 0 ? INT32_MAX - i : i * 151;
    const struct qr_seq_params full = {.tokens = tokens,
                                       .n_prompt_tokens = N_PROMPT,
                                       .max_tokens = MAX_SEQ_TOKENS,
                                       .width = 5,
                                       .all_logits = true,
                                       .priority = -10,
                                       .tenant = 255,
                                       .arrival_ns = 4000, /* before the start */
                                       .first_token_ns = INT64_C(3000000000),
                                       .salt = "a\0b",
                                       .n_salt_bytes = 3};
    const struct qr_seq_params plain = {
        .tokens = tokens, .n_prompt_tokens = 1, .max_tokens = 1, .width = 1, .arrival_ns = 1 << 30};
    const struct qr_seq_params refused = {
        .n_prompt_tokens = -7, .max_tokens = INT32_MIN, .width = 0, .n_salt_bytes = SIZE_MAX};
    struct qr_record record;

    struct qr_recorder *rec = start();
    qr_recorder_add(rec, &full, QR_OK, 111);
    qr_recorder_add(rec, &plain, QR_OK, 0);
    qr_recorder_add(rec, &refused, QR_ERR_QUEUE_FULL, QR_SEQ_NONE);
    qr_recorder_note_request(rec, 111, "a request \"of\" mine");
    qr_recorder_destroy(rec);

    struct qr_record_reader *reader = recording_open(&bytes);
    const struct qr_seq_params *params = &record.add.params;
    recording_next(reader, QR_RECORD_ADD, &record);
    assert_int_equal(record.add.status, QR_OK);
    assert_int_equal(record.seq, 111);
    assert_int_equal(params->n_prompt_tokens, N_PROMPT);
    assert_memory_equal(params->tokens, tokens, sizeof(tokens));
    assert_int_equal(params->max_tokens, MAX_SEQ_TOKENS);
    assert_int_equal(params->width, 5);
    assert_true(params->all_logits);
    assert_int_equal(params->priority, -10);
    assert_int_equal(params->tenant, 255);
    assert_true(params->arrival_ns == 4000);
    assert_true(params->first_token_ns == full.first_token_ns);
    assert_int_equal(params->n_salt_bytes, 3);
    assert_memory_equal(params->salt, "a\0b", 3);

    recording_next(reader, QR_RECORD_ADD, &record);
    assert_int_equal(record.seq, 0);
    assert_int_equal(params->n_prompt_tokens, 1);
    assert_int_equal(params->tokens[0], tokens[0]);
    assert_int_equal(params->width, 1);
    assert_false(params->all_logits);
    assert_true(params->arrival_ns == 1 << 30);
    assert_int_equal(params->priority | params->tenant | params->first_token_ns, 0);
    assert_int_equal(params->n_salt_bytes, 0);

    recording_next(reader, QR_RECORD_ADD, &record);
    assert_int_equal(record.add.status, QR_ERR_QUEUE_FULL);
    assert_int_equal(record.seq, QR_SEQ_NONE);
    assert_int_equal(params->n_prompt_tokens, -7);
    assert_int_equal(params->max_tokens, INT32_MIN);
    assert_int_equal(params->width, 0);
    assert_null(params->tokens);
    assert_true(params->n_salt_bytes > QR_MAX_SALT_BYTES);

    recording_next(reader, QR_RECORD_NAME, &record);
    assert_int_equal(record.seq, 111);
    assert_string_equal(record.name, "a request \"of\" mine");
    recording_next(reader, QR_RECORD_END, &record);
    qr_record_reader_close(reader);
}

static void a_long_name_is_cut(void **state)
{
    (void)state;
    char name[400];
    struct qr_record record;

    memset(name, 'x', sizeof(name));
    name[sizeof(name) - 1] = '\0';
    struct qr_recorder *rec = start();
    qr_recorder_note_request(rec, 3, name);
    qr_recorder_destroy(rec);
    struct qr_record_reader *reader = recording_open(&bytes);
    recording_next(reader, QR_RECORD_NAME, &record);
    assert_int_equal(strlen(record.name), QR_RECORD_MAX_TEXT);
    recording_next(reader, QR_RECORD_END, &record);
    qr_record_reader_close(reader);
}

static void small_calls_keep_their_arguments(void **state)
{
    (void)state;
    struct qr_record record;

    struct qr_recorder *rec = start();
    qr_recorder_fork(rec, 5, 111);
    qr_recorder_remove(rec, 111);
    qr_recorder_end_forks(rec, 5);
    qr_recorder_set_paused(rec, 5, true);
    qr_recorder_set_paused(rec, 5, false);
    qr_recorder_set_tenant(rec, 255, 0x1.23p-1000, INT32_MAX - 1);
    qr_recorder_append_token(rec, 5, INT32_MAX);
    qr_recorder_transfer_done(rec, N_TRANSFERS - 1, false);
    qr_recorder_transfer_done(rec, 0, true);
    qr_recorder_close_tier(rec, QR_TIER_DISK);
    qr_recorder_launch(rec);
    qr_recorder_complete(rec);
    qr_recorder_abandon(rec);
    qr_recorder_plan_begin(rec, INT64_MIN);
    qr_recorder_plan(rec, &(struct qr_plan){0});
    qr_recorder_note_forced(rec, 2, QR_RELEASE_PARKED);
    qr_recorder_destroy(rec);

    struct qr_record_reader *reader = recording_open(&bytes);
    recording_next(reader, QR_RECORD_FORK, &record);
    assert_int_equal(record.parent, 5);
    assert_int_equal(record.seq, 111);
    recording_next(reader, QR_RECORD_REMOVE, &record);
    assert_int_equal(record.seq, 111);
    recording_next(reader, QR_RECORD_END_FORKS, &record);
    assert_int_equal(record.seq, 5);
    recording_next(reader, QR_RECORD_SET_PAUSED, &record);
    assert_int_equal(record.seq, 5);
    assert_true(record.paused);
    recording_next(reader, QR_RECORD_SET_PAUSED, &record);
    assert_false(record.paused);
    recording_next(reader, QR_RECORD_SET_TENANT, &record);
    assert_int_equal(record.tenant.tenant, 255);
    assert_true(record.tenant.weight == 0x1.23p-1000);
    assert_int_equal(record.tenant.max_pages, INT32_MAX - 1);
    recording_next(reader, QR_RECORD_APPEND_TOKEN, &record);
    assert_int_equal(record.seq, 5);
    assert_int_equal(record.token, INT32_MAX);
    recording_next(reader, QR_RECORD_TRANSFER_DONE, &record);
    assert_int_equal(record.transfer.id, N_TRANSFERS - 1);
    assert_false(record.transfer.ok);
    recording_next(reader, QR_RECORD_TRANSFER_DONE, &record);
    assert_int_equal(record.transfer.id, 0);
    assert_true(record.transfer.ok);
    recording_next(reader, QR_RECORD_CLOSE_TIER, &record);
    assert_int_equal(record.tier, QR_TIER_DISK);
    recording_next(reader, QR_RECORD_LAUNCH, &record);
    recording_next(reader, QR_RECORD_COMPLETE, &record);
    recording_next(reader, QR_RECORD_ABANDON, &record);
    recording_next(reader, QR_RECORD_PLAN_BEGIN, &record);
    assert_true(record.now_ns == INT64_MIN);
    recording_next(reader, QR_RECORD_PLAN, &record);
    recording_assert_same_plan(&record.plan, &(struct qr_plan){0});
    recording_next(reader, QR_RECORD_FORCED, &record);
    assert_int_equal(record.seq, 2);
    assert_int_equal(record.how, QR_RELEASE_PARKED);
    recording_next(reader, QR_RECORD_END, &record);
    qr_record_reader_close(reader);
}

static void costs_are_kept_to_the_bit(void **state)
{
    (void)state;
    struct qr_block_costs costs = {.page_out_ns = {1.5, INFINITY},
                                   .page_in_ns = {0x1.fffffffffffffp-1022, 0},
                                   .row_ns = 1e300,
                                   .row_position_ns = 0.1};
    struct qr_record record;

    struct qr_recorder *rec = start();
    qr_recorder_set_costs(rec, &costs);
    costs.row_ns = 7;
    qr_recorder_set_costs(rec, &costs);
    qr_recorder_destroy(rec);

    struct qr_record_reader *reader = recording_open(&bytes);
    recording_next(reader, QR_RECORD_SET_COSTS, &record);
    assert_true(record.costs.page_out_ns[QR_TIER_HOST] == 1.5);
    assert_true(record.costs.page_out_ns[QR_TIER_DISK] == INFINITY);
    assert_true(record.costs.page_in_ns[QR_TIER_HOST] == 0x1.fffffffffffffp-1022);
    assert_true(record.costs.page_in_ns[QR_TIER_DISK] == 0);
    assert_true(record.costs.row_ns == 1e300);
    assert_true(record.costs.row_position_ns == 0.1);
    recording_next(reader, QR_RECORD_SET_COSTS, &record);
    assert_true(record.costs.row_ns == 7 && record.costs.page_out_ns[QR_TIER_HOST] == 1.5);
    recording_next(reader, QR_RECORD_END, &record);
    qr_record_reader_close(reader);
}

static void without_a_recorder_nothing_happens(void **state)
{
    (void)state;
    const struct qr_seq_params params = {.n_prompt_tokens = 1};

    qr_recorder_add(NULL, &params, QR_OK, 0);
    qr_recorder_fork(NULL, 0, 1);
    qr_recorder_remove(NULL, 0);
    qr_recorder_append_token(NULL, 0, 1);
    qr_recorder_plan_begin(NULL, 1);
    qr_recorder_plan(NULL, &(struct qr_plan){0});
    qr_recorder_launch(NULL);
    qr_recorder_complete(NULL);
    qr_recorder_abandon(NULL);
    qr_recorder_note_request(NULL, 0, "x");
    qr_recorder_destroy(NULL);
}

/* A schedule that looks like one: rows go on, end, begin in the middle, are dropped. */
struct schedule {
    uint64_t rng;
    struct qr_plan_entry entries[MAX_RUNNING];
    struct qr_preemption preempted[3];
    qr_seq_id admitted[3];
    struct qr_page_copy copies[3];
    struct qr_transfer transfers[N_TRANSFERS];
    struct qr_plan plan;
};

/* splitmix64: fixed seeds give the same schedule on every machine. */
static uint64_t next_random(uint64_t *rng)
{
    uint64_t z = (*rng += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static int32_t below(struct schedule *schedule, int32_t bound)
{
    return (int32_t)(next_random(&schedule->rng) % (uint64_t)bound);
}

static struct qr_plan_entry random_entry(struct schedule *schedule)
{
    int32_t first = below(schedule, MAX_SEQ_TOKENS);

    return (struct qr_plan_entry){.seq = below(schedule, blocks_config.max_sequences),
                                  .first_position = first,
                                  .n_tokens = 1 + below(schedule, MAX_SEQ_TOKENS - first),
                                  .samples = below(schedule, 2) == 0};
}

static void make_entries(struct schedule *schedule)
{
    struct qr_plan_entry old[MAX_RUNNING];
    int32_t n_old = schedule->plan.n_entries;
    int32_t n = 0;

    memcpy(old, schedule->entries, sizeof(old));
    for (int32_t i = 0; i < n_old && n < MAX_RUNNING; i++) {
        struct qr_plan_entry next = old[i];
        int32_t dice = below(schedule, 20);
        next.first_position += next.n_tokens;
        next.n_tokens = next.samples ? 1 : next.n_tokens;
        if (dice == 0) /* a new one before it */
            schedule->entries[n++] = random_entry(schedule);
        if (dice == 1 || n == MAX_RUNNING || next.first_position + next.n_tokens > MAX_SEQ_TOKENS)
            continue; /* it has ended */
        if (dice == 2)
            next = old[i]; /* the same rows again: the last plan was dropped */
        else if (dice == 3)
            next.samples = !next.samples;
        schedule->entries[n++] = next;
    }
    while (n < MAX_RUNNING && below(schedule, 4) == 0)
        schedule->entries[n++] = random_entry(schedule);
    if (n > 1 && below(schedule, 10) == 0) { /* another order */
        struct qr_plan_entry first = schedule->entries[0];
        schedule->entries[0] = schedule->entries[n - 1];
        schedule->entries[n - 1] = first;
    }
    schedule->plan.n_entries = n;
}

static void make_plan(struct schedule *schedule)
{
    struct qr_plan *plan = &schedule->plan;
    bool is_quiet = below(schedule, 3) > 0;

    make_entries(schedule);
    *plan = (struct qr_plan){.n_entries = plan->n_entries,
                             .entries = schedule->entries,
                             .n_preempted = is_quiet ? 0 : below(schedule, 4),
                             .preempted = schedule->preempted,
                             .n_admitted = is_quiet ? 0 : below(schedule, 4),
                             .admitted = schedule->admitted,
                             .n_copies = is_quiet ? 0 : below(schedule, 4),
                             .copies = schedule->copies,
                             .n_transfers = is_quiet ? 0 : below(schedule, N_TRANSFERS + 1),
                             .transfers = schedule->transfers};
    for (int32_t i = 0; i < plan->n_entries; i++)
        plan->n_rows += plan->entries[i].n_tokens;
    for (int32_t i = 0; i < plan->n_preempted; i++)
        schedule->preempted[i] = (struct qr_preemption){
            .seq = below(schedule, blocks_config.max_sequences),
            .how = (enum qr_release)below(schedule, 4),
            .for_seq = below(schedule, blocks_config.max_sequences + 1) - 1,
            .n_pages = below(schedule, blocks_config.page_count + 1),
            .swap_ns = below(schedule, 4) == 0 ? INFINITY : below(schedule, 1000000) / 7.0,
            .recompute_ns = below(schedule, 1000000) / 3.0};
    for (int32_t i = 0; i < plan->n_admitted; i++)
        schedule->admitted[i] = below(schedule, blocks_config.max_sequences);
    for (int32_t i = 0; i < plan->n_copies; i++)
        schedule->copies[i] =
            (struct qr_page_copy){.from = below(schedule, 300), .to = below(schedule, 300)};
    for (int32_t i = 0; i < plan->n_transfers; i++) {
        enum qr_tier tier = (enum qr_tier)below(schedule, QR_TIER_COUNT);
        schedule->transfers[i] =
            (struct qr_transfer){.id = i,
                                 .tier = tier,
                                 .out = below(schedule, 2) == 0,
                                 .page = below(schedule, 300),
                                 .slot = below(schedule, blocks_config.tier_slots[tier])};
    }
}

/* Tokens of some of the entries, mostly in their order; `take` is called for each. */
static void each_token(struct schedule *schedule, void (*take)(void *, qr_seq_id, int32_t),
                       void *arg)
{
    for (int32_t i = 0; i < schedule->plan.n_entries; i++) {
        int32_t at = below(schedule, 30) == 0 ? schedule->plan.n_entries - 1 - i : i;
        if (schedule->entries[at].samples && below(schedule, 20) > 0)
            take(arg, schedule->entries[at].seq, below(schedule, 152000));
    }
    if (below(schedule, 20) == 0)
        take(arg, below(schedule, blocks_config.max_sequences), below(schedule, 152000));
}

static void record_token(void *rec, qr_seq_id seq, int32_t token)
{
    qr_recorder_append_token(rec, seq, token);
}

static void check_token(void *reader, qr_seq_id seq, int32_t token)
{
    struct qr_record record;

    recording_next(reader, QR_RECORD_APPEND_TOKEN, &record);
    assert_int_equal(record.seq, seq);
    assert_int_equal(record.token, token);
}

static void record_schedule(uint64_t seed, int32_t n_plans)
{
    struct schedule schedule = {.rng = seed};
    struct qr_recorder *rec = start();

    for (int32_t i = 0; i < n_plans; i++) {
        qr_recorder_plan_begin(rec, 5000 + (int64_t)i * 12345678);
        make_plan(&schedule);
        qr_recorder_plan(rec, &schedule.plan);
        qr_recorder_complete(rec);
        each_token(&schedule, record_token, rec);
    }
    qr_recorder_destroy(rec);
}

static void random_schedules_are_read_as_recorded(void **state)
{
    (void)state;
    enum { N_PLANS = 3000 };

    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct schedule schedule = {.rng = seed};
        struct qr_record record;
        record_schedule(seed, N_PLANS);
        struct qr_record_reader *reader = recording_open(&bytes);
        for (int32_t i = 0; i < N_PLANS; i++) {
            recording_next(reader, QR_RECORD_PLAN_BEGIN, &record);
            assert_true(record.now_ns == 5000 + (int64_t)i * 12345678);
            make_plan(&schedule);
            recording_next(reader, QR_RECORD_PLAN, &record);
            recording_assert_same_plan(&record.plan, &schedule.plan);
            recording_next(reader, QR_RECORD_COMPLETE, &record);
            each_token(&schedule, check_token, reader);
        }
        recording_next(reader, QR_RECORD_END, &record);
        assert_true(record.end.is_marked &&
                    record.offset + record.end.n_torn_bytes + 2 == bytes.length);
        qr_record_reader_close(reader);
    }
}

static void a_step_of_decodes_takes_a_few_bytes(void **state)
{
    (void)state;
    enum { N_STEPS = 400 };
    struct qr_plan_entry entries[MAX_RUNNING];
    struct qr_plan plan = {.n_entries = MAX_RUNNING, .n_rows = MAX_RUNNING, .entries = entries};

    struct qr_recorder *rec = start();
    for (int32_t i = 0; i < MAX_RUNNING; i++)
        entries[i] = (struct qr_plan_entry){.seq = 10 * i, .n_tokens = 1, .samples = true};
    for (int32_t step = 0; step < N_STEPS; step++) {
        size_t before = bytes.length;
        qr_recorder_plan_begin(rec, 5000 + (int64_t)step * 20000000); /* 20 ms */
        qr_recorder_plan(rec, &plan);
        qr_recorder_complete(rec);
        for (int32_t i = 0; i < MAX_RUNNING; i++) {
            qr_recorder_append_token(rec, entries[i].seq, 8000);
            entries[i].first_position++;
        }
        if (step > 2) { /* time, entries and end; complete and tokens of the step before */
            size_t n = bytes.length - before;
            assert_true(n <= 5 + 2 + 1 + 1 + MAX_RUNNING * 2);
        }
    }
    qr_recorder_destroy(rec);
}

enum { MAX_RECORDS = 4000 };

/* Offsets of all records of `bytes`, the end's last; their number. */
static int32_t list_offsets(size_t offsets[MAX_RECORDS])
{
    struct qr_record_reader *reader = recording_open(&bytes);
    struct qr_record record;
    int32_t n = 0;

    do {
        assert_int_equal(qr_record_reader_next(reader, &record, NULL), QR_OK);
        assert_true(n < MAX_RECORDS);
        offsets[n++] = record.offset;
    } while (record.kind != QR_RECORD_END);
    qr_record_reader_close(reader);
    return n;
}

static void a_torn_end_is_not_damage(void **state)
{
    (void)state;
    static size_t offsets[MAX_RECORDS];
    struct qr_record record;

    record_schedule(77, 40);
    int32_t n_records = list_offsets(offsets);
    assert_true(n_records > 100);
    int32_t n_whole = 0;
    for (size_t cut = offsets[0]; cut < bytes.length; cut++) {
        struct qr_record_reader *reader;
        assert_int_equal(
            qr_record_reader_open("memory", (const uint8_t *)bytes.data, cut, &reader, NULL),
            QR_OK);
        while (n_whole + 1 < n_records && offsets[n_whole + 1] <= cut)
            n_whole++;
        for (int32_t i = 0; i < n_whole; i++) {
            assert_int_equal(qr_record_reader_next(reader, &record, NULL), QR_OK);
            assert_int_equal(record.offset, offsets[i]);
        }
        recording_next(reader, QR_RECORD_END, &record);
        assert_int_equal(record.offset, offsets[n_whole]);
        assert_false(record.end.is_marked);
        assert_int_equal(record.end.n_torn_bytes, cut - offsets[n_whole]);
        qr_record_reader_close(reader);
    }
    assert_int_equal(n_whole, n_records - 1);
}

static void a_cut_header_is_an_error(void **state)
{
    (void)state;
    static size_t offsets[MAX_RECORDS];
    struct qr_record_reader *reader;
    struct qr_error err;

    record_schedule(77, 1);
    list_offsets(offsets);
    for (size_t cut = 0; cut < offsets[0]; cut++) {
        assert_int_equal(
            qr_record_reader_open("cut", (const uint8_t *)bytes.data, cut, &reader, &err),
            QR_ERR_INVALID);
        assert_null(reader);
        assert_non_null(strstr(err.message, cut < 8 ? "not a recording" : "before its header"));
    }
}

/* Whatever a byte becomes: it is read, or located. */
static void damage_is_located(void **state)
{
    (void)state;
    static size_t offsets[MAX_RECORDS];
    int32_t n_found = 0;

    record_schedule(78, 60);
    list_offsets(offsets);
    for (size_t i = 8; i < bytes.length; i++) {
        struct schedule random = {.rng = i};
        char whole = bytes.data[i];
        for (int32_t n = 0; n < 8; n++) {
            struct qr_record_reader *reader;
            struct qr_record record = {0};
            struct qr_error err = {""};
            bytes.data[i] = (char)below(&random, 256);
            enum qr_status status = qr_record_reader_open("f.rec", (const uint8_t *)bytes.data,
                                                          bytes.length, &reader, &err);
            while (status == QR_OK && record.kind != QR_RECORD_END)
                status = qr_record_reader_next(reader, &record, &err);
            if (status != QR_OK && reader != NULL) {
                size_t at;
                assert_int_equal(status, QR_ERR_INVALID);
                assert_int_equal(sscanf(err.message, "f.rec: at byte %zu:", &at), 1);
                assert_true(at >= i - 9 && at <= bytes.length); /* never before the damage */
                n_found++;
            }
            qr_record_reader_close(reader);
        }
        bytes.data[i] = whole;
    }
    assert_true(n_found > 1000);
}

/* One record, and what the reader says of it. */
static void assert_refused(const uint8_t *record_bytes, size_t n, const char *words)
{
    struct qr_record record;
    struct qr_error err = {""};

    qr_recorder_destroy(start());
    bytes.length -= QR_RECORD_END_BYTES;
    assert_int_equal(qr_buffer_append(&bytes, record_bytes, n), QR_OK);
    struct qr_record_reader *reader = recording_open(&bytes);
    assert_int_equal(qr_record_reader_next(reader, &record, &err), QR_ERR_INVALID);
    if (strstr(err.message, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, words);
    qr_record_reader_close(reader);
}

#define ASSERT_REFUSED(words, ...) \
    assert_refused((const uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}), words)

static void errors_name_value_and_range(void **state)
{
    (void)state;
    ASSERT_REFUSED("0 begins no record", 0);
    ASSERT_REFUSED("28 begins no record", 28 << 1);
    ASSERT_REFUSED("a sequence is 112, not below 112", 4 << 1, 112);
    ASSERT_REFUSED("more than 64 bits", 4 << 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2);
    ASSERT_REFUSED("a tier is 2, not below 2", 12 << 1, 2);
    ASSERT_REFUSED("the end of a transfer is 12, not below 12", 11 << 1, 12);
    ASSERT_REFUSED("a token that no sequence waits for", 5);
    ASSERT_REFUSED("a number of entries is 1, not below 1", 15 << 1, 1);
    ASSERT_REFUSED("0 rows from position 3 on", 17 << 1, 1, 3, 0);
    ASSERT_REFUSED("a page is 300, not below 300", 20 << 1, 172, 2);
    ASSERT_REFUSED("a slot is 500, not below 500", 21 << 1, 0, 0, 1, 244, 3);
    ASSERT_REFUSED("within a plan", 19 << 1, 1, 4 << 1);
    ASSERT_REFUSED("within a prompt", 1 << 1, 1, 7, 13 << 1);
    ASSERT_REFUSED("a prompt has 2 tokens, 1 are recorded", 1 << 1, 1, 7, 2 << 1, 0, 0, 4, 4, 0, 0);
    ASSERT_REFUSED("a sequence may have 1001 tokens", 1 << 1, 1, 7, 2 << 1, 0, 0, 2, 210, 15, 0, 0);
    ASSERT_REFUSED("a status is -10, not in [-9, 0]", 2 << 1, 19);
    ASSERT_REFUSED("a weight is 0", 8 << 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    ASSERT_REFUSED("a cost is nan", 9 << 1, 1, 0, 0, 0, 0, 0, 0, 248, 127);
    ASSERT_REFUSED("2 bytes behind the end", 25 << 1, 0, 1, 1);
}

static void other_files_are_no_recordings(void **state)
{
    (void)state;
    struct qr_record_reader *reader;
    struct qr_error err;

    assert_int_equal(
        qr_record_reader_open("x.gguf", (const uint8_t *)"GGUF, not this", 14, &reader, &err),
        QR_ERR_INVALID);
    assert_string_equal(err.message,
                        "x.gguf: not a recording: it does not begin with \"quirerec\"; "
                        "quire serve --record FILE makes one");
    assert_int_equal(
        qr_record_reader_open("new", (const uint8_t *)"quirerec\x05", 9, &reader, &err),
        QR_ERR_INVALID);
    assert_string_equal(err.message, "new: format version 5, but this program reads version 4; use "
                                     "the quire that made it");
    assert_int_equal(
        qr_record_reader_open("old", (const uint8_t *)"quirerec\x01", 9, &reader, &err),
        QR_ERR_INVALID);
    assert_string_equal(err.message, "old: format version 1, but this program reads version 4; use "
                                     "the quire that made it");
    assert_int_equal(qr_record_reader_open("empty", NULL, 0, &reader, &err), QR_ERR_INVALID);
}

struct stopping_sink {
    int32_t n_taken;
    int32_t n_refused;
};

static bool take_three(void *arg, const void *data, size_t n)
{
    struct stopping_sink *sink = arg;
    uint8_t mark[QR_RECORD_END_BYTES];

    if (sink->n_taken == 3) {
        sink->n_refused++;
        qr_record_end_mark(QR_RECORD_END_TOO_SLOW, mark);
        assert_int_equal(qr_buffer_append(&bytes, mark, sizeof(mark)), QR_OK);
        return false;
    }
    sink->n_taken++;
    assert_int_equal(qr_buffer_append(&bytes, data, n), QR_OK);
    return true;
}

static void a_sink_that_stops_leaves_a_mark(void **state)
{
    (void)state;
    struct stopping_sink stopping = {0};
    const struct qr_record_sink sink = {.write = take_three, .arg = &stopping};
    struct schedule schedule = {.rng = 5};
    struct qr_recorder *rec;
    struct qr_record record;
    int32_t n_plans = 0;

    qr_buffer_clear(&bytes);
    assert_int_equal(qr_recorder_create(&origin, &blocks_config, &scheduler_config, &sink, &rec),
                     QR_OK);
    for (int32_t i = 0; i < 10; i++) {
        qr_recorder_plan_begin(rec, i);
        make_plan(&schedule);
        qr_recorder_plan(rec, &schedule.plan);
    }
    qr_recorder_destroy(rec);
    assert_int_equal(stopping.n_refused, 1); /* nothing is handed to it any more */

    struct qr_record_reader *reader = recording_open(&bytes);
    do {
        assert_int_equal(qr_record_reader_next(reader, &record, NULL), QR_OK);
        n_plans += record.kind == QR_RECORD_PLAN;
    } while (record.kind != QR_RECORD_END);
    qr_record_reader_close(reader);
    assert_int_equal(n_plans, 1); /* question, answer, question */
    assert_true(record.end.is_marked);
    assert_int_equal(record.end.reason, QR_RECORD_END_TOO_SLOW);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_configurations_come_first),
        cmocka_unit_test(an_addition_keeps_every_field),
        cmocka_unit_test(a_long_name_is_cut),
        cmocka_unit_test(small_calls_keep_their_arguments),
        cmocka_unit_test(costs_are_kept_to_the_bit),
        cmocka_unit_test(without_a_recorder_nothing_happens),
        cmocka_unit_test(random_schedules_are_read_as_recorded),
        cmocka_unit_test(a_step_of_decodes_takes_a_few_bytes),
        cmocka_unit_test(a_torn_end_is_not_damage),
        cmocka_unit_test(a_cut_header_is_an_error),
        cmocka_unit_test(damage_is_located),
        cmocka_unit_test(errors_name_value_and_range),
        cmocka_unit_test(other_files_are_no_recordings),
        cmocka_unit_test(a_sink_that_stops_leaves_a_mark),
    };
    return cmocka_run_group_tests(tests, NULL, free_bytes);
}
