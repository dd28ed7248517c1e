#include "runtime/swap/swapper_faults.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "tests/support/swap_rig.h"
#include "tests/support/temp_dir.h"

enum { SLOTS = 6, PAGE_BYTES = 5000 };

static struct qr_temp_dir dir;

static int make_dir(void **state)
{
    (void)state;
    qr_log_set_level(QR_LOG_ERROR); /* the failures are wanted */
    qr_temp_dir_make(&dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    qr_temp_dir_remove(&dir);
    return 0;
}

static void make_rig(struct qr_swap_rig *rig)
{
    qr_swap_rig_make(rig, &(struct qr_swap_rig_config){.page_bytes = PAGE_BYTES,
                                                       .n_pages = 2 * SLOTS,
                                                       .host_slots = SLOTS,
                                                       .disk_slots = SLOTS,
                                                       .max_transfers = SLOTS,
                                                       .dir = dir.path});
}

static struct qr_swapper_stats stats_of(const struct qr_swap_rig *rig)
{
    struct qr_swapper_stats stats;
    qr_swapper_get_stats(rig->swapper, &stats);
    return stats;
}

/* Moves page i to slot i, or slot i to page SLOTS + i, for all i at once; ok[i]: how it ended. */
static void move_all(struct qr_swap_rig *rig, enum qr_tier tier, bool out, const bool *wanted,
                     bool *ok)
{
    struct qr_transfer transfers[SLOTS];
    struct qr_transfer_result results[SLOTS];
    int32_t count = 0;

    for (int32_t i = 0; i < SLOTS; i++) {
        ok[i] = false;
        if (wanted == NULL || wanted[i])
            transfers[count++] = (struct qr_transfer){
                .id = i, .tier = tier, .out = out, .page = out ? i : SLOTS + i, .slot = i};
    }
    qr_swapper_submit(rig->swapper, transfers, count);
    while (count > 0) {
        int32_t n = qr_swap_rig_wait(rig, results, SLOTS);
        for (int32_t i = 0; i < n; i++)
            ok[results[i].id] = results[i].ok;
        count -= n;
    }
}

static int32_t count_true(const bool *flags)
{
    int32_t n = 0;
    for (int32_t i = 0; i < SLOTS; i++)
        n += flags[i];
    return n;
}

enum { OLD_SEED = 1000 }; /* of what the target pages held before */

static void fill_all(struct qr_swap_rig *rig)
{
    for (int32_t i = 0; i < SLOTS; i++) {
        qr_swap_rig_fill(rig, i, (uint64_t)i);
        qr_swap_rig_fill(rig, SLOTS + i, OLD_SEED);
    }
}

/* Pages that came in are right, the others were not touched. */
static void check_pages(const struct qr_swap_rig *rig, const bool *came_in)
{
    for (int32_t i = 0; i < SLOTS; i++) {
        assert_true(qr_swap_rig_holds(rig, i, (uint64_t)i));
        assert_true(qr_swap_rig_holds(rig, SLOTS + i, came_in[i] ? (uint64_t)i : OLD_SEED));
    }
}

/* One fault at every place of a batch out and a batch in, of every kind, in each tier. */
static void a_fault_harms_one_transfer(struct qr_swap_rig *rig, enum qr_tier tier, bool out,
                                       enum qr_swap_fault_kind kind, int32_t at)
{
    struct qr_swap_fault fault = {.kind = kind, .error = ENOSPC, .first = at};
    struct qr_swapper_stats before = stats_of(rig), after;
    bool went_out[SLOTS], came_in[SLOTS];

    fill_all(rig);
    qr_swapper_set_fault(rig->swapper, tier, out, &fault);
    move_all(rig, tier, true, NULL, went_out);
    move_all(rig, tier, false, went_out, came_in);

    /* Damage on the way out shows on the way in. */
    bool fails_out = out && kind != QR_SWAP_FAULT_CORRUPT;
    assert_int_equal(count_true(went_out), SLOTS - fails_out);
    assert_int_equal(count_true(came_in), SLOTS - 1);
    check_pages(rig, came_in);

    after = stats_of(rig);
    assert_int_equal(after.out[tier].n_failed - before.out[tier].n_failed, fails_out);
    assert_int_equal(after.in[tier].n_failed - before.in[tier].n_failed, !fails_out);
    assert_int_equal(after.in[tier].n_mismatch - before.in[tier].n_mismatch,
                     kind == QR_SWAP_FAULT_CORRUPT);
    assert_int_equal(after.out[tier].n_mismatch, 0);
    assert_int_equal(after.out[tier].n_pages - before.out[tier].n_pages, SLOTS - fails_out);
    assert_int_equal(after.in[tier].n_pages - before.in[tier].n_pages, SLOTS - 1);
    assert_false(after.disk_failed);
}

static void every_fault_at_every_place_harms_one_transfer(void **state)
{
    (void)state;
    struct qr_swap_rig rig;

    make_rig(&rig);
    for (int tier = 0; tier < QR_TIER_COUNT; tier++)
        for (int out = 0; out < 2; out++)
            for (int kind = QR_SWAP_FAULT_ERROR; kind <= QR_SWAP_FAULT_CORRUPT; kind++)
                for (int32_t at = 0; at < SLOTS; at++)
                    a_fault_harms_one_transfer(&rig, (enum qr_tier)tier, out == 1,
                                               (enum qr_swap_fault_kind)kind, at);
    qr_swap_rig_free(&rig);
}

static void a_periodic_fault_returns_until_it_is_lifted(void **state)
{
    (void)state;
    struct qr_swap_rig rig;
    struct qr_swap_fault fault = {
        .kind = QR_SWAP_FAULT_ERROR, .error = EIO, .first = 1, .period = 3};

    make_rig(&rig);
    qr_swapper_set_fault(rig.swapper, QR_TIER_DISK, true, &fault);
    for (int i = 0; i < 30; i++)
        assert_int_equal(qr_swap_rig_move(&rig, QR_TIER_DISK, true, 0, 0), i % 3 != 1);
    qr_swapper_set_fault(rig.swapper, QR_TIER_DISK, true, NULL);
    for (int i = 0; i < 6; i++)
        assert_true(qr_swap_rig_move(&rig, QR_TIER_DISK, true, 0, 0));
    qr_swap_rig_free(&rig);
}

/* Any bit of a page: the first, the last, some between; and back again. */
static void a_turned_bit_never_reaches_the_device(void **state)
{
    (void)state;
    const int64_t bits[] = {0, 7, 8, 4095 * 8, 4096 * 8 + 3, PAGE_BYTES * 8 - 1};
    struct qr_swap_rig rig;

    make_rig(&rig);
    for (int tier = 0; tier < QR_TIER_COUNT; tier++) {
        qr_swap_rig_fill(&rig, 0, 5);
        assert_true(qr_swap_rig_move(&rig, (enum qr_tier)tier, true, 0, SLOTS - 1));
        for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
            qr_swap_rig_fill(&rig, 1, OLD_SEED);
            qr_swapper_corrupt(rig.swapper, (enum qr_tier)tier, SLOTS - 1, bits[i]);
            assert_false(qr_swap_rig_move(&rig, (enum qr_tier)tier, false, 1, SLOTS - 1));
            assert_true(qr_swap_rig_holds(&rig, 1, OLD_SEED));
            qr_swapper_corrupt(rig.swapper, (enum qr_tier)tier, SLOTS - 1, bits[i]);
            assert_true(qr_swap_rig_move(&rig, (enum qr_tier)tier, false, 1, SLOTS - 1));
            assert_true(qr_swap_rig_holds(&rig, 1, 5));
        }
        assert_int_equal(stats_of(&rig).in[tier].n_mismatch, sizeof(bits) / sizeof(bits[0]));
    }
    qr_swap_rig_free(&rig);
}

