/* tensor.c - see tensor.h for the contract. */
#include "runtime/weights/tensor.h"

#include "base/dequantize.h"

int64_t qr_tensor_n_elements(const struct qr_tensor *tensor)
{
    int64_t n = 1;
    for (int32_t i = 0; i < tensor->n_dims; i++)
        n *= tensor->dims[i];
    return n;
}

int64_t qr_tensor_n_bytes(const struct qr_tensor *tensor)
{
    return (int64_t)qr_dtype_row_bytes(tensor->dtype, qr_tensor_n_elements(tensor));
}

/* row [n_columns] times the scales of row `index` of the matrix */
static void scale_row(const struct qr_tensor *matrix, int64_t index, float *row)
{
    int64_t n_columns = matrix->dims[1];
    int64_t step = matrix->scale_columns;
    int64_t scale_row = (index + matrix->scale_first_row) / matrix->scale_rows;
    const float *scales = matrix->scales + scale_row * ((n_columns + step - 1) / step);

    for (int64_t at = 0; at < n_columns; at += step, scales++) {
        int64_t end = at + step < n_columns ? at + step : n_columns;
        for (int64_t i = at; i < end; i++)
            row[i] *= *scales;
    }
}

void qr_tensor_widen_rows(const struct qr_tensor *matrix, int64_t first, int64_t n_rows, float *out)
{
    int64_t n_columns = matrix->dims[1];
    size_t row_bytes = qr_dtype_row_bytes(matrix->dtype, n_columns);
    const char *data = (const char *)matrix->data + (size_t)first * row_bytes;

    qr_dequantize(matrix->dtype, data, n_rows * n_columns, out);
    for (int64_t i = 0; i < n_rows && matrix->scales != NULL; i++)
        scale_row(matrix, first + i, out + i * n_columns);
}
