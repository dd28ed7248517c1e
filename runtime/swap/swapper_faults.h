/*
 * swapper_faults.h - makes a swapper fail on purpose, for tests.
 *
 * Always compiled in: what is tested is what is shipped. Included by tests and by the
 * swapper alone. Thread-safe unless said otherwise.
 */
#ifndef QUIRE_RUNTIME_SWAP_SWAPPER_FAULTS_H
#define QUIRE_RUNTIME_SWAP_SWAPPER_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/swap/swapper.h"

enum qr_swap_fault_kind {
    QR_SWAP_FAULT_NONE,
    QR_SWAP_FAULT_ERROR,   /* nothing is moved, as if the disk or the memory had failed */
    QR_SWAP_FAULT_SHORT,   /* the disk moves half of the page; as ERROR in the host tier */
    QR_SWAP_FAULT_CORRUPT, /* a bit turns over in the tier: after its checksum was taken on
                              the way out, before it is compared on the way in */
};

/* Which transfers of one tier and direction fail, counted from the call on. */
struct qr_swap_fault {
    enum qr_swap_fault_kind kind;
    int error;      /* of ERROR: an errno */
    int64_t first;  /* how many go well before the first that fails */
    int64_t period; /* from there on every period-th fails; 0: only that one */
};

QR_BEGIN_DECLS

/* Replaces the fault of this tier and direction; NULL: none. */
void qr_swapper_set_fault(struct qr_swapper *swapper, enum qr_tier tier, bool out,
                          const struct qr_swap_fault *fault);
/* Turns over one bit of the page in a slot, which no transfer is using. bit < 8 * page_bytes */
void qr_swapper_corrupt(struct qr_swapper *swapper, enum qr_tier tier, int32_t slot, int64_t bit);
/* While true, transfers end but nobody hears of it. */
void qr_swapper_hold_results(struct qr_swapper *swapper, bool hold);
/* Every transfer takes this much longer, one after the other; 0: no longer. */
void qr_swapper_set_delay(struct qr_swapper *swapper, int64_t delay_ns);
/* The open file of the disk tier, to be cut short, or replaced by dup2; -1 without one. */
int qr_swapper_file(const struct qr_swapper *swapper);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_SWAP_SWAPPER_FAULTS_H */