/* ---- a disk that really fails ---- */

/* Puts another file in the place of the swap file. */
/* Nothing is taken for a page that is not one, in either direction, and the next ones work. */
static void a_device_that_fails_fails_its_transfers(void **state)
{
    (void)state;
    for (int tier = 0; tier < QR_TIER_COUNT; tier++) {
        struct qr_swap_rig rig;
        bool ok[SLOTS];
        make_rig(&rig);
        fill_all(&rig);
        rig.device_fails = true;
        move_all(&rig, (enum qr_tier)tier, true, NULL, ok);
        assert_int_equal(count_true(ok), 0);
        assert_false(stats_of(&rig).disk_failed); /* it is not the disk's fault */
        rig.device_fails = false;
        move_all(&rig, (enum qr_tier)tier, true, NULL, ok);
        assert_int_equal(count_true(ok), SLOTS);
        rig.device_fails = true;
        move_all(&rig, (enum qr_tier)tier, false, NULL, ok);
        assert_int_equal(count_true(ok), 0);
        check_pages(&rig, ok);
        rig.device_fails = false;
        move_all(&rig, (enum qr_tier)tier, false, NULL, ok);
        check_pages(&rig, ok);
        assert_int_equal(count_true(ok), SLOTS);
        qr_swap_rig_free(&rig);
    }
}

