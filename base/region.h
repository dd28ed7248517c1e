/*
 * region.h - memory that is taken piece by piece, stays where it is, and is given back as a whole.
 *
 * For what is read again and again, such as weights. Pieces lie one behind the other, so that huge
 * pages hold them however small they are: on pages of 4 KiB a processor looks up a page every few
 * steps, and stops fetching ahead at the end of each. Address space is reserved for the most that
 * may come; memory is used as far as pieces are written to, in huge pages.
 *
 * One thread at a time.
 */
#ifndef QUIRE_BASE_REGION_H
#define QUIRE_BASE_REGION_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

struct qr_region {
    uint8_t *first; /* [n_reserved], on a huge page; NULL: closed, as in zeroed memory */
    size_t n_reserved;
    size_t n_usable; /* leading bytes that may be touched */
    size_t n_used;   /* leading bytes that were taken */
};

QR_BEGIN_DECLS

/* QR_ERR_NOMEM: there is no address space for n_bytes. n_bytes is at least 1. */
QR_MUST_CHECK enum qr_status qr_region_open(size_t n_bytes, struct qr_region *region);
/*
 * The next n_bytes, zeros, from a multiple of `alignment` on, a power of two of at most 4,096.
 * NULL: so many are not left, or the system has no memory for them; the region stays as it was.
 */
QR_MUST_CHECK void *qr_region_take(struct qr_region *region, size_t alignment, size_t n_bytes);
/* All pieces at once; harmless where it is closed. */
void qr_region_close(struct qr_region *region);

QR_END_DECLS

#endif /* QUIRE_BASE_REGION_H */
