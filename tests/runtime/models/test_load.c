/*
 * What a device is told and handed when a model is loaded, with a device of the test's own: the
 * CPU's, but it keeps weights in its own memory, fills synthetic ones, and takes notes.
 */
#include "runtime/models/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/alloc.h"
#include "runtime/weights/synthetic.h"
#include "tests/support/temp_dir.h"

enum { MAX_WEIGHTS = 32, N_ROWS = 5, VOCAB = 50, PAGE_SIZE = 8, N_LAYERS = 2 };

static struct {
    const struct qr_ops *cpu;
    struct qr_ops ops;
    int32_t n_prepared;
    struct qr_device_needs needs;
    int32_t n_weights;
    void *weights[MAX_WEIGHTS];
    int64_t n_weight_bytes;
    int32_t refused; /* which weight is refused; -1: none */
    int32_t n_allocs[QR_MEMORY_KINDS];
} noting;

static enum qr_status noting_prepare(struct qr_device *dev, const struct qr_device_needs *needs,
                                     struct qr_error *err)
{
    assert_int_equal(noting.n_weights, 0); /* before all else */
    noting.n_prepared++;
    noting.needs = *needs;
    return noting.cpu->prepare(dev, needs, err);
}

static enum qr_status noting_load_weight(struct qr_device *dev, struct qr_tensor *tensor,
                                         struct qr_error *err)
{
    int64_t n = tensor->dims[0] * (tensor->n_dims == 2 ? tensor->dims[1] : 1);
    size_t n_bytes = (size_t)n * qr_dtype_size(tensor->dtype);

    if (noting.n_weights == noting.refused)
        return qr_fail(err, QR_ERR_NOMEM, "no room for %zu bytes", n_bytes);
    assert_true(noting.n_weights < MAX_WEIGHTS);
    void *copy = qr_malloc(QR_ARENA_ENGINE, n_bytes);
    assert_non_null(copy);
    noting.weights[noting.n_weights++] = copy;
    noting.n_weight_bytes += (int64_t)n_bytes;
    assert_true(tensor->synthetic == dev->fills_synthetic);
    if (tensor->synthetic) {
        assert_null(tensor->data);
        qr_synthetic_fill_elements(tensor->synthetic_key, tensor->synthetic_bound, tensor->dtype, n,
                                   copy);
    } else {
        memcpy(copy, tensor->data, n_bytes);
    }
    tensor->data = copy;
    tensor->synthetic = false; /* to the CPU's ops it is one of a file */
    return noting.cpu->load_weight(dev, tensor, err);
}

static void *noting_alloc(struct qr_device *dev, size_t n_bytes, enum qr_memory_kind kind)
{
    assert_int_equal(noting.n_prepared, 1);
    noting.n_allocs[kind]++;
    return noting.cpu->alloc(dev, n_bytes, kind);
}

/* The CPU's device, its table of ops replaced. */
static struct qr_device *open_noting(bool fills_synthetic)
{
    const struct qr_device_config config = {.n_threads = 1};
    struct qr_device *dev;
    struct qr_error err = {""};

    assert_int_equal(qr_device_open("cpu", &config, &dev, &err), QR_OK);
    memset(&noting, 0, sizeof(noting));
    noting.cpu = dev->ops;
    noting.ops = *dev->ops;
    noting.ops.prepare = noting_prepare;
    noting.ops.load_weight = noting_load_weight;
    noting.ops.alloc = noting_alloc;
    noting.refused = -1;
    dev->ops = &noting.ops;
    dev->fills_synthetic = fills_synthetic;
    return dev;
}

static void close_noting(struct qr_device *dev)
{
    qr_device_close(dev);
    for (int32_t i = 0; i < noting.n_weights; i++)
        qr_free(noting.weights[i]);
}

static void write_config(const struct qr_temp_dir *dir, bool tied, char *name, size_t name_size)
{
    char text[1024];

    int n = snprintf(text, sizeof(text),
                     "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":24,"
                     "\"intermediate_size\":40,\"num_attention_heads\":4,\"head_dim\":6,"
                     "\"num_key_value_heads\":2,\"num_hidden_layers\":%d,\"rms_norm_eps\":1e-5,"
                     "\"max_position_embeddings\":100,\"rope_theta\":5000.0,"
                     "\"tie_word_embeddings\":%s,\"vocab_size\":%d}",
                     N_LAYERS, tied ? "true" : "false", VOCAB);
    qr_temp_dir_write(dir, "config.json", text, (size_t)n);
    snprintf(name, name_size, "synthetic:%s/config.json,bf16", dir->path);
}

static const struct qr_model_limits limits = {.max_rows = N_ROWS,
                                              .max_logit_rows = N_ROWS - 1,
                                              .max_positions = 40,
                                              .max_seqs = 3,
                                              .page_size = PAGE_SIZE};

