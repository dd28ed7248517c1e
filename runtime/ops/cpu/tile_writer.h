/*
 * tile_writer.h - a file of tiles (tile_file.h) in the making: matrices are packed right into its
 * mapping, so that there is no second copy of them.
 *
 * The file has no name until it is whole, where the file system allows that; it gets its name in
 * one step, in place of a file that has it already. What was taken stays readable, and where it is,
 * until the writer is closed, whether or not the file came to be.
 */
#ifndef QUIRE_RUNTIME_OPS_CPU_TILE_WRITER_H
#define QUIRE_RUNTIME_OPS_CPU_TILE_WRITER_H

#include "base/status.h"
#include "runtime/ops/cpu/tile_file.h"

struct qr_tile_writer;

QR_BEGIN_DECLS

/*
 * A file in the folder `dir`, of at most max_bytes: addresses for so many are set aside, memory and
 * disk as they are taken. On QR_OK the caller owns *out. Errors name the folder and what to do.
 */
QR_MUST_CHECK enum qr_status qr_tile_writer_create(const char *dir, size_t max_bytes,
                                                   struct qr_tile_writer **out,
                                                   struct qr_error *err);
/* Accepts NULL. */
void qr_tile_writer_close(struct qr_tile_writer *writer);

/*
 * Room for the tiles of one matrix more, zeros, aligned to 64: *tiles [qr_tile_bytes]. On error,
 * such as a full disk, the writer is as it was.
 */
QR_MUST_CHECK enum qr_status qr_tile_writer_take(struct qr_tile_writer *writer, const char *name,
                                                 enum qr_dtype dtype, int64_t n_out, int64_t n_in,
                                                 uint8_t **tiles, struct qr_error *err);
/* What was taken, for the caller to fill in the checksums before qr_tile_writer_publish. */
struct qr_tile_index *qr_tile_writer_index(struct qr_tile_writer *writer);
/* Ends the file and calls it `path`, in the writer's folder. Tiles are read-only from here on. */
QR_MUST_CHECK enum qr_status qr_tile_writer_publish(struct qr_tile_writer *writer,
                                                    const uint8_t key[QR_TILE_KEY_BYTES],
                                                    const char *path, struct qr_error *err);
/* Gives the disk back: what was taken moves to memory, at the same addresses. */
void qr_tile_writer_abandon(struct qr_tile_writer *writer);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_OPS_CPU_TILE_WRITER_H */
