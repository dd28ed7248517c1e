/* cuda_cublaslt.c - see cuda_cublaslt.h for the contract. */
#include "runtime/ops/cuda/cuda_cublaslt.h"

#include <dlfcn.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "runtime/ops/cuda/cuda_cublaslt_api.h"

enum {
    WORKSPACE_BYTES = 32 << 20, /* what NVIDIA advises for Hopper */
    N_SHAPES = 256,
    ROW_BUCKET = 64, /* an algorithm serves all n_rows of a bucket */
};

/* What an algorithm is chosen for. */
struct shape {
    int32_t n_out;
    int32_t n_in;
    int32_t n_rows; /* rounded up to ROW_BUCKET */
    int32_t in_type;
    int32_t out_type;
};

/* A shape's algorithm and the layouts of its matrices as cuBLASLt sees them, by columns: a row of
 * ours is a column of its. */
struct choice {
    struct shape shape;
    bool is_set;
    bool usable;               /* cuBLASLt has an algorithm */
    qr_cublaslt_layout weight; /* n_in x n_out */
    qr_cublaslt_layout x;      /* n_in x n_rows */
    qr_cublaslt_layout out;    /* n_out x n_rows */
    struct qr_cublaslt_algo algo;
};

struct qr_cuda_cublaslt {
    struct qr_cuda *cuda;
    const struct qr_cublaslt_api *api;
    void *workspace; /* device, [WORKSPACE_BYTES] */
    qr_cublaslt_handle handle;
    qr_cublaslt_desc desc; /* F32 sums, the first matrix transposed */
    qr_cublaslt_preference preference;
    bool has_refused; /* and the log says so */
    int32_t n_chosen; /* shapes since the start: the next goes to its place modulo N_SHAPES */
    struct choice choices[N_SHAPES];
};

/* ---- the library ---- */

static const char *const library_names[] = {"libcublasLt.so.13", "libcublasLt.so.12"};

static enum qr_status load_api(struct qr_cublaslt_api *api, struct qr_error *err)
{
    void *library = NULL;
    for (size_t i = 0; i < sizeof(library_names) / sizeof(library_names[0]) && library == NULL; i++)
        library = dlopen(library_names[i], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return qr_fail(err, QR_ERR_NOT_FOUND, "neither %s nor %s is installed", library_names[0],
                       library_names[1]);
    const struct {
        const char *name;
        void *function; /* where its address goes */
    } wanted[] = {
        {"cublasLtCreate", &api->create},
        {"cublasLtDestroy", &api->destroy},
        {"cublasLtMatmulDescCreate", &api->desc_create},
        {"cublasLtMatmulDescSetAttribute", &api->desc_set},
        {"cublasLtMatmulDescDestroy", &api->desc_destroy},
        {"cublasLtMatrixLayoutCreate", &api->layout_create},
        {"cublasLtMatrixLayoutSetAttribute", &api->layout_set},
        {"cublasLtMatrixLayoutDestroy", &api->layout_destroy},
        {"cublasLtMatmulPreferenceCreate", &api->preference_create},
        {"cublasLtMatmulPreferenceSetAttribute", &api->preference_set},
        {"cublasLtMatmulPreferenceDestroy", &api->preference_destroy},
        {"cublasLtMatmulAlgoGetHeuristic", &api->get_heuristic},
        {"cublasLtMatmul", &api->matmul},
    };
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        void *address = dlsym(library, wanted[i].name);
        if (address == NULL)
            return qr_fail(err, QR_ERR_UNSUPPORTED, "cuBLASLt has no %s", wanted[i].name);
        memcpy(wanted[i].function, &address, sizeof(address));
    }
    return QR_OK;
}

size_t qr_cuda_cublaslt_workspace_bytes(void)
{
    return WORKSPACE_BYTES;
}

enum qr_status qr_cuda_cublaslt_open(struct qr_cuda *cuda, void *workspace,
                                     struct qr_cuda_cublaslt **out, struct qr_error *err)
{
    static struct qr_cublaslt_api api; /* the library stays loaded */

    *out = NULL;
    QR_TRY(load_api(&api, err));
    return qr_cuda_cublaslt_open_api(cuda, &api, workspace, out, err);
}

enum qr_status qr_cuda_cublaslt_open_api(struct qr_cuda *cuda, const struct qr_cublaslt_api *api,
                                         void *workspace, struct qr_cuda_cublaslt **out,
                                         struct qr_error *err)
{
    const int32_t transposed = QR_CUBLAS_OP_T;
    const uint64_t workspace_bytes = WORKSPACE_BYTES;

    *out = NULL;
    struct qr_cuda_cublaslt *lt = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*lt));
    if (lt == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "out of memory for cuBLASLt");
    lt->cuda = cuda;
    lt->api = api;
    lt->workspace = workspace;
    qr_cublas_status status = api->create(&lt->handle);
    if (status == 0)
        status = api->desc_create(&lt->desc, QR_CUBLAS_COMPUTE_32F, QR_CUDA_R_32F);
    if (status == 0)
        status = api->desc_set(lt->desc, QR_CUBLASLT_DESC_TRANSA, &transposed, sizeof(transposed));
    if (status == 0)
        status = api->preference_create(&lt->preference);
    if (status == 0)
        status = api->preference_set(lt->preference, QR_CUBLASLT_PREF_MAX_WORKSPACE,
                                     &workspace_bytes, sizeof(workspace_bytes));
    if (status != 0) {
        qr_cuda_cublaslt_close(lt);
        return qr_fail(err, QR_ERR_UNSUPPORTED, "cuBLASLt cannot start: its status is %d", status);
    }
    *out = lt;
    return QR_OK;
}

