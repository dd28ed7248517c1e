/*
 * Containers often refuse io_uring by a seccomp filter; so does each test here, in a
 * process of its own, because a filter stays for good.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "runtime/swap/swapper_faults.h"
#include "tests/support/swap_rig.h"
#include "tests/support/temp_dir.h"

enum { N = 40, PAGE_BYTES = 5000, NOT_PERMITTED = 77 };

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

/* From now on this system call fails in all threads of the process. */
static bool refuse(unsigned call, unsigned error)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = sizeof(program) / sizeof(program[0]), .filter = program};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter) == 0;
}

static bool make_rig(struct qr_swap_rig *rig)
{
    return qr_swap_rig_try(rig,
                           &(struct qr_swap_rig_config){.page_bytes = PAGE_BYTES,
                                                        .n_pages = 2 * N,
                                                        .disk_slots = N,
                                                        .max_transfers = N,
                                                        .dir = dir.path},
                           NULL) == QR_OK;
}

/* All at once; how many went well. */
static int32_t move_all(struct qr_swap_rig *rig, bool out)
{
    struct qr_transfer transfers[N];
    struct qr_transfer_result results[N];
    int32_t n_ok = 0;

    for (int32_t i = 0; i < N; i++)
        transfers[i] = (struct qr_transfer){
            .id = i, .tier = QR_TIER_DISK, .out = out, .page = out ? i : N + i, .slot = i};
    qr_swapper_submit(rig->swapper, transfers, N);
    for (int32_t left = N; left > 0;) {
        int32_t n = qr_swap_rig_wait(rig, results, N);
        for (int32_t i = 0; i < n; i++)
            n_ok += results[i].ok;
        left -= n;
    }
    return n_ok;
}

static bool round_trip_works(struct qr_swap_rig *rig, uint64_t seed)
{
    for (int32_t i = 0; i < N; i++)
        qr_swap_rig_fill(rig, i, seed + (uint64_t)i);
    if (move_all(rig, true) != N || move_all(rig, false) != N)
        return false;
    for (int32_t i = 0; i < N; i++) {
        if (!qr_swap_rig_holds(rig, N + i, seed + (uint64_t)i))
            return false;
    }
    return true;
}

static bool uses_uring(const struct qr_swap_rig *rig)
{
    struct qr_swapper_stats stats;
    qr_swapper_get_stats(rig->swapper, &stats);
    return stats.disk_uring;
}

static int run_under_filter(unsigned call, unsigned error)
{
    struct qr_swap_rig rig;
    struct qr_swap_fault fault = {.kind = QR_SWAP_FAULT_CORRUPT, .first = 3, .period = 10};

    if (!refuse(call, error))
        return NOT_PERMITTED;
    bool ok = make_rig(&rig) && !uses_uring(&rig) && round_trip_works(&rig, 1) &&
              round_trip_works(&rig, 100);
    if (ok) {
        qr_swapper_set_fault(rig.swapper, QR_TIER_DISK, false, &fault);
        ok = move_all(&rig, true) == N && move_all(&rig, false) == N - 4;
        move_all(&rig, true); /* to be dropped */
    }
    qr_swap_rig_free(&rig);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int refused_by_setup(void)
{
    return run_under_filter(SYS_io_uring_setup, EPERM);
}

static int not_in_the_kernel(void)
{
    return run_under_filter(SYS_io_uring_setup, ENOSYS);
}

static int refused_by_register(void)
{
    return run_under_filter(SYS_io_uring_register, EPERM);
}

static int refused_by_enter(void)
{
    return run_under_filter(SYS_io_uring_enter, EPERM);
}

static int refused_while_it_runs(void)
{
    struct qr_swap_rig rig;

    bool ok = make_rig(&rig) && round_trip_works(&rig, 1);
    if (ok && !uses_uring(&rig))
        return NOT_PERMITTED; /* there is none to lose */
    if (ok && !refuse(SYS_io_uring_enter, EPERM))
        return NOT_PERMITTED;
    ok = ok && round_trip_works(&rig, 2) && !uses_uring(&rig) && round_trip_works(&rig, 3);
    qr_swap_rig_free(&rig);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void run_in_child(int (*test)(void))
{
    int status;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0)
        _exit(test());
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NOT_PERMITTED)
        print_message("skipped: no seccomp filters, or no io_uring, here\n");
    else
        assert_int_equal(WEXITSTATUS(status), EXIT_SUCCESS);
}

static void pages_move_where_io_uring_is_refused(void **state)
{
    (void)state;
    run_in_child(refused_by_setup);
    run_in_child(not_in_the_kernel);
    run_in_child(refused_by_register);
    run_in_child(refused_by_enter);
}

static void pages_move_when_io_uring_is_lost(void **state)
{
    (void)state;
    run_in_child(refused_while_it_runs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_move_where_io_uring_is_refused),
        cmocka_unit_test(pages_move_when_io_uring_is_lost),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
