/*
 * model_rig.h - a model on a device of its own, driven step by step, so that the same tokens can be
 * cut into steps and batched in any way and their logits compared.
 */
#ifndef QUIRE_TESTS_SUPPORT_MODEL_RIG_H
#define QUIRE_TESTS_SUPPORT_MODEL_RIG_H

#include "runtime/models/model.h"

enum {
    MODEL_RIG_PAGE_SIZE = 8,
    MODEL_RIG_BLOCKS = 8, /* pages of a sequence at most */
    MODEL_RIG_PAGES = 16,
    MODEL_RIG_TOKENS = MODEL_RIG_BLOCKS * MODEL_RIG_PAGE_SIZE, /* of a sequence at most */
};

struct model_rig {
    struct qr_device *dev;
    struct qr_model *model;
    struct qr_kv_geometry kv;
    void *kv_pool;
    int32_t vocab_size;
};

/* A run of tokens of one sequence in a step. */
struct model_piece {
    const int32_t *ids;   /* of the whole sequence */
    int32_t first;        /* position of the first token of the run */
    int32_t count;        /* tokens of the run */
    const int32_t *pages; /* [MODEL_RIG_BLOCKS] */
    float *logits;        /* [MODEL_RIG_TOKENS][vocab_size], rows of the run are written */
};

/* Two tables that share no page. */
extern const int32_t model_rig_pages_a[MODEL_RIG_BLOCKS];
extern const int32_t model_rig_pages_b[MODEL_RIG_BLOCKS];

/* Fails the test where it cannot. */
void model_rig_open(struct model_rig *rig, const char *dir, const char *backend, const char *isa,
                    int32_t n_threads);
void model_rig_open_as(struct model_rig *rig, const char *dir, const char *backend,
                       const struct qr_device_config *config);
void model_rig_close(struct model_rig *rig);

/* One step of at most two pieces; every row's logits are wanted. */
void model_rig_step(struct model_rig *rig, const struct model_piece *pieces, int32_t n_pieces);
/* n_tokens in steps of `chunk`, on pages a; logits as of struct model_piece. */
void model_rig_run(struct model_rig *rig, const int32_t *ids, int32_t n_tokens, int32_t chunk,
                   float *logits);

/* The largest |found - wanted| of n; fails where a found one is not finite. */
float model_rig_distance(const float *found, const float *wanted, size_t n);

#endif /* QUIRE_TESTS_SUPPORT_MODEL_RIG_H */
