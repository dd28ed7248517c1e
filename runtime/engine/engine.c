/* engine.c - see engine.h for the contract: making, taking apart, and what others ask. */
#include "runtime/engine/engine.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "runtime/engine/engine_internal.h"
#include "runtime/engine/kv_pool.h"
#include "runtime/models/model_tokenizer.h"

enum {
    MIN_LOGIT_ROWS = 64, /* so that scoring a text is not one row at a time */
    EDITS_A_ROW = 2048,  /* of logits, on average: one row may have those of all */
    /* Rows of a step, unless told: with more a processor is no faster, and holds more memory. */
    CPU_BATCH_TOKENS = 192,
    GPU_BATCH_TOKENS = 512,
};

void qr_engine_config_default(struct qr_engine_config *config)
{
    *config = (struct qr_engine_config){
        .backend = "auto",
        .device = -1,
        .isa = "auto",
        .page_size = 16,
        .max_stall_ms = 60,
        .max_running = 64,
        .max_queue = 1024,
        .prefix_cache = true,
        .discipline = QR_DISCIPLINE_COST,
    };
}

static enum qr_status check_config(const struct qr_engine_config *config, struct qr_error *err)
{
    int32_t page_size = config->page_size;

    if (page_size < 8 || page_size > 256 || (page_size & (page_size - 1)) != 0)
        return qr_fail(err, QR_ERR_INVALID, "page_size is %d; use a power of two from 8 to 256",
                       page_size);
    if (config->max_running < 1 || config->max_queue < 1)
        return qr_fail(err, QR_ERR_INVALID, "max_running is %d and max_queue %d; both need 1",
                       config->max_running, config->max_queue);
    if (config->max_batch_tokens != 0 && config->max_batch_tokens < config->max_running)
        return qr_fail(err, QR_ERR_INVALID,
                       "max_batch_tokens is %d, less than max_running (%d): a step must hold one "
                       "token of each running sequence",
                       config->max_batch_tokens, config->max_running);
    return QR_OK;
}

/* The demo model stands in the source tree, or beside the installed binary. */
static enum qr_status find_demo_model(char *path, size_t size, struct qr_error *err)
{
    static const char *const places[] = {"../../models/demo", "../share/quire/models/demo"};
    char exe[1024];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

    if (n > 0) {
        exe[n] = '\0';
        char *slash = strrchr(exe, '/');
        if (slash != NULL)
            *slash = '\0';
        for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
            char config[1400];
            snprintf(path, size, "%s/%s", exe, places[i]);
            snprintf(config, sizeof(config), "%s/config.json", path);
            if (access(config, R_OK) == 0)
                return QR_OK;
        }
    }
    return qr_fail(err, QR_ERR_NOT_FOUND,
                   "the demo model is not beside the binary (models/demo); give --model PATH");
}

static void name_model(struct qr_engine *engine, const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    size_t start = length;
    while (start > 0 && path[start - 1] != '/')
        start--;
    snprintf(engine->model_name, sizeof(engine->model_name), "%.*s", (int)(length - start),
             path + start);
}

/* End-of-text ids that only the tokenizer knows of end a sequence too. */
static void merge_eos(struct qr_model_config *config, int32_t id)
{
    if (id < 0 || config->n_eos == QR_MODEL_MAX_EOS)
        return;
    for (int32_t i = 0; i < config->n_eos; i++) {
        if (config->eos_ids[i] == id)
            return;
    }
    config->eos_ids[config->n_eos++] = id;
}

static void choose_batch_tokens(struct qr_engine *engine)
{
    struct qr_engine_config *config = &engine->config;
    int32_t n = engine->dev->computes_beside ? GPU_BATCH_TOKENS : CPU_BATCH_TOKENS;

    if (config->max_batch_tokens == 0)
        config->max_batch_tokens = n > config->max_running ? n : config->max_running;
}

/* Every sequence may draw once in a step, and several from one row, as far as there is room. */
static int32_t max_draws(const struct qr_engine *engine)
{
    return engine->config.max_running + qr_engine_max_first_draws(engine);
}

static enum qr_status open_model(struct qr_engine *engine, struct qr_error *err)
{
    struct qr_engine_config *config = &engine->config;
    char demo_path[1280];
    const char *path = config->model_path;

    if (path == NULL) {
        QR_TRY(find_demo_model(demo_path, sizeof(demo_path), err));
        path = demo_path;
    }
    name_model(engine, path);
    engine->max_logit_rows =
        config->max_running > MIN_LOGIT_ROWS ? config->max_running : MIN_LOGIT_ROWS;
    engine->max_edits = EDITS_A_ROW * engine->max_logit_rows;

