/* tokenizer.c - see tokenizer.h for the contract. */
#include "runtime/bench/tokenizer.h"

#include <jansson.h>
#include <string.h>

#include "base/array.h"
#include "base/mapped_file.h"
#include "runtime/bench/cpu_time.h"

static enum qr_status add_text(struct qr_bench_texts *texts, const char *text, size_t n_bytes)
{
    void *grown = qr_array_grow(QR_ARENA_REQUEST, texts->ends, texts->count, &texts->capacity,
                                sizeof(*texts->ends));
    if (grown == NULL)
        return QR_ERR_NOMEM;
    texts->ends = grown;
    QR_TRY(qr_buffer_append(&texts->bytes, text, n_bytes));
    texts->ends[texts->count++] = texts->bytes.length;
    return QR_OK;
}

static enum qr_status add_line(struct qr_bench_texts *texts, const char *path, size_t number,
                               const char *line, size_t n_bytes, struct qr_error *err)
{
    json_t *text = json_loadb(line, n_bytes, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    enum qr_status status;

    if (json_is_string(text))
        status = add_text(texts, json_string_value(text), json_string_length(text));
    else
        status = qr_fail(err, QR_ERR_INVALID, "%s: line %zu: is not a JSON string", path, number);
    json_decref(text);
    return status;
}

static enum qr_status add_lines(struct qr_bench_texts *texts, const char *path,
                                const struct qr_mapped_file *file, struct qr_error *err)
{
    const char *text = (const char *)file->data;
    size_t number = 0;

    for (size_t begin = 0; begin < file->size; number++) {
        const char *newline = memchr(text + begin, '\n', file->size - begin);
        size_t end = newline != NULL ? (size_t)(newline - text) : file->size;
        if (end > begin)
            QR_TRY(add_line(texts, path, number + 1, text + begin, end - begin, err));
        begin = end + 1;
    }
    return QR_OK;
}

enum qr_status qr_bench_texts_read(struct qr_bench_texts *texts, const char *path, bool is_jsonl,
                                   struct qr_error *err)
{
    struct qr_mapped_file file;

    QR_TRY(qr_mapped_file_open(path, &file, err));
    enum qr_status status = is_jsonl ? add_lines(texts, path, &file, err)
                                     : add_text(texts, (const char *)file.data, file.size);
    qr_mapped_file_close(&file);
    if (status == QR_ERR_NOMEM)
        return qr_fail(err, status, "%s: does not fit into memory", path);
    if (status == QR_OK && texts->bytes.length == 0)
        return qr_fail(err, QR_ERR_INVALID, "%s: holds no text", path);
    return status;
}

void qr_bench_texts_free(struct qr_bench_texts *texts)
{
    qr_buffer_free(&texts->bytes);
    qr_free(texts->ends);
    *texts = (struct qr_bench_texts){0};
}

enum qr_status qr_measure_encode(const struct qr_tokenizer *tok, const struct qr_bench_texts *texts,
                                 struct qr_encode_run *run, struct qr_error *err)
{
    const struct qr_encode_options options = {.add_bos = false, .parse_special = false};
    struct qr_token_ids ids = {.arena = QR_ARENA_REQUEST};
    enum qr_status status = QR_OK;
    size_t begin = 0;
    int64_t cpu_ns = qr_cpu_ns();

    run->n_tokens = 0;
    for (int32_t i = 0; i < texts->count && status == QR_OK; i++) {
        ids.count = 0;
        status = qr_tokenizer_encode(tok, texts->bytes.data + begin, texts->ends[i] - begin,
                                     &options, &ids, err);
        run->n_tokens += ids.count;
        begin = texts->ends[i];
    }
    run->seconds = (double)(qr_cpu_ns() - cpu_ns) / (double)QR_NS_PER_SEC;
    qr_token_ids_free(&ids);
    return status;
}
