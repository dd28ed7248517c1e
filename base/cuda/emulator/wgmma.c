/*
 * wgmma.c - products of a warpgroup in the background; see machine.h.
 *
 * A thread's sums are the 2 rows and 16 columns that it would hold; it computes them itself, from A
 * of its warp, which is taken when the product is asked for, and from what shared memory holds when
 * it is computed: at once, or as late as the thread's own waits allow. Until then its sums are NaN.
 * That four warps ask for the same products is not checked: each is right on its own.
 */
#include <math.h>

#include "base/alloc.h"
#include "base/cuda/emulator/block.h"
#include "base/dtype.h"

enum { COLUMNS = 64, DEPTH = 16, ROW_BYTES = 128, EIGHT_ROWS = 1024 };

/* ---- the operand in shared memory (PTX ISA, "Matrix descriptor") ---- */

static void check_operand(uint64_t b)
{
    uint64_t swizzle = b >> 62, base = b >> 49 & 7, rows = (b >> 32 & 0x3fff) << 4;

    if (swizzle != 1 || base != 0 || rows != EIGHT_ROWS)
        qr_emulator_die("qr_wgmma: operand %#llx is not of qr_wgmma_operand",
                        (unsigned long long)b);
}

/* The element of 16 bits at `byte` of a row of the operand. */
static uint16_t element_at(uint64_t b, int row, int byte)
{
    uint32_t at = (uint32_t)(b & 0x3fff) << 4;
    uint16_t bits;

    at += (uint32_t)(row / 8 * EIGHT_ROWS + row % 8 * ROW_BYTES + byte);
    at ^= (at >> 7 & 7) << 4;
    const unsigned char *from = qr_emulator_self->shared + at;
    qr_emulator_check_shared(from, sizeof(bits), sizeof(bits), "qr_wgmma");
    qr_emulator_move(&bits, from, sizeof(bits));
    return bits;
}

static float to_float(bool is_bf16, uint16_t bits)
{
    return is_bf16 ? qr_bf16_to_f32(bits) : qr_f16_to_f32(bits);
}

static float b_of(const struct qr_emulator_product *product, int k, int column)
{
    uint16_t bits = product->rows_are_k ? element_at(product->b, k, 2 * column)
                                        : element_at(product->b, column, 2 * k);
    return to_float(product->is_bf16, bits);
}

/* ---- products ---- */

/* Products are exact; sums go in F32 by ascending k, as those of qr_mma do here. */
static void compute(const struct qr_emulator_product *product, float *sums)
{
    int t = qr_emulator_self->lane % 4;

    for (int j = 0; j < COLUMNS / 8; j++) {
        for (int i = 0; i < 2; i++) {
            float *at = &sums[4 * j + i]; /* of row g; that of row g + 8 is two behind */
            for (int row = 0; row < 2 && !product->adds; row++)
                at[2 * row] = 0;
            for (int k = 0; k < DEPTH; k++) {
                float b = b_of(product, k, 8 * j + 2 * t + i);
                at[0] += product->a[0][k] * b;
                at[2] += product->a[1][k] * b;
            }
        }
    }
}

static struct qr_emulator_products *products_of(struct qr_emulator_lane *self)
{
    if (self->products == NULL)
        self->products = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*self->products));
    if (self->products == NULL)
        qr_emulator_die("qr_wgmma: no memory");
    return self->products;
}

static int find_sums(struct qr_emulator_products *products, const float *c)
{
    for (int i = 0; i < QR_EMULATOR_MAX_SUMS; i++)
        if (products->sums[i].at == c)
            return i;
    return -1;
}

/* The thread's sums c, which it may not touch from now on. */
static int take_sums(struct qr_emulator_products *products, float *c)
{
    int at = find_sums(products, c);
    if (at < 0) {
        at = find_sums(products, NULL);
        if (at < 0)
            qr_emulator_die("qr_wgmma: sums of more than %d products in flight",
                            QR_EMULATOR_MAX_SUMS);
        products->sums[at].at = c;
        for (int i = 0; i < QR_EMULATOR_SUMS; i++) {
            products->sums[at].value[i] = c[i];
            c[i] = NAN;
        }
    }
    products->sums[at].n_users++;
    return at;
}

/* A of rows g and g + 8 of this lane, from the fragments of the warp. */
static void take_a(enum qr_emulator_warp_function function, const uint32_t *a,
                   struct qr_emulator_product *product)
{
    const struct qr_emulator_slots *slots = qr_emulator_exchange(function, a, 4);

