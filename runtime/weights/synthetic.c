/* synthetic.c - see synthetic.h for the contract. */
#include "runtime/weights/synthetic.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "runtime/sampling/philox.h"

#define SEED UINT64_C(20231)

bool qr_is_synthetic(const char *model)
{
    return strncmp(model, QR_SYNTHETIC_PREFIX, strlen(QR_SYNTHETIC_PREFIX)) == 0;
}

/* In letters of either case. */
static bool parse_dtype(const char *name, enum qr_dtype *dtype)
{
    char upper[8] = "";

    for (size_t i = 0; i < sizeof(upper) - 1 && name[i] != '\0'; i++)
        upper[i] = (char)toupper((unsigned char)name[i]);
    return strlen(name) < sizeof(upper) && qr_dtype_parse(upper, dtype);
}

enum qr_status qr_synthetic_parse(const char *model, struct qr_synthetic_spec *spec,
                                  struct qr_error *err)
{
    const char *path = model + strlen(QR_SYNTHETIC_PREFIX);
    const char *comma = strrchr(path, ',');
    size_t length = comma != NULL ? (size_t)(comma - path) : strlen(path);

    *spec = (struct qr_synthetic_spec){.has_dtype = comma != NULL};
    if (length == 0 || length >= sizeof(spec->config_path))
        return qr_fail(err, QR_ERR_INVALID,
                       "%.200s: a synthetic model is synthetic:CONFIG.json[,bf16|f16|f32]", model);
    if (comma != NULL && !parse_dtype(comma + 1, &spec->dtype))
        return qr_fail(err, QR_ERR_INVALID, "%.200s: weights are bf16, f16 or f32, not \"%.32s\"",
                       model, comma + 1);
    memcpy(spec->config_path, path, length);
    return QR_OK;
}

enum qr_dtype qr_synthetic_dtype(const struct qr_synthetic_spec *spec, const char *torch_dtype)
{
    if (spec->has_dtype)
        return spec->dtype;
    if (strcmp(torch_dtype, "float32") == 0)
        return QR_DTYPE_F32;
    return strcmp(torch_dtype, "float16") == 0 ? QR_DTYPE_F16 : QR_DTYPE_BF16;
}

static void put(enum qr_dtype dtype, void *data, int64_t i, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    switch (dtype) {
    case QR_DTYPE_F32:
        ((float *)data)[i] = value;
        break;
    case QR_DTYPE_F16:
        ((uint16_t *)data)[i] = qr_f32_to_f16(value);
        break;
    case QR_DTYPE_BF16:
        ((uint16_t *)data)[i] = (uint16_t)(bits >> 16);
        break;
    default:
        break; /* a spec has no other */
    }
}

void qr_synthetic_describe(const char *name, int32_t n_dims, const int64_t *dims, uint64_t *key,
                           float *bound)
{
    *key = XXH3_64bits_withSeed(name, strlen(name), SEED);
    /* A uniform number in [-bound, bound] has the variance bound^2 / 3. */
    *bound = n_dims == 1 ? 0.0f : sqrtf(3.0f / (float)dims[n_dims - 1]);
}

/* Four elements from one draw. */
static void fill_uniform(uint64_t key, float bound, enum qr_dtype dtype, int64_t n, void *data)
{
    for (int64_t i = 0; i < n; i += 4) {
        const struct qr_philox_block counter = {{(uint32_t)i, (uint32_t)(i >> 32), 0, 0}};
        struct qr_philox_block block = qr_philox(counter, key);
        for (int64_t k = 0; k < 4 && i + k < n; k++)
            put(dtype, data, i + k, ((float)(block.word[k] >> 8) * 0x1p-23f - 1.0f) * bound);
    }
}

void qr_synthetic_fill_elements(uint64_t key, float bound, enum qr_dtype dtype, int64_t n,
                                void *data)
{
    if (bound > 0.0f) {
        fill_uniform(key, bound, dtype, n, data);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        put(dtype, data, i, 1.0f);
}

void qr_synthetic_fill(const char *name, int32_t n_dims, const int64_t *dims, enum qr_dtype dtype,
                       void *data)
{
    uint64_t key;
    float bound;
    int64_t n = 1;

    for (int32_t i = 0; i < n_dims; i++)
        n *= dims[i];
    qr_synthetic_describe(name, n_dims, dims, &key, &bound);
    qr_synthetic_fill_elements(key, bound, dtype, n, data);
}
