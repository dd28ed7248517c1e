#include "runtime/swap/swapper.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "base/log.h"
#include "tests/support/swap_rig.h"
#include "tests/support/temp_dir.h"

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

static struct qr_swap_rig_config usual_config(void)
{
    return (struct qr_swap_rig_config){.page_bytes = 1000,
                                       .n_pages = 1,
                                       .host_slots = 2,
                                       .disk_slots = 2,
                                       .max_transfers = 2,
                                       .dir = dir.path};
}

static enum qr_status try_once(const struct qr_swap_rig_config *config, struct qr_error *err)
{
    struct qr_swap_rig rig;
    enum qr_status status = qr_swap_rig_try(&rig, config, err);

    assert_int_equal(status == QR_OK, rig.swapper != NULL);
    qr_swap_rig_free(&rig);
    return status;
}

static void expect_refusal(struct qr_swap_rig_config config, enum qr_status wanted,
                           const char *words)
{
    struct qr_error err = {0};
    int n_files = qr_swap_rig_open_files();
    uint64_t n_bytes = qr_arena_bytes(QR_ARENA_ENGINE);

    assert_int_equal(try_once(&config, &err), wanted);
    assert_non_null(strstr(err.message, words));
    assert_int_equal(qr_swap_rig_open_files(), n_files);
    assert_int_equal(qr_arena_bytes(QR_ARENA_ENGINE), n_bytes);
}

static void fields_out_of_range_are_named(void **state)
{
    (void)state;
    struct qr_swap_rig_config config = usual_config();
    struct qr_error err;

    assert_int_equal(try_once(&config, &err), QR_OK);
    assert_string_equal(err.message, "");
    config.host_slots = -1;
    expect_refusal(config, QR_ERR_INVALID, "-1 slots");
    config.host_slots = config.disk_slots = 0;
    expect_refusal(config, QR_ERR_INVALID, "no tier has slots");
    config = usual_config();
    config.max_transfers = 0;
    expect_refusal(config, QR_ERR_INVALID, "max_transfers is 0");
    config = usual_config();
    config.dir = NULL;
    expect_refusal(config, QR_ERR_INVALID, "needs a folder");
    config.disk_slots = 0;
    assert_int_equal(try_once(&config, &err), QR_OK);

    struct qr_swapper *swapper;
    const size_t sizes[] = {0, ((size_t)1 << 30) + 1};
    for (size_t i = 0; i < 2; i++) {
        const struct qr_swapper_config bad = {
            .page_bytes = sizes[i], .tier_slots = {1, 0}, .max_transfers = 1};
        assert_int_equal(qr_swapper_create(&bad, &swapper, &err), QR_ERR_INVALID);
        assert_null(swapper);
        assert_non_null(strstr(err.message, "page_bytes"));
        assert_int_equal(qr_swapper_create(&bad, &swapper, NULL), QR_ERR_INVALID);
    }
}

static void a_tier_that_cannot_be_made_is_named(void **state)
{
    (void)state;
    struct qr_swap_rig_config config = usual_config();

    config.dir = "/no/such/folder";
    expect_refusal(config, QR_ERR_NOT_FOUND, "'/no/such/folder'");
    config = usual_config();
    config.page_bytes = (size_t)1 << 20;
    config.host_slots = 1 << 26; /* 64 TiB */
    expect_refusal(config, QR_ERR_NOMEM, "swap memory");
    config.host_slots = 1;
    config.disk_slots = 1 << 26;
    expect_refusal(config, QR_ERR_IO, dir.path);
}

/* ---- when what create needs runs out, at every point ---- */

static int first_free_descriptor(void)
{
    int fd = dup(STDERR_FILENO);
    assert_true(fd >= 0);
    close(fd);
    return fd;
}

static void descriptors_run_out_at_every_point(void **state)
{
    (void)state;
    struct qr_swap_rig_config config = usual_config();
    struct rlimit before, limit;
    struct qr_error err;
    int n_files = qr_swap_rig_open_files(), n_failed = 0;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (int room = 0; room < 6; room++) {
        limit = before;
        limit.rlim_cur = (rlim_t)(first_free_descriptor() + room);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        enum qr_status status = try_once(&config, &err);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_true(status == QR_OK || status == QR_ERR_IO);
        assert_true(status == QR_OK || err.message[0] != '\0');
        n_failed += status != QR_OK;
        assert_int_equal(qr_swap_rig_open_files(), n_files);
    }
    assert_true(n_failed >= 2); /* the eventfd, the file; without a ring it goes on */
    assert_int_equal(try_once(&config, &err), QR_OK);
}

#ifdef QUIRE_JEMALLOC

#include <dlfcn.h>
#include <jemalloc/jemalloc.h>

static atomic_int allocations_left = INT32_MAX;

/* In the place of the library's: runs out of memory on demand. */
void *mallocx(size_t size, int flags)
{
    static void *(*original)(size_t, int);

    if (atomic_fetch_sub(&allocations_left, 1) <= 0)
        return NULL;
    if (original == NULL)
        *(void **)&original = dlsym(RTLD_NEXT, "mallocx");
    return original(size, flags);
}

static void memory_runs_out_at_every_point(void **state)
{
    (void)state;
    struct qr_swap_rig_config config = usual_config();
    struct qr_error err;
    enum qr_status status = QR_ERR_NOMEM;
    int n_files = qr_swap_rig_open_files(), n_failed = 0;
    uint64_t n_bytes = qr_arena_bytes(QR_ARENA_ENGINE);

    while (status != QR_OK) {
        atomic_store(&allocations_left, n_failed);
        status = try_once(&config, &err);
        atomic_store(&allocations_left, INT32_MAX);
        if (status != QR_OK) {
            assert_int_equal(status, QR_ERR_NOMEM);
            assert_true(err.message[0] != '\0');
            n_failed++;
        }
        assert_int_equal(qr_swap_rig_open_files(), n_files);
        assert_int_equal(qr_arena_bytes(QR_ARENA_ENGINE), n_bytes);
    }
    assert_true(n_failed > 10);
}

#else

static void memory_runs_out_at_every_point(void **state)
{
    (void)state;
    print_message("skipped: the sanitizer has an allocator of its own\n");
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fields_out_of_range_are_named),
        cmocka_unit_test(a_tier_that_cannot_be_made_is_named),
        cmocka_unit_test(descriptors_run_out_at_every_point),
        cmocka_unit_test(memory_runs_out_at_every_point),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
