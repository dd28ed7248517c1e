/*
 * test_kept_weights.c - every architecture with matrices that the CPU keeps on disk: loaded,
 * written and mapped they give the same logits, with ==; and files that have changed are read
 * again, however alike they look.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mapped_file.h"
#include "runtime/weights/checkpoint.h"
#include "tests/support/architecture_fixtures.h"
#include "tests/support/gguf_model.h"
#include "tests/support/temp_dir.h"

enum { CHUNK = 5 };

static struct qr_temp_dir cache;

static int set_up(void **state)
{
    (void)state;
    qr_temp_dir_make(&cache);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    qr_temp_dir_remove(&cache);
    return 0;
}

/* Logits of the fixture's tokens; for the caller to free(). */
static float *run(const char *model, const struct architecture_fixture *fixture,
                  enum qr_quantize quantize, bool kept)
{
    const struct qr_device_config config = {
        .n_threads = 2, .quantize = quantize, .weights_cache = kept ? cache.path : NULL};
    struct model_rig rig;

    model_rig_open_as(&rig, model, "cpu", &config);
    float *logits = calloc(MODEL_RIG_TOKENS * (size_t)rig.vocab_size, sizeof(*logits));
    assert_non_null(logits);
    model_rig_run(&rig, fixture->ids, fixture->n_tokens, CHUNK, logits);
    model_rig_close(&rig);
    return logits;
}

static void check_model(const char *model, const struct architecture_fixture *fixture)
{
    static const enum qr_quantize kinds[] = {QR_QUANTIZE_NONE, QR_QUANTIZE_Q8_0};
    size_t n_bytes = fixture->n_floats * sizeof(float);

    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        float *plain = run(model, fixture, kinds[k], false);
        for (int start = 0; start < 2; start++) {
            float *found = run(model, fixture, kinds[k], true);
            assert_memory_equal(found, plain, n_bytes);
            free(found);
        }
        free(plain);
    }
}

static void kept_matrices_give_the_same_logits(void **state)
{
    (void)state;
    for (int i = 0; architecture_fixture_names[i] != NULL; i++) {
        struct architecture_fixture fixture;
        architecture_fixture_load(architecture_fixture_names[i], &fixture);
        check_model(fixture.dir, &fixture);
        free(fixture.logits);
    }
}

/* Whose tensors a file has in another form. */
static void kept_matrices_of_gguf_files_give_the_same_logits(void **state)
{
    static const char *const names[] = {"llama", "gpt2", "phi3", "gemma2", "qwen3-moe"};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct architecture_fixture fixture;
        struct gguf_builder gguf = {0};
        char path[QR_TEMP_PATH_MAX + 16];
        architecture_fixture_load(names[i], &fixture);
        gguf_from_model(fixture.dir, &gguf);
        snprintf(path, sizeof(path), "%s/m.gguf", cache.path);
        gguf_write(&gguf, &cache, "m.gguf");
        gguf_free(&gguf);
        check_model(path, &fixture);
        free(fixture.logits);
    }
}

static void get_id(const char *dir, uint8_t id[QR_CHECKPOINT_ID_BYTES])
{
    struct qr_checkpoint *checkpoint;
    struct qr_error err = {""};

    assert_int_equal(qr_checkpoint_open(dir, &checkpoint, &err), QR_OK);
    assert_true(qr_checkpoint_identify(checkpoint, id));
    assert_true(qr_checkpoint_is_unchanged(checkpoint));
    qr_checkpoint_close(checkpoint);
}

static void copy_file(const struct qr_temp_dir *to, const char *from, const char *name)
{
    char path[1024];
    struct qr_mapped_file file;
    struct qr_error err = {""};

    snprintf(path, sizeof(path), "%s/%s", from, name);
    assert_int_equal(qr_mapped_file_open(path, &file, &err), QR_OK);
    qr_temp_dir_write(to, name, file.data, file.size);
    qr_mapped_file_close(&file);
}

/* Flips bits of one byte and sets the time of writing back. */
static void change_byte(const char *path, off_t at)
{
    struct stat st;
    uint8_t byte;
    int fd = open(path, O_RDWR);

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x40;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    const struct timespec times[] = {st.st_atim, st.st_mtim};
    assert_int_equal(futimens(fd, times), 0);
    close(fd);
}

static void a_file_that_was_written_to_is_read_again(void **state)
{
    (void)state;
    struct architecture_fixture fixture;
    struct qr_temp_dir model;
    struct qr_checkpoint *checkpoint;
    struct qr_error err = {""};
    char path[QR_TEMP_PATH_MAX + 32];
    uint8_t first[QR_CHECKPOINT_ID_BYTES], second[QR_CHECKPOINT_ID_BYTES];
    struct stat st;

    architecture_fixture_load("llama", &fixture);
    qr_temp_dir_make(&model);
    copy_file(&model, fixture.dir, "config.json");
    copy_file(&model, fixture.dir, "model.safetensors");
    free(run(model.path, &fixture, QR_QUANTIZE_Q8_0, true));
    get_id(model.path, first);
    get_id(model.path, second);
    assert_memory_equal(first, second, sizeof(first));

    snprintf(path, sizeof(path), "%s/model.safetensors", model.path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(qr_checkpoint_open(model.path, &checkpoint, &err), QR_OK);
    usleep(20000); /* longer than the file system's clock takes for a tick */
    change_byte(path, st.st_size - 1000);
    assert_false(qr_checkpoint_is_unchanged(checkpoint));
    qr_checkpoint_close(checkpoint);
    get_id(model.path, second);
    assert_memory_not_equal(first, second, sizeof(first));
    float *wanted = run(model.path, &fixture, QR_QUANTIZE_Q8_0, false);
    float *found = run(model.path, &fixture, QR_QUANTIZE_Q8_0, true);
    assert_memory_equal(found, wanted, fixture.n_floats * sizeof(float));
    free(found);
    free(wanted);
    free(fixture.logits);
    qr_temp_dir_remove(&model);
}

static void synthetic_weights_have_no_identity(void **state)
{
    (void)state;
    struct qr_checkpoint *checkpoint;
    struct qr_error err = {""};
    uint8_t id[QR_CHECKPOINT_ID_BYTES];

    assert_int_equal(qr_checkpoint_open_synthetic("s", QR_DTYPE_F32, false, &checkpoint, &err),
                     QR_OK);
    assert_false(qr_checkpoint_identify(checkpoint, id));
    qr_checkpoint_close(checkpoint);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(kept_matrices_give_the_same_logits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(kept_matrices_of_gguf_files_give_the_same_logits, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_was_written_to_is_read_again, set_up,
                                        tear_down),
        cmocka_unit_test(synthetic_weights_have_no_identity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
