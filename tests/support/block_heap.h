/*
 * block_heap.h - the heap under the block manager and the scheduler in their tests:
 * counts blocks, fails on demand, and can be one region of memory that is saved and put
 * back as a whole, which takes the code under test back to an earlier state.
 *
 * Tests of these two layers are linked so that their calls of base/alloc.h come here
 * (tests/CMakeLists.txt). One thread.
 */
#ifndef QUIRE_TESTS_SUPPORT_BLOCK_HEAP_H
#define QUIRE_TESTS_SUPPORT_BLOCK_HEAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

QR_BEGIN_DECLS

/* Allocations since the start of the test, and how many of them are not freed yet. */
int64_t block_heap_n_allocations(void);
int64_t block_heap_n_live(void);
/* The n-th allocation from now on, counted from 1, finds no memory; 0: all find some. */
void block_heap_fail_at(int64_t n);

/* Blocks lie in one region of `capacity` bytes from now on, until close. */
void block_heap_open_region(size_t capacity);
/* All its blocks are freed. */
void block_heap_close_region(void);
/* What save copies and restore puts back: the part of the region that is in use. */
size_t block_heap_region_bytes(void);
void block_heap_save(void *bytes);
void block_heap_restore(const void *bytes);

QR_END_DECLS

#endif /* QUIRE_TESTS_SUPPORT_BLOCK_HEAP_H */
