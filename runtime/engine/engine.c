/* engine.c - see engine.h for the contract: making, taking apart, and what others ask. */
#include "runtime/engine/engine.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "runtime/engine/engine_internal.h"
#include "runtime/weights/synthetic.h"

enum {
    MIN_LOGIT_ROWS = 64,          /* so that scoring a text is not one row at a time */
    DEFAULT_KV_BYTES = 512 << 20, /* or less, where that holds everything that can run */
};

void qr_engine_config_default(struct qr_engine_config *config)
{
    *config = (struct qr_engine_config){
        .backend = "auto",
        .isa = "auto",
        .page_size = 16,
        .max_batch_tokens = 512,
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
    if (config->max_batch_tokens < config->max_running)
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

    struct qr_device_config device = {.n_threads = config->n_threads, .isa = config->isa};
    struct qr_model_limits limits = {.max_rows = config->max_batch_tokens,
                                     .max_logit_rows = engine->max_logit_rows,
                                     .max_positions = config->max_context};
    QR_TRY(qr_device_open(config->backend, &device, &engine->dev, err));
    QR_TRY(qr_model_open(path, engine->dev, &limits, &engine->model, err));
    QR_TRY(qr_is_synthetic(path) ? qr_tokenizer_open_bytes(&engine->tokenizer, err)
                                 : qr_tokenizer_open(path, &engine->tokenizer, err));
    engine->model_config = *qr_model_get_config(engine->model);
    merge_eos(&engine->model_config, qr_tokenizer_eos_id(engine->tokenizer));
    if (qr_tokenizer_vocab_size(engine->tokenizer) > engine->model_config.vocab_size)
        return qr_fail(err, QR_ERR_INVALID,
                       "%s: the tokenizer has %d ids, the model's vocab_size is only %d", path,
                       qr_tokenizer_vocab_size(engine->tokenizer), engine->model_config.vocab_size);
    return QR_OK;
}

static int32_t ceil_div(int64_t a, int64_t b)
{
    int64_t quotient = (a + b - 1) / b;
    return quotient > INT32_MAX ? INT32_MAX : (int32_t)quotient;
}

/* How many pages: as asked for, else enough for everything that can run, within a default. */
static enum qr_status size_kv_pool(struct qr_engine *engine, struct qr_error *err)
{
    struct qr_engine_config *config = &engine->config;
    const struct qr_model_config *model = &engine->model_config;
    engine->kv = (struct qr_kv_geometry){.n_layers = model->n_layers,
                                         .n_kv_heads = model->n_kv_heads,
                                         .head_dim = model->head_dim,
                                         .page_size = config->page_size};
    engine->page_bytes = qr_kv_page_floats(&engine->kv) * engine->dev->ops->kv_size;
    int64_t page_bytes = (int64_t)engine->page_bytes;
    int32_t context = model->max_position;
    if (config->max_context > 0 && config->max_context < context)
        context = config->max_context;

    if (config->kv_memory > 0) {
        int64_t pages = config->kv_memory / page_bytes;
        config->kv_pages = pages > INT32_MAX ? INT32_MAX : (int32_t)pages;
    } else if (config->kv_pages == 0) {
        int64_t wanted = (int64_t)ceil_div(context, config->page_size) * config->max_running;
        int64_t within = DEFAULT_KV_BYTES / page_bytes;
        int64_t one = ceil_div(context, config->page_size);
        int64_t pages = wanted < within ? wanted : within;
        config->kv_pages = (int32_t)(pages > one ? pages : one);
    }
    config->kv_memory = config->kv_pages * page_bytes;
    if (config->kv_pages < 1)
        return qr_fail(err, QR_ERR_INVALID,
                       "kv_memory holds no page: one page of %d tokens takes %lld bytes",
                       config->page_size, (long long)page_bytes);

    int64_t slots = (int64_t)config->kv_pages * config->page_size;
    engine->max_seq_tokens = slots < context ? (int32_t)slots : context;
    if (slots < context)
        qr_log(QR_LOG_WARN, "kv_pool_small",
               "context=%d reduced_to=%lld hint=\"raise --kv-memory\"", context, (long long)slots);
    engine->kv_pool = engine->dev->ops->alloc(engine->dev, (size_t)config->kv_memory);
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
    struct qr_scheduler_config sched = {
        .max_batch_tokens = config->max_batch_tokens,
        .max_running = config->max_running,
        .max_waiting = config->max_queue,
        .max_parked = config->max_queue,
        .max_logit_rows = engine->max_logit_rows,
        .max_prefill_chunk = config->max_prefill_chunk,
        .discipline = config->discipline,
    };
    engine->n_slots = qr_scheduler_n_slots(&sched);
    struct qr_block_manager_config blocks = {
        .page_count = config->kv_pages,
        .page_size = config->page_size,
        .max_sequences = engine->n_slots,
        .max_seq_tokens = engine->max_seq_tokens,
        .max_transfers = engine->swap.max_transfers,
        .prefix_cache = config->prefix_cache,
    };
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
    struct qr_step_arrays *arrays = &engine->arrays;
    size_t rows = (size_t)config->max_batch_tokens;
    size_t seqs = (size_t)config->max_running;
    size_t blocks = (size_t)qr_block_manager_max_blocks(engine->blocks);
    size_t logit_rows = (size_t)engine->max_logit_rows;
    size_t vocab = (size_t)engine->model_config.vocab_size;
    size_t slots = (size_t)engine->n_slots;
    const enum qr_arena arena = QR_ARENA_ENGINE;

    arrays->token_ids = qr_calloc(arena, rows, sizeof(int32_t));
    arrays->positions = qr_calloc(arena, rows, sizeof(int32_t));
    arrays->logit_rows = qr_calloc(arena, logit_rows, sizeof(int32_t));
    arrays->query_start = qr_calloc(arena, seqs + 1, sizeof(int32_t));
    arrays->context_length = qr_calloc(arena, seqs, sizeof(int32_t));
    arrays->block_table = qr_calloc(arena, seqs * blocks, sizeof(int32_t));
    arrays->logits = qr_malloc(arena, logit_rows * vocab * sizeof(float));
    engine->by_slot = qr_calloc(arena, slots, sizeof(struct qr_generation *));
    engine->live = qr_calloc(arena, slots, sizeof(struct qr_group *));
    engine->woken = qr_calloc(arena, slots, sizeof(struct qr_wake_group *));
    bool ok = arrays->token_ids != NULL && arrays->positions != NULL &&
              arrays->logit_rows != NULL && arrays->query_start != NULL &&
              arrays->context_length != NULL && arrays->block_table != NULL &&
              arrays->logits != NULL && engine->by_slot != NULL && engine->live != NULL &&
              engine->woken != NULL;
    return ok ? QR_OK : QR_ERR_NOMEM;
}

static void free_arrays(struct qr_engine *engine)
{
    struct qr_step_arrays *arrays = &engine->arrays;

    qr_free(arrays->token_ids);
    qr_free(arrays->positions);
    qr_free(arrays->logit_rows);
    qr_free(arrays->query_start);
    qr_free(arrays->context_length);
    qr_free(arrays->block_table);
    qr_free(arrays->logits);
    qr_free(engine->by_slot);
    qr_free(engine->live);
    qr_free(engine->woken);
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
    if ((status = make_scheduler(engine, err)) != QR_OK)
        goto fail;
    if ((status = qr_engine_swap_open(engine, err)) != QR_OK)
        goto fail;
    qr_engine_hand_over_costs(engine);
    if ((status = allocate_arrays(engine)) != QR_OK ||
        (status = qr_sampler_create(engine->model_config.vocab_size, &engine->sampler)) != QR_OK) {
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
    return qr_model_config_kv_bytes_per_token(&engine->model_config,
                                              (int64_t)engine->dev->ops->kv_size);
}

const char *qr_engine_backend(const struct qr_engine *engine)
{
    return engine->dev->ops->name;
}
