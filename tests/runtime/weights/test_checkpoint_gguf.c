/* test_checkpoint_gguf.c - GGUF files behind the names and in the form of Hugging Face's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/weights/checkpoint.h"
#include "runtime/weights/gguf_names.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/testdata.h"

static void names_are_those_of_hugging_face(void **state)
{
    (void)state;
    static const struct {
        const char *architecture;
        const char *name;
        const char *wanted; /* NULL: it is not translated; '#': the place in a stack */
        enum qr_tensor_change change;
    } cases[] = {
        {"llama", "token_embd.weight", "model.embed_tokens.weight", QR_TENSOR_SAME},
        {"llama", "output_norm.weight", "model.norm.weight", QR_TENSOR_SAME},
        {"llama", "output.weight", "lm_head.weight", QR_TENSOR_SAME},
        {"llama", "blk.31.attn_q.weight", "model.layers.31.self_attn.q_proj.weight",
         QR_TENSOR_PAIRED_ROWS},
        {"llama", "blk.0.attn_k.bias", "model.layers.0.self_attn.k_proj.bias",
         QR_TENSOR_PAIRED_ROWS},
        {"llama", "blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj.weight", QR_TENSOR_SAME},
        {"llama", "blk.7.ffn_gate.weight", "model.layers.7.mlp.gate_proj.weight", QR_TENSOR_SAME},
        {"llama", "blk.7.ffn_gate.5.weight", "model.layers.7.block_sparse_moe.experts.5.w1.weight",
         QR_TENSOR_SAME},
        {"llama", "blk.7.ffn_down_exps.weight",
         "model.layers.7.block_sparse_moe.experts.#.w2.weight", QR_TENSOR_SAME},
        {"llama", "blk.7.ffn_gate_inp.weight", "model.layers.7.block_sparse_moe.gate.weight",
         QR_TENSOR_SAME},
        {"qwen2", "blk.1.attn_q.bias", "model.layers.1.self_attn.q_proj.bias", QR_TENSOR_SAME},
        {"qwen3", "blk.1.attn_q_norm.weight", "model.layers.1.self_attn.q_norm.weight",
         QR_TENSOR_SAME},
        {"qwen3moe", "blk.1.ffn_up_exps.weight", "model.layers.1.mlp.experts.#.up_proj.weight",
         QR_TENSOR_SAME},
        {"qwen3moe", "blk.1.ffn_gate_inp.weight", "model.layers.1.mlp.gate.weight", QR_TENSOR_SAME},
        {"phi3", "blk.2.attn_qkv.weight", "model.layers.2.self_attn.qkv_proj.weight",
         QR_TENSOR_SAME},
        {"phi3", "blk.2.ffn_up.weight", "model.layers.2.mlp.gate_up_proj.weight", QR_TENSOR_SAME},
        {"gemma2", "blk.2.ffn_norm.weight", "model.layers.2.pre_feedforward_layernorm.weight",
         QR_TENSOR_PLUS_ONE},
        {"gemma2", "blk.2.post_attention_norm.weight",
         "model.layers.2.post_attention_layernorm.weight", QR_TENSOR_PLUS_ONE},
        {"gemma2", "output_norm.weight", "model.norm.weight", QR_TENSOR_PLUS_ONE},
        {"gemma2", "blk.2.ffn_up.weight", "model.layers.2.mlp.up_proj.weight", QR_TENSOR_SAME},
        {"llama", "blk.x.attn_q.weight", NULL, QR_TENSOR_SAME},
        {"llama", "blk..attn_q.weight", NULL, QR_TENSOR_SAME},
        {"llama", "blk.123456789.attn_q.weight", NULL, QR_TENSOR_SAME},
        {"llama", "blk.0.attn_q.scale", NULL, QR_TENSOR_SAME},
        {"llama", "blk.0.attn_q", NULL, QR_TENSOR_SAME},
        {"llama", "output", NULL, QR_TENSOR_SAME},
        {"mamba", "token_embd.weight", NULL, QR_TENSOR_SAME},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct qr_gguf_text architecture = {cases[i].architecture, strlen(cases[i].architecture)};
        struct qr_gguf_name name;
        char found[600];
        if (!qr_gguf_translate(architecture, cases[i].name, &name)) {
            if (cases[i].wanted != NULL)
                fail_msg("%s has no name", cases[i].name);
            continue;
        }
        snprintf(found, sizeof(found), "%s%s%s", name.head, name.is_stack ? "#" : "", name.tail);
        assert_non_null(cases[i].wanted);
        assert_string_equal(found, cases[i].wanted);
        assert_int_equal(name.change, cases[i].change);
    }
}

