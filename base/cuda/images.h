/*
 * images.h - the kernels that nvcc compiled for this program; CMake writes the table
 * (cmake/cuda.cmake). A program that was linked without one has none.
 */
#ifndef QUIRE_BASE_CUDA_IMAGES_H
#define QUIRE_BASE_CUDA_IMAGES_H

#include "base/cuda/driver.h"

struct qr_cuda_image_table {
    const struct qr_cu_image *images; /* [n_images] */
    int32_t n_images;
};

extern const struct qr_cuda_image_table qr_cuda_images __attribute__((weak));

#endif /* QUIRE_BASE_CUDA_IMAGES_H */