static void clear_choice(const struct qr_cublaslt_api *api, struct choice *choice)
{
    qr_cublaslt_layout layouts[] = {choice->weight, choice->x, choice->out};

    for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
        if (layouts[i] != NULL)
            api->layout_destroy(layouts[i]);
    }
    *choice = (struct choice){.is_set = false};
}

void qr_cuda_cublaslt_close(struct qr_cuda_cublaslt *lt)
{
    if (lt == NULL)
        return;
    for (int32_t i = 0; i < N_SHAPES; i++)
        clear_choice(lt->api, &lt->choices[i]);
    if (lt->preference != NULL)
        lt->api->preference_destroy(lt->preference);
    if (lt->desc != NULL)
        lt->api->desc_destroy(lt->desc);
    if (lt->handle != NULL)
        lt->api->destroy(lt->handle);
    qr_free(lt);
}

/* ---- products ---- */

static int data_type(enum qr_cuda_type type)
{
    if (type == QR_CUDA_F32)
        return QR_CUDA_R_32F;
    return type == QR_CUDA_F16 ? QR_CUDA_R_16F : QR_CUDA_R_16BF;
}

/* Layouts and algorithm of a new shape. Stays unusable where cuBLASLt has none. */
static void choose(struct qr_cuda_cublaslt *lt, struct choice *choice, const struct shape *shape)
{
    const struct qr_cublaslt_api *api = lt->api;
    uint64_t n_out = (uint64_t)shape->n_out;
    uint64_t n_in = (uint64_t)shape->n_in;
    uint64_t n_rows = (uint64_t)shape->n_rows;
    int in_type = data_type((enum qr_cuda_type)shape->in_type);
    int out_type = data_type((enum qr_cuda_type)shape->out_type);
    struct qr_cublaslt_heuristic best;
    int n_found = 0;

    clear_choice(api, choice);
    choice->shape = *shape;
    choice->is_set = true;
    if (api->layout_create(&choice->weight, in_type, n_in, n_out, shape->n_in) != 0 ||
        api->layout_create(&choice->x, in_type, n_in, n_rows, shape->n_in) != 0 ||
        api->layout_create(&choice->out, out_type, n_out, n_rows, shape->n_out) != 0 ||
        api->get_heuristic(lt->handle, lt->desc, choice->weight, choice->x, choice->out,
                           choice->out, lt->preference, 1, &best, &n_found) != 0)
        return;
    choice->usable = n_found == 1 && best.state == 0;
    choice->algo = best.algo;
}

static struct choice *find_choice(struct qr_cuda_cublaslt *lt, const struct shape *shape)
{
    for (int32_t i = 0; i < N_SHAPES && lt->choices[i].is_set; i++) {
        if (memcmp(&lt->choices[i].shape, shape, sizeof(*shape)) == 0)
            return &lt->choices[i];
    }
    struct choice *choice = &lt->choices[lt->n_chosen++ % N_SHAPES];
    choose(lt, choice, shape);
    return choice;
}

bool qr_cuda_cublaslt_matmul(struct qr_cuda_cublaslt *lt, const struct qr_cuda_matrix *weight,
                             const void *x, int32_t n_rows, enum qr_cuda_type out_type, bool add,
                             void *out)
{
    const struct shape shape = {.n_out = weight->n_out,
                                .n_in = weight->n_in,
                                .n_rows = (n_rows + ROW_BUCKET - 1) / ROW_BUCKET * ROW_BUCKET,
                                .in_type = (int32_t)weight->type,
                                .out_type = (int32_t)out_type};
    const struct qr_cublaslt_api *api = lt->api;
    const uint64_t n_columns = (uint64_t)n_rows;
    const float alpha = 1.0f;
    const float beta = add ? 1.0f : 0.0f;
    struct choice *choice = find_choice(lt, &shape);

    if (choice->usable &&
        api->layout_set(choice->x, QR_CUBLASLT_LAYOUT_COLS, &n_columns, sizeof(n_columns)) == 0 &&
        api->layout_set(choice->out, QR_CUBLASLT_LAYOUT_COLS, &n_columns, sizeof(n_columns)) == 0 &&
        api->matmul(lt->handle, lt->desc, &alpha, weight->data, choice->weight, x, choice->x, &beta,
                    out, choice->out, out, choice->out, &choice->algo, lt->workspace,
                    WORKSPACE_BYTES, lt->cuda->stream) == 0)
        return true;
    if (!lt->has_refused)
        qr_log(QR_LOG_WARN, "cublaslt_refused", "n_rows=%d n_in=%d n_out=%d type=%s", n_rows,
               weight->n_in, weight->n_out, qr_cuda_type_name(weight->type));
    lt->has_refused = true;
    return false;
}
