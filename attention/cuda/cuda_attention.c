/* cuda_attention.c - finds the kernels, lends them their memory and launches them. */
#include "attention/cuda/cuda_attention.h"

#include <stdio.h>

#include "attention/cuda/attention_plan.h"
#include "base/assert.h"

enum {
    STATE_BYTES = 64 << 20, /* of decode's states, unless a step needs less or two a block */
    PART_BYTES = 64 << 20,  /* of those that ranges leave */
    ALIGNMENT = 256,        /* of device memory, bytes */
    SMALL_GRID = 4,         /* blocks a multiprocessor, of kernels that use few registers */
    COPY_BLOCKS_OF_A_PAGE = 16,
    TRANSFER_BLOCKS = 16, /* the link needs few; computing keeps the others */
};
static const float LOG2_E = 1.44269504f;

/* As the kernels' names have them. */
static const char *const type_names[] = {
    [QR_DTYPE_F32] = "f32",
    [QR_DTYPE_F16] = "f16",
    [QR_DTYPE_BF16] = "bf16",
    [QR_DTYPE_E4M3] = "e4m3",
};

size_t qr_cuda_kv_page_bytes(const struct qr_kv_geometry *kv, enum qr_dtype kv_type)
{
    return qr_kv_page_elements(kv) * qr_dtype_size(kv_type);
}

/* ---- opening ---- */

static enum qr_status check_config(const struct qr_cuda_attention_config *c, struct qr_error *err)
{
    int32_t step = c->kv_type == QR_DTYPE_E4M3 ? 16 : 8;

    QR_ASSERT(c->kv.page_size >= 8 && c->kv.page_size <= 256 &&
              (c->kv.page_size & (c->kv.page_size - 1)) == 0);
    QR_ASSERT(c->kv.n_kv_heads >= 1 && c->n_heads % c->kv.n_kv_heads == 0);
    QR_ASSERT(c->max_rows >= 1 && c->max_seqs >= 1 && c->max_blocks >= 1 && c->window >= 0);
    if (c->kv.head_dim < 8 || c->kv.head_dim > QR_CUDA_ATTENTION_MAX_HEAD_DIM ||
        c->kv.head_dim % step != 0)
        return qr_fail(err, QR_ERR_UNSUPPORTED,
                       "head_dim %d: attention on CUDA with %s KV takes multiples of %d up to %d",
                       c->kv.head_dim, type_names[c->kv_type], step,
                       QR_CUDA_ATTENTION_MAX_HEAD_DIM);
    bool half = c->activation == QR_DTYPE_F16 || c->activation == QR_DTYPE_BF16;
    if (c->activation == QR_DTYPE_E4M3 ||
        (c->kv_type != c->activation && !(half && c->kv_type == QR_DTYPE_E4M3)))
        return qr_fail(err, QR_ERR_UNSUPPORTED,
                       "KV of type %s under activations of type %s: KV has their type, or e4m3 "
                       "under f16 and bf16",
                       type_names[c->kv_type], type_names[c->activation]);
    return QR_OK;
}

static int32_t row_bytes_of(const struct qr_cuda_attention *attn)
{
    return attn->config.kv.head_dim * (int32_t)qr_dtype_size(attn->config.kv_type);
}

/* A kernel for this head_dim, whose rings and states fit into what a block may have. */
static bool has_mma_kernel(const struct qr_cuda_attention *attn)
{
    int32_t d = attn->config.kv.head_dim;
    return attn->config.kv_type != QR_DTYPE_F32 &&
           (d == 64 || d == 80 || d == 96 || d == 128 || d == 256) &&
           qr_decode_shared_bytes(row_bytes_of(attn), d, attn->chain_queries) <=
               attn->cuda->properties.max_shared;
}

/* Products of warpgroups are of compute capability 9.0 alone; they make other bits than decode. */
static enum qr_status find_wide_kernel(struct qr_cuda_attention *attn, struct qr_error *err)
{
    const struct qr_cuda_attention_config *c = &attn->config;
    int32_t d = c->kv.head_dim;
    char name[64];

