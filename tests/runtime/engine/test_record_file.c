/* The file of a recording: what arrives, and how it ends when the disk does not keep up. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "base/log.h"
#include "runtime/engine/record_file.h"

static char folder[64];
static char path[128];
static char old_path[136];
static struct qr_buffer content;

static int make_folder(void **state)
{
    (void)state;
    qr_log_set_level(QR_LOG_OFF);
    snprintf(folder, sizeof(folder), "/tmp/quire_record_XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/run.rec", folder);
    snprintf(old_path, sizeof(old_path), "%s.old", path);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    unlink(old_path);
    rmdir(folder);
    qr_buffer_free(&content);
    return 0;
}

static struct qr_record_file *open_file(const char *name, int64_t max_bytes)
{
    struct qr_record_file *file;
    struct qr_error err = {""};

    assert_int_equal(qr_record_file_open(name, max_bytes, &file, &err), QR_OK);
    return file;
}

/* All that can be read now, appended to `content`; until the end of a file. */
static void read_some(int fd)
{
    char piece[8192];
    ssize_t n;

    while ((n = read(fd, piece, sizeof(piece))) > 0)
        assert_int_equal(qr_buffer_append(&content, piece, (size_t)n), QR_OK);
    assert_true(n == 0 || errno == EAGAIN);
}

static void read_path(const char *name)
{
    int fd = open(name, O_RDONLY);

    assert_true(fd >= 0);
    qr_buffer_clear(&content);
    read_some(fd);
    close(fd);
}

static void assert_mark(size_t offset, enum qr_record_end reason)
{
    uint8_t mark[QR_RECORD_END_BYTES];

    qr_record_end_mark(reason, mark);
    assert_int_equal(content.length, offset + sizeof(mark));
    assert_memory_equal(content.data + offset, mark, sizeof(mark));
}

static void all_bytes_arrive_in_order(void **state)
{
    (void)state;
    enum { N_WRITES = 20000 };
    size_t length = 0;

    struct qr_record_file *file = open_file(path, 0);
    struct qr_record_sink sink = qr_record_file_sink(file);
    for (uint32_t i = 0; i < N_WRITES; i++)
        assert_true(sink.write(sink.arg, &i, 1 + i % 4));
    qr_record_file_close(file);
    read_path(path);
    for (uint32_t i = 0; i < N_WRITES; i++) {
        assert_memory_equal(content.data + length, &i, 1 + i % 4);
        length += 1 + i % 4;
    }
    assert_int_equal(content.length, length); /* the mark is the recorder's when all went well */
}

static void only_the_owner_may_read_it(void **state)
{
    (void)state;
    struct stat info;

    qr_record_file_close(open_file(path, 0));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

static void an_older_recording_is_kept(void **state)
{
    (void)state;
    for (int i = 1; i <= 3; i++) {
        char text[2] = {(char)('0' + i), '\0'};
        struct qr_record_file *file = open_file(path, 0);
        struct qr_record_sink sink = qr_record_file_sink(file);
        assert_true(sink.write(sink.arg, text, 1));
        qr_record_file_close(file);
    }
    read_path(path);
    assert_string_equal(content.data, "3");
    read_path(old_path);
    assert_string_equal(content.data, "2");
}

static void the_bound_on_the_size_ends_it(void **state)
{
    (void)state;
    struct qr_record_file *file = open_file(path, 100);
    struct qr_record_sink sink = qr_record_file_sink(file);
    uint8_t bytes[30] = {7};

    for (int i = 0; i < 3; i++)
        assert_true(sink.write(sink.arg, bytes, sizeof(bytes)));
    assert_false(sink.write(sink.arg, bytes, sizeof(bytes)));
    assert_false(sink.write(sink.arg, bytes, 1)); /* a gap would be worse than the end */
    qr_record_file_close(file);
    read_path(path);
    assert_mark(90, QR_RECORD_END_LIMIT);
}

static void a_full_disk_ends_it(void **state)
{
    (void)state;
    struct qr_record_file *file = open_file("/dev/full", 0);
    struct qr_record_sink sink = qr_record_file_sink(file);
    bool goes_on = true;

    for (int i = 0; goes_on && i < 1000; i++) {
        goes_on = sink.write(sink.arg, "abc", 3);
        usleep(1000);
    }
    assert_false(goes_on);
    qr_record_file_close(file);
}

/* A pipe that nobody reads is a disk that does not answer. */
static void a_slow_disk_ends_it_without_waiting(void **state)
{
    (void)state;
    static uint8_t bytes[60000];
    size_t n_taken = 0;

    assert_int_equal(mkfifo(old_path, 0600), 0);
    int fd = open(old_path, O_RDWR | O_NONBLOCK);
    assert_true(fd >= 0);
    struct qr_record_file *file = open_file(old_path, 0);
    struct qr_record_sink sink = qr_record_file_sink(file);
    memset(bytes, 9, sizeof(bytes));
    while (sink.write(sink.arg, bytes, sizeof(bytes))) {
        n_taken += sizeof(bytes);
        assert_true(n_taken < 64 << 20);
    }
    assert_true(n_taken > 1 << 20);
    qr_buffer_clear(&content);
    while (content.length < n_taken + QR_RECORD_END_BYTES) { /* the disk comes back */
        read_some(fd);
        usleep(100);
    }
    qr_record_file_close(file);
    close(fd);
    assert_mark(n_taken, QR_RECORD_END_TOO_SLOW);
    for (size_t i = 0; i < n_taken; i++)
        assert_int_equal(content.data[i], 9);
}

static void a_place_that_is_not_there_is_named(void **state)
{
    (void)state;
    struct qr_record_file *file;
    struct qr_error err = {""};

    assert_int_equal(qr_record_file_open("/nowhere/run.rec", 0, &file, &err), QR_ERR_IO);
    assert_null(file);
    assert_string_equal(
        err.message,
        "/nowhere/run.rec: cannot be opened for a recording: No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_bytes_arrive_in_order, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(only_the_owner_may_read_it, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(an_older_recording_is_kept, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(the_bound_on_the_size_ends_it, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_full_disk_ends_it, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_slow_disk_ends_it_without_waiting, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_place_that_is_not_there_is_named, make_folder,
                                        remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
