/* Replays of recorded schedules decide as the schedules did; one that does not is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/replay/replay.h"
#include "tests/support/recorded_run.h"
#include "tests/support/recording.h"

static struct qr_buffer bytes;

static int free_bytes(void **state)
{
    (void)state;
    qr_buffer_free(&bytes);
    return 0;
}

/* Small enough that memory is short all the time. */
static struct recorded_run_config small_world(uint64_t seed)
{
    return (struct recorded_run_config){
        .blocks = {.page_count = 24,
                   .page_size = 8,
                   .max_seq_tokens = 100,
                   .tier_slots = {[QR_TIER_HOST] = 12, [QR_TIER_DISK] = 40},
                   .max_transfers = 4,
                   .prefix_cache = true},
        .scheduler = {.max_batch_tokens = 48,
                      .max_running = 8,
                      .max_waiting = 6,
                      .max_parked = 3,
                      .max_logit_rows = 16,
                      .discipline = QR_DISCIPLINE_COST},
        .seed = seed,
        .n_rounds = 3000,
        .failures = 5,
    };
}

/* Runs the recording to its end or to the first difference. */
static struct qr_replay *replay_bytes(void)
{
    struct qr_record_reader *reader = recording_open(&bytes);
    struct qr_replay *replay;
    struct qr_record record;
    struct qr_error err = {""};

    assert_int_equal(qr_replay_create(qr_record_reader_header(reader), &replay, &err), QR_OK);
    do {
        assert_int_equal(qr_record_reader_next(reader, &record, &err), QR_OK);
        enum qr_status status = qr_replay_apply(replay, &record, &err);
        assert_string_equal(err.message, "");
        assert_int_equal(status, QR_OK);
    } while (record.kind != QR_RECORD_END && qr_replay_difference(replay) == NULL);
    qr_record_reader_close(reader);
    return replay;
}

static void assert_same_totals(const struct qr_replay *replay,
                               const struct recorded_run_totals *totals)
{
    struct qr_replay_stats stats;

    qr_replay_get_stats(replay, &stats);
    assert_int_equal(stats.n_plans, totals->n_plans);
    assert_int_equal(stats.n_rows, totals->n_rows);
    assert_int_equal(stats.n_requests, totals->n_requests);
    assert_int_equal(stats.n_refused, totals->n_refused);
    assert_int_equal(stats.n_forks, totals->n_forks);
    assert_int_equal(stats.n_output_tokens, totals->n_tokens);
    assert_int_equal(stats.n_forced, totals->n_forced);
    assert_int_equal(stats.n_copied, totals->n_copied);
    assert_int_equal(stats.n_failed, totals->n_failed);
    for (int i = 0; i <= QR_RELEASE_PARKED; i++)
        assert_int_equal(stats.n_preempted[i], totals->n_preempted[i]);
    for (int i = 0; i < QR_TIER_COUNT; i++) {
        assert_int_equal(stats.n_out[i], totals->n_out[i]);
        assert_int_equal(stats.n_in[i], totals->n_in[i]);
    }
}

static void assert_replays(const char *name, const struct recorded_run_config *config)
{
    struct recorded_run_totals totals;

    qr_buffer_clear(&bytes);
    recorded_run(config, &bytes, &totals);
    struct qr_replay *replay = replay_bytes();
    if (qr_replay_difference(replay) != NULL)
        fail_msg("%s: %s", name, qr_replay_difference(replay));
    assert_same_totals(replay, &totals);
    qr_replay_destroy(replay);
    assert_true(totals.n_launched > 0 || config->blocks.window > 0);
    printf(
        "%-16s %5lld plans (%lld beside rows under way), %4lld requests (%lld refused), %lld "
        "forks; %lld swapped, %lld + %lld "
        "recomputed, %lld parked, %lld forced; %lld out, %lld in, %lld failed; %.1f bytes a plan\n",
        name, (long long)totals.n_plans, (long long)totals.n_launched, (long long)totals.n_requests,
        (long long)totals.n_refused, (long long)totals.n_forks,
        (long long)totals.n_preempted[QR_RELEASE_SWAPPED],
        (long long)totals.n_preempted[QR_RELEASE_RESUMES],
        (long long)totals.n_preempted[QR_RELEASE_FINISHED],
        (long long)totals.n_preempted[QR_RELEASE_PARKED], (long long)totals.n_forced,
        (long long)(totals.n_out[0] + totals.n_out[1]),
        (long long)(totals.n_in[0] + totals.n_in[1]), (long long)totals.n_failed,
        (double)bytes.length / (double)totals.n_plans);
}

