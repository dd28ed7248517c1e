/* test_tile_file.c - what a file of tiles gives back, and every way in which one can be bad. */
#include "runtime/ops/cpu/tile_file.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "base/mapped_file.h"
#include "runtime/ops/cpu/packed.h"
#include "runtime/ops/cpu/tile_writer.h"
#include "tests/support/temp_dir.h"

enum { FILE_MAX = 1 << 16, CAPACITY = 1 << 20 };

static const uint8_t key[QR_TILE_KEY_BYTES] = "of some content";

static const struct {
    const char *name;
    enum qr_dtype dtype;
    int64_t n_out, n_in;
} matrices[] = {
    {"a", QR_DTYPE_F32, 3, 5},
    {"model.layers.0.mlp.weight[16]", QR_DTYPE_Q8_0, 33, 64},
    {"head", QR_DTYPE_Q4_K, 17, 512},
};
enum { N_MATRICES = sizeof(matrices) / sizeof(matrices[0]) };

static struct qr_temp_dir dir;
static char path[QR_TEMP_PATH_MAX + 16];

static int set_up(void **state)
{
    (void)state;
    qr_temp_dir_make(&dir);
    snprintf(path, sizeof(path), "%s/x.tiles", dir.path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    qr_temp_dir_remove(&dir);
    return 0;
}

static uint8_t byte_of(int matrix, size_t at)
{
    return (uint8_t)((size_t)matrix * 57 + at * 31 + at / 251);
}

/* A writer with all matrices in it. */
static struct qr_tile_writer *fill_writer(uint8_t *tiles[N_MATRICES])
{
    struct qr_tile_writer *writer;
    struct qr_error err = {""};

    if (qr_tile_writer_create(dir.path, CAPACITY, &writer, &err) != QR_OK)
        fail_msg("%s", err.message);
    for (int i = 0; i < N_MATRICES; i++) {
        size_t n = qr_tile_bytes(matrices[i].dtype, matrices[i].n_out, matrices[i].n_in);
        assert_int_equal(qr_tile_writer_take(writer, matrices[i].name, matrices[i].dtype,
                                             matrices[i].n_out, matrices[i].n_in, &tiles[i], &err),
                         QR_OK);
        assert_int_equal((uintptr_t)tiles[i] % QR_PACK_ALIGN, 0);
        for (size_t k = 0; k < n; k++)
            tiles[i][k] = byte_of(i, k);
        struct qr_tile_entry *entry = &qr_tile_writer_index(writer)->entries[i];
        entry->checksum = qr_tile_checksum(tiles[i], n);
    }
    return writer;
}

static void check_tiles(int matrix, const uint8_t *tiles)
{
    size_t n = qr_tile_bytes(matrices[matrix].dtype, matrices[matrix].n_out, matrices[matrix].n_in);

    assert_true(n > 0);
    for (size_t k = 0; k < n; k++)
        assert_int_equal(tiles[k], byte_of(matrix, k));
}

/* The bytes of a file with all matrices; returns how many. */
static size_t write_file(uint8_t *bytes)
{
    uint8_t *tiles[N_MATRICES];
    struct qr_tile_writer *writer = fill_writer(tiles);
    struct qr_mapped_file file;
    struct qr_error err = {""};

    assert_int_equal(qr_tile_writer_publish(writer, key, path, &err), QR_OK);
    for (int i = 0; i < N_MATRICES; i++)
        check_tiles(i, tiles[i]);
    qr_tile_writer_close(writer);
    assert_int_equal(qr_mapped_file_open(path, &file, &err), QR_OK);
    size_t size = file.size;
    assert_true(size <= FILE_MAX);
    memcpy(bytes, file.data, size);
    qr_mapped_file_close(&file);
    return size;
}

static int n_files(void)
{
    DIR *listing = opendir(dir.path);
    int n = 0;

    assert_non_null(listing);
    while (readdir(listing) != NULL)
        n++;
    closedir(listing);
    return n - 2;
}

static void matrices_come_back(void **state)
{
    _Alignas(64) static uint8_t bytes[FILE_MAX];
    struct qr_tile_index index;
    struct qr_error err = {""};

    (void)state;
    size_t size = write_file(bytes);
    assert_int_equal(n_files(), 1);
    assert_int_equal(qr_tile_file_parse("f", bytes, size, key, &index, &err), QR_OK);
    assert_int_equal(index.n, N_MATRICES);
    for (int i = 0; i < N_MATRICES; i++) {
        const struct qr_tile_entry *entry = &index.entries[i];
        assert_string_equal(entry->name, matrices[i].name);
        assert_int_equal(entry->dtype, matrices[i].dtype);
        assert_int_equal(entry->n_out, matrices[i].n_out);
        assert_int_equal(entry->n_in, matrices[i].n_in);
        assert_true(qr_tile_entry_is_whole(entry));
        check_tiles(i, entry->tiles);
        ((uint8_t *)(uintptr_t)entry->tiles)[entry->n_bytes - 1] ^= 1;
        assert_false(qr_tile_entry_is_whole(entry));
    }
    qr_tile_index_free(&index);
}

static void assert_refused(const uint8_t *bytes, size_t size, const uint8_t *wanted_key)
{
    struct qr_tile_index index;
    struct qr_error err = {""};

    assert_int_equal(qr_tile_file_parse("f", bytes, size, wanted_key, &index, &err),
                     QR_ERR_INVALID);
    assert_int_equal(strncmp(err.message, "f: ", 3), 0);
    qr_tile_index_free(&index);
}

static void bad_files_are_refused(void **state)
{
    _Alignas(64) static uint8_t bytes[FILE_MAX];
    static const uint8_t other[QR_TILE_KEY_BYTES] = "of another";
    struct qr_tile_head head;

    (void)state;
    size_t size = write_file(bytes);
    memcpy(&head, bytes, sizeof(head));
    assert_refused(bytes, size, other);
    for (size_t n = 0; n < size; n++)
        assert_refused(bytes, n, key);
    for (size_t at = 0; at < size; at++) {
        if (at == sizeof(head))
            at = (size_t)head.index_at; /* tiles have checksums of their own */
        bytes[at] ^= 0x80;
        assert_refused(bytes, size, key);
        bytes[at] ^= 0x80;
    }
}

/* A file whose checksum is right, but for what `change` does to its first record. */
static void assert_record_refused(void (*change)(struct qr_tile_record *record))
{
    _Alignas(64) static uint8_t bytes[FILE_MAX];
    struct qr_tile_record record;
    struct qr_tile_head head;

    size_t size = write_file(bytes);
    memcpy(&head, bytes, sizeof(head));
    memcpy(&record, bytes + head.index_at, sizeof(record));
    change(&record);
    memcpy(bytes + head.index_at, &record, sizeof(record));
    head.checksum = qr_tile_head_checksum(&head, bytes + head.index_at, size - head.index_at);
    memcpy(bytes, &head, sizeof(head));
    assert_refused(bytes, size, key);
}

static void far_tiles(struct qr_tile_record *record)
{
    record->tiles_at = UINT64_MAX - 63;
}

static void odd_tiles(struct qr_tile_record *record)
{
    record->tiles_at += 4;
}

static void many_rows(struct qr_tile_record *record)
{
    record->n_out = INT64_C(1) << 40;
}

static void large_matrix(struct qr_tile_record *record)
{
    record->n_out = record->n_in = INT32_MAX;
}

static void no_columns(struct qr_tile_record *record)
{
    record->n_in = 0;
}

static void odd_dtype(struct qr_tile_record *record)
{
    memcpy(record->dtype, "Q5_K", 5);
}

static void long_name(struct qr_tile_record *record)
{
    record->name_bytes = UINT32_MAX;
}

static void no_name(struct qr_tile_record *record)
{
    record->name_bytes = 0;
}

static void lying_records_are_refused(void **state)
{
    (void)state;
    assert_record_refused(far_tiles);
    assert_record_refused(odd_tiles);
    assert_record_refused(many_rows);
    assert_record_refused(large_matrix);
    assert_record_refused(no_columns);
    assert_record_refused(odd_dtype);
    assert_record_refused(long_name);
    assert_record_refused(no_name);
}

static void what_is_abandoned_stays_in_memory(void **state)
{
    uint8_t *tiles[N_MATRICES];

    (void)state;
    struct qr_tile_writer *writer = fill_writer(tiles);
    qr_tile_writer_abandon(writer);
    assert_int_equal(n_files(), 0);
    for (int i = 0; i < N_MATRICES; i++)
        check_tiles(i, tiles[i]);
    tiles[0][0] ^= 1; /* it is ordinary memory */
    qr_tile_writer_close(writer);
    qr_tile_writer_close(fill_writer(tiles)); /* neither published nor abandoned */
    assert_int_equal(n_files(), 0);
}

static void a_file_takes_the_place_of_another(void **state)
{
    _Alignas(64) static uint8_t bytes[FILE_MAX], again[FILE_MAX];
    struct qr_mapped_file older;
    struct qr_error err = {""};

    (void)state;
    qr_temp_dir_write(&dir, "x.tiles", "damaged", 7);
    size_t size = write_file(bytes);
    assert_int_equal(qr_mapped_file_open(path, &older, &err), QR_OK);
    assert_int_equal(write_file(again), size);
    assert_memory_equal(older.data, bytes, size); /* whoever has mapped one keeps it */
    assert_memory_equal(again, bytes, size);
    assert_int_equal(n_files(), 1);
    qr_mapped_file_close(&older);
}

static void a_folder_or_a_disk_may_refuse(void **state)
{
    const struct rlimit small = {.rlim_cur = 1 << 12, .rlim_max = RLIM_INFINITY};
    struct rlimit before;
    struct qr_tile_writer *writer;
    struct qr_error err = {""};
    uint8_t *tiles;

    (void)state;
    assert_int_equal(qr_tile_writer_create("/nowhere/at/all", CAPACITY, &writer, &err),
                     QR_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "/nowhere/at/all"));
    assert_null(writer);

    assert_int_equal(qr_tile_writer_create(dir.path, CAPACITY, &writer, &err), QR_OK);
    assert_int_equal(
        qr_tile_writer_take(writer, "large", QR_DTYPE_F32, 1 << 12, 1 << 10, &tiles, &err),
        QR_ERR_IO); /* more than its capacity */
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum qr_status status = qr_tile_writer_take(writer, "w", QR_DTYPE_F32, 64, 64, &tiles, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(status, QR_ERR_IO);
    assert_int_equal(qr_tile_writer_index(writer)->n, 0);
    assert_int_equal(qr_tile_writer_take(writer, "w", QR_DTYPE_F32, 64, 64, &tiles, &err), QR_OK);
    qr_tile_writer_close(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(matrices_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_files_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lying_records_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_abandoned_stays_in_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_takes_the_place_of_another, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_folder_or_a_disk_may_refuse, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
