/* numa.c - see numa.h for the contract. */
#include "base/numa.h"

#include <stdio.h>
#include <stdlib.h>

#if defined(__linux__)
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* Reads a number; NULL where there is none, or it is no node. */
static const char *read_node(const char *at, long *node)
{
    char *end;

    if (*at < '0' || *at > '9')
        return NULL;
    *node = strtol(at, &end, 10);
    return *node < QR_NUMA_MAX_NODES ? end : NULL;
}

uint64_t qr_numa_parse_nodes(const char *list)
{
    uint64_t nodes = 0;

    for (const char *at = list;; at++) {
        long first, last;
        at = read_node(at, &first);
        if (at == NULL)
            return 0;
        last = first;
        if (*at == '-')
            at = read_node(at + 1, &last);
        if (at == NULL || last < first)
            return 0;
        for (long node = first; node <= last; node++)
            nodes |= (uint64_t)1 << node;
        if (*at != ',')
            return *at == '\0' || *at == '\n' ? nodes : 0;
    }
}

#if defined(__linux__)

bool qr_numa_spread(void *ptr, size_t n_bytes, uint64_t nodes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)ptr + page - 1) & ~(page - 1);
    uintptr_t end = ((uintptr_t)ptr + n_bytes) & ~(page - 1);

    return first >= end || syscall(SYS_mbind, first, end - first, MPOL_INTERLEAVE, &nodes,
                                   QR_NUMA_MAX_NODES + 1, MPOL_MF_MOVE) == 0;
}

uint64_t qr_numa_nodes(void)
{
    FILE *file = fopen("/sys/devices/system/node/has_memory", "r");
    char list[256] = "";

    if (file == NULL)
        return 0;
    size_t n = fread(list, 1, sizeof(list) - 1, file);
    fclose(file);
    list[n] = '\0';
    uint64_t nodes = qr_numa_parse_nodes(list);
    return (nodes & (nodes - 1)) != 0 ? nodes : 0;
}

#else

bool qr_numa_spread(void *ptr, size_t n_bytes, uint64_t nodes)
{
    (void)ptr;
    (void)n_bytes;
    (void)nodes;
    return false;
}

uint64_t qr_numa_nodes(void)
{
    return 0;
}

#endif