static void random_schedules_are_decided_alike(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct recorded_run_config config = small_world(seed);
        assert_replays("small", &config);
        config.forces_preemption = config.closes_disk = true;
        assert_replays("forced", &config);
        config = small_world(seed);
        config.blocks.prefix_cache = false;
        assert_replays("no prefix cache", &config);
        config = small_world(seed);
        config.blocks.tier_slots[QR_TIER_HOST] = config.blocks.tier_slots[QR_TIER_DISK] = 0;
        config.blocks.max_transfers = 0;
        assert_replays("no tiers", &config);
        config = small_world(seed);
        config.blocks.page_count = 10; /* fewer than the longest sequence has */
        config.blocks.window = 12;
        config.scheduler.max_prefill_chunk = 24;
        assert_replays("window", &config);
        config = small_world(seed);
        config.blocks.page_count = 200;
        config.blocks.page_size = 16;
        config.blocks.max_seq_tokens = 1000;
        config.scheduler.max_running = config.scheduler.max_waiting = 32;
        config.scheduler.max_batch_tokens = 256;
        config.scheduler.max_logit_rows = 64;
        config.scheduler.max_prefill_chunk = 50;
        assert_replays("larger", &config);
        config.scheduler.max_prefill_chunk = 0;
        config.scheduler.max_stall_ms = 1; /* 31 to 500 rows */
        assert_replays("chunks bounded by time", &config);
    }
}

static void every_discipline_is_decided_alike(void **state)
{
    (void)state;
    static const char *const names[] = {"cost", "swap", "recompute", "reserve"};

    for (int i = QR_DISCIPLINE_COST; i <= QR_DISCIPLINE_RESERVE; i++) {
        struct recorded_run_config config = small_world(50);
        config.scheduler.discipline = (enum qr_discipline)i;
        assert_replays(names[i], &config);
    }
}

/* Writes what was read again, with one change in the plan that has this number. */
static void write_with_change(struct qr_recorder *rec, const struct qr_record *record,
                              void (*change)(struct qr_plan *plan))
{
    struct qr_plan plan;
    qr_seq_id seq = record->seq;

    switch (record->kind) {
    case QR_RECORD_ADD:
        qr_recorder_add(rec, &record->add.params, record->add.status, seq);
        break;
    case QR_RECORD_FORK:
        qr_recorder_fork(rec, record->parent, seq);
        break;
    case QR_RECORD_REMOVE:
        qr_recorder_remove(rec, seq);
        break;
    case QR_RECORD_END_FORKS:
        qr_recorder_end_forks(rec, seq);
        break;
    case QR_RECORD_SET_PAUSED:
        qr_recorder_set_paused(rec, seq, record->paused);
        break;
    case QR_RECORD_SET_TENANT:
        qr_recorder_set_tenant(rec, record->tenant.tenant, record->tenant.weight,
                               record->tenant.max_pages);
        break;
    case QR_RECORD_SET_COSTS:
        qr_recorder_set_costs(rec, &record->costs);
        break;
    case QR_RECORD_APPEND_TOKEN:
        qr_recorder_append_token(rec, seq, record->token);
        break;
    case QR_RECORD_TRANSFER_DONE:
        qr_recorder_transfer_done(rec, record->transfer.id, record->transfer.ok);
        break;
    case QR_RECORD_CLOSE_TIER:
        qr_recorder_close_tier(rec, record->tier);
        break;
    case QR_RECORD_LAUNCH:
        qr_recorder_launch(rec);
        break;
    case QR_RECORD_COMPLETE:
        qr_recorder_complete(rec);
        break;
    case QR_RECORD_ABANDON:
        qr_recorder_abandon(rec);
        break;
    case QR_RECORD_PLAN_BEGIN:
        qr_recorder_plan_begin(rec, record->now_ns);
        break;
    case QR_RECORD_PLAN:
        plan = record->plan;
        if (change != NULL)
            change(&plan);
        qr_recorder_plan(rec, &plan);
        break;
    case QR_RECORD_NAME:
        qr_recorder_note_request(rec, seq, record->name);
        break;
    case QR_RECORD_FORCED:
        qr_recorder_note_forced(rec, seq, record->how);
        break;
    case QR_RECORD_END:
        break;
    }
}

