#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cuda/cuda.h"
#include "base/cuda/emulator/emulator.h"
#include "tests/base/cuda/planted_bugs.h"

#if defined(__SANITIZE_ADDRESS__)
enum { UNDER_ASAN = true, UNDER_TSAN = false };
#elif defined(__SANITIZE_THREAD__)
enum { UNDER_ASAN = false, UNDER_TSAN = true };
#else
enum { UNDER_ASAN = false, UNDER_TSAN = false };
#endif

enum way {
    ABORTS,       /* with the message */
    WRONG_RESULT, /* in at least one schedule */
    RACES,        /* which only ThreadSanitizer sees */
    OVERRUNS,     /* AddressSanitizer's word, else the message */
};

static const struct {
    enum planted_bug bug;
    enum way way;
    const char *message;
} bugs[] = {
    {PLANTED_ASYNC_WAIT_OFF_BY_ONE, WRONG_RESULT, NULL},
    {PLANTED_NO_SYNC_BLOCK, WRONG_RESULT, NULL},
    {PLANTED_NO_SYNC_WARP, WRONG_RESULT, NULL},
    {PLANTED_NO_MBARRIER_WAIT, WRONG_RESULT, NULL},
    {PLANTED_PARITY_AHEAD, WRONG_RESULT, NULL},
    {PLANTED_UNINITIALISED_SHARED, WRONG_RESULT, NULL},
    {PLANTED_WGMMA_NO_WAIT, WRONG_RESULT, NULL},
    {PLANTED_WGMMA_OVERWRITTEN, WRONG_RESULT, NULL},
    {PLANTED_RACE_BETWEEN_BLOCKS, RACES, "data race"},
    {PLANTED_NO_FENCE, RACES, "data race"},
    {PLANTED_BULK_NEVER_ANNOUNCED, ABORTS, "deadlock"},
    {PLANTED_BULK_IN_FLIGHT, ABORTS, "the block ends with"},
    {PLANTED_ASYNC_IN_FLIGHT, ABORTS, "the thread ends with 1 qr_copy_async in flight"},
    {PLANTED_DIVERGENT_BARRIER, ABORTS, "deadlock: 64 threads"},
    {PLANTED_DIVERGENT_WARP, ABORTS, "from thread 16 on: qr_sync_block 0"},
    {PLANTED_DIFFERENT_FUNCTIONS, ABORTS, "meet in different functions"},
    {PLANTED_NAMED_BARRIER_COUNT, ABORTS, "barrier 3 of"},
    {PLANTED_NAMED_BARRIER_ID, ABORTS, "barrier 16"},
    {PLANTED_TOO_MANY_ARRIVALS, ABORTS, "more than 3 arrivals"},
    {PLANTED_MBARRIER_NOT_INITIALISED, ABORTS, "is not initialised"},
    {PLANTED_MBARRIER_OVERWRITTEN, ABORTS, "was overwritten"},
    {PLANTED_MBARRIER_TWICE, ABORTS, "initialised twice"},
    {PLANTED_NO_INIT_FENCE, ABORTS, "without qr_mbarrier_init_fence"},
    {PLANTED_MISALIGNED_LOAD, ABORTS, "qr_load_chunk: address"},
    {PLANTED_MISALIGNED_ASYNC, ABORTS, "qr_copy_async: address"},
    {PLANTED_MISALIGNED_BULK, ABORTS, "qr_bulk_copy: address"},
    {PLANTED_BULK_BYTES, ABORTS, "248 bytes"},
    {PLANTED_MISALIGNED_ROW, ABORTS, "qr_load_matrix_x4: address"},
    {PLANTED_ASYNC_TO_GLOBAL, ABORTS, "are not in the block's shared memory"},
    {PLANTED_STREAM_FROM_SHARED, ABORTS, "is shared memory"},
    {PLANTED_WGMMA_NO_FENCE, ABORTS, "no qr_wgmma_fence since the last wait"},
    {PLANTED_WGMMA_NO_SHARED_FENCE, ABORTS, "without qr_wgmma_fence_shared"},
    {PLANTED_WGMMA_SETTLED_EARLY, ABORTS, "products that add to these sums are in flight"},
    {PLANTED_WGMMA_OPERAND, ABORTS, "is not of qr_wgmma_operand"},
    {PLANTED_WGMMA_IN_FLIGHT, ABORTS, "the thread ends with 1 qr_wgmma in flight"},
    {PLANTED_PAST_SHARED, OVERRUNS, "past the block's 4096 bytes of shared memory"},
    {PLANTED_PAST_GLOBAL, OVERRUNS, "past 1024 bytes of device memory"},
    {PLANTED_READ_PAST_GLOBAL, OVERRUNS, NULL},
};

/* Seed i / 3, copies in the background as i % 3 says. */
enum { N_SCHEDULES = 12, SCHEDULE_STEP = UNDER_TSAN ? 4 : 1 };

