/* swapper_faults.c - see swapper_faults.h for the contract. */
#include "runtime/swap/swapper_faults.h"

#include <stdalign.h>
#include <unistd.h>

#include "base/assert.h"
#include "runtime/swap/swapper_internal.h"

void qr_swapper_set_fault(struct qr_swapper *swapper, enum qr_tier tier, bool out,
                          const struct qr_swap_fault *fault)
{
    QR_ASSERT(fault == NULL || fault->kind != QR_SWAP_FAULT_ERROR || fault->error > 0);
    pthread_mutex_lock(&swapper->mutex);
    swapper->faults[tier][out] = fault != NULL ? *fault : (struct qr_swap_fault){0};
    pthread_mutex_unlock(&swapper->mutex);
}

enum qr_swap_fault_kind qr_swapper_next_fault(struct qr_swapper *swapper, enum qr_tier tier,
                                              bool out, int *error)
{
    enum qr_swap_fault_kind kind = QR_SWAP_FAULT_NONE;

    pthread_mutex_lock(&swapper->mutex);
    struct qr_swap_fault *fault = &swapper->faults[tier][out];
    *error = fault->error;
    if (fault->kind != QR_SWAP_FAULT_NONE && fault->first-- == 0) {
        kind = fault->kind;
        if (fault->period > 0)
            fault->first = fault->period - 1;
        else
            fault->kind = QR_SWAP_FAULT_NONE;
    }
    pthread_mutex_unlock(&swapper->mutex);
    return kind;
}

static void corrupt_file(struct qr_swapper *swapper, int64_t byte, int mask)
{
    alignas(QR_SWAP_ALIGNMENT) char block[QR_SWAP_ALIGNMENT];
    int64_t start = byte / QR_SWAP_ALIGNMENT * QR_SWAP_ALIGNMENT;

    QR_ASSERT(pread(swapper->file.fd, block, sizeof(block), start) == sizeof(block));
    block[byte - start] = (char)(block[byte - start] ^ mask);
    QR_ASSERT(pwrite(swapper->file.fd, block, sizeof(block), start) == sizeof(block));
}

void qr_swapper_corrupt(struct qr_swapper *swapper, enum qr_tier tier, int32_t slot, int64_t bit)
{
    QR_ASSERT(slot >= 0 && slot < swapper->tiers[tier].n_slots);
    int64_t byte = bit / 8;
    int mask = 1 << (bit % 8);

    if (tier == QR_TIER_DISK) {
        corrupt_file(swapper, slot * (int64_t)swapper->disk_stride + byte, mask);
        return;
    }
    char *at = swapper->host + (size_t)slot * swapper->host_stride + byte;
    *at = (char)(*at ^ mask);
}

void qr_swapper_hold_results(struct qr_swapper *swapper, bool hold)
{
    pthread_mutex_lock(&swapper->mutex);
    swapper->hold_results = hold;
    pthread_mutex_unlock(&swapper->mutex);
    qr_swapper_wake(swapper);
}

void qr_swapper_set_delay(struct qr_swapper *swapper, int64_t delay_ns)
{
    pthread_mutex_lock(&swapper->mutex);
    swapper->wanted_delay_ns = delay_ns;
    pthread_mutex_unlock(&swapper->mutex);
}

int qr_swapper_file(const struct qr_swapper *swapper)
{
    return swapper->file.fd;
}
