/* test_numa.c - lists of nodes are read as Linux writes them, and memory is spread over nodes. */
#include "base/numa.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#if defined(__linux__)
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

static void lists_of_nodes_are_read(void **state)
{
    static const struct {
        const char *list;
        uint64_t nodes;
    } cases[] = {
        {"0", 1},
        {"0\n", 1},
        {"0-1\n", 3},
        {"0-1,3", 0xB},
        {"1,3-5", 0x3A},
        {"63", 1ull << 63},
        {"0-63", UINT64_MAX},
        {"", 0},
        {"\n", 0},
        {"64", 0},
        {"0-64", 0},
        {"3-1", 0},
        {"0,", 0},
        {"0-", 0},
        {"-1", 0},
        {"0 1", 0},
        {"99999999999999999999", 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_true(qr_numa_parse_nodes(cases[i].list) == cases[i].nodes);
}

/* On one node there is nothing to see but the policy that the system then has for the memory. */
static void pages_are_spread_over_the_nodes_that_are_named(void **state)
{
    enum { N_BYTES = 1 << 20 };
    char *memory = mmap(NULL, N_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t nodes = 0;
    int policy = -1;

    (void)state;
    assert_true(memory != MAP_FAILED);
    memset(memory, 7, N_BYTES);
    if (!qr_numa_spread(memory + 1, N_BYTES - 1, 1)) {
        assert_true(errno == EPERM || errno == ENOSYS);
        print_message("skipped: this system does not let memory be placed\n");
    } else {
        assert_int_equal(syscall(SYS_get_mempolicy, &policy, &nodes, QR_NUMA_MAX_NODES + 1,
                                 memory + N_BYTES / 2, MPOL_F_ADDR),
                         0);
        assert_int_equal(policy, MPOL_INTERLEAVE);
        assert_true(nodes == 1);
        /* The page of which a byte is not meant keeps its own. */
        assert_int_equal(syscall(SYS_get_mempolicy, &policy, NULL, 0, memory, MPOL_F_ADDR), 0);
        assert_int_equal(policy, MPOL_DEFAULT);
    }
    assert_true(qr_numa_nodes() == 0 || (qr_numa_nodes() & (qr_numa_nodes() - 1)) != 0);
    for (size_t i = 0; i < N_BYTES; i++)
        assert_int_equal(memory[i], 7);
    munmap(memory, N_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_of_nodes_are_read),
        cmocka_unit_test(pages_are_spread_over_the_nodes_that_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
