#include "runtime/swap/swap_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "tests/support/swap_rig.h"
#include "tests/support/temp_dir.h"

enum { SLOT_BYTES = 8192, N_SLOTS = 10, NOBODY = 65534 };

static struct qr_temp_dir dir;

static int make_dir(void **state)
{
    (void)state;
    qr_log_set_level(QR_LOG_ERROR);
    qr_temp_dir_make(&dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    qr_temp_dir_remove(&dir);
    return 0;
}

/* Opening fails with this status, names the folder, and leaves nothing open. */
static void expect_refusal(const char *path, int64_t slot_bytes, enum qr_status wanted,
                           const char *words)
{
    struct qr_swap_file file;
    struct qr_error err = {0};
    int n_files = qr_swap_rig_open_files();

    assert_int_equal(qr_swap_file_open(&file, path, slot_bytes, N_SLOTS, &err), wanted);
    assert_non_null(strstr(err.message, path));
    assert_non_null(strstr(err.message, words));
    assert_int_equal(file.fd, -1);
    assert_int_equal(qr_swap_rig_open_files(), n_files);
}

static void a_folder_that_cannot_be_used_is_named(void **state)
{
    (void)state;
    char path[QR_TEMP_PATH_MAX + 16];

    snprintf(path, sizeof(path), "%s/missing", dir.path);
    expect_refusal(path, SLOT_BYTES, QR_ERR_NOT_FOUND, "create it");
    qr_temp_dir_write(&dir, "file", "x", 1);
    snprintf(path, sizeof(path), "%s/file", dir.path);
    expect_refusal(path, SLOT_BYTES, QR_ERR_INVALID, "not a folder");
}

static void an_unwritable_folder_is_named(void **state)
{
    (void)state;

    assert_int_equal(chmod(dir.path, 0555), 0);
    if (geteuid() == 0) { /* who may write everywhere */
        assert_int_equal(seteuid(NOBODY), 0);
        expect_refusal(dir.path, SLOT_BYTES, QR_ERR_IO, "not writable");
        assert_int_equal(seteuid(0), 0);
    } else {
        expect_refusal(dir.path, SLOT_BYTES, QR_ERR_IO, "not writable");
    }
    assert_int_equal(chmod(dir.path, 0755), 0);
}

static void a_disk_without_room_is_left_as_it_was(void **state)
{
    (void)state;
    expect_refusal(dir.path, INT64_C(1) << 50, QR_ERR_IO, "want less");
    expect_refusal(dir.path, INT64_C(1) << 62, QR_ERR_IO, "want less");
}

/* Growing a file past this limit would be a signal, and the end of the process. */
static void a_limit_of_file_sizes_is_an_error(void **state)
{
    (void)state;
    struct rlimit before, limit;

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = N_SLOTS * SLOT_BYTES - 1;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    expect_refusal(dir.path, SLOT_BYTES, QR_ERR_IO, "ulimit -f");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
}

static int count_names(const char *path)
{
    int n = 0;
    DIR *listing = opendir(path);

    assert_non_null(listing);
    for (const struct dirent *entry; (entry = readdir(listing)) != NULL;)
        n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(listing);
    return n;
}

/* Its room is taken at once, and a crash would leave nothing. */
static void the_file_has_its_size_and_no_name(void **state)
{
    (void)state;
    struct qr_swap_file file;
    struct qr_error err = {0};
    struct stat st;
    int n_names = count_names(dir.path);

    assert_int_equal(qr_swap_file_open(&file, dir.path, SLOT_BYTES, N_SLOTS, &err), QR_OK);
    assert_int_equal(fstat(file.fd, &st), 0);
    assert_int_equal(st.st_size, N_SLOTS * SLOT_BYTES);
    assert_true(st.st_blocks * 512 >= N_SLOTS * SLOT_BYTES);
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(st.st_mode & 077, 0); /* KV holds what users wrote */
    assert_int_equal(count_names(dir.path), n_names);
    assert_int_equal((fcntl(file.fd, F_GETFL) & O_DIRECT) != 0, file.direct);
    qr_swap_file_close(&file);
    assert_int_equal(file.fd, -1);
    qr_swap_file_close(&file);
}

/* ---- other file systems, each in a mount namespace of its own ---- */

static int full_tmpfs(void)
{
    struct qr_swap_file file;
    struct qr_error err = {0};

    if (mount("none", dir.path, "tmpfs", 0, "size=64k") != 0)
        return EXIT_FAILURE;
    bool refused = qr_swap_file_open(&file, dir.path, SLOT_BYTES, N_SLOTS, &err) == QR_ERR_IO &&
                   strstr(err.message, "free") != NULL;
    bool fits = qr_swap_file_open(&file, dir.path, SLOT_BYTES, 8, &err) == QR_OK;
    qr_swap_file_close(&file);
    return refused && fits ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Knows neither its size nor how to set room aside. */
static int ramfs(void)
{
    struct qr_swap_file file;
    struct qr_error err = {0};

    if (mount("none", dir.path, "ramfs", 0, NULL) != 0)
        return EXIT_FAILURE;
    bool opened = qr_swap_file_open(&file, dir.path, SLOT_BYTES, N_SLOTS, &err) == QR_OK;
    qr_swap_file_close(&file);
    return opened ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int read_only(void)
{
    struct qr_swap_file file;
    struct qr_error err = {0};

    if (mount("none", dir.path, "tmpfs", MS_RDONLY, NULL) != 0)
        return EXIT_FAILURE;
    return qr_swap_file_open(&file, dir.path, SLOT_BYTES, N_SLOTS, &err) == QR_ERR_IO &&
                   strstr(err.message, "not writable") != NULL
               ? EXIT_SUCCESS
               : EXIT_FAILURE;
}

static void run_in_own_mounts(int (*test)(void))
{
    enum { NOT_PERMITTED = 77 };
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
            _exit(NOT_PERMITTED);
        _exit(test());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NOT_PERMITTED)
        print_message("skipped: no mount namespaces here\n");
    else
        assert_int_equal(WEXITSTATUS(status), EXIT_SUCCESS);
}

static void other_file_systems_are_used_or_refused(void **state)
{
    (void)state;
    run_in_own_mounts(full_tmpfs);
    run_in_own_mounts(ramfs);
    run_in_own_mounts(read_only);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_that_cannot_be_used_is_named),
        cmocka_unit_test(an_unwritable_folder_is_named),
        cmocka_unit_test(a_disk_without_room_is_left_as_it_was),
        cmocka_unit_test(a_limit_of_file_sizes_is_an_error),
        cmocka_unit_test(the_file_has_its_size_and_no_name),
        cmocka_unit_test(other_file_systems_are_used_or_refused),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
