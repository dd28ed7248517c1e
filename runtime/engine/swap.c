/*
 * swap.c - pages between the device and the lower tiers, as the scheduler's plans want
 * it: handed to the swapper, never waited for.
 */
#include <math.h>

#include "base/alloc.h"
#include "base/log.h"
#include "runtime/engine/engine_internal.h"

enum { MAX_TRANSFERS = 64, DISK_ALIGNMENT = 4096 };

static const char *const tier_names[QR_TIER_COUNT] = {"host", "disk"};

/* Pages of `slot_bytes` that fit into a size of the command line. */
static enum qr_status size_tier(struct qr_engine *engine, enum qr_tier tier, int64_t bytes,
                                int64_t slot_bytes, struct qr_error *err)
{
    int64_t slots = bytes / slot_bytes;

    if (bytes > 0 && slots == 0)
        return qr_fail(err, QR_ERR_INVALID, "%s holds no page: one takes %lld bytes",
                       tier == QR_TIER_HOST ? "--swap-memory" : "--swap-disk",
                       (long long)slot_bytes);
    engine->swap.tier_slots[tier] = slots > INT32_MAX / 4 ? INT32_MAX / 4 : (int32_t)slots;
    return QR_OK;
}

enum qr_status qr_engine_swap_size(struct qr_engine *engine, struct qr_error *err)
{
    const struct qr_engine_config *config = &engine->config;
    int64_t page_bytes = (int64_t)engine->page_bytes;
    int64_t disk_bytes = (page_bytes + DISK_ALIGNMENT - 1) / DISK_ALIGNMENT * DISK_ALIGNMENT;

    if ((config->swap_dir != NULL) != (config->swap_disk > 0))
        return qr_fail(err, QR_ERR_INVALID, "--swap-dir and --swap-disk need each other");
    QR_TRY(size_tier(engine, QR_TIER_HOST, config->swap_memory, page_bytes, err));
    QR_TRY(size_tier(engine, QR_TIER_DISK, config->swap_disk, disk_bytes, err));
    if (engine->swap.tier_slots[QR_TIER_HOST] > 0 || engine->swap.tier_slots[QR_TIER_DISK] > 0)
        engine->swap.max_transfers = MAX_TRANSFERS;
    return QR_OK;
}

static bool read_pages(void *arg, int32_t n, const qr_page_id *pages, void *const *to)
{
    struct qr_engine *engine = arg;

    return engine->dev->ops->read_pages(engine->dev, engine->kv_pool, engine->page_bytes, n, pages,
                                        to);
}

static bool write_pages(void *arg, int32_t n, const qr_page_id *pages, const void *const *from)
{
    struct qr_engine *engine = arg;

    return engine->dev->ops->write_pages(engine->dev, engine->kv_pool, engine->page_bytes, n, pages,
                                         from);
}

static bool pin_memory(void *arg, void *memory, size_t n_bytes)
{
    struct qr_engine *engine = arg;

    return engine->dev->ops->pin_memory(engine->dev, memory, n_bytes);
}

static void unpin_memory(void *arg, void *memory)
{
    struct qr_engine *engine = arg;

    engine->dev->ops->unpin_memory(engine->dev, memory);
}

static void ring(void *bell)
{
    qr_bell_ring(bell);
}

enum qr_status qr_engine_swap_open(struct qr_engine *engine, struct qr_error *err)
{
    struct qr_engine_swap *swap = &engine->swap;
    struct qr_swapper_config config = {
        .page_bytes = engine->page_bytes,
        .dir = engine->config.swap_dir,
        .max_transfers = swap->max_transfers,
        .device = {.arg = engine, .read = read_pages, .write = write_pages},
        .notify = ring,
        .notify_arg = &engine->inbox.bell,
    };

