/*
 * fiber.h - a stack of its own to run on, and switching to it, with AddressSanitizer and
 * ThreadSanitizer told.
 */
#ifndef QUIRE_BASE_CUDA_EMULATOR_FIBER_H
#define QUIRE_BASE_CUDA_EMULATOR_FIBER_H

#include <stddef.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define QR_EMULATOR_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define QR_EMULATOR_ASAN 1
#endif
/* QR_EMULATOR_TSAN is set by CMake: this folder is not instrumented, its callers are. */

struct qr_fiber {
    void *sp;          /* saved stack pointer while another fiber runs */
    char *stack;       /* lowest address */
    size_t stack_size; /* bytes */
    void *fake_stack;  /* AddressSanitizer's */
    void *tsan;        /* ThreadSanitizer's */
};

/* The fiber of the calling OS thread itself. */
void qr_fiber_of_thread(struct qr_fiber *out);
/* Makes the fiber start in `entry` on its stack, which must be set. `entry` never returns. */
void qr_fiber_prepare(struct qr_fiber *fiber, void (*entry)(void));
/* First thing in `entry`. */
void qr_fiber_entered(void);
/* Runs `to` until something switches back to `from`, on the same OS thread. */
void qr_fiber_switch(struct qr_fiber *from, struct qr_fiber *to);
/* As qr_fiber_switch for a fiber that will not run again before it is prepared anew. */
void qr_fiber_leave(struct qr_fiber *from, struct qr_fiber *to);
/* Releases what a sanitizer holds for it. Not the fiber that runs. */
void qr_fiber_release(struct qr_fiber *fiber);

/* n stacks with a guard page below each, n_bytes each; NULL when memory is exhausted. */
char *qr_fiber_stacks_create(int n, size_t n_bytes);
void qr_fiber_stacks_destroy(char *stacks, int n, size_t n_bytes);
char *qr_fiber_stack(char *stacks, int index, size_t n_bytes);

/* For ThreadSanitizer: what came before a release is seen after an acquire of the same address. */
void qr_fiber_order_release(void *address);
void qr_fiber_order_acquire(void *address);
/* Another thread in the eyes of ThreadSanitizer, to which accesses between begin and end belong. */
void *qr_fiber_other_create(void);
void qr_fiber_other_destroy(void *tsan);
void qr_fiber_other_begin(void *tsan);
void qr_fiber_other_end(const struct qr_fiber *self);

#endif /* QUIRE_BASE_CUDA_EMULATOR_FIBER_H */