enum { RIGHT = 0, WRONG = 3, FAILED = 4 }; /* how a child ends */

struct how {
    const char *kernel;
    int32_t bug;
    struct qr_emulator_settings settings;
    uint32_t shared_bytes, block_size;
    bool early;
    int32_t n_launches; /* of a kernel that counts them; 0: one of the others, once */
    bool host_address;
    bool dirty_padding; /* the last word of the parameters looks like an address of the host's */
};

/* The upper half of an address whose lower half is 0 and behind which something is mapped. */
static uint32_t upper_half_of_an_address(void)
{
    const uintptr_t span = (uintptr_t)1 << 32;
    char *mapped =
        mmap(NULL, 2 * span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return mapped == MAP_FAILED ? 0 : (uint32_t)(((uintptr_t)mapped + span - 1) / span);
}

/* In the child: the launch or the launches, and whether their result is right. */
static int run(const struct how *how)
{
    struct qr_cuda cuda;
    struct qr_cuda_kernel kernel;
    qr_emulator_set(&how->settings);
    if (qr_cuda_open(qr_cu_platform_emulated(), 0, &cuda, NULL) != QR_OK ||
        qr_cuda_find_kernel(&cuda, how->kernel, PLANTED_THREADS, PLANTED_SHARED, &kernel, NULL) !=
            QR_OK)
        return FAILED;
    kernel.shared_bytes = (int32_t)how->shared_bytes;
    kernel.block_size = (int32_t)how->block_size;
    cuda.launch_early = how->early;
    bool counts = how->n_launches > 0;
    uint32_t words[PLANTED_WORDS];
    for (uint32_t i = 0; i < PLANTED_WORDS; i++)
        words[i] = 1000 + i;
    qr_cu_address in = qr_cuda_alloc(&cuda, sizeof(words)),
                  out = qr_cuda_alloc(&cuda, sizeof(words));
    qr_cu_address counter = qr_cuda_alloc(&cuda, sizeof(int32_t));
    qr_cuda_copy_to_device(&cuda, "in", in, words, sizeof(words));
    qr_cuda_zero(&cuda, "counter", counter, sizeof(int32_t));
    struct qr_planted_params params = {
        .in = how->host_address ? words : (const uint32_t *)in,
        .out = (uint32_t *)out,
        .counter = (int32_t *)counter,
        .bug = how->bug,
    };
    uint32_t padding = how->dirty_padding ? upper_half_of_an_address() : 0;
    memcpy((char *)&params + sizeof(params) - sizeof(padding), &padding, sizeof(padding));
    if (counts)
        qr_cuda_zero(&cuda, "out", out, sizeof(words));
    for (int32_t i = 0; i < (counts ? how->n_launches : 1); i++)
        qr_cuda_launch(&cuda, &kernel, counts ? 1 : 2, 1, &params);
    qr_cuda_copy_to_host(&cuda, "out", words, out, sizeof(words));
    qr_cuda_synchronize(&cuda);
    if (qr_cuda_take_failure(&cuda, NULL) != QR_OK)
        return FAILED;
    qr_cuda_free(&cuda, in);
    qr_cuda_free(&cuda, out);
    qr_cuda_free(&cuda, counter);
    qr_cuda_close(&cuda);
    for (uint32_t i = 0; i < 128; i++)
        if (words[i] != (counts ? (uint32_t)how->n_launches : 1001 + i))
            return WRONG;
    return RIGHT;
}

/* The exit status of a child, -signal when it was killed, and what it wrote to stderr. */
static int run_in_child(const struct how *how, char *text, size_t size)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        int result = run(how);
        fflush(stderr);
        exit(result); /* not _exit: ThreadSanitizer's status is set at exit */
    }
    close(ends[1]);
    size_t n = 0;
    char rest[512];
    ssize_t got;
    while ((got = read(ends[0], n + 1 < size ? text + n : rest,
                       n + 1 < size ? size - 1 - n : sizeof(rest))) > 0)
        n += n + 1 < size ? (size_t)got : 0;
    text[n] = '\0';
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static struct how usual(const char *kernel, int32_t bug)
{
    return (struct how){.kernel = kernel,
                        .bug = bug,
                        .settings = qr_emulator_default_settings(),
                        .shared_bytes = PLANTED_SHARED,
                        .block_size = PLANTED_THREADS};
}

static char text[16384];

static void expect_death(const struct how *how, const char *message)
{
    int result = run_in_child(how, text, sizeof(text));
    if (result == RIGHT || result == FAILED || strstr(text, message) == NULL)
        fail_msg("bug %d: exit %d without \"%s\":\n%s", how->bug, result, message, text);
}