    struct qr_device_config device = {
        .n_threads = config->n_threads,
        .isa = config->isa,
        .device = config->device,
        .weights = config->weights,
        .quantize = config->quantize,
        .weights_cache = config->weights_cache,
        .deterministic = config->deterministic,
    };
    QR_TRY(qr_device_open(config->backend, &device, &engine->dev, err));
    choose_batch_tokens(engine);
    struct qr_model_limits limits = {.max_rows = config->max_batch_tokens,
                                     .max_logit_rows = engine->max_logit_rows,
                                     .max_positions = config->max_context,
                                     .max_seqs = config->max_running,
                                     .max_draws = max_draws(engine),
                                     .max_edits = engine->max_edits,
                                     .page_size = config->page_size,
                                     .kv_dtype = config->kv_dtype};
    QR_TRY(qr_model_open(path, engine->dev, &limits, &engine->model, err));
    QR_TRY(qr_model_open_tokenizer(path, &engine->tokenizer, err));
    engine->model_config = *qr_model_get_config(engine->model);
    merge_eos(&engine->model_config, qr_tokenizer_eos_id(engine->tokenizer));
    if (qr_tokenizer_vocab_size(engine->tokenizer) > engine->model_config.vocab_size)
        return qr_fail(err, QR_ERR_INVALID,
                       "%s: the tokenizer has %d ids, the model's vocab_size is only %d", path,
                       qr_tokenizer_vocab_size(engine->tokenizer), engine->model_config.vocab_size);
    return QR_OK;
}

static struct qr_scheduler_config scheduler_config(const struct qr_engine *engine)
{
    const struct qr_engine_config *config = &engine->config;

    return (struct qr_scheduler_config){
        .max_batch_tokens = config->max_batch_tokens,
        .max_running = config->max_running,
        .max_waiting = config->max_queue,
        .max_parked = config->max_queue,
        .max_logit_rows = engine->max_logit_rows,
        .max_prefill_chunk = config->max_prefill_chunk,
        .max_stall_ms = config->max_stall_ms,
        .discipline = config->discipline,
    };
}

/* What does not depend on the pool. */
static struct qr_block_manager_config blocks_config(const struct qr_engine *engine)
{
    const struct qr_scheduler_config sched = scheduler_config(engine);

    return (struct qr_block_manager_config){
        .page_size = engine->config.page_size,
        .max_sequences = qr_scheduler_n_slots(&sched),
        .window = qr_model_config_kv_window(&engine->model_config),
        .max_rows = qr_scheduler_max_rows(&sched),
        .prefix_cache = engine->config.prefix_cache,
    };
}

static enum qr_status size_kv_pool(struct qr_engine *engine, struct qr_error *err)
{
    struct qr_engine_config *config = &engine->config;
    const struct qr_model_config *model = &engine->model_config;
    struct qr_device *dev = engine->dev;

    engine->kv = (struct qr_kv_geometry){.n_layers = model->n_layers,
                                         .n_kv_heads = model->n_kv_heads,
                                         .head_dim = model->head_dim,
                                         .page_size = config->page_size};
    engine->page_bytes = qr_kv_page_bytes(dev, &engine->kv);
    int32_t context = model->max_position;
    if (config->max_context > 0 && config->max_context < context)
        context = config->max_context;
    struct qr_block_manager_config longest = blocks_config(engine);
    longest.max_seq_tokens = context;
    int32_t n_held = qr_block_manager_most_held(&longest);

    const struct qr_kv_pool_wish wish = {.kv_memory = config->kv_memory,
                                         .kv_pages = config->kv_pages,
                                         .page_bytes = (int64_t)engine->page_bytes,
                                         .page_size = config->page_size,
                                         .context = n_held * config->page_size,
                                         .max_running = config->max_running,
                                         .available = dev->ops->kv_memory_available(dev)};
    QR_TRY(qr_kv_pool_size(&wish, &config->kv_pages, err));
    config->kv_memory = config->kv_pages * wish.page_bytes;

    engine->max_seq_tokens = context;
    if (config->kv_pages < n_held) {
        engine->max_seq_tokens = config->kv_pages * config->page_size;
        qr_log(QR_LOG_WARN, "kv_pool_small",
               "context=%d reduced_to=%d hint=\"raise --kv-memory%s\"", context,
               engine->max_seq_tokens, longest.window > 0 ? " or lower --max-prefill-chunk" : "");
    }
    engine->kv_pool = dev->ops->alloc(dev, (size_t)config->kv_memory, QR_MEMORY_KV);
    if (engine->kv_pool == NULL)
        return qr_fail(err, QR_ERR_NOMEM,
                       "cannot get %lld bytes for the KV pool; lower --kv-memory",
                       (long long)config->kv_memory);
    return QR_OK;
}