/* Logits [2][VOCAB] of rows 1 and 4 of one prompt. */
static void run_model(struct qr_model *model, struct qr_device *dev, float *logits)
{
    static const int32_t ids[N_ROWS] = {3, 1, 49, 0, 17};
    static const int32_t positions[N_ROWS] = {0, 1, 2, 3, 4};
    const struct qr_model_config *shape = qr_model_get_config(model);
    const struct qr_kv_geometry kv = {.n_layers = shape->n_layers,
                                      .n_kv_heads = shape->n_kv_heads,
                                      .head_dim = shape->head_dim,
                                      .page_size = PAGE_SIZE};
    const struct qr_batch batch = {.n_rows = N_ROWS,
                                   .token_ids = ids,
                                   .positions = positions,
                                   .attention = {.n_seqs = 1,
                                                 .query_start = (const int32_t[]){0, N_ROWS},
                                                 .context_length = (const int32_t[]){N_ROWS},
                                                 .block_table = (const int32_t[]){1},
                                                 .block_table_stride = 1},
                                   .n_logit_rows = 2,
                                   .logit_rows = (const int32_t[]){1, 4}};
    struct qr_error err = {""};
    void *kv_pool = dev->ops->alloc(dev, 2 * qr_kv_page_bytes(dev, &kv), QR_MEMORY_KV);

    assert_non_null(kv_pool);
    assert_int_equal(qr_model_forward(model, &batch, &kv, kv_pool, &err), QR_OK);
    size_t vocab_size = (size_t)shape->vocab_size;
    for (int32_t i = 0; i < batch.n_logit_rows; i++)
        memcpy(logits + (size_t)i * vocab_size, qr_model_logit_row(model, i).logits,
               vocab_size * sizeof(float));
    dev->ops->free(dev, kv_pool);
}

static struct qr_model *open_model(const char *name, struct qr_device *dev)
{
    struct qr_model *model;
    struct qr_error err = {""};

    if (qr_model_open(name, dev, &limits, &model, &err) != QR_OK)
        fail_msg("%s", err.message);
    return model;
}

/* The same bits, whoever fills the weights and wherever they lie. */
static void weights_are_the_devices_business(void **state)
{
    (void)state;
    const struct qr_device_config config = {.n_threads = 1};
    struct qr_temp_dir dir;
    char name[QR_TEMP_PATH_MAX + 64];
    float wanted[2 * VOCAB];
    float found[2 * VOCAB];
    struct qr_device *plain;
    struct qr_error err = {""};

    qr_temp_dir_make(&dir);
    for (int tied = 0; tied < 2; tied++) {
        write_config(&dir, tied, name, sizeof(name));
        assert_int_equal(qr_device_open("cpu", &config, &plain, &err), QR_OK);
        struct qr_model *model = open_model(name, plain);
        run_model(model, plain, wanted);
        assert_true(wanted[0] != 0.0f && wanted[0] != wanted[VOCAB]);
        qr_model_close(model);
        qr_device_close(plain);
        for (int fills = 0; fills < 2; fills++) {
            struct qr_device *dev = open_noting(fills);
            model = open_model(name, dev);
            run_model(model, dev, found);
            assert_memory_equal(found, wanted, sizeof(wanted));
            /* Each once: also an embedding that is the head as well. */
            assert_int_equal(noting.n_weights, 9 * N_LAYERS + (tied ? 2 : 3));
            assert_int_equal(noting.n_weight_bytes, qr_model_weight_bytes(model));
            assert_int_equal(noting.n_weight_bytes, noting.needs.n_weight_bytes);
            assert_int_equal(noting.n_allocs[QR_MEMORY_WEIGHTS], 0);
            assert_int_equal(noting.n_allocs[QR_MEMORY_KV], 1); /* the test's own */
            assert_true(noting.n_allocs[QR_MEMORY_WORKSPACE] > 0);
            qr_model_close(model);
            close_noting(dev);
        }
    }
    qr_temp_dir_remove(&dir);
}

static void a_device_is_told_what_it_needs(void **state)
{
    (void)state;
    struct qr_temp_dir dir;
    char name[QR_TEMP_PATH_MAX + 64];

    qr_temp_dir_make(&dir);
    write_config(&dir, true, name, sizeof(name));
    struct qr_device *dev = open_noting(true);
    struct qr_model *model = open_model(name, dev);
    const struct qr_device_needs *needs = &noting.needs;
    assert_int_equal(noting.n_prepared, 1);
    assert_int_equal(needs->weight_dtype, QR_DTYPE_BF16);
    assert_int_equal(needs->kv_dtype, QR_KV_DTYPE_AUTO);
    assert_int_equal(needs->hidden_size, 24);
    assert_int_equal(needs->intermediate_size, 40);
    assert_int_equal(needs->vocab_size, VOCAB);
    assert_int_equal(needs->n_layers, N_LAYERS);
    assert_int_equal(needs->n_heads, 4);
    assert_int_equal(needs->n_kv_heads, 2);
    assert_int_equal(needs->head_dim, 6);
    assert_true(needs->rope.theta == 5000.0f);
    assert_int_equal(needs->max_position, 40); /* what will be run, not what the model could */
    assert_int_equal(needs->page_size, PAGE_SIZE);
    assert_int_equal(needs->max_blocks, 5); /* full pages for 40 tokens */
    assert_int_equal(needs->max_rows, N_ROWS);
    assert_int_equal(needs->max_logit_rows, N_ROWS - 1);
    assert_int_equal(needs->max_seqs, 3);
    qr_model_close(model);
    close_noting(dev);
    qr_temp_dir_remove(&dir);
}

static void a_weight_that_is_refused_is_named(void **state)
{
    (void)state;
    struct qr_temp_dir dir;
    char name[QR_TEMP_PATH_MAX + 64];
    struct qr_model *model;
    struct qr_error err = {""};

    qr_temp_dir_make(&dir);
    write_config(&dir, true, name, sizeof(name));
    struct qr_device *dev = open_noting(true);
    noting.refused = 2 + 9 + 2; /* past embedding, norm, the first layer and two norms */
    assert_int_equal(qr_model_open(name, dev, &limits, &model, &err), QR_ERR_NOMEM);
    assert_null(model);
    assert_non_null(strstr(err.message, "tensor model.layers.1.self_attn.q_proj.weight: no room"));
    close_noting(dev);
    qr_temp_dir_remove(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_the_devices_business),
        cmocka_unit_test(a_device_is_told_what_it_needs),
        cmocka_unit_test(a_weight_that_is_refused_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