    if (attn->cuda->properties.capability != 90 || c->deterministic || (d != 64 && d != 128) ||
        qr_dtype_size(c->kv_type) != 2)
        return QR_OK;
    attn->wide_rows = c->wide_rows > 0 ? c->wide_rows : QR_CUDA_WIDE_ROWS;
    snprintf(name, sizeof(name), "qr_attn_prefill_wide_%s_d%d", type_names[c->kv_type], d);
    return qr_cuda_find_kernel(attn->cuda, name, QR_WIDE_THREADS,
                               qr_wide_shared_bytes(row_bytes_of(attn)), &attn->wide, err);
}

static enum qr_status find_mma_kernels(struct qr_cuda_attention *attn, struct qr_error *err)
{
    const struct qr_cuda_attention_config *c = &attn->config;
    int32_t head_dim = c->kv.head_dim;
    int32_t row_bytes = row_bytes_of(attn);
    bool bulk = attn->cuda->properties.capability >= 90;
    char name[64];

    snprintf(name, sizeof(name), "qr_attn_decode_%s_d%d_n%d_%s", type_names[c->kv_type], head_dim,
             attn->chain_queries > 8 ? 2 : 1, bulk ? "bulk" : "async");
    QR_TRY(qr_cuda_find_kernel(attn->cuda, name, QR_ATTENTION_THREADS,
                               qr_decode_shared_bytes(row_bytes, head_dim, attn->chain_queries),
                               &attn->decode, err));
    snprintf(name, sizeof(name), "qr_attn_prefill_%s_d%d", type_names[c->kv_type], head_dim);
    QR_TRY(qr_cuda_find_kernel(attn->cuda, name, QR_ATTENTION_THREADS,
                               qr_prefill_shared_bytes(row_bytes, head_dim), &attn->prefill, err));
    QR_TRY(find_wide_kernel(attn, err));
    return qr_cuda_find_kernel(attn->cuda, "qr_attn_merge", QR_ATTENTION_THREADS,
                               (int32_t)sizeof(struct qr_merge_shared), &attn->merge, err);
}

static enum qr_status find_kernels(struct qr_cuda_attention *attn, struct qr_error *err)
{
    const struct qr_cuda_attention_config *c = &attn->config;
    const char *activation = type_names[c->activation], *kv = type_names[c->kv_type];
    char name[64];

    if (attn->is_generic) {
        snprintf(name, sizeof(name), "qr_attn_generic_%s_%s", activation, kv);
        QR_TRY(qr_cuda_find_kernel(attn->cuda, name, QR_ATTENTION_THREADS,
                                   QR_ATTENTION_WARPS * c->kv.head_dim * 4, &attn->generic, err));
    } else {
        QR_TRY(find_mma_kernels(attn, err));
    }
    snprintf(name, sizeof(name), "qr_write_kv_%s_%s", activation, kv);
    QR_TRY(qr_cuda_find_kernel(attn->cuda, name, QR_WRITE_THREADS, 0, &attn->write_kv, err));
    QR_TRY(qr_cuda_find_kernel(attn->cuda, "qr_copy_pages", QR_COPY_THREADS, 0, &attn->copy_pages,
                               err));
    return qr_cuda_find_kernel(attn->cuda, "qr_transfer_pages", QR_COPY_THREADS, 0,
                               &attn->transfer_pages, err);
}

/* How many split states a plan may use: as many as any step could make, but no more than fill
 * n_bytes, which a plan that cuts less can always live with. */
static int32_t states_wanted(const struct qr_cuda_attention *attn, int64_t n_bytes)
{
    const struct qr_cuda_attention_config *c = &attn->config;
    int64_t splits = ((int64_t)c->max_blocks * c->kv.page_size + QR_CUDA_SPLIT - 1) / QR_CUDA_SPLIT;
    int64_t all = splits * c->max_seqs * attn->n_chains;
    int64_t fit = n_bytes / ((int64_t)sizeof(float) * attn->state_floats);

    if (fit < 2 * attn->n_ctas)
        fit = 2 * attn->n_ctas;
    return (int32_t)(all < fit ? all : fit);
}

