/* memory.c - see memory.h for the contract. */
#include "base/cuda/emulator/memory.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "base/cuda/emulator/fiber.h"
#include "base/cuda/emulator/machine.h"

#ifdef QR_EMULATOR_ASAN
#include <sanitizer/asan_interface.h>
#endif

enum { PAGE_BYTES = 4096, GUARD_BYTE = 0xa5, POISON_BYTE = 0xff };

struct piece {
    struct piece *next;
    enum qr_emulator_memory kind;
    unsigned char *data;
    size_t n_bytes;
    bool is_registered; /* the process's own memory */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct piece *pieces;
static size_t in_use[2];

static size_t whole_pages(size_t n_bytes)
{
    return (n_bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

void *qr_emulator_memory_alloc(enum qr_emulator_memory kind, size_t n_bytes)
{
    size_t inner = whole_pages(n_bytes);
    struct piece *piece = qr_malloc(QR_ARENA_ENGINE, sizeof(*piece));
    if (piece == NULL)
        return NULL;
    unsigned char *region = mmap(NULL, inner + 2 * PAGE_BYTES, PROT_NONE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    unsigned char *data = region + PAGE_BYTES;
    if (region == MAP_FAILED || mprotect(data, inner, PROT_READ | PROT_WRITE) != 0) {
        qr_free(piece);
        return NULL;
    }
    memset(data, POISON_BYTE, n_bytes);
    memset(data + n_bytes, GUARD_BYTE, inner - n_bytes);
#ifdef QR_EMULATOR_ASAN
    ASAN_POISON_MEMORY_REGION(data + n_bytes, inner - n_bytes);
#endif
    *piece = (struct piece){.kind = kind, .data = data, .n_bytes = n_bytes};
    pthread_mutex_lock(&lock);
    piece->next = pieces;
    pieces = piece;
    in_use[kind] += n_bytes;
    pthread_mutex_unlock(&lock);
    return data;
}

static void check_piece(const struct piece *piece)
{
    if (piece->is_registered)
        return;
#ifndef QR_EMULATOR_ASAN
    for (size_t i = piece->n_bytes; i < whole_pages(piece->n_bytes); i++)
        if (piece->data[i] != GUARD_BYTE)
            qr_emulator_die("a kernel or copy wrote %zu bytes past %zu bytes of %s memory",
                            i - piece->n_bytes, piece->n_bytes,
                            piece->kind == QR_EMULATOR_DEVICE ? "device" : "pinned");
#else
    (void)piece;
#endif
}

/* The piece that starts at p, which is in the list no longer; NULL: there is none. */
static struct piece *take_out(enum qr_emulator_memory kind, void *p, bool is_registered)
{
    pthread_mutex_lock(&lock);
    struct piece **link = &pieces;
    while (*link != NULL &&
           ((*link)->data != p || (*link)->kind != kind || (*link)->is_registered != is_registered))
        link = &(*link)->next;
    struct piece *piece = *link;
    if (piece != NULL) {
        *link = piece->next;
        in_use[kind] -= is_registered ? 0 : piece->n_bytes;
    }
    pthread_mutex_unlock(&lock);
    return piece;
}

bool qr_emulator_memory_register(void *p, size_t n_bytes)
{
    struct piece *piece = qr_malloc(QR_ARENA_ENGINE, sizeof(*piece));
    if (piece == NULL)
        return false;
    *piece = (struct piece){
        .kind = QR_EMULATOR_PINNED, .data = p, .n_bytes = n_bytes, .is_registered = true};
    pthread_mutex_lock(&lock);
    piece->next = pieces;
    pieces = piece;
    pthread_mutex_unlock(&lock);
    return true;
}

bool qr_emulator_memory_unregister(void *p)
{
    struct piece *piece = take_out(QR_EMULATOR_PINNED, p, true);
    bool found = piece != NULL;
    qr_free(piece);
    return found;
}

bool qr_emulator_memory_free(enum qr_emulator_memory kind, void *p)
{
    struct piece *piece = take_out(kind, p, false);
    if (piece == NULL)
        return false;

    check_piece(piece);
    size_t inner = whole_pages(piece->n_bytes);
#ifdef QR_EMULATOR_ASAN
    ASAN_UNPOISON_MEMORY_REGION(piece->data, inner);
#endif
    /* Not given back to the system as addresses: a use after this has no other piece to hit. */
    mmap(piece->data, inner, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
         0);
    qr_free(piece);
    return true;
}

bool qr_emulator_memory_holds(enum qr_emulator_memory kind, const void *p, size_t n_bytes)
{
    uintptr_t at = (uintptr_t)p;
    bool found = false;
    pthread_mutex_lock(&lock);
    for (const struct piece *piece = pieces; piece != NULL && !found; piece = piece->next) {
        uintptr_t start = (uintptr_t)piece->data;
        found = piece->kind == kind && at >= start && n_bytes <= piece->n_bytes &&
                at - start <= piece->n_bytes - n_bytes;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

size_t qr_emulator_memory_in_use(enum qr_emulator_memory kind)
{
    pthread_mutex_lock(&lock);
    size_t n_bytes = in_use[kind];
    pthread_mutex_unlock(&lock);
    return n_bytes;
}

void qr_emulator_memory_check(void)
{
    pthread_mutex_lock(&lock);
    for (const struct piece *piece = pieces; piece != NULL; piece = piece->next)
        check_piece(piece);
    pthread_mutex_unlock(&lock);
}