/*
 * Copies the recording with `change` made to the first plan from number `from` on that
 * `fits`; returns its number, from 1.
 */
static int32_t change_recording(int32_t from, bool (*fits)(const struct qr_plan *plan),
                                void (*change)(struct qr_plan *plan))
{
    struct qr_buffer changed = {.arena = QR_ARENA_ENGINE};
    struct qr_record_reader *reader = recording_open(&bytes);
    const struct qr_record_header *header = qr_record_reader_header(reader);
    const struct qr_record_origin origin = {.version = header->version,
                                            .start_ns = header->start_ns};
    const struct qr_record_sink sink = recording_sink(&changed);
    struct qr_recorder *rec;
    struct qr_record record;
    int32_t n_plans = 0;
    int32_t found = 0;

    assert_int_equal(qr_recorder_create(&origin, &header->blocks, &header->scheduler, &sink, &rec),
                     QR_OK);
    do {
        assert_int_equal(qr_record_reader_next(reader, &record, NULL), QR_OK);
        n_plans += record.kind == QR_RECORD_PLAN;
        bool here = record.kind == QR_RECORD_PLAN && n_plans >= from && found == 0 &&
                    (fits == NULL || fits(&record.plan));
        found = here ? n_plans : found;
        write_with_change(rec, &record, here ? change : NULL);
    } while (record.kind != QR_RECORD_END);
    qr_recorder_destroy(rec);
    qr_record_reader_close(reader);
    qr_buffer_free(&bytes);
    bytes = changed;
    return found;
}

static bool has_two_entries(const struct qr_plan *plan)
{
    return plan->n_entries >= 2;
}

static void swap_two_entries(struct qr_plan *plan)
{
    static struct qr_plan_entry entries[64];

    memcpy(entries, plan->entries, (size_t)plan->n_entries * sizeof(entries[0]));
    entries[0] = plan->entries[1];
    entries[1] = plan->entries[0];
    plan->entries = entries;
}

static bool has_preempted(const struct qr_plan *plan)
{
    return plan->n_preempted > 0;
}

static void change_preemption(struct qr_plan *plan)
{
    static struct qr_preemption preempted[64];

    memcpy(preempted, plan->preempted, (size_t)plan->n_preempted * sizeof(preempted[0]));
    preempted[0].how =
        preempted[0].how == QR_RELEASE_SWAPPED ? QR_RELEASE_RESUMES : QR_RELEASE_SWAPPED;
    plan->preempted = preempted;
}

static bool has_transfers(const struct qr_plan *plan)
{
    return plan->n_transfers > 0;
}

static void drop_transfer(struct qr_plan *plan)
{
    plan->n_transfers--;
}

static bool has_admitted(const struct qr_plan *plan)
{
    return plan->n_admitted > 0;
}

static void drop_admission(struct qr_plan *plan)
{
    plan->n_admitted--;
}

static bool has_copies(const struct qr_plan *plan)
{
    return plan->n_copies > 0;
}

static void turn_copy(struct qr_plan *plan)
{
    static struct qr_page_copy copies[64];

    memcpy(copies, plan->copies, (size_t)plan->n_copies * sizeof(copies[0]));
    copies[0].from = plan->copies[0].to;
    copies[0].to = plan->copies[0].from;
    plan->copies = copies;
}

static void a_changed_plan_is_found(void **state)
{
    (void)state;
    static const struct {
        bool (*fits)(const struct qr_plan *plan);
        void (*change)(struct qr_plan *plan);
        const char *words;
    } changes[] = {
        {has_two_entries, swap_two_entries, "  rows, number 1\n    recorded: "},
        {has_preempted, change_preemption, "  preempted, number 1\n    recorded: "},
        {has_transfers, drop_transfer, "  transfers, number "},
        {has_admitted, drop_admission, "  admitted, number "},
        {has_copies, turn_copy, "  copies, number 1\n    recorded: page "},
    };
    const struct recorded_run_config config = small_world(9);
    struct recorded_run_totals totals;
    char place[64];

    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        qr_buffer_clear(&bytes);
        recorded_run(&config, &bytes, &totals);
        int32_t number = change_recording(1000, changes[i].fits, changes[i].change);
        assert_true(number >= 1000);
        struct qr_replay *replay = replay_bytes();
        const char *difference = qr_replay_difference(replay);
        assert_non_null(difference);
        snprintf(place, sizeof(place), "difference in plan %d,", number);
        if (strncmp(difference, place, strlen(place)) != 0 ||
            strstr(difference, changes[i].words) == NULL)
            fail_msg("\"%s\" does not begin with \"%s\" or misses \"%s\"", difference, place,
                     changes[i].words);
        qr_replay_destroy(replay);
    }
}

