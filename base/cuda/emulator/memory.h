/*
 * memory.h - device and pinned memory of the emulated GPU: pages of the process, so that a device
 * address is a pointer.
 *
 * A page without access lies before and behind each piece, and the rest of its last page must stay
 * as it is. What was freed is never given out again and has no access. Thread-safe.
 */
#ifndef QUIRE_BASE_CUDA_EMULATOR_MEMORY_H
#define QUIRE_BASE_CUDA_EMULATOR_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum qr_emulator_memory { QR_EMULATOR_DEVICE, QR_EMULATOR_PINNED };

/* NULL when the system has none. Filled with NaN. n_bytes > 0. */
void *qr_emulator_memory_alloc(enum qr_emulator_memory kind, size_t n_bytes);
/* False when no piece of this kind starts at p. */
bool qr_emulator_memory_free(enum qr_emulator_memory kind, void *p);
/* Memory of the process that counts as pinned until it is unregistered; false: no memory. */
bool qr_emulator_memory_register(void *p, size_t n_bytes);
/* False when none was registered that starts at p. */
bool qr_emulator_memory_unregister(void *p);
/* All bytes are in one piece; n_bytes may be 0, p may then be the end of it. */
bool qr_emulator_memory_holds(enum qr_emulator_memory kind, const void *p, size_t n_bytes);
size_t qr_emulator_memory_in_use(enum qr_emulator_memory kind);
/* Ends the process when something was written behind a piece. */
void qr_emulator_memory_check(void);

#endif /* QUIRE_BASE_CUDA_EMULATOR_MEMORY_H */