static bool is_wrong_in_some_schedule(enum planted_bug bug)
{
    for (int i = 0; i < N_SCHEDULES; i += SCHEDULE_STEP) {
        struct how how = usual("qr_planted_bug", (int32_t)bug);
        how.settings.seed = (uint64_t)(i / 3);
        how.settings.async = (enum qr_emulator_async)(i % 3);
        int result = run_in_child(&how, text, sizeof(text));
        if (result == WRONG || (UNDER_TSAN && strstr(text, "data race") != NULL))
            return true;
        if (result != RIGHT)
            fail_msg("bug %d, schedule %d: exit %d\n%s", bug, i, result, text);
    }
    return false;
}

static void every_planted_bug_is_caught(void **state)
{
    (void)state;
    assert_int_equal(sizeof(bugs) / sizeof(bugs[0]), PLANTED_COUNT - 1);
    for (size_t i = 0; i < sizeof(bugs) / sizeof(bugs[0]); i++) {
        struct how how = usual("qr_planted_bug", (int32_t)bugs[i].bug);
        switch (bugs[i].way) {
        case ABORTS:
            expect_death(&how, bugs[i].message);
            break;
        case WRONG_RESULT:
            if (!is_wrong_in_some_schedule(bugs[i].bug))
                fail_msg("bug %d gives right results in every schedule", bugs[i].bug);
            break;
        case RACES:
            if (UNDER_TSAN)
                expect_death(&how, bugs[i].message);
            break;
        case OVERRUNS:
            if (UNDER_ASAN)
                expect_death(&how, "AddressSanitizer");
            else if (bugs[i].message != NULL)
                expect_death(&how, bugs[i].message);
            break;
        }
    }
}

static void kernels_without_a_mistake_pass(void **state)
{
    (void)state;
    for (int bug = 0; bug >= -4; bug--)
        for (int i = 0; i < N_SCHEDULES; i += SCHEDULE_STEP) {
            struct how how = usual("qr_planted_none", bug);
            how.settings.seed = (uint64_t)(i / 3);
            how.settings.async = (enum qr_emulator_async)(i % 3);
            how.settings.n_workers = 1 + i % 2;
            /* The two blocks write the same values: a race all the same. */
            if (UNDER_TSAN)
                how.settings.n_workers = bug == -3 ? 2 : 1;
            int result = run_in_child(&how, text, sizeof(text));
            if (result != RIGHT)
                fail_msg("kernel %d, schedule %d: exit %d\n%s", bug, i, result, text);
        }
}

static void launches_that_a_gpu_refuses_are_caught(void **state)
{
    (void)state;
    struct how how = usual("qr_planted_none", 0);
    how.shared_bytes = PLANTED_SHARED + 16;
    expect_death(&how, "4112 bytes of shared memory, 4096 are allowed");

    how = usual("qr_planted_none", 0);
    how.block_size = 100;
    expect_death(&how, "not whole warps");

    how = usual("qr_planted_none", 0);
    how.host_address = true;
    expect_death(&how, "the parameter at byte 0 is an address of host memory");

    how = usual("qr_planted_none", 0);
    how.dirty_padding = true;
    how.settings.n_workers = 1; /* its two blocks write the same values: a race */
    assert_int_equal(run_in_child(&how, text, sizeof(text)), RIGHT);

    how = usual("qr_planted_none", 0);
    how.early = true;
    expect_death(&how, "qr_wait_for_previous_kernel is never called");

    how = usual("qr_planted_none", -1);
    how.settings.capability = 80;
    expect_death(&how, "compute capability 8.0 has none");
    how = usual("qr_planted_none", -4);
    how.settings.capability = 80;
    expect_death(&how, "qr_wgmma: a device of compute capability 8.0 has none");
}

static void reading_ahead_of_the_wait_is_caught(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 2; seed++) { /* one pair of launches between two alone; two */
        struct how how = usual("qr_planted_early", 0);
        how.n_launches = 4;
        how.early = true;
        how.settings.seed = seed;
        how.settings.late_streams = true;
        assert_int_equal(run_in_child(&how, text, sizeof(text)), RIGHT);
        how.bug = 1;
        int result = run_in_child(&how, text, sizeof(text));
        if (result != WRONG && !(UNDER_TSAN && strstr(text, "data race") != NULL))
            fail_msg("seed %d: exit %d\n%s", (int)seed, result, text);
    }
}

static void a_message_says_where(void **state)
{
    (void)state;
    struct how how = usual("qr_planted_bug", PLANTED_NAMED_BARRIER_ID);
    how.settings.n_workers = 1;
    expect_death(&how, "CUDA emulator: kernel qr_planted_bug, block (0, 0), thread 0: ");
    how = usual("qr_planted_bug", PLANTED_DIVERGENT_BARRIER);
    expect_death(&how, "from thread 0 on: qr_sync_block 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_without_a_mistake_pass),
        cmocka_unit_test(every_planted_bug_is_caught),
        cmocka_unit_test(reading_ahead_of_the_wait_is_caught),
        cmocka_unit_test(launches_that_a_gpu_refuses_are_caught),
        cmocka_unit_test(a_message_says_where),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