static size_t align_device(size_t n_bytes)
{
    return (n_bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

static void size_memory(struct qr_cuda_attention *attn)
{
    int64_t n_states = 0;
    size_t totals = 0;
    if (!attn->is_generic) {
        const struct qr_cuda_attention_config *c = &attn->config;
        attn->state_floats = ((int64_t)attn->chain_queries * (c->kv.head_dim + 3) + 3) & ~3;
        attn->max_states = states_wanted(attn, STATE_BYTES);
        attn->max_parts = c->no_ranges ? 0 : states_wanted(attn, PART_BYTES);
        n_states = attn->max_states + attn->max_parts;
        totals = (size_t)attn->n_prefill_ctas * (size_t)qr_prefill_total_floats(c->kv.head_dim);
    }
    attn->plan_bytes = align_device(qr_attention_plan_bytes(attn));
    attn->state_bytes = align_device((size_t)(n_states * attn->state_floats) * sizeof(float));
    attn->device_bytes =
        attn->plan_bytes + attn->state_bytes + align_device(totals * sizeof(float));
    attn->host_bytes = 2 * attn->plan_bytes + align_device(qr_attention_scratch_bytes(attn));
}

enum qr_status qr_cuda_attention_open(struct qr_cuda *cuda,
                                      const struct qr_cuda_attention_config *config,
                                      struct qr_cuda_attention *out, struct qr_error *err)
{
    QR_TRY(check_config(config, err));
    *out = (struct qr_cuda_attention){.cuda = cuda, .config = *config};
    out->config.k_scale = config->k_scale != 0.0f ? config->k_scale : 1.0f;
    out->config.v_scale = config->v_scale != 0.0f ? config->v_scale : 1.0f;
    if (config->rotary_dim == 0)
        out->config.rotary_dim = config->kv.head_dim;

    int32_t group = config->n_heads / config->kv.n_kv_heads;
    int32_t most = qr_decode_max_queries(config->kv.head_dim);
    out->chain_queries = group < most ? group : most;
    out->n_chains = config->kv.n_kv_heads * ((group + out->chain_queries - 1) / out->chain_queries);
    out->queries_per_item = qr_prefill_queries(config->kv.head_dim);
    out->is_generic = !has_mma_kernel(out);
    QR_TRY(find_kernels(out, err));
    out->n_sms = cuda->properties.n_sms;
    out->overlaps = cuda->launch_early;
    out->n_ctas = out->n_sms * out->decode.blocks_per_sm;
    out->n_prefill_ctas = out->n_sms * out->prefill.blocks_per_sm;
    size_memory(out);
    return QR_OK;
}

void qr_cuda_attention_set_memory(struct qr_cuda_attention *attn, qr_cu_address device, void *host)
{
    QR_ASSERT(device % ALIGNMENT == 0);
    attn->plan = device;
    attn->states = device + attn->plan_bytes;
    attn->totals = attn->states + attn->state_bytes;
    attn->host = host;
    attn->turn = 0;
}

void qr_cuda_attention_plan(struct qr_cuda_attention *attn, const struct qr_attention_batch *batch)
{
    unsigned char *plan = attn->host + (size_t)attn->turn * attn->plan_bytes;
    size_t n_bytes = qr_attention_plan_write(attn, batch, attn->host + 2 * attn->plan_bytes,
                                             (struct qr_attention_plan *)(void *)plan);
    attn->turn ^= 1;
    qr_cuda_copy_to_device(attn->cuda, "the plan of attention", attn->plan, plan, n_bytes);
}

/* ---- launches ---- */

/* Device addresses in the parameters of kernels are pointers there. */
static void *on_device(qr_cu_address address)
{
    return (void *)(uintptr_t)address; // NOLINT(performance-no-int-to-ptr)
}

static struct qr_kv_place kv_place(const struct qr_cuda_attention *attn, int32_t layer,
                                   qr_cu_address kv_pool)
{
    const struct qr_kv_geometry *kv = &attn->config.kv;
    int64_t size = (int64_t)qr_dtype_size(attn->config.kv_type);
    int64_t head_bytes = (int64_t)kv->page_size * kv->head_dim * size;

    QR_ASSERT(layer >= 0 && layer < kv->n_layers);
    return (struct qr_kv_place){
        .pool = on_device(kv_pool + (uint64_t)(2 * layer * kv->n_kv_heads * head_bytes)),
        .page_bytes = (int64_t)qr_cuda_kv_page_bytes(kv, attn->config.kv_type),
        .head_bytes = head_bytes,
        .value_bytes = kv->n_kv_heads * head_bytes,
        .page_shift = __builtin_ctz((unsigned)kv->page_size),
    };
}

void qr_cuda_rope_and_write_kv(struct qr_cuda_attention *attn, int32_t layer, qr_cu_address q,
                               qr_cu_address k, qr_cu_address v, qr_cu_address rope_table,
                               qr_cu_address kv_pool)
{
    const struct qr_cuda_attention_config *c = &attn->config;
    bool scaled = c->kv_type == QR_DTYPE_E4M3;
    struct qr_write_kv_params params = {
        .plan = on_device(attn->plan),
        .q = on_device(q),
        .k = on_device(k),
        .v = on_device(v),
        .rope = on_device(rope_table),
        .kv = kv_place(attn, layer, kv_pool),
        .k_scale = scaled ? 1.0f / c->k_scale : 1.0f,
        .v_scale = scaled ? 1.0f / c->v_scale : 1.0f,
        .n_heads = c->n_heads,
        .n_kv_heads = c->kv.n_kv_heads,
        .head_dim = c->kv.head_dim,
        .rotary_dim = rope_table != 0 ? c->rotary_dim : 0,
    };
    int32_t most = attn->cuda->properties.n_sms * SMALL_GRID;
    qr_cuda_launch(attn->cuda, &attn->write_kv, attn->n_rows < most ? attn->n_rows : most, 1,
                   &params);
}

static struct qr_attend_kernel_params kernel_params(const struct qr_cuda_attention *attn,
                                                    const struct qr_cuda_attend_params *a)
{
    const struct qr_cuda_attention_config *c = &attn->config;
    bool scaled = c->kv_type == QR_DTYPE_E4M3;
    float scale = a->scale * (scaled ? c->k_scale : 1.0f);

    QR_ASSERT(scale > 0.0f && a->soft_cap >= 0.0f && (!a->sliding || c->window > 0));
    return (struct qr_attend_kernel_params){
        .plan = on_device(attn->plan),
        .q = on_device(a->q),
        .out = on_device(a->out),
        .states = on_device(attn->states),
        .totals = on_device(attn->totals),
        .kv = kv_place(attn, a->layer, a->kv_pool),
        .state_floats = attn->state_floats,
        .scale = (a->soft_cap != 0.0f ? a->soft_cap : scale) * LOG2_E,
        .cap_in = a->soft_cap != 0.0f ? 2.0f * LOG2_E * scale / a->soft_cap : 0.0f,
        .v_scale = scaled ? c->v_scale : 1.0f,
        .sliding = a->sliding,
        .window = a->sliding ? c->window : 0,
        .n_heads = c->n_heads,
        .n_kv_heads = c->kv.n_kv_heads,
        .group = c->n_heads / c->kv.n_kv_heads,
        .chain_queries = attn->chain_queries,
        .head_dim = c->kv.head_dim,
        .activation_is_bf16 = c->activation == QR_DTYPE_BF16,
    };
}

void qr_cuda_attend(struct qr_cuda_attention *attn, const struct qr_cuda_attend_params *a)
{
    struct qr_attend_kernel_params params = kernel_params(attn, a);
    struct qr_cuda *cuda = attn->cuda;
    int32_t n_sms = attn->n_sms;

    if (attn->launches & QR_ATTENTION_LAUNCHES_GENERIC)
        qr_cuda_launch(cuda, &attn->generic, n_sms * attn->generic.blocks_per_sm, 1, &params);
    if (attn->launches & QR_ATTENTION_LAUNCHES_RANGES) {
        params.in_ranges = 1;
        qr_cuda_launch(cuda, &attn->prefill, attn->n_prefill_ctas, 1, &params);
    }
    if (attn->launches & QR_ATTENTION_LAUNCHES_DECODE) {
        qr_cuda_launch(cuda, &attn->decode, attn->n_ctas, 1, &params);
        qr_cuda_launch(cuda, &attn->merge, n_sms * SMALL_GRID, 1, &params);
        params.in_ranges = 0;
    }
    if (attn->launches & QR_ATTENTION_LAUNCHES_PREFILL)
        qr_cuda_launch(cuda, &attn->prefill, attn->n_prefill_ctas, 1, &params);
    if (attn->launches & QR_ATTENTION_LAUNCHES_WIDE)
        qr_cuda_launch(cuda, &attn->wide, n_sms * attn->wide.blocks_per_sm, 1, &params);
}

/* ---- pages ---- */

/* Adds a copy to a launch in which all happen at once, so no page in it is both read and written.
 * False: the copy must come after the launch, as it writes what is read there. */
static bool add_copy(struct qr_copy_pages_params *launch, struct qr_page_copy copy)
{
    int32_t at = launch->n_copies;

    for (int32_t i = 0; i < launch->n_copies; i++) {
        if (launch->from[i] == copy.to)
            return false;
        if (launch->to[i] == copy.from)
            copy.from = launch->from[i]; /* what the page will hold */
        if (launch->to[i] == copy.to)
            at = i; /* written twice: the later copy counts */
    }
    if (at == launch->n_copies && at == QR_PAGES_A_LAUNCH)
        return false;
    launch->from[at] = copy.from;
    launch->to[at] = copy.to;
    launch->n_copies += at == launch->n_copies;
    return true;
}

static void launch_copies(struct qr_cuda_attention *attn, struct qr_copy_pages_params *launch)
{
    if (launch->n_copies > 0)
        qr_cuda_launch(attn->cuda, &attn->copy_pages, COPY_BLOCKS_OF_A_PAGE, launch->n_copies,
                       launch);
    launch->n_copies = 0;
}

void qr_cuda_copy_pages(struct qr_cuda_attention *attn, qr_cu_address kv_pool,
                        const struct qr_page_copy *copies, int32_t n_copies)
{
    struct qr_copy_pages_params launch = {
        .pool = on_device(kv_pool),
        .page_bytes = (int64_t)qr_cuda_kv_page_bytes(&attn->config.kv, attn->config.kv_type),
    };
    for (int32_t i = 0; i < n_copies; i++) {
        if (copies[i].from == copies[i].to)
            continue;
        if (!add_copy(&launch, copies[i])) {
            launch_copies(attn, &launch);
            (void)add_copy(&launch, copies[i]);
        }
    }
    launch_copies(attn, &launch);
}

qr_cu_result qr_cuda_transfer_pages(const struct qr_cuda_attention *attn,
                                    const struct qr_page_transfer *transfer)
{
    struct qr_transfer_pages_params params = {
        .pool = on_device(transfer->kv_pool),
        .page_bytes = (int64_t)qr_cuda_kv_page_bytes(&attn->config.kv, attn->config.kv_type),
        .to_host = transfer->to_host,
    };
    struct qr_cu_launch_config config = {
        .grid_x = TRANSFER_BLOCKS,
        .grid_y = 1,
        .grid_z = 1,
        .block_x = QR_COPY_THREADS,
        .block_y = 1,
        .block_z = 1,
        .stream = transfer->stream,
    };
    void *args[] = {&params};
    qr_cu_result result = QR_CU_OK;

    for (int32_t i = 0; i < transfer->n_pages && result == QR_CU_OK;) {
        for (params.n_pages = 0; params.n_pages < QR_PAGES_A_LAUNCH && i < transfer->n_pages; i++) {
            params.pages[params.n_pages] = transfer->pages[i];
            params.host[params.n_pages++] = transfer->host[i];
        }
        result = attn->cuda->driver->launch_kernel_ex(&config, attn->transfer_pages.function, args,
                                                      NULL);
    }
    return result;
}