    for (int t = 0; t < 4; t++) {
        const uint32_t *word = slots->word[qr_emulator_self->lane / 4 * 4 + t];
        for (int i = 0; i < 4; i++) {
            float *to = &product->a[i % 2][2 * t + 8 * (i / 2)];
            to[0] = to_float(product->is_bf16, (uint16_t)word[i]);
            to[1] = to_float(product->is_bf16, (uint16_t)(word[i] >> 16));
        }
    }
}

static void check_call(const struct qr_emulator_lane *self,
                       const struct qr_emulator_products *products)
{
    int capability = qr_emulator_block->settings.capability;
    if (capability != 90)
        qr_emulator_die("qr_wgmma: a device of compute capability %d.%d has none", capability / 10,
                        capability % 10);
    if (qr_emulator_block->n_lanes % (4 * QR_EMULATOR_WARP) != 0)
        qr_emulator_die("qr_wgmma: a block of %d threads is not made of warpgroups",
                        qr_emulator_block->n_lanes);
    if (!products->fenced)
        qr_emulator_die("qr_wgmma: no qr_wgmma_fence since the last wait");
    if (self->shared_unfenced)
        qr_emulator_die("qr_wgmma: this thread's copies landed without qr_wgmma_fence_shared");
    if (products->n == QR_EMULATOR_MAX_PRODUCTS)
        qr_emulator_die("qr_wgmma: more than %d products in flight", QR_EMULATOR_MAX_PRODUCTS);
}

/* Computes the oldest n products. */
static void compute_oldest(struct qr_emulator_products *products, int n)
{
    for (; products->n_computed < n; products->n_computed++) {
        const struct qr_emulator_product *product = &products->product[products->n_computed];
        compute(product, products->sums[product->sums].value);
    }
}

/* Products whose group is below `end` are done, and the thread gets its sums back. */
static void end_groups(struct qr_emulator_products *products, int end)
{
    int n = 0;

    while (n < products->n && products->product[n].group < end) {
        struct qr_emulator_sums *sums = &products->sums[products->product[n++].sums];
        compute_oldest(products, n);
        if (--sums->n_users > 0)
            continue;
        for (int i = 0; i < QR_EMULATOR_SUMS; i++)
            sums->at[i] = sums->value[i];
        sums->at = NULL;
    }
    products->n -= n;
    products->n_computed -= n;
    for (int i = 0; i < products->n; i++)
        products->product[i] = products->product[n + i];
}

void qr_emulator_wgmma(enum qr_emulator_warp_function function, float *c, const uint32_t *a,
                       uint64_t b, bool rows_are_k, bool adds)
{
    struct qr_emulator_lane *self = qr_emulator_running();
    struct qr_emulator_products *products = products_of(self);
    struct qr_emulator_product product = {.b = b,
                                          .is_bf16 = function == QR_EMULATOR_WGMMA_BF16,
                                          .rows_are_k = rows_are_k,
                                          .adds = adds,
                                          .group = products->open_group};

    check_call(self, products);
    check_operand(b);
    take_a(function, a, &product);
    product.sums = take_sums(products, c);
    products->product[products->n++] = product;
    if (qr_emulator_lands_at_once(qr_emulator_block))
        compute_oldest(products, products->n);
    qr_emulator_maybe_yield();
}

void qr_emulator_wgmma_fence(void)
{
    products_of(qr_emulator_running())->fenced = true;
}

void qr_emulator_wgmma_fence_shared(void)
{
    qr_emulator_running()->shared_unfenced = false;
}

void qr_emulator_wgmma_commit(void)
{
    products_of(qr_emulator_running())->open_group++;
}

void qr_emulator_wgmma_wait(int n_pending)
{
    struct qr_emulator_products *products = products_of(qr_emulator_running());

    end_groups(products, products->open_group - n_pending);
    products->fenced = false;
}

void qr_emulator_wgmma_settle(const float *c)
{
    struct qr_emulator_products *products = products_of(qr_emulator_running());

    if (find_sums(products, c) >= 0)
        qr_emulator_die("qr_wgmma_settle: products that add to these sums are in flight");
}

void qr_emulator_check_products_end(const struct qr_emulator_lane *lane)
{
    if (lane->products != NULL && lane->products->n > 0)
        qr_emulator_die("the thread ends with %d qr_wgmma in flight", lane->products->n);
}