static enum qr_status start_recording(struct qr_engine *engine,
                                      const struct qr_block_manager_config *blocks,
                                      const struct qr_scheduler_config *sched, struct qr_error *err)
{
    struct qr_record_origin origin;

    if (engine->config.record == NULL)
        return QR_OK;
    QR_TRY(qr_record_file_open(engine->config.record, 0, &engine->record_file, err));
    struct qr_record_sink sink = qr_record_file_sink(engine->record_file);
    qr_record_file_origin(&origin);
    enum qr_status status = qr_recorder_create(&origin, blocks, sched, &sink, &engine->recorder);
    if (status != QR_OK)
        return qr_fail(err, status, "out of memory for the flight recorder");
    qr_scheduler_set_recorder(engine->sched, engine->recorder);
    return QR_OK;
}

static void set_tenants(struct qr_engine *engine)
{
    for (int32_t i = 0; i < engine->tenants.n_configured; i++) {
        const struct qr_tenant_entry *tenant = &engine->tenants.items[i];
        qr_scheduler_set_tenant(engine->sched, i, tenant->weight, tenant->max_pages);
    }
}

static enum qr_status make_scheduler(struct qr_engine *engine, struct qr_error *err)
{
    const struct qr_engine_config *config = &engine->config;
    struct qr_scheduler_config sched = scheduler_config(engine);
    struct qr_block_manager_config blocks = blocks_config(engine);

    engine->n_slots = blocks.max_sequences;
    blocks.page_count = config->kv_pages;
    blocks.max_seq_tokens = engine->max_seq_tokens;
    blocks.max_transfers = engine->swap.max_transfers;
    memcpy(blocks.tier_slots, engine->swap.tier_slots, sizeof(blocks.tier_slots));
    enum qr_status status = qr_block_manager_create(&blocks, &engine->blocks);
    if (status == QR_OK)
        status = qr_scheduler_create(&sched, engine->blocks, &engine->sched);
    if (status != QR_OK)
        return qr_fail(err, status, "cannot make a scheduler for %d pages of %d tokens: %s",
                       config->kv_pages, config->page_size, qr_status_name(status));
    QR_TRY(start_recording(engine, &blocks, &sched, err));
    set_tenants(engine);
    return QR_OK;
}

static enum qr_status allocate_arrays(struct qr_engine *engine)
{
    const struct qr_engine_config *config = &engine->config;
    const struct qr_batch_sizes sizes = {.n_rows = config->max_batch_tokens,
                                         .n_logit_rows = engine->max_logit_rows,
                                         .n_draws = max_draws(engine),
                                         .n_edits = engine->max_edits,
                                         .n_seqs = config->max_running,
                                         .n_blocks = qr_block_manager_max_blocks(engine->blocks)};
    size_t slots = (size_t)engine->n_slots;
    const enum qr_arena arena = QR_ARENA_ENGINE;

    QR_TRY(qr_batch_arrays_make(&sizes, &engine->arrays));
    engine->by_slot = qr_calloc(arena, slots, sizeof(struct qr_generation *));
    engine->live = qr_calloc(arena, slots, sizeof(struct qr_group *));
    engine->woken = qr_calloc(arena, slots, sizeof(struct qr_wake_group *));
    engine->step.entries = qr_calloc(arena, slots, sizeof(*engine->step.entries));
    bool ok = engine->by_slot != NULL && engine->live != NULL && engine->woken != NULL &&
              engine->step.entries != NULL;
    return ok ? QR_OK : QR_ERR_NOMEM;
}

static void free_arrays(struct qr_engine *engine)
{
    qr_batch_arrays_free(&engine->arrays);
    qr_free(engine->by_slot);
    qr_free(engine->live);
    qr_free(engine->woken);
    qr_free(engine->step.entries);
}

static void init_locks(struct qr_engine *engine)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* deadlines are of this clock */
    pthread_cond_init(&engine->inbox.bell.rung_cond, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&engine->inbox.bell.mutex, NULL);
    pthread_mutex_init(&engine->stats_mutex, NULL);
}

enum qr_status qr_engine_create(const struct qr_engine_config *config, struct qr_engine **out,
                                struct qr_error *err)
{
    enum qr_status status;

