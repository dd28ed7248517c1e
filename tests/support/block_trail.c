/* block_trail.c - see block_trail.h. */
#include "tests/support/block_trail.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { N_KEPT = 1 << 16 };

struct operation {
    const char *what;
    int32_t a;
    int32_t b;
};

static struct operation operations[N_KEPT]; /* operation n is at n % N_KEPT */
static int64_t n_operations;

static void print_trail(void)
{
    int64_t first = n_operations > N_KEPT ? n_operations - N_KEPT : 0;

    if (getenv("QUIRE_WHOLE_TRAIL") == NULL && n_operations - first > 400)
        first = n_operations - 400;
    fprintf(stderr, "operations %lld to %lld:\n", (long long)first, (long long)n_operations);
    for (int64_t n = first; n < n_operations; n++) {
        const struct operation *op = &operations[n % N_KEPT];
        fprintf(stderr, " %s(%d,%d)", op->what, op->a, op->b);
    }
    fprintf(stderr, "\n");
}

static void on_abort(int signal_number)
{
    signal(signal_number, SIG_DFL);
    print_trail();
    raise(signal_number);
}

void block_trail_start(void)
{
    n_operations = 0;
    signal(SIGABRT, on_abort);
}

void block_trail_add(const char *what, int32_t a, int32_t b)
{
    operations[n_operations++ % N_KEPT] = (struct operation){.what = what, .a = a, .b = b};
}

int64_t block_trail_length(void)
{
    return n_operations;
}

void block_trail_cut(int64_t length)
{
    n_operations = length;
}

void block_trail_fail(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    print_trail();
    fail();
    abort(); /* not reached: fail() jumps */
}
