/* fiber.c - see fiber.h for the contract. */
#include "base/cuda/emulator/fiber.h"

#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef __x86_64__
#include <ucontext.h>
#endif

#ifdef QR_EMULATOR_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef QR_EMULATOR_TSAN
#include <sanitizer/tsan_interface.h>
#endif

enum { GUARD_BYTES = 4096 };

#ifdef __x86_64__

/* Saves what a called function must preserve on the stack of the one, and takes it from the
 * other's (System V ABI; kernels do not change the floating-point control words). */
void qr_fiber_swap(void **from_sp, void *to_sp);
__asm__(".text\n"
        ".p2align 4\n"
        ".globl qr_fiber_swap\n"
        ".hidden qr_fiber_swap\n"
        ".type qr_fiber_swap, @function\n"
        "qr_fiber_swap:\n"
        "    push %rbp\n"
        "    push %rbx\n"
        "    push %r12\n"
        "    push %r13\n"
        "    push %r14\n"
        "    push %r15\n"
        "    mov %rsp, (%rdi)\n"
        "    mov %rsi, %rsp\n"
        "    pop %r15\n"
        "    pop %r14\n"
        "    pop %r13\n"
        "    pop %r12\n"
        "    pop %rbx\n"
        "    pop %rbp\n"
        "    ret\n"
        ".size qr_fiber_swap, . - qr_fiber_swap\n");

static void prepare_stack(struct qr_fiber *fiber, void (*entry)(void))
{
    enum { N_SAVED_REGISTERS = 6 };
    uintptr_t *sp = (uintptr_t *)(void *)(fiber->stack + fiber->stack_size);
    *--sp = 0; /* where entry would return to: the end of a backtrace */
    *--sp = (uintptr_t)entry;
    for (int i = 0; i < N_SAVED_REGISTERS; i++)
        *--sp = 0;
    fiber->sp = sp;
}

static void swap(struct qr_fiber *from, struct qr_fiber *to)
{
    qr_fiber_swap(&from->sp, to->sp);
}

#else /* any other processor: slower, a system call a switch */

static void prepare_stack(struct qr_fiber *fiber, void (*entry)(void))
{
    ucontext_t *context = (ucontext_t *)(void *)fiber->stack; /* at the far end of the stack */
    getcontext(context);
    context->uc_stack.ss_sp = fiber->stack + sizeof(*context);
    context->uc_stack.ss_size = fiber->stack_size - sizeof(*context);
    context->uc_link = NULL;
    makecontext(context, entry, 0);
    fiber->sp = context;
}

static void swap(struct qr_fiber *from, struct qr_fiber *to)
{
    static __thread ucontext_t of_thread;
    if (from->sp == NULL)
        from->sp = &of_thread;
    swapcontext(from->sp, to->sp);
}

#endif

void qr_fiber_of_thread(struct qr_fiber *out)
{
    *out = (struct qr_fiber){0};
#ifdef QR_EMULATOR_ASAN
    static __thread void *bottom;
    static __thread size_t size;
    pthread_attr_t attributes;
    if (bottom == NULL && pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &bottom, &size);
        pthread_attr_destroy(&attributes);
    }
    out->stack = bottom;
    out->stack_size = size;
#endif
#ifdef QR_EMULATOR_TSAN
    out->tsan = __tsan_get_current_fiber();
#endif
}

void qr_fiber_prepare(struct qr_fiber *fiber, void (*entry)(void))
{
#ifdef QR_EMULATOR_ASAN
    /* Frames of the last run that never returned. */
    ASAN_UNPOISON_MEMORY_REGION(fiber->stack, fiber->stack_size);
#endif
#ifdef QR_EMULATOR_TSAN
    if (fiber->tsan ==
        NULL) /* the one of the last run serves again: a new one takes a millisecond */
        fiber->tsan = __tsan_create_fiber(0);
#endif
    prepare_stack(fiber, entry);
}

void qr_fiber_entered(void)
{
#ifdef QR_EMULATOR_ASAN
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
}

void qr_fiber_switch(struct qr_fiber *from, struct qr_fiber *to)
{
#ifdef QR_EMULATOR_TSAN
    __tsan_switch_to_fiber(to->tsan, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef QR_EMULATOR_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_size);
#endif
    swap(from, to);
#ifdef QR_EMULATOR_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
}

void qr_fiber_leave(struct qr_fiber *from, struct qr_fiber *to)
{
#ifdef QR_EMULATOR_TSAN
    __tsan_switch_to_fiber(to->tsan, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef QR_EMULATOR_ASAN
    __sanitizer_start_switch_fiber(NULL, to->stack, to->stack_size);
#endif
    swap(from, to);
}

void qr_fiber_release(struct qr_fiber *fiber)
{
#ifdef QR_EMULATOR_TSAN
    if (fiber->tsan != NULL)
        __tsan_destroy_fiber(fiber->tsan);
#endif
    fiber->tsan = NULL;
}

char *qr_fiber_stacks_create(int n, size_t n_bytes)
{
    size_t total = (size_t)n * (GUARD_BYTES + n_bytes);
    char *stacks = mmap(NULL, total, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stacks == MAP_FAILED)
        return NULL;
    for (int i = 0; i < n; i++)
        mprotect(qr_fiber_stack(stacks, i, n_bytes) - GUARD_BYTES, GUARD_BYTES, PROT_NONE);
    return stacks;
}

void qr_fiber_stacks_destroy(char *stacks, int n, size_t n_bytes)
{
    if (stacks == NULL)
        return;
#ifdef QR_EMULATOR_ASAN
    for (int i = 0; i < n; i++)
        ASAN_UNPOISON_MEMORY_REGION(qr_fiber_stack(stacks, i, n_bytes), n_bytes);
#endif
    munmap(stacks, (size_t)n * (GUARD_BYTES + n_bytes));
}

char *qr_fiber_stack(char *stacks, int index, size_t n_bytes)
{
    return stacks + (size_t)index * (GUARD_BYTES + n_bytes) + GUARD_BYTES;
}

void qr_fiber_order_release(void *address)
{
#ifdef QR_EMULATOR_TSAN
    __tsan_release(address);
#else
    (void)address;
#endif
}

void qr_fiber_order_acquire(void *address)
{
#ifdef QR_EMULATOR_TSAN
    __tsan_acquire(address);
#else
    (void)address;
#endif
}

void *qr_fiber_other_create(void)
{
#ifdef QR_EMULATOR_TSAN
    return __tsan_create_fiber(0);
#else
    return NULL;
#endif
}

void qr_fiber_other_destroy(void *tsan)
{
#ifdef QR_EMULATOR_TSAN
    if (tsan != NULL)
        __tsan_destroy_fiber(tsan);
#else
    (void)tsan;
#endif
}

void qr_fiber_other_begin(void *tsan)
{
#ifdef QR_EMULATOR_TSAN
    __tsan_switch_to_fiber(tsan, __tsan_switch_to_fiber_no_sync);
#else
    (void)tsan;
#endif
}

void qr_fiber_other_end(const struct qr_fiber *self)
{
#ifdef QR_EMULATOR_TSAN
    __tsan_switch_to_fiber(self->tsan, __tsan_switch_to_fiber_no_sync);
#else
    (void)self;
#endif
}