static void replace_file(struct qr_swap_rig *rig, const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(dup2(fd, qr_swapper_file(rig->swapper)) >= 0);
    close(fd);
}

static void a_full_disk_is_reported_and_the_host_goes_on(void **state)
{
    (void)state;
    struct qr_swap_rig rig;
    bool ok[SLOTS], came_in[SLOTS];

    make_rig(&rig);
    fill_all(&rig);
    replace_file(&rig, "/dev/full", O_RDWR); /* the kernel itself says ENOSPC */
    move_all(&rig, QR_TIER_DISK, true, NULL, ok);
    assert_int_equal(count_true(ok), 0);
    assert_int_equal(stats_of(&rig).out[QR_TIER_DISK].n_failed, SLOTS);
    assert_true(stats_of(&rig).disk_failed);
    move_all(&rig, QR_TIER_HOST, true, NULL, ok);
    assert_int_equal(count_true(ok), SLOTS);
    move_all(&rig, QR_TIER_HOST, false, NULL, came_in);
    check_pages(&rig, ok);
    qr_swap_rig_free(&rig);
}

static void a_file_that_cannot_be_written_fails_each_write(void **state)
{
    (void)state;
    struct qr_swap_rig rig;
    bool ok[SLOTS];

    make_rig(&rig);
    fill_all(&rig);
    move_all(&rig, QR_TIER_DISK, true, NULL, ok);
    assert_int_equal(count_true(ok), SLOTS);
    replace_file(&rig, "/dev/null", O_RDONLY); /* EBADF for writes, no byte for reads */
    move_all(&rig, QR_TIER_DISK, false, NULL, ok);
    assert_int_equal(count_true(ok), 0);
    assert_false(stats_of(&rig).disk_failed); /* that takes writes */
    move_all(&rig, QR_TIER_DISK, true, NULL, ok);
    assert_int_equal(count_true(ok), 0);
    assert_true(stats_of(&rig).disk_failed);
    for (int32_t i = 0; i < SLOTS; i++)
        assert_true(qr_swap_rig_holds(&rig, SLOTS + i, OLD_SEED));
    qr_swap_rig_free(&rig);
}

static void a_file_cut_short_loses_only_what_was_cut(void **state)
{
    (void)state;
    struct qr_swap_rig rig;
    bool ok[SLOTS];

    make_rig(&rig);
    fill_all(&rig);
    move_all(&rig, QR_TIER_DISK, true, NULL, ok);
    /* 8192 bytes a slot: the fourth keeps a half */
    assert_int_equal(ftruncate(qr_swapper_file(rig.swapper), 3 * 8192 + 4096), 0);
    move_all(&rig, QR_TIER_DISK, false, NULL, ok);
    for (int32_t i = 0; i < SLOTS; i++)
        assert_int_equal(ok[i], i < 3);
    check_pages(&rig, ok);
    assert_int_equal(stats_of(&rig).in[QR_TIER_DISK].n_failed, 3);
    qr_swap_rig_free(&rig);
}