static struct qr_checkpoint *open_file(const struct qr_temp_dir *dir, const char *name)
{
    char path[QR_TEMP_PATH_MAX + 64];
    struct qr_checkpoint *checkpoint;
    struct qr_error err = {""};

    snprintf(path, sizeof(path), "%s/%s", dir->path, name);
    if (qr_checkpoint_open(path, &checkpoint, &err) != QR_OK)
        fail_msg("%s", err.message);
    return checkpoint;
}

static void assert_open_fails(const struct qr_temp_dir *dir, const char *name,
                              enum qr_status status, const char *words)
{
    char path[QR_TEMP_PATH_MAX + 64];
    struct qr_checkpoint *checkpoint;
    struct qr_error err = {""};

    snprintf(path, sizeof(path), "%s/%s", dir->path, name);
    assert_int_equal(qr_checkpoint_open(path, &checkpoint, &err), status);
    if (strstr(err.message, words) == NULL)
        fail_msg("\"%s\" does not mention \"%s\"", err.message, words);
}

/* The tensor with these dimensions. */
static struct qr_tensor get(struct qr_checkpoint *checkpoint, const char *name, int64_t rows,
                            int64_t columns)
{
    int64_t dims[] = {rows, columns};
    struct qr_tensor tensor = {0};
    struct qr_error err = {""};

    if (qr_checkpoint_get(checkpoint, name, columns > 0 ? 2 : 1, dims, &tensor, &err) != QR_OK)
        fail_msg("%s", err.message);
    return tensor;
}

static void rows_of_q_and_k_are_paired_as_halves(void **state)
{
    (void)state;
    enum { ROWS = 16, HEADS = 2, KV_HEADS = 4 }; /* heads of 8 and of 4 rows */
    static const int q_order[] = {0, 2, 4, 6, 1, 3, 5, 7};
    static const int k_order[] = {0, 2, 1, 3};
    const int64_t dims[] = {ROWS, 32};
    uint8_t blocks[ROWS][34] = {{0}};
    float bias[ROWS];
    struct gguf_builder gguf = {0};
    struct qr_temp_dir dir;

    for (int r = 0; r < ROWS; r++) {
        blocks[r][2] = (uint8_t)r;
        bias[r] = (float)r;
    }
    gguf_add_string(&gguf, "general.architecture", "llama");
    gguf_add_u32(&gguf, "llama.attention.head_count", HEADS);
    gguf_add_u32(&gguf, "llama.attention.head_count_kv", KV_HEADS);
    gguf_add_tensor(&gguf, "blk.0.attn_q.weight", 8, 2, dims, blocks, sizeof(blocks));
    gguf_add_tensor(&gguf, "blk.0.attn_q.bias", 0, 1, dims, bias, sizeof(bias));
    gguf_add_tensor(&gguf, "blk.0.attn_k.weight", 8, 2, dims, blocks, sizeof(blocks));
    gguf_add_tensor(&gguf, "blk.0.attn_v.weight", 8, 2, dims, blocks, sizeof(blocks));
    qr_temp_dir_make(&dir);
    gguf_write(&gguf, &dir, "a.gguf");
    struct qr_checkpoint *checkpoint = open_file(&dir, "a.gguf");
    for (int again = 0; again < 2; again++) {
        struct qr_tensor q = get(checkpoint, "model.layers.0.self_attn.q_proj.weight", ROWS, 32);
        struct qr_tensor b = get(checkpoint, "model.layers.0.self_attn.q_proj.bias", ROWS, 0);
        struct qr_tensor k = get(checkpoint, "model.layers.0.self_attn.k_proj.weight", ROWS, 32);
        struct qr_tensor v = get(checkpoint, "model.layers.0.self_attn.v_proj.weight", ROWS, 32);
        assert_int_equal(q.dtype, QR_DTYPE_Q8_0);
        for (int r = 0; r < ROWS; r++) {
            int from_q = r / 8 * 8 + q_order[r % 8];
            assert_int_equal(((const uint8_t(*)[34])q.data)[r][2], from_q);
            assert_true(((const float *)b.data)[r] == (float)from_q);
            assert_int_equal(((const uint8_t(*)[34])k.data)[r][2], r / 4 * 4 + k_order[r % 4]);
            assert_int_equal(((const uint8_t(*)[34])v.data)[r][2], r);
        }
    }
    assert_int_equal(qr_checkpoint_n_parameters(checkpoint), 3 * ROWS * 32 + ROWS);
    assert_int_equal(qr_checkpoint_n_bytes(checkpoint), 3 * ROWS * 34 + 4 * ROWS);
    assert_int_equal(qr_checkpoint_dtype(checkpoint), QR_DTYPE_Q8_0);
    qr_checkpoint_close(checkpoint);
    gguf_free(&gguf);
    qr_temp_dir_remove(&dir);
}

