/*
 * sentencepiece_words.h - the words and characters that SentencePiece's trainers learn
 * from: white space cuts, and stands as U+2581 before the word that follows it.
 */
#ifndef QUIRE_RUNTIME_TOKENIZER_SENTENCEPIECE_WORDS_H
#define QUIRE_RUNTIME_TOKENIZER_SENTENCEPIECE_WORDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "runtime/tokenizer/string_table.h"
#include "runtime/tokenizer/trainer.h"
#include "runtime/tokenizer/word_counts.h"

enum {
    QR_SPACE_CODEPOINT = 0x2581,
    QR_NO_SCRIPT = -1, /* of U+2581, which goes before every script */
};

struct qr_training_char {
    int32_t codepoint;
    int32_t script; /* of Unicode; kana count as Han */
    int64_t count;
};

/* Zero-initialise; release with qr_training_text_free. */
struct qr_training_text {
    struct qr_training_char *chars; /* [n_chars] of the vocabulary, by falling count, then code */
    int32_t n_chars;
    struct qr_training_word *words; /* [n_words] */
    int32_t n_words;
    int32_t *symbols; /* of the words: indices into chars, -1: not of the vocabulary */
};

QR_BEGIN_DECLS

/*
 * Reads the files line by line. No piece holds a part of a special token or of "<unk>", "<s>" or
 * "</s>"; what is not UTF-8 becomes U+FFFD; lines with U+2585, which stands for the unknown in
 * SentencePiece, are not read. The vocabulary's characters are the most frequent ones that
 * make up config->character_coverage of the text.
 */
QR_MUST_CHECK enum qr_status qr_training_text_read(struct qr_training_text *text,
                                                   const struct qr_trainer_config *config,
                                                   const char *const *files, int32_t n_files,
                                                   struct qr_error *err);
void qr_training_text_free(struct qr_training_text *text);

/* Whether characters of these scripts may follow each other in a piece. */
static inline bool qr_scripts_join(int32_t left, int32_t right)
{
    return left == QR_NO_SCRIPT || left == right;
}

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_SENTENCEPIECE_WORDS_H */
