/* word_counts.c - see word_counts.h for the contract. */
#include "runtime/tokenizer/word_counts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/utf8.h"

enum { BYTES_BETWEEN_REPORTS = 1 << 20 };

struct reader {
    struct qr_word_counts *counts;
    struct qr_regex_scan scan;
    qr_progress_fn progress;
    void *progress_arg;
    int64_t bytes_done;
    int64_t bytes_total;
    int64_t bytes_reported;
};

static enum qr_status count_word(struct qr_word_counts *counts, const char *text, size_t n_bytes)
{
    int32_t index;

    QR_TRY(qr_string_table_add(&counts->words, text, n_bytes, &index));
    if (index >= counts->capacity) {
        int32_t capacity = counts->words.capacity;
        int64_t *grown =
            qr_realloc(QR_ARENA_ENGINE, counts->counts, (size_t)capacity * sizeof(*counts->counts));
        if (grown == NULL)
            return QR_ERR_NOMEM;
        memset(grown + counts->capacity, 0, (size_t)(capacity - counts->capacity) * sizeof(*grown));
        counts->counts = grown;
        counts->capacity = capacity;
    }
    counts->counts[index]++;
    return QR_OK;
}

/* Text that is valid UTF-8. What lies between two matches is a word, too. */
static enum qr_status count_valid(struct reader *reader, const char *text, size_t n_bytes)
{
    size_t done = 0;

    while (done < n_bytes) {
        bool found;
        size_t begin = n_bytes;
        size_t end = n_bytes;
        QR_TRY(qr_regex_scan_next(&reader->scan, text, n_bytes, done, &found, &begin, &end));
        if (begin > done)
            QR_TRY(count_word(reader->counts, text + done, begin - done));
        if (found)
            QR_TRY(count_word(reader->counts, text + begin, end - begin));
        done = end;
    }
    return QR_OK;
}

static enum qr_status count_line(struct reader *reader, const char *text, size_t n_bytes)
{
    size_t done = 0;

    while (done < n_bytes) {
        size_t n_valid = qr_utf8_valid_prefix(text + done, n_bytes - done);
        QR_TRY(count_valid(reader, text + done, n_valid));
        done += n_valid;
        if (done < n_bytes)
            QR_TRY(count_word(reader->counts, text + done++, 1));
    }
    return QR_OK;
}

static void report(struct reader *reader, size_t n_bytes)
{
    reader->bytes_done += (int64_t)n_bytes;
    if (reader->progress == NULL ||
        reader->bytes_done - reader->bytes_reported < BYTES_BETWEEN_REPORTS)
        return;
    reader->bytes_reported = reader->bytes_done;
    reader->progress(reader->progress_arg, "reading", reader->bytes_done, reader->bytes_total);
}

static enum qr_status read_file(struct reader *reader, const char *path, struct qr_error *err)
{
    enum qr_status status = QR_OK;
    char *line = NULL;
    size_t line_capacity = 0;
    ssize_t n;

    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return qr_fail(err, QR_ERR_IO, "%s: cannot be opened: %s", path, strerror(errno));
    while (status == QR_OK && (errno = 0, n = getline(&line, &line_capacity, file)) >= 0) {
        status = count_line(reader, line, (size_t)n);
        report(reader, (size_t)n);
    }
    if (status != QR_OK)
        (void)qr_fail(err, status, "%s: counting its words failed: %s", path,
                      qr_status_name(status));
    else if (errno == ENOMEM)
        status = qr_fail(err, QR_ERR_NOMEM, "%s: a line does not fit into memory", path);
    else if (ferror(file))
        status = qr_fail(err, QR_ERR_IO, "%s: cannot be read: %s", path, strerror(errno));
    free(line);
    fclose(file);
    return status;
}

enum qr_status qr_word_counts_read(struct qr_word_counts *counts, const struct qr_regex *regex,
                                   const char *const *files, int32_t n_files,
                                   qr_progress_fn progress, void *progress_arg,
                                   struct qr_error *err)
{
    struct reader reader = {.counts = counts, .progress = progress, .progress_arg = progress_arg};
    enum qr_status status = qr_regex_scan_begin(regex, &reader.scan);
    struct stat info;

    for (int32_t i = 0; i < n_files; i++)
        reader.bytes_total += stat(files[i], &info) == 0 ? (int64_t)info.st_size : 0;
    for (int32_t i = 0; i < n_files && status == QR_OK; i++)
        status = read_file(&reader, files[i], err);
    if (status == QR_OK && progress != NULL)
        progress(progress_arg, "reading", reader.bytes_done, reader.bytes_done);
    qr_regex_scan_end(&reader.scan);
    return status;
}

void qr_word_counts_free(struct qr_word_counts *counts)
{
    qr_string_table_free(&counts->words);
    qr_free(counts->counts);
    *counts = (struct qr_word_counts){0};
}
