/* gguf_types.c - the number formats of ggml and of GGUF's metadata, and how they are read. */
#include <string.h>

#include "runtime/weights/gguf_internal.h"

static const struct {
    uint64_t number;
    enum qr_dtype dtype;
} readable[] = {
    {0, QR_DTYPE_F32},   {1, QR_DTYPE_F16},   {2, QR_DTYPE_Q4_0},  {3, QR_DTYPE_Q4_1},
    {6, QR_DTYPE_Q5_0},  {7, QR_DTYPE_Q5_1},  {8, QR_DTYPE_Q8_0},  {12, QR_DTYPE_Q4_K},
    {13, QR_DTYPE_Q5_K}, {14, QR_DTYPE_Q6_K}, {30, QR_DTYPE_BF16},
};

/* Tensors of types that Quire does not compute with may stand in a file unused. */
static const struct {
    uint64_t number;
    const char *name;
    int32_t block;
    int64_t bytes;
} others[] = {
    {9, "Q8_1", 32, 40},      {10, "Q2_K", 256, 84},    {11, "Q3_K", 256, 110},
    {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66}, {17, "IQ2_XS", 256, 74},
    {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},   {20, "IQ4_NL", 32, 18},
    {21, "IQ3_S", 256, 110},  {22, "IQ2_S", 256, 82},   {23, "IQ4_XS", 256, 136},
    {24, "I8", 1, 1},         {25, "I16", 1, 2},        {26, "I32", 1, 4},
    {27, "I64", 1, 8},        {28, "F64", 1, 8},        {29, "IQ1_M", 256, 56},
    {34, "TQ1_0", 256, 54},   {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17},
};

bool qr_ggml_type_find(uint64_t number, struct qr_ggml_type *out)
{
    for (size_t i = 0; i < sizeof(readable) / sizeof(readable[0]); i++) {
        enum qr_dtype dtype = readable[i].dtype;
        if (readable[i].number == number) {
            *out = (struct qr_ggml_type){.name = qr_dtype_name(dtype),
                                         .block = qr_dtype_block_size(dtype),
                                         .bytes = (int64_t)qr_dtype_block_bytes(dtype),
                                         .is_readable = true,
                                         .dtype = dtype};
            return true;
        }
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (others[i].number == number) {
            *out = (struct qr_ggml_type){
                .name = others[i].name, .block = others[i].block, .bytes = others[i].bytes};
            return true;
        }
    }
    return false;
}

size_t qr_gguf_type_bytes(enum qr_gguf_type type)
{
    static const size_t bytes[QR_GGUF_TYPES] = {
        [QR_GGUF_UINT8] = 1,   [QR_GGUF_INT8] = 1,    [QR_GGUF_UINT16] = 2, [QR_GGUF_INT16] = 2,
        [QR_GGUF_UINT32] = 4,  [QR_GGUF_INT32] = 4,   [QR_GGUF_UINT64] = 8, [QR_GGUF_INT64] = 8,
        [QR_GGUF_FLOAT32] = 4, [QR_GGUF_FLOAT64] = 8, [QR_GGUF_BOOL] = 1,
    };
    return bytes[type];
}

uint64_t qr_gguf_little_endian(const uint8_t *bytes, size_t n_bytes)
{
    uint64_t value = 0;

    for (size_t i = 0; i < n_bytes; i++)
        value |= (uint64_t)bytes[i] << (8 * i);
    return value;
}

int qr_gguf_compare(struct qr_gguf_text a, struct qr_gguf_text b)
{
    size_t shorter = a.n_bytes < b.n_bytes ? a.n_bytes : b.n_bytes;
    int order = shorter > 0 ? memcmp(a.bytes, b.bytes, shorter) : 0;

    return order != 0 ? order : (a.n_bytes > b.n_bytes) - (a.n_bytes < b.n_bytes);
}