static void an_unchanged_copy_replays(void **state)
{
    (void)state;
    const struct recorded_run_config config = small_world(9);
    struct recorded_run_totals totals;

    qr_buffer_clear(&bytes);
    recorded_run(&config, &bytes, &totals);
    size_t length = bytes.length;
    assert_int_equal(change_recording(INT32_MAX, NULL, NULL), 0);
    assert_int_equal(bytes.length, length);
    struct qr_replay *replay = replay_bytes();
    assert_null(qr_replay_difference(replay));
    qr_replay_destroy(replay);
}

/* The last plan was asked for, and the process did not live to answer. */
static void a_torn_recording_replays_to_its_end(void **state)
{
    (void)state;
    const struct recorded_run_config config = small_world(10);
    struct recorded_run_totals totals;

    qr_buffer_clear(&bytes);
    recorded_run(&config, &bytes, &totals);
    size_t length = bytes.length;
    for (size_t cut = 0; cut < 3000; cut += 7) {
        bytes.length = length - cut;
        struct qr_replay *replay = replay_bytes();
        assert_null(qr_replay_difference(replay));
        qr_replay_destroy(replay);
    }
    bytes.length = length;
}

/* Calls that cannot have been made are refused before they reach the scheduler. */
static void impossible_calls_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *words;
        uint8_t bytes[4];
        size_t n;
    } calls[] = {
        {"slot 3 is used and holds no sequence", {4 << 1, 3}, 2},
        {"slot 3 is used and holds no sequence", {5 << 1, 3}, 2},
        {"slot 3 is used and holds no sequence", {6 << 1, 3}, 2},
        {"slot 3 is used and holds no sequence", {3 << 1, 3, 4}, 3},
        {"slot 3 is used and holds no sequence", {10 << 1, 3, 9}, 3},
        {"slot 3 is used and holds no sequence", {23 << 1, 3, 0}, 3},
        {"slot 3 is used and holds no sequence", {24 << 1, 3, 2}, 3},
        {"transfer 1 ends and was not under way", {11 << 1, 3}, 2},
        {"a plan is completed, and there is none", {13 << 1}, 1},
        {"a plan that was not asked for", {22 << 1}, 1},
    };

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        struct recorded_run_config config = small_world(1);
        struct recorded_run_totals totals;
        struct qr_replay *replay;
        struct qr_record record;
        struct qr_error err = {""};
        enum qr_status status = QR_OK;
        config.n_rounds = 0;
        qr_buffer_clear(&bytes);
        recorded_run(&config, &bytes, &totals);
        bytes.length -= QR_RECORD_END_BYTES;
        assert_int_equal(qr_buffer_append(&bytes, calls[i].bytes, calls[i].n), QR_OK);
        struct qr_record_reader *reader = recording_open(&bytes);
        assert_int_equal(qr_replay_create(qr_record_reader_header(reader), &replay, &err), QR_OK);
        do {
            assert_int_equal(qr_record_reader_next(reader, &record, &err), QR_OK);
            status = qr_replay_apply(replay, &record, &err);
        } while (status == QR_OK && record.kind != QR_RECORD_END);
        assert_int_equal(status, QR_ERR_INVALID);
        if (strncmp(err.message, "at byte ", 8) != 0 || strstr(err.message, calls[i].words) == NULL)
            fail_msg("\"%s\" does not say \"%s\"", err.message, calls[i].words);
        qr_replay_destroy(replay);
        qr_record_reader_close(reader);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_schedules_are_decided_alike),
        cmocka_unit_test(every_discipline_is_decided_alike),
        cmocka_unit_test(an_unchanged_copy_replays),
        cmocka_unit_test(a_changed_plan_is_found),
        cmocka_unit_test(a_torn_recording_replays_to_its_end),
        cmocka_unit_test(impossible_calls_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, free_bytes);
}
