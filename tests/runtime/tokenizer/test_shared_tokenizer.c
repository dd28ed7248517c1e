/*
 * test_shared_tokenizer.c - threads that encode with one tokenizer, and note in it which tokens
 * their own text becomes, get what one thread gets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/thread_pool.h"
#include "tests/support/tokenizers.h"

enum { N_THREADS = 3, N_ROUNDS = 60 };

static const char text[] = "hello hell he w  aaaaaaaa aaaa aa hellohello w8 wa ll lll hello aaa";

struct job {
    const struct qr_tokenizer *tok;
    const struct qr_token_ids *expected;
    _Atomic int n_equal;
};

static struct qr_token_ids encode(const struct qr_tokenizer *tok)
{
    const struct qr_encode_options options = {.add_bos = false};
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};

    assert_int_equal(qr_tokenizer_encode(tok, text, strlen(text), &options, &ids, NULL), QR_OK);
    return ids;
}

static void encode_again(void *arg, int64_t first, int64_t last, int32_t worker)
{
    struct job *job = arg;

    (void)worker;
    for (int64_t i = first; i < last; i++) {
        struct qr_token_ids ids = encode(job->tok);
        job->n_equal += ids.count == job->expected->count &&
                        memcmp(ids.ids, job->expected->ids, ids.count * sizeof(*ids.ids)) == 0;
        qr_token_ids_free(&ids);
    }
}

static void threads_agree(void **state)
{
    struct qr_tokenizer *alone = tiny_tokenizer("{}");
    struct qr_token_ids expected = encode(alone);
    struct qr_thread_pool *pool;

    (void)state;
    assert_int_equal(qr_thread_pool_create(N_THREADS, &pool), QR_OK);
    for (int round = 0; round < N_ROUNDS; round++) {
        struct qr_tokenizer *shared = tiny_tokenizer("{}");
        struct job job = {.tok = shared, .expected = &expected};
        qr_thread_pool_run(pool, N_THREADS * 2, 1, encode_again, &job);
        assert_int_equal(job.n_equal, N_THREADS * 2);
        qr_tokenizer_close(shared);
    }
    qr_thread_pool_destroy(pool);
    qr_token_ids_free(&expected);
    qr_tokenizer_close(alone);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
