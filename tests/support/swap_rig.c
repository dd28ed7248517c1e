/* swap_rig.c - see swap_rig.h for the contract. */
#include "tests/support/swap_rig.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { PATIENCE_S = 60 };

static unsigned char *page_at(const struct qr_swap_rig *rig, int32_t page)
{
    return rig->pages + (size_t)page * rig->page_bytes;
}

static bool read_pages(void *arg, int32_t n, const qr_page_id *pages, void *const *to)
{
    struct qr_swap_rig *rig = arg;
    if (rig->device_fails)
        return false;
    for (int32_t i = 0; i < n; i++)
        memcpy(to[i], page_at(rig, pages[i]), rig->page_bytes);
    return true;
}

static bool write_pages(void *arg, int32_t n, const qr_page_id *pages, const void *const *from)
{
    struct qr_swap_rig *rig = arg;
    if (rig->device_fails)
        return false;
    for (int32_t i = 0; i < n; i++)
        memcpy(page_at(rig, pages[i]), from[i], rig->page_bytes);
    return true;
}

static bool pin(void *arg, void *memory, size_t n_bytes)
{
    struct qr_swap_rig *rig = arg;
    bool ok;

    pthread_mutex_lock(&rig->mutex);
    if ((ok = rig->n_pinned < rig->most_pinned))
        rig->pinned[rig->n_pinned++] = (struct qr_swap_rig_pinned){memory, n_bytes};
    pthread_mutex_unlock(&rig->mutex);
    return ok;
}

static void unpin(void *arg, void *memory)
{
    struct qr_swap_rig *rig = arg;
    int32_t i = 0;

    while (i < rig->n_pinned && rig->pinned[i].memory != memory)
        i++;
    assert_true(i < rig->n_pinned);
    rig->pinned[i] = rig->pinned[--rig->n_pinned];
}

static void notify(void *arg)
{
    struct qr_swap_rig *rig = arg;

    pthread_mutex_lock(&rig->mutex);
    rig->n_notified++;
    pthread_cond_signal(&rig->notified_cond);
    pthread_mutex_unlock(&rig->mutex);
}

enum qr_status qr_swap_rig_try(struct qr_swap_rig *rig, const struct qr_swap_rig_config *config,
                               struct qr_error *err)
{
    *rig = (struct qr_swap_rig){.page_bytes = config->page_bytes,
                                .n_pages = config->n_pages,
                                .most_pinned = config->most_pinned};
    pthread_mutex_init(&rig->mutex, NULL);
    pthread_cond_init(&rig->notified_cond, NULL);
    rig->pages = calloc((size_t)config->n_pages, config->page_bytes);
    assert_non_null(rig->pages);
    return qr_swapper_create(
        &(struct qr_swapper_config){
            .page_bytes = config->page_bytes,
            .tier_slots =
                {[QR_TIER_HOST] = config->host_slots, [QR_TIER_DISK] = config->disk_slots},
            .dir = config->dir,
            .max_transfers = config->max_transfers,
            .device = {.arg = rig,
                       .read = read_pages,
                       .write = write_pages,
                       .pin = config->most_pinned > 0 ? pin : NULL,
                       .unpin = config->most_pinned > 0 ? unpin : NULL},
            .notify = notify,
            .notify_arg = rig,
        },
        &rig->swapper, err);
}

void qr_swap_rig_make(struct qr_swap_rig *rig, const struct qr_swap_rig_config *config)
{
    struct qr_error err = {0};

    if (qr_swap_rig_try(rig, config, &err) != QR_OK)
        fail_msg("%s", err.message);
}

void qr_swap_rig_free(struct qr_swap_rig *rig)
{
    qr_swapper_destroy(rig->swapper);
    assert_int_equal(rig->n_pinned, 0);
    pthread_mutex_destroy(&rig->mutex);
    pthread_cond_destroy(&rig->notified_cond);
    free(rig->pages);
    rig->swapper = NULL;
}

/* Byte i of what a seed gives: a mix of both, so that pages and places in them differ. */
static unsigned char byte_of(uint64_t seed, size_t i)
{
    uint64_t x = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) + i * UINT64_C(0xbf58476d1ce4e5b9);
    return (unsigned char)((x ^ (x >> 29)) >> 17);
}

void qr_swap_rig_fill(struct qr_swap_rig *rig, int32_t page, uint64_t seed)
{
    unsigned char *bytes = page_at(rig, page);

    for (size_t i = 0; i < rig->page_bytes; i++)
        bytes[i] = byte_of(seed, i);
}

bool qr_swap_rig_holds(const struct qr_swap_rig *rig, int32_t page, uint64_t seed)
{
    const unsigned char *bytes = page_at(rig, page);

    for (size_t i = 0; i < rig->page_bytes; i++) {
        if (bytes[i] != byte_of(seed, i))
            return false;
    }
    return true;
}

int32_t qr_swap_rig_wait(struct qr_swap_rig *rig, struct qr_transfer_result *results, int32_t max)
{
    struct timespec give_up;
    clock_gettime(CLOCK_REALTIME, &give_up);
    give_up.tv_sec += PATIENCE_S;

    for (;;) {
        pthread_mutex_lock(&rig->mutex);
        int64_t seen = rig->n_notified;
        pthread_mutex_unlock(&rig->mutex);
        int32_t n = qr_swapper_poll(rig->swapper, results, max);
        if (n > 0)
            return n;

        int rc = 0;
        pthread_mutex_lock(&rig->mutex);
        while (rig->n_notified == seen && rc == 0)
            rc = pthread_cond_timedwait(&rig->notified_cond, &rig->mutex, &give_up);
        pthread_mutex_unlock(&rig->mutex);
        if (rc != 0)
            fail_msg("no transfer ended within %d s", PATIENCE_S);
    }
}

bool qr_swap_rig_move(struct qr_swap_rig *rig, enum qr_tier tier, bool out, int32_t page,
                      int32_t slot)
{
    struct qr_transfer_result result = {.id = -1};
    struct qr_transfer transfer = {.id = 0, .tier = tier, .out = out, .page = page, .slot = slot};

    qr_swapper_submit(rig->swapper, &transfer, 1);
    assert_int_equal(qr_swap_rig_wait(rig, &result, 1), 1);
    assert_int_equal(result.id, 0);
    return result.ok;
}

int qr_swap_rig_open_files(void)
{
    int n = 0;
    DIR *listing = opendir("/proc/self/fd");

    assert_non_null(listing);
    while (readdir(listing) != NULL)
        n++;
    closedir(listing);
    return n;
}