    if (swap->max_transfers == 0)
        return QR_OK;
    if (engine->dev->ops->pin_memory != NULL) {
        config.device.pin = pin_memory;
        config.device.unpin = unpin_memory;
    }
    for (int i = 0; i < QR_TIER_COUNT; i++)
        config.tier_slots[i] = swap->tier_slots[i];
    swap->results = qr_calloc(QR_ARENA_ENGINE, (size_t)swap->max_transfers, sizeof(*swap->results));
    if (swap->results == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory");
    return qr_swapper_create(&config, &swap->swapper, err);
}

void qr_engine_swap_close(struct qr_engine *engine)
{
    qr_swapper_destroy(engine->swap.swapper);
    qr_free(engine->swap.results);
}

/* Looked at only when a transfer failed: a tier breaks by failing. */
static void close_broken(struct qr_engine *engine)
{
    struct qr_engine_swap *swap = &engine->swap;
    struct qr_swapper_stats stats;

    qr_swapper_get_stats(swap->swapper, &stats);
    if (!stats.disk_failed || swap->closed[QR_TIER_DISK])
        return;
    swap->closed[QR_TIER_DISK] = true;
    qr_scheduler_close_tier(engine->sched, QR_TIER_DISK);
    qr_log(QR_LOG_WARN, "swap_tier_closed", "tier=%s failed_out=%lld failed_in=%lld",
           tier_names[QR_TIER_DISK], (long long)stats.out[QR_TIER_DISK].n_failed,
           (long long)stats.in[QR_TIER_DISK].n_failed);
}

void qr_engine_swap_poll(struct qr_engine *engine)
{
    struct qr_engine_swap *swap = &engine->swap;
    bool failed = false;

    if (swap->swapper == NULL)
        return;
    int32_t n = qr_swapper_poll(swap->swapper, swap->results, swap->max_transfers);
    for (int32_t i = 0; i < n; i++) {
        qr_scheduler_transfer_done(engine->sched, swap->results[i].id, swap->results[i].ok);
        failed |= !swap->results[i].ok;
    }
    if (failed)
        close_broken(engine);
}

void qr_engine_move_pages(struct qr_engine *engine, const struct qr_plan *plan)
{
    for (int32_t i = 0; i < plan->n_copies; i++)
        engine->dev->ops->copy_page(engine->dev, engine->kv_pool, engine->page_bytes,
                                    plan->copies[i].from, plan->copies[i].to);
    if (plan->n_transfers > 0)
        qr_swapper_submit(engine->swap.swapper, plan->transfers, plan->n_transfers);
}

void qr_engine_swap_publish(const struct qr_engine *engine, const struct qr_block_stats *blocks,
                            struct qr_tier_stats *tiers)
{
    struct qr_swapper_stats stats = {.disk_failed = false};

    if (engine->swap.swapper != NULL)
        qr_swapper_get_stats(engine->swap.swapper, &stats);
    for (int i = 0; i < QR_TIER_COUNT; i++) {
        tiers[i] = (struct qr_tier_stats){
            .slots = blocks->tier_slots[i],
            .used = blocks->tier_used[i],
            .n_out = blocks->n_pages_out[i],
            .n_in = blocks->n_pages_in[i],
            .n_failed_out = blocks->n_failed_out[i],
            .n_failed_in = blocks->n_failed_in[i],
            .n_bad_checksums = stats.in[i].n_mismatch,
            .closed = engine->swap.closed[i],
        };
    }
}

void qr_engine_hand_over_costs(struct qr_engine *engine)
{
    struct qr_block_costs costs = {
        .row_ns = qr_step_costs_row_ns(&engine->costs),
        .row_position_ns = qr_step_costs_row_position_ns(&engine->costs),
    };
    struct qr_swapper_stats stats;

    if (engine->swap.swapper != NULL) {
        qr_swapper_get_stats(engine->swap.swapper, &stats);
        for (int i = 0; i < QR_TIER_COUNT; i++) {
            costs.page_out_ns[i] = stats.out[i].page_ns;
            costs.page_in_ns[i] = stats.in[i].page_ns;
        }
    }
    qr_scheduler_set_costs(engine->sched, &costs);
}