static void experts_are_found_one_by_one(void **state)
{
    (void)state;
    const int64_t dims[] = {3, 2, 32};
    uint8_t blocks[3][2][18] = {{{0}}};
    struct gguf_builder gguf = {0};
    struct qr_temp_dir dir;

    for (int e = 0; e < 3; e++)
        blocks[e][0][2] = (uint8_t)(e + 1);
    gguf_add_string(&gguf, "general.architecture", "qwen3moe");
    gguf_add_tensor(&gguf, "blk.4.ffn_gate_exps.weight", 2, 3, dims, blocks, sizeof(blocks));
    qr_temp_dir_make(&dir);
    gguf_write(&gguf, &dir, "a.gguf");
    struct qr_checkpoint *checkpoint = open_file(&dir, "a.gguf");
    for (int e = 0; e < 3; e++) {
        char name[64];
        snprintf(name, sizeof(name), "model.layers.4.mlp.experts.%d.gate_proj.weight", e);
        struct qr_tensor expert = get(checkpoint, name, 2, 32);
        assert_int_equal(((const uint8_t *)expert.data)[2], e + 1);
    }
    assert_int_equal(qr_checkpoint_n_parameters(checkpoint), 3 * 2 * 32);
    assert_int_equal(qr_checkpoint_n_bytes(checkpoint), sizeof(blocks));
    qr_checkpoint_close(checkpoint);
    gguf_free(&gguf);
    qr_temp_dir_remove(&dir);
}

static void norms_of_gemma_lose_the_one_that_was_added(void **state)
{
    (void)state;
    const int64_t dims[] = {4};
    static const float stored[] = {1.0f, 1.5f, 0.0f, 3.25f};
    static const float wanted[] = {0.0f, 0.5f, -1.0f, 2.25f};
    struct gguf_builder gguf = {0};
    struct qr_temp_dir dir;

    gguf_add_string(&gguf, "general.architecture", "gemma2");
    gguf_add_tensor(&gguf, "output_norm.weight", 0, 1, dims, stored, sizeof(stored));
    gguf_add_tensor(&gguf, "rope_freqs.weight", 0, 1, dims, stored, sizeof(stored));
    qr_temp_dir_make(&dir);
    gguf_write(&gguf, &dir, "a.gguf");
    struct qr_checkpoint *checkpoint = open_file(&dir, "a.gguf");
    struct qr_tensor norm = get(checkpoint, "model.norm.weight", 4, 0);
    assert_memory_equal(norm.data, wanted, sizeof(wanted));
    assert_int_equal(qr_checkpoint_n_parameters(checkpoint), 4); /* factors of RoPE are none */
    qr_checkpoint_close(checkpoint);
    gguf_free(&gguf);
    qr_temp_dir_remove(&dir);
}

