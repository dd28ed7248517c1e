/* fuzz_model_config.c - a config.json that is accepted has a shape one can compute with. */
#include "base/assert.h"
#include "runtime/models/model_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qr_model_config config;

    if (qr_model_config_parse("fuzz", (const char *)data, size, &config, NULL) == QR_OK) {
        QR_ASSERT(config.n_heads % config.n_kv_heads == 0);
        QR_ASSERT(config.head_dim > 0 && config.head_dim % 2 == 0);
        QR_ASSERT(qr_model_config_n_parameters(&config) > 0);
        QR_ASSERT(qr_model_config_kv_bytes_per_token(&config, 4) > 0);
        for (int32_t i = 0; i < config.n_eos; i++)
            QR_ASSERT(config.eos_ids[i] >= 0 && config.eos_ids[i] < config.vocab_size);
        if (qr_model_config_parse_generation("fuzz", (const char *)data, size, &config, NULL) ==
            QR_OK)
            QR_ASSERT(config.n_eos <= QR_MODEL_MAX_EOS);
    }
    return 0;
}
