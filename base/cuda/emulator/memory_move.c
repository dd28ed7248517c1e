/*
 * memory_move.c - the emulator's writes and reads of memory that belongs to kernels; see machine.h.
 *
 * Alone in a file because the sanitizers must see these accesses and none of the emulator's.
 */
#include <string.h>

#include "base/cuda/emulator/machine.h"

void qr_emulator_move(void *to, const void *from, size_t n_bytes)
{
    memcpy(to, from, n_bytes);
}

void qr_emulator_zero(void *to, size_t n_bytes)
{
    memset(to, 0, n_bytes);
}
