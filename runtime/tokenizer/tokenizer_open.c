/*
 * tokenizer_open.c - finds and opens the tokenizer at a path; see tokenizer.h for the contract.
 */
#include <glob.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/mapped_file.h"
#include "runtime/tokenizer/tokenizer_impl.h"
#include "runtime/tokenizer/tokenizer_json.h"
#include "runtime/tokenizer/vocabulary_files.h"

/* The two files of a vocabulary with merges, as GPT-2 and as transformers name them. */
static const char *const vocab_and_merges[][2] = {{"vocab.json", "merges.txt"},
                                                  {"encoder.json", "vocab.bpe"}};

enum { N_VOCAB_NAMES = sizeof(vocab_and_merges) / sizeof(vocab_and_merges[0]) };

struct opening {
    const char *path;      /* what the caller named: a file, or the directory */
    const char *directory; /* in which it lies */
    json_t *config;        /* tokenizer_config.json; NULL: none */
    struct qr_buffer config_path;
    struct qr_tokenizer **out;
    struct qr_error *err;
};

static bool is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

static bool looks_like_json(const struct qr_mapped_file *file)
{
    size_t i = 0;

    while (i < file->size && strchr(" \t\r\n", file->data[i]) != NULL && file->data[i] != '\0')
        i++;
    return i < file->size && file->data[i] == '{';
}

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static enum qr_status join_path(const struct opening *opening, const char *name,
                                struct qr_buffer *path)
{
    *path = (struct qr_buffer){.arena = QR_ARENA_ENGINE};
    return qr_buffer_printf(path, "%s/%s", opening->directory, name);
}

static enum qr_status open_pair(const struct opening *opening, const char *vocab_path,
                                const char *merges_path)
{
    struct qr_mapped_file vocab;
    struct qr_mapped_file merges;

    QR_TRY(qr_mapped_file_open(vocab_path, &vocab, opening->err));
    enum qr_status status = qr_mapped_file_open(merges_path, &merges, opening->err);
    if (status == QR_OK) {
        const struct qr_file_text vocab_text = {vocab_path, (const char *)vocab.data, vocab.size};
        const struct qr_file_text merges_text = {merges_path, (const char *)merges.data,
                                                 merges.size};
        status = qr_tokenizer_from_vocab_and_merges(&vocab_text, &merges_text, opening->config,
                                                    opening->out, opening->err);
        qr_mapped_file_close(&merges);
    }
    qr_mapped_file_close(&vocab);
    return status;
}

/* Opens directory/vocab.json with directory/merges.txt, by the names of the i-th pair. */
static enum qr_status open_named_pair(const struct opening *opening, int i, bool *found)
{
    struct qr_buffer vocab = {0};
    struct qr_buffer merges = {0};
    enum qr_status status = join_path(opening, vocab_and_merges[i][0], &vocab);

    if (status == QR_OK)
        status = join_path(opening, vocab_and_merges[i][1], &merges);
    *found = status == QR_OK && is_file(vocab.data) && is_file(merges.data);
    if (*found)
        status = open_pair(opening, vocab.data, merges.data);
    qr_buffer_free(&vocab);
    qr_buffer_free(&merges);
    return status;
}

/* Tokens that a model was given later are in its tokenizer_config.json alone. */
static enum qr_status open_sentencepiece(const struct opening *opening, const char *path,
                                         const struct qr_mapped_file *file)
{
    QR_TRY(
        qr_tokenizer_from_sentencepiece(path, file->data, file->size, opening->out, opening->err));
    enum qr_status status =
        qr_json_read_added_tokens_decoder(opening->config, true, *opening->out, opening->err);
    if (status != QR_OK) {
        qr_tokenizer_close(*opening->out);
        *opening->out = NULL;
    }
    return status;
}

static enum qr_status open_file(const struct opening *opening, const char *path)
{
    struct qr_mapped_file file;
    const char *dot = strrchr(path, '.');
    enum qr_status status;

    for (int i = 0; i < N_VOCAB_NAMES; i++) {
        bool found;
        if (strcmp(file_name(path), vocab_and_merges[i][0]) != 0 &&
            strcmp(file_name(path), vocab_and_merges[i][1]) != 0)
            continue;
        status = open_named_pair(opening, i, &found);
        return status != QR_OK || found
                   ? status
                   : qr_fail(opening->err, QR_ERR_NOT_FOUND, "%s: %s and %s belong together", path,
                             vocab_and_merges[i][0], vocab_and_merges[i][1]);
    }
    QR_TRY(qr_mapped_file_open(path, &file, opening->err));
    const struct qr_file_text text = {path, (const char *)file.data, file.size};
    if (looks_like_json(&file) || (dot != NULL && strcmp(dot, ".json") == 0))
        status = qr_tokenizer_from_json(path, text.text, file.size, opening->out, opening->err);
    else if (qr_looks_like_tiktoken(file.data, file.size))
        status = qr_tokenizer_from_tiktoken(&text, opening->config, opening->out, opening->err);
    else
        status = open_sentencepiece(opening, path, &file);
    qr_mapped_file_close(&file);
    return status;
}

