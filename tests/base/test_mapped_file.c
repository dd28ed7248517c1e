/* test_mapped_file.c - mapped files, and memory that is given back while they stay mapped. */
#include "base/mapped_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/temp_dir.h"

enum { FILE_BYTES = 32 << 20 };

/* Bytes of files that the process has in memory. */
static long resident_file_bytes(void)
{
    long size, resident, shared;
    FILE *statm = fopen("/proc/self/statm", "r");

    assert_non_null(statm);
    assert_int_equal(fscanf(statm, "%ld %ld %ld", &size, &resident, &shared), 3);
    fclose(statm);
    return shared * sysconf(_SC_PAGESIZE);
}

static uint64_t sum_of(const struct qr_mapped_file *file)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < file->size; i += 512)
        sum += file->data[i];
    return sum;
}

static void memory_is_given_back_and_bytes_stay(void **state)
{
    (void)state;
    struct qr_temp_dir dir;
    struct qr_mapped_file file;
    char path[QR_TEMP_PATH_MAX + 16];
    unsigned char *bytes = malloc(FILE_BYTES);

    assert_non_null(bytes);
    for (size_t i = 0; i < FILE_BYTES; i++)
        bytes[i] = (unsigned char)(i / 512 * 7);
    qr_temp_dir_make(&dir);
    qr_temp_dir_write(&dir, "file", bytes, FILE_BYTES);
    free(bytes);
    snprintf(path, sizeof(path), "%s/file", dir.path);
    assert_int_equal(qr_mapped_file_open(path, &file, NULL), QR_OK);
    long before = resident_file_bytes();
    uint64_t sum = sum_of(&file);
    assert_true(resident_file_bytes() - before > FILE_BYTES / 2);

    qr_mapped_file_forget(&file, file.data + 100, FILE_BYTES - 100); /* not its first page */
    assert_true(resident_file_bytes() - before < FILE_BYTES / 16);
    assert_true(sum_of(&file) == sum && sum != 0);
    qr_mapped_file_close(&file);
    qr_temp_dir_remove(&dir);
}

static void other_memory_is_left_alone(void **state)
{
    (void)state;
    struct qr_temp_dir dir;
    struct qr_mapped_file file;
    struct qr_mapped_file none = {0};
    char path[QR_TEMP_PATH_MAX + 16];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *mine = aligned_alloc(page, 4 * page);

    assert_non_null(mine);
    memset(mine, 'x', 4 * page);
    qr_temp_dir_make(&dir);
    qr_temp_dir_write(&dir, "file", mine, 2 * page);
    snprintf(path, sizeof(path), "%s/file", dir.path);
    assert_int_equal(qr_mapped_file_open(path, &file, NULL), QR_OK);
    qr_mapped_file_forget(&file, mine, 4 * page); /* would be zeros afterwards */
    qr_mapped_file_forget(&none, mine, 4 * page);
    qr_mapped_file_forget(&file, file.data + page, 2 * page); /* beyond the end */
    for (size_t i = 0; i < 4 * page; i++)
        assert_int_equal(mine[i], 'x');
    assert_int_equal(file.data[2 * page - 1], 'x');
    free(mine);
    qr_mapped_file_close(&file);
    qr_temp_dir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_given_back_and_bytes_stay),
        cmocka_unit_test(other_memory_is_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
