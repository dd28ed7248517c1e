/*
 * numa.h - memory of machines with several nodes, each of which has a part of it nearer than the
 * rest.
 *
 * What all threads read, such as weights, is spread over the nodes page by page, so that all of
 * their memory's bandwidth is used; by itself Linux puts it where the thread runs that touches it
 * first. Linux alone; elsewhere, and with one node, nothing happens. Any thread.
 */
#ifndef QUIRE_BASE_NUMA_H
#define QUIRE_BASE_NUMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { QR_NUMA_MAX_NODES = 64 };

QR_BEGIN_DECLS

/* The nodes in a list as Linux writes it, such as "0" or "0-1,3", a bit each; 0 where it is none,
 * or names one past QR_NUMA_MAX_NODES. */
uint64_t qr_numa_parse_nodes(const char *list);
/* Spreads the whole pages in ptr[n_bytes] over the nodes; false where the system refuses, which
 * costs speed alone. Pages that are there already are moved. */
bool qr_numa_spread(void *ptr, size_t n_bytes, uint64_t nodes);
/* The nodes that have memory, where there are several; 0: one, or it is not known. */
uint64_t qr_numa_nodes(void);

QR_END_DECLS

#endif /* QUIRE_BASE_NUMA_H */