/* Opens directory/NAME if it is there. */
static enum qr_status try_file(const struct opening *opening, const char *name, bool *found)
{
    struct qr_buffer path = {0};
    enum qr_status status = join_path(opening, name, &path);

    *found = status == QR_OK && is_file(path.data);
    if (*found)
        status = open_file(opening, path.data);
    qr_buffer_free(&path);
    return status;
}

/* Opens the first directory/NAME.tiktoken. */
static enum qr_status try_tiktoken(const struct opening *opening, bool *found)
{
    struct qr_buffer pattern = {0};
    glob_t paths = {0};
    enum qr_status status = join_path(opening, "*.tiktoken", &pattern);

    *found = status == QR_OK && glob(pattern.data, 0, NULL, &paths) == 0;
    if (*found)
        status = open_file(opening, paths.gl_pathv[0]);
    globfree(&paths);
    qr_buffer_free(&pattern);
    return status;
}

/*
 * A model directory may hold its tokenizer in several forms: the others serve where
 * tokenizer.json asks for something that is not supported.
 */
static enum qr_status open_in_directory(const struct opening *opening)
{
    bool has_json;
    bool found;
    enum qr_status status = try_file(opening, "tokenizer.json", &has_json);
    if (status != QR_ERR_UNSUPPORTED && (status != QR_OK || has_json))
        return status;

    enum qr_status model_status = try_file(opening, "tokenizer.model", &found);
    if (model_status != QR_OK || found)
        return model_status;
    for (int i = 0; i < N_VOCAB_NAMES; i++) {
        enum qr_status pair_status = open_named_pair(opening, i, &found);
        if (pair_status != QR_OK || found)
            return pair_status;
    }
    enum qr_status ranks_status = try_tiktoken(opening, &found);
    if (ranks_status != QR_OK || found)
        return ranks_status;
    if (has_json)
        return status;
    return qr_fail(opening->err, QR_ERR_NOT_FOUND,
                   "%s: holds neither tokenizer.json nor tokenizer.model, nor vocab.json "
                   "with merges.txt, nor a .tiktoken file",
                   opening->path);
}

/* Reads directory/tokenizer_config.json, where there is one. */
static enum qr_status read_config(struct opening *opening)
{
    struct qr_mapped_file file;

    QR_TRY(join_path(opening, "tokenizer_config.json", &opening->config_path));
    if (!is_file(opening->config_path.data))
        return QR_OK;
    QR_TRY(qr_mapped_file_open(opening->config_path.data, &file, opening->err));
    /* model_max_length is 10^30 in many files. */
    enum qr_status status = qr_json_parse(opening->config_path.data, (const char *)file.data,
                                          file.size, true, &opening->config, opening->err);
    qr_mapped_file_close(&file);
    return status;
}

static enum qr_status open_path(struct opening *opening, bool is_directory)
{
    QR_TRY(read_config(opening));
    QR_TRY(is_directory ? open_in_directory(opening) : open_file(opening, opening->path));
    if (opening->config == NULL)
        return QR_OK;
    enum qr_status status = qr_tokenizer_apply_config(*opening->out, opening->config_path.data,
                                                      opening->config, opening->err);
    if (status != QR_OK) {
        qr_tokenizer_close(*opening->out);
        *opening->out = NULL;
    }
    return status;
}

enum qr_status qr_tokenizer_open(const char *path, struct qr_tokenizer **out, struct qr_error *err)
{
    struct opening opening = {.path = path, .out = out, .err = err};
    enum qr_status status = QR_ERR_NOMEM;
    struct stat info;

    *out = NULL;
    bool is_directory = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    const char *slash = strrchr(path, '/');
    char *directory = is_directory    ? qr_strdup(QR_ARENA_ENGINE, path)
                      : slash == NULL ? qr_strdup(QR_ARENA_ENGINE, ".")
                                      : qr_strndup(QR_ARENA_ENGINE, path, (size_t)(slash - path));
    opening.directory = directory;
    if (directory != NULL)
        status = open_path(&opening, is_directory);
    json_decref(opening.config);
    qr_buffer_free(&opening.config_path);
    qr_free(directory);
    return status;
}