static void vectors_of_blocks_become_f32(void **state)
{
    (void)state;
    const int64_t dims[] = {32};
    uint8_t block[34] = {0x00, 0x38, 2, 0xFE}; /* a scale of 0.5 */
    struct gguf_builder gguf = {0};
    struct qr_temp_dir dir;

    gguf_add_string(&gguf, "general.architecture", "qwen2");
    gguf_add_tensor(&gguf, "output_norm.weight", 8, 1, dims, block, sizeof(block));
    gguf_add_tensor(&gguf, "unknown", 10, 1, (const int64_t[]){256}, (uint8_t[84]){0}, 84);
    qr_temp_dir_make(&dir);
    gguf_write(&gguf, &dir, "a.gguf");
    struct qr_checkpoint *checkpoint = open_file(&dir, "a.gguf");
    struct qr_tensor norm = get(checkpoint, "model.norm.weight", 32, 0);
    assert_int_equal(norm.dtype, QR_DTYPE_F32);
    assert_true(((const float *)norm.data)[0] == 1.0f && ((const float *)norm.data)[1] == -1.0f);
    struct qr_error err = {""};
    assert_int_equal(
        qr_checkpoint_get(checkpoint, "unknown", 1, (const int64_t[]){256}, &norm, &err),
        QR_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "dtype Q2_K"));
    qr_checkpoint_close(checkpoint);
    gguf_free(&gguf);
    qr_temp_dir_remove(&dir);
}

/* Part `number` of `count`, with a tensor of this name. */
static void write_part(const struct qr_temp_dir *dir, const char *file, uint64_t number,
                       uint64_t count, const char *tensor)
{
    const int64_t dims[] = {2};
    const float data[] = {(float)number, 0.0f};
    struct gguf_builder gguf = {0};

    if (number == 0)
        gguf_add_string(&gguf, "general.architecture", "llama");
    gguf_add_int(&gguf, "split.no", QR_GGUF_UINT16, number);
    gguf_add_int(&gguf, "split.count", QR_GGUF_UINT16, count);
    gguf_add_tensor(&gguf, tensor, 0, 1, dims, data, sizeof(data));
    gguf_write(&gguf, dir, file);
    gguf_free(&gguf);
}

static void split_files_are_read_together(void **state)
{
    (void)state;
    struct qr_temp_dir dir;

    qr_temp_dir_make(&dir);
    write_part(&dir, "m-00001-of-00002.gguf", 0, 2, "blk.0.attn_norm.weight");
    assert_open_fails(&dir, "m-00001-of-00002.gguf", QR_ERR_NOT_FOUND, "m-00002-of-00002.gguf");
    write_part(&dir, "m-00002-of-00002.gguf", 1, 2, "blk.1.attn_norm.weight");
    struct qr_checkpoint *checkpoint = open_file(&dir, "m-00001-of-00002.gguf");
    for (int i = 0; i < 2; i++) {
        char name[64];
        snprintf(name, sizeof(name), "model.layers.%d.input_layernorm.weight", i);
        assert_true(*(const float *)get(checkpoint, name, 2, 0).data == (float)i);
    }
    qr_checkpoint_close(checkpoint);
    assert_open_fails(&dir, "m-00002-of-00002.gguf", QR_ERR_INVALID, "name its first part");
    write_part(&dir, "m-00002-of-00002.gguf", 0, 2, "blk.1.attn_norm.weight");
    assert_open_fails(&dir, "m-00001-of-00002.gguf", QR_ERR_INVALID, "split.no is 0");
    write_part(&dir, "m-00002-of-00002.gguf", 1, 2, "blk.0.attn_norm.weight");
    assert_open_fails(&dir, "m-00001-of-00002.gguf", QR_ERR_INVALID, "stands in both");
    write_part(&dir, "other.gguf", 0, 2, "blk.0.attn_norm.weight");
    assert_open_fails(&dir, "other.gguf", QR_ERR_INVALID, "must end in -00001-of-00002.gguf");
    qr_temp_dir_remove(&dir);
}