static void failures_count_only_in_a_row(void **state)
{
    (void)state;
    struct qr_swap_rig rig;
    struct qr_swap_fault always = {.kind = QR_SWAP_FAULT_ERROR, .error = EIO, .period = 1};

    make_rig(&rig);
    for (int round = 0; round < 3; round++) {
        qr_swapper_set_fault(rig.swapper, QR_TIER_DISK, true, &always);
        for (int i = 0; i < QR_SWAP_FAILURES_TO_BREAK - 1; i++)
            assert_false(qr_swap_rig_move(&rig, QR_TIER_DISK, true, 0, 0));
        assert_false(stats_of(&rig).disk_failed);
        qr_swapper_set_fault(rig.swapper, QR_TIER_DISK, true, NULL);
        assert_true(qr_swap_rig_move(&rig, QR_TIER_DISK, true, 0, 0));
    }
    qr_swapper_set_fault(rig.swapper, QR_TIER_DISK, true, &always);
    for (int i = 0; i < QR_SWAP_FAILURES_TO_BREAK; i++)
        assert_false(qr_swap_rig_move(&rig, QR_TIER_DISK, true, 0, 0));
    assert_true(stats_of(&rig).disk_failed);

    /* What lies there can still be loaded, and the verdict stays. */
    qr_swapper_set_fault(rig.swapper, QR_TIER_DISK, true, NULL);
    assert_true(qr_swap_rig_move(&rig, QR_TIER_DISK, true, 0, 0));
    assert_true(qr_swap_rig_move(&rig, QR_TIER_DISK, false, 1, 0));
    assert_true(stats_of(&rig).disk_failed);
    qr_swap_rig_free(&rig);
}

/* ---- what the log says ---- */

/* Stderr goes to a file of the test while `run` works; its first bytes end up in `text`. */
static void capture_log(void (*run)(struct qr_swap_rig *rig), struct qr_swap_rig *rig, char *text,
                        size_t n_bytes)
{
    FILE *file = tmpfile();
    int before = dup(STDERR_FILENO);

    assert_non_null(file);
    assert_true(before >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
    qr_log_set_level(QR_LOG_INFO);
    run(rig);
    qr_log_set_level(QR_LOG_ERROR);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    close(before);
    rewind(file);
    text[fread(text, 1, n_bytes - 1, file)] = '\0';
    fclose(file);
}

static int count_lines_with(const char *text, const char *words)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, words)) != NULL; at++)
        n++;
    return n;
}

static void fail_a_hundred_times(struct qr_swap_rig *rig)
{
    struct qr_swap_fault full = {.kind = QR_SWAP_FAULT_ERROR, .error = ENOSPC, .period = 1};
    struct qr_swap_fault damage = {.kind = QR_SWAP_FAULT_CORRUPT, .period = 1};

    qr_swapper_set_fault(rig->swapper, QR_TIER_DISK, true, &full);
    qr_swapper_set_fault(rig->swapper, QR_TIER_HOST, true, &damage);
    for (int i = 0; i < 100; i++) {
        assert_false(qr_swap_rig_move(rig, QR_TIER_DISK, true, 0, 0));
        assert_true(qr_swap_rig_move(rig, QR_TIER_HOST, true, 0, 0));
        assert_false(qr_swap_rig_move(rig, QR_TIER_HOST, false, 1, 0));
    }
}

static void the_log_names_the_disk_once_and_is_not_flooded(void **state)
{
    (void)state;
    struct qr_swap_rig rig;
    char text[16384], folder[QR_TEMP_PATH_MAX + 8];

    make_rig(&rig);
    capture_log(fail_a_hundred_times, &rig, text, sizeof(text));
    qr_swap_rig_free(&rig);
    snprintf(folder, sizeof(folder), "dir=\"%s\"", dir.path);
    assert_int_equal(count_lines_with(text, " warn swap_disk_failed "), 1);
    assert_int_equal(count_lines_with(text, folder), 1);
    /* 1, 2, 4, ... 64 */
    assert_int_equal(count_lines_with(text, "swap_transfer_failed tier=disk direction=out"), 7);
    assert_int_equal(count_lines_with(text, "swap_checksum_mismatch tier=host direction=in"), 7);
    assert_true(count_lines_with(text, "No space left on device") >= 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_fault_at_every_place_harms_one_transfer),
        cmocka_unit_test(a_periodic_fault_returns_until_it_is_lifted),
        cmocka_unit_test(a_turned_bit_never_reaches_the_device),
        cmocka_unit_test(a_device_that_fails_fails_its_transfers),
        cmocka_unit_test(a_full_disk_is_reported_and_the_host_goes_on),
        cmocka_unit_test(a_file_that_cannot_be_written_fails_each_write),
        cmocka_unit_test(a_file_cut_short_loses_only_what_was_cut),
        cmocka_unit_test(failures_count_only_in_a_row),
        cmocka_unit_test(the_log_names_the_disk_once_and_is_not_flooded),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
