/* trainer_options.c - see trainer_options.h for the contract. */
#include "runtime/tokenizer/trainer_options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "runtime/tokenizer/sentencepiece_writer.h"

enum { MAX_THREADS = 1024, MAX_PIECE_LENGTH = 512 };

enum qr_status qr_trainer_check(const struct qr_trainer_config *config, int32_t n_fixed,
                                const char *what, struct qr_error *err)
{
    int32_t least = n_fixed + config->n_special;

    if (config->vocab_size < least)
        return qr_fail(err, QR_ERR_INVALID,
                       "vocab_size: %d is too small; %s and %d special tokens need at least %d",
                       config->vocab_size, what, config->n_special, least);
    if (config->n_threads < 1 || config->n_threads > MAX_THREADS)
        return qr_fail(err, QR_ERR_INVALID, "threads: %d is not in 1 to %d", config->n_threads,
                       MAX_THREADS);
    for (int32_t i = 0; i < config->n_special; i++) {
        if (config->special_tokens[i][0] == '\0')
            return qr_fail(err, QR_ERR_INVALID, "special token %d is empty", i);
        for (int32_t k = 0; k < i; k++) {
            if (strcmp(config->special_tokens[i], config->special_tokens[k]) == 0)
                return qr_fail(err, QR_ERR_INVALID, "the special token \"%s\" is given twice",
                               config->special_tokens[i]);
        }
    }
    return QR_OK;
}

enum qr_status qr_trainer_check_pieces(const struct qr_trainer_config *config, struct qr_error *err)
{
    static const char *const taken[] = {"<unk>", "<s>", "</s>"};
    int32_t n_fixed = qr_sentencepiece_n_fixed(config) - config->n_special;

    QR_TRY(qr_trainer_check(config, n_fixed + 1,
                            config->byte_fallback ? "<unk>, <s>, </s>, the 256 bytes, a character"
                                                  : "<unk>, <s>, </s>, a character",
                            err));
    if (!(config->character_coverage > 0 && config->character_coverage <= 1))
        return qr_fail(err, QR_ERR_INVALID, "character_coverage: %g is not in (0, 1]",
                       (double)config->character_coverage);
    if (config->max_piece_length < 1 || config->max_piece_length > MAX_PIECE_LENGTH)
        return qr_fail(err, QR_ERR_INVALID, "max_piece_length: %d is not in 1 to %d",
                       config->max_piece_length, MAX_PIECE_LENGTH);
    for (int32_t i = 0; i < config->n_special; i++) {
        for (size_t k = 0; k < sizeof(taken) / sizeof(taken[0]); k++) {
            if (strcmp(config->special_tokens[i], taken[k]) == 0)
                return qr_fail(err, QR_ERR_INVALID,
                               "the special token \"%s\" is there without being asked for",
                               taken[k]);
        }
    }
    return QR_OK;
}

enum qr_status qr_trainer_check_chars(const struct qr_trainer_config *config, int32_t n_chars,
                                      int32_t *n_left, struct qr_error *err)
{
    int32_t n_fixed = qr_sentencepiece_n_fixed(config);

    *n_left = config->vocab_size - n_fixed;
    if (*n_left < n_chars)
        return qr_fail(err, QR_ERR_INVALID,
                       "vocab_size: %d is too small for %d special pieces and the text's %d "
                       "characters; a smaller character coverage leaves out rare ones",
                       config->vocab_size, n_fixed, n_chars);
    if (n_chars == 0)
        return qr_fail(err, QR_ERR_INVALID, "there is no text in the files to learn from");
    return QR_OK;
}

enum qr_status qr_trainer_add_special(struct qr_string_table *vocab,
                                      const struct qr_trainer_config *config)
{
    int32_t id;

    for (int32_t i = 0; i < config->n_special; i++)
        QR_TRY(qr_string_table_add(vocab, config->special_tokens[i],
                                   strlen(config->special_tokens[i]), &id));
    return QR_OK;
}

/* `unfinished` is the file's name until it is whole. */
static enum qr_status write_whole(const char *path, const char *unfinished, const char *bytes,
                                  size_t n_bytes, struct qr_error *err)
{
    FILE *file = fopen(unfinished, "wb");
    bool is_written = file != NULL && fwrite(bytes, 1, n_bytes, file) == n_bytes;

    if (file != NULL && fclose(file) != 0)
        is_written = false;
    if (is_written && rename(unfinished, path) == 0)
        return QR_OK;
    enum qr_status status =
        qr_fail(err, QR_ERR_IO, "%s: cannot be written: %s", path, strerror(errno));
    unlink(unfinished);
    return status;
}

enum qr_status qr_trainer_write_file(const char *directory, const char *name, const char *bytes,
                                     size_t n_bytes, struct qr_error *err)
{
    struct qr_buffer path = {.arena = QR_ARENA_ENGINE};
    struct qr_buffer unfinished = {.arena = QR_ARENA_ENGINE};

    if (mkdir(directory, 0777) != 0 && errno != EEXIST)
        return qr_fail(err, QR_ERR_IO, "%s: the directory cannot be made: %s", directory,
                       strerror(errno));
    enum qr_status status = qr_buffer_printf(&path, "%s/%s", directory, name);
    if (status == QR_OK)
        status = qr_buffer_printf(&unfinished, "%s.part", path.data);
    if (status == QR_OK)
        status = write_whole(path.data, unfinished.data, bytes, n_bytes, err);
    qr_buffer_free(&path);
    qr_buffer_free(&unfinished);
    return status;
}