static void files_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    const int64_t dims[] = {6, 2};
    static const float data[12] = {0};
    struct gguf_builder gguf = {0};
    struct qr_temp_dir dir;
    struct qr_tensor tensor;
    struct qr_error err = {""};

    qr_temp_dir_make(&dir);
    gguf_write(&gguf, &dir, "a.gguf");
    assert_open_fails(&dir, "a.gguf", QR_ERR_INVALID, "general.architecture is missing");
    gguf_add_string(&gguf, "general.architecture", "llama");
    gguf_add_u32(&gguf, "llama.attention.head_count", 2);
    gguf_add_tensor(&gguf, "blk.0.attn_q.weight", 0, 2, dims, data, sizeof(data));
    gguf_write(&gguf, &dir, "a.gguf");
    struct qr_checkpoint *checkpoint = open_file(&dir, "a.gguf");
    assert_int_equal(qr_checkpoint_get(checkpoint, "model.layers.0.self_attn.q_proj.weight", 2,
                                       dims, &tensor, &err),
                     QR_ERR_INVALID);
    assert_non_null(strstr(err.message, "6 rows, no multiple of 2 for each of 2 heads"));
    qr_checkpoint_close(checkpoint);
    gguf_add_u32(&gguf, "llama.attention.head_count_kv", 0);
    gguf_write(&gguf, &dir, "a.gguf");
    assert_open_fails(&dir, "a.gguf", QR_ERR_INVALID, "llama.attention.head_count_kv is 0");
    gguf_free(&gguf);
    qr_temp_dir_remove(&dir);
}

/* The tensors of stories260K.gguf and of the safetensors file made of the same weights. */
static void a_real_file_has_the_weights_of_its_safetensors(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t rows;
        int64_t columns;
    } tensors[] = {
        {"model.embed_tokens.weight", 512, 64},
        {"model.norm.weight", 64, 0},
        {"model.layers.0.self_attn.q_proj.weight", 64, 64},
        {"model.layers.4.self_attn.k_proj.weight", 32, 64},
        {"model.layers.4.self_attn.v_proj.weight", 32, 64},
        {"model.layers.2.mlp.down_proj.weight", 64, 172},
        {"model.layers.3.post_attention_layernorm.weight", 64, 0},
    };
    char gguf_path[QR_TEST_PATH_MAX];
    char hf_path[QR_TEST_PATH_MAX];
    struct qr_checkpoint *gguf;
    struct qr_checkpoint *hf;

    if (!qr_testdata("models/stories260k/stories260K.gguf", gguf_path) ||
        !qr_testdata("models/stories260k/hf", hf_path))
        return;
    assert_int_equal(qr_checkpoint_open(gguf_path, &gguf, NULL), QR_OK);
    assert_int_equal(qr_checkpoint_open(hf_path, &hf, NULL), QR_OK);
    for (size_t i = 0; i < sizeof(tensors) / sizeof(tensors[0]); i++) {
        struct qr_tensor a = get(gguf, tensors[i].name, tensors[i].rows, tensors[i].columns);
        struct qr_tensor b = get(hf, tensors[i].name, tensors[i].rows, tensors[i].columns);
        assert_int_equal(a.dtype, b.dtype);
        assert_memory_equal(a.data, b.data, (size_t)qr_tensor_n_bytes(&a));
    }
    qr_checkpoint_close(gguf);
    qr_checkpoint_close(hf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_those_of_hugging_face),
        cmocka_unit_test(rows_of_q_and_k_are_paired_as_halves),
        cmocka_unit_test(experts_are_found_one_by_one),
        cmocka_unit_test(norms_of_gemma_lose_the_one_that_was_added),
        cmocka_unit_test(vectors_of_blocks_become_f32),
        cmocka_unit_test(split_files_are_read_together),
        cmocka_unit_test(files_that_do_not_fit_are_refused),
        cmocka_unit_test(a_real_file_has_the_weights_of_its_safetensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
