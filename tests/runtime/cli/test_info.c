/* test_info.c - what `quire info` prints of models, and that a large file costs it no time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/cli/commands.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/testdata.h"

enum { OUTPUT_MAX = 8192 };

/* Runs the command with standard output into out[OUTPUT_MAX]; returns its exit code. */
static int run_info(const char *path, const char *kv_memory, char *out)
{
    char *argv[] = {"info", "--kv-memory", (char *)(uintptr_t)kv_memory, (char *)(uintptr_t)path,
                    NULL};
    FILE *file = tmpfile();
    int saved = dup(STDOUT_FILENO);

    assert_true(file != NULL && saved >= 0);
    fflush(stdout);
    dup2(fileno(file), STDOUT_FILENO);
    int code = qr_cmd_info(4, argv);
    fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    close(saved);
    rewind(file);
    size_t n = fread(out, 1, OUTPUT_MAX - 1, file);
    out[n] = '\0';
    fclose(file);
    return code;
}

/* The words of the line that begins with `name`, one space apart. */
static void assert_line(const char *output, const char *name, const char *wanted)
{
    char line[256] = "";
    const char *at = output;

    while (at != NULL && strncmp(at, name, strlen(name)) != 0) {
        at = strchr(at, '\n');
        at = at != NULL ? at + 1 : NULL;
    }
    for (size_t n = 0; at != NULL && *at != '\n' && *at != '\0' && n < sizeof(line) - 1; at++)
        if (*at != ' ' || (n > 0 && line[n - 1] != ' '))
            line[n++] = *at;
    if (strcmp(line, wanted) != 0)
        fail_msg("\"%s\" instead of \"%s\"", line, wanted);
}

static void real_configs_are_described(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *parameters;
        const char *kv;
        const char *fit; /* of the longest sequence, in 8 GiB */
    } models[] = {
        {"configs/llama-2-7b-hf.config.json", "parameters 6738415616 (6.74 billion)",
         "16-bit 512.0 KiB 8.0 MiB", "4096 4 2"},
        {"configs/gpt2.config.json", "parameters 124439808 (124.4 million)",
         "16-bit 36.0 KiB 576.0 KiB", "1024 227 113"},
        {"configs/mixtral-8x7b.config.json", "parameters 46702792704 (46.70 billion)",
         "16-bit 128.0 KiB 2.0 MiB", "32768 2 1"},
        {"configs/qwen3-30b-a3b-moe.config.json", "parameters 30532122624 (30.53 billion)",
         "16-bit 96.0 KiB 1.5 MiB", "262144 0 0"},
        {"configs/qwen2-1.5b-instruct.config.json", "parameters 1543714304 (1.54 billion)",
         "16-bit 28.0 KiB 448.0 KiB", "32768 9 4"},
        {"stories260k/stories260K.gguf", "parameters 292800", "16-bit 640 B 10.0 KiB",
         "2048 6553 3276"},
    };
    char output[OUTPUT_MAX];

    for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
        char relative[128], path[QR_TEST_PATH_MAX], longest[16];
        snprintf(relative, sizeof(relative), "models/%s", models[i].name);
        if (!qr_testdata(relative, path))
            return;
        assert_int_equal(run_info(path, "8GiB", output), QR_EXIT_OK);
        assert_line(output, "parameters", models[i].parameters);
        assert_line(output, "16-bit", models[i].kv);
        snprintf(longest, sizeof(longest), "%.*s ", (int)strcspn(models[i].fit, " "),
                 models[i].fit);
        assert_line(output, longest, models[i].fit);
    }
}

/* Matrices of a model of 8 billion parameters, and a vocabulary of 128 thousand; no data. */
static void write_large(const struct qr_temp_dir *dir, char *path, size_t path_size)
{
    enum { HIDDEN = 4096, INNER = 14336, LAYERS = 32, VOCAB = 128256 };
    static const char *const parts[] = {"attn_q", "attn_output", "ffn_gate", "ffn_up"};
    struct gguf_builder gguf = {0};
    struct qr_buffer tokens = {0};
    uint64_t offset = 0;

    gguf_add_string(&gguf, "general.architecture", "llama");
    gguf_add_u32(&gguf, "llama.context_length", 8192);
    gguf_add_u32(&gguf, "llama.embedding_length", HIDDEN);
    gguf_add_u32(&gguf, "llama.block_count", LAYERS);
    gguf_add_u32(&gguf, "llama.feed_forward_length", INNER);
    gguf_add_u32(&gguf, "llama.attention.head_count", 32);
    for (uint64_t i = 0; i < VOCAB; i++) {
        const uint64_t length = 6;
        assert_int_equal(qr_buffer_append(&tokens, &length, sizeof(length)), QR_OK);
        assert_int_equal(qr_buffer_append(&tokens, "token.", (size_t)length), QR_OK);
    }
    gguf_add_array(&gguf, "tokenizer.ggml.tokens", QR_GGUF_STRING, VOCAB, tokens.data,
                   tokens.length);
    for (int32_t layer = 0; layer < LAYERS; layer++) {
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
            const int64_t dims[] = {i < 2 ? HIDDEN : INNER, HIDDEN};
            char name[64];
            snprintf(name, sizeof(name), "blk.%d.%s.weight", layer, parts[i]);
            gguf_add_entry(&gguf, name, gguf_type_of(QR_DTYPE_F16), 2, dims, offset);
            offset += (uint64_t)(2 * dims[0] * dims[1]);
        }
    }
    gguf_write(&gguf, dir, "large.gguf");
    snprintf(path, path_size, "%s/large.gguf", dir->path);
    struct qr_buffer file = {0};
    gguf_build(&gguf, &file);
    assert_int_equal(truncate(path, (off_t)(file.length + offset)), 0); /* holes for the data */
    qr_buffer_free(&file);
    qr_buffer_free(&tokens);
    gguf_free(&gguf);
}

static void a_large_file_takes_no_time(void **state)
{
    (void)state;
    enum { LIMIT_MS = 50 };
    struct qr_temp_dir dir;
    char path[QR_TEMP_PATH_MAX + 16], output[OUTPUT_MAX];

    qr_temp_dir_make(&dir);
    write_large(&dir, path, sizeof(path));
    double best = 1e9; /* of three: a busy machine takes longer at times */
    for (int i = 0; i < 3; i++) {
        clock_t before = clock();
        assert_int_equal(run_info(path, "1GiB", output), QR_EXIT_OK);
        double ms = (double)(clock() - before) * 1e3 / CLOCKS_PER_SEC;
        best = ms < best ? ms : best;
    }
    assert_line(output, "weights", "weights 9.0 GiB, F16");
    assert_true(best < LIMIT_MS);
    qr_temp_dir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_configs_are_described),
        cmocka_unit_test(a_large_file_takes_no_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