    *out = NULL;
    QR_TRY(check_config(config, err));
    struct qr_engine *engine = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*engine));
    if (engine == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory");
    engine->config = *config;
    init_locks(engine);
    qr_step_costs_init(&engine->costs);
    if ((status = open_model(engine, err)) != QR_OK)
        goto fail;
    if ((status = size_kv_pool(engine, err)) != QR_OK)
        goto fail;
    if ((status = qr_tenants_configure(&engine->tenants, &config->tenants, engine->config.kv_pages,
                                       err)) != QR_OK)
        goto fail;
    if ((status = qr_engine_swap_size(engine, err)) != QR_OK)
        goto fail;
    if ((status = qr_model_capture(engine->model, &engine->kv, engine->kv_pool, err)) != QR_OK)
        goto fail;
    if ((status = make_scheduler(engine, err)) != QR_OK)
        goto fail;
    if ((status = qr_engine_swap_open(engine, err)) != QR_OK)
        goto fail;
    qr_engine_hand_over_costs(engine);
    if ((status = allocate_arrays(engine)) != QR_OK ||
        (status = qr_sampler_create(engine->model_config.vocab_size, qr_host_select_row(),
                                    &engine->sampler)) != QR_OK) {
        status = qr_fail(err, status, "out of memory for the arrays of a step");
        goto fail;
    }
    qr_engine_publish_stats(engine);
    if (pthread_create(&engine->thread, NULL, qr_engine_main, engine) != 0) {
        status = qr_fail(err, QR_ERR_NOMEM, "cannot start the engine thread");
        goto fail;
    }
    engine->thread_started = true;
    *out = engine;
    return QR_OK;

fail:
    qr_engine_destroy(engine);
    return status;
}

static void stop_thread(struct qr_engine *engine)
{
    pthread_mutex_lock(&engine->inbox.bell.mutex);
    engine->inbox.draining = engine->inbox.stopping = true;
    pthread_mutex_unlock(&engine->inbox.bell.mutex);
    qr_bell_ring(&engine->inbox.bell);
    pthread_join(engine->thread, NULL);
}

void qr_engine_destroy(struct qr_engine *engine)
{
    if (engine == NULL)
        return;
    if (engine->thread_started)
        stop_thread(engine);
    qr_engine_swap_close(engine);
    qr_sampler_destroy(engine->sampler);
    free_arrays(engine);
    qr_scheduler_destroy(engine->sched);
    qr_recorder_destroy(engine->recorder);
    qr_record_file_close(engine->record_file);
    qr_block_manager_destroy(engine->blocks);
    if (engine->kv_pool != NULL)
        engine->dev->ops->free(engine->dev, engine->kv_pool);
    qr_tokenizer_close(engine->tokenizer);
    qr_model_close(engine->model);
    qr_device_close(engine->dev);
    pthread_mutex_destroy(&engine->stats_mutex);
    pthread_mutex_destroy(&engine->inbox.bell.mutex);
    pthread_cond_destroy(&engine->inbox.bell.rung_cond);
    qr_free(engine);
}

void qr_engine_drain(struct qr_engine *engine)
{
    pthread_mutex_lock(&engine->inbox.bell.mutex);
    engine->inbox.draining = true;
    pthread_mutex_unlock(&engine->inbox.bell.mutex);
}

bool qr_engine_is_idle(struct qr_engine *engine)
{
    return atomic_load(&engine->n_unfinished) == 0;
}

void qr_engine_get_stats(struct qr_engine *engine, struct qr_engine_stats *stats)
{
    pthread_mutex_lock(&engine->stats_mutex);
    *stats = engine->stats;
    pthread_mutex_unlock(&engine->stats_mutex);
    stats->n_rejected = atomic_load(&engine->n_rejected);
    pthread_mutex_lock(&engine->inbox.bell.mutex);
    if (engine->inbox.n_queued > stats->n_waiting)
        stats->n_waiting = engine->inbox.n_queued; /* some have not reached the scheduler yet */
    pthread_mutex_unlock(&engine->inbox.bell.mutex);
}

void qr_engine_set_hook(struct qr_engine *engine, const struct qr_engine_hook *hook)
{
    pthread_mutex_lock(&engine->inbox.bell.mutex);
    engine->hook = *hook;
    pthread_mutex_unlock(&engine->inbox.bell.mutex);
}

struct qr_swapper *qr_engine_swapper(struct qr_engine *engine)
{
    return engine->swap.swapper;
}

const struct qr_tokenizer *qr_engine_tokenizer(const struct qr_engine *engine)
{
    return engine->tokenizer;
}

const struct qr_model_config *qr_engine_model_config(const struct qr_engine *engine)
{
    return &engine->model_config;
}

const char *qr_engine_model_name(const struct qr_engine *engine)
{
    return engine->model_name;
}

int32_t qr_engine_max_seq_tokens(const struct qr_engine *engine)
{
    return engine->max_seq_tokens;
}

int64_t qr_engine_n_parameters(const struct qr_engine *engine)
{
    return qr_model_n_parameters(engine->model);
}

int64_t qr_engine_weight_bytes(const struct qr_engine *engine)
{
    return qr_model_weight_bytes(engine->model);
}

int64_t qr_engine_kv_bytes_per_token(const struct qr_engine *engine)
{
    return qr_model_config_kv_bytes_per_token(&engine->model_config, (int64_t)engine->dev->kv_size);
}

const char *qr_engine_backend(const struct qr_engine *engine)
{
    return engine->dev->ops->name;
}
