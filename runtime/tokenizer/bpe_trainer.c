/* bpe_trainer.c - trains byte-level BPE; see trainer.h. */
#include "base/alloc.h"
#include "base/utf8.h"
#include "runtime/tokenizer/bpe_writer.h"
#include "runtime/tokenizer/byte_alphabet.h"
#include "runtime/tokenizer/merge_trainer.h"
#include "runtime/tokenizer/regex.h"
#include "runtime/tokenizer/trainer_options.h"
#include "runtime/tokenizer/word_counts.h"

static enum qr_status begin_cutting(const void *model, void **state)
{
    struct qr_regex_scan *scan = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*scan));

    *state = scan;
    return scan == NULL ? QR_ERR_NOMEM : qr_regex_scan_begin(model, scan);
}

static void end_cutting(void *state)
{
    if (state != NULL)
        qr_regex_scan_end(state);
    qr_free(state);
}

/* Text that is valid UTF-8. What lies between two matches is a word, too. */
static enum qr_status cut_valid(struct qr_regex_scan *scan, const char *text, size_t n_bytes,
                                struct qr_word_counts *counts)
{
    size_t done = 0;

    while (done < n_bytes) {
        bool found;
        size_t begin = n_bytes;
        size_t end = n_bytes;
        QR_TRY(qr_regex_scan_next(scan, text, n_bytes, done, &found, &begin, &end));
        if (begin > done)
            QR_TRY(qr_word_counts_add(counts, text + done, begin - done, 1));
        if (found)
            QR_TRY(qr_word_counts_add(counts, text + begin, end - begin, 1));
        done = end;
    }
    return QR_OK;
}

/* Each line, with its newline, as HF's train(files) does. A byte that is not UTF-8 is a word. */
static enum qr_status cut_line(void *state, const char *line, size_t n_bytes,
                               struct qr_word_counts *counts)
{
    size_t done = 0;

    while (done < n_bytes) {
        size_t n_valid = qr_utf8_valid_prefix(line + done, n_bytes - done);
        QR_TRY(cut_valid(state, line + done, n_valid, counts));
        done += n_valid;
        if (done < n_bytes)
            QR_TRY(qr_word_counts_add(counts, line + done++, 1, 1));
    }
    return QR_OK;
}

/* The special tokens get the first ids, then the bytes in the order of their characters. */
static enum qr_status add_base_vocab(struct qr_string_table *vocab,
                                     const struct qr_trainer_config *config,
                                     int32_t byte_id[QR_BPE_N_BYTES])
{
    QR_TRY(qr_trainer_add_special(vocab, config));
    for (int32_t codepoint = 0; codepoint < 2 * QR_BPE_N_BYTES; codepoint++) {
        int32_t byte = qr_codepoint_to_byte(codepoint);
        char text[QR_BYTE_CHAR_MAX];
        if (byte >= 0)
            QR_TRY(qr_string_table_add(vocab, text, qr_byte_to_char((uint8_t)byte, text),
                                       &byte_id[byte]));
    }
    return QR_OK;
}

static enum qr_status add_words(struct qr_merge_trainer *trainer,
                                const struct qr_word_counts *counts,
                                const int32_t byte_id[QR_BPE_N_BYTES])
{
    size_t n_symbols = counts->words.bytes.length;

    trainer->n_words = counts->words.count;
    trainer->words = qr_calloc(QR_ARENA_ENGINE, (size_t)trainer->n_words, sizeof(*trainer->words));
    trainer->symbols = qr_calloc(QR_ARENA_ENGINE, n_symbols, sizeof(*trainer->symbols));
    if (trainer->words == NULL || trainer->symbols == NULL)
        return QR_ERR_NOMEM;
    for (size_t i = 0; i < n_symbols; i++)
        trainer->symbols[i] = byte_id[(uint8_t)counts->words.bytes.data[i]];
    for (int32_t i = 0; i < trainer->n_words; i++) {
        trainer->words[i] = (struct qr_training_word){
            .begin = counts->words.entries[i].offset,
            .length = (int32_t)counts->words.entries[i].length,
            .count = counts->counts[i],
        };
    }
    return QR_OK;
}

static enum qr_status read_words(struct qr_merge_trainer *trainer,
                                 const struct qr_trainer_config *config, const char *const *files,
                                 int32_t n_files, struct qr_error *err)
{
    int32_t byte_id[QR_BPE_N_BYTES];
    struct qr_word_counts counts = {0};
    struct qr_regex *regex = NULL;

    enum qr_status status = qr_regex_compile(QR_GPT2_PATTERN, &regex, err);
    if (status == QR_OK) {
        const struct qr_word_cutter cutter = {regex, begin_cutting, cut_line, end_cutting};
        status = qr_word_counts_read(&counts, &cutter, config, files, n_files, err);
    }
    if (status == QR_OK)
        status = add_base_vocab(&trainer->vocab, config, byte_id);
    if (status == QR_OK)
        status = add_words(trainer, &counts, byte_id);
    qr_word_counts_free(&counts);
    qr_regex_free(regex);
    return status;
}

enum qr_status qr_train_byte_level_bpe(const struct qr_trainer_config *config,
                                       const char *const *files, int32_t n_files,
                                       const char *output_dir, struct qr_error *err)
{
    struct qr_merge_trainer trainer = {
        .rules = {.min_count = config->min_frequency > 1 ? config->min_frequency : 1,
                  .repeats_tokens = true},
    };
    enum qr_status status = qr_trainer_check(config, QR_BPE_N_BYTES, "the 256 bytes", err);

    if (status == QR_OK)
        status = read_words(&trainer, config, files, n_files, err);
    if (status == QR_OK)
        status = qr_merge_trainer_run(&trainer, config->vocab_size, config);
    if (status == QR_OK)
        status = qr_bpe_write(output_dir, &trainer.vocab, config->n_special, trainer.merges,
                              trainer.n_merges, err);
    if (status == QR_ERR_NOMEM)
        status = qr_fail(err, QR_ERR_NOMEM, "out of memory while training");
    qr_merge_trainer_free(&trainer);
    return status;
}
