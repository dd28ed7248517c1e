/* patterns.c - see patterns.h for the contract. */
#include "runtime/tokenizer/patterns.h"

#include <string.h>

#include "runtime/tokenizer/known_patterns.h"

enum { MAX_STEPS = 6 };

struct pattern {
    const char *names;            /* with a space before and after each */
    const char *steps[MAX_STEPS]; /* each cuts what the one before left */
    bool composes;                /* text is brought to NFC first */
    bool whole_piece_first;       /* a piece that is a token is not merged */
};

#define CONTRACTIONS QR_PATTERN_CONTRACTIONS
#define BREAKS       QR_PATTERN_BREAKS
#define WORD_HEAD    QR_PATTERN_WORD_HEAD
#define UPPER        QR_PATTERN_UPPER
#define LOWER        QR_PATTERN_LOWER
/* GPT-2's without its last branch, which only takes spaces that end a text. */
#define GPT2_OPEN                                 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+" \
    "| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"
#define QWEN35                                          \
    CONTRACTIONS "|" WORD_HEAD "[\\p{L}\\p{M}]+|\\p{N}" \
                 "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" BREAKS
#define TEKKEN                                                          \
    WORD_HEAD UPPER "*" LOWER "+|" WORD_HEAD UPPER "+" LOWER "*|\\p{N}" \
                    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" BREAKS
#define DEEPSEEK3                                           \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+" \
    "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" BREAKS
#define CJK "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"

static const struct pattern patterns[] = {
    {" gpt-2 gpt2 p50k r50k phi-2 mpt olmo jais roberta-bpe jina-es jina-de jina-v1-en "
     "gigachat granite-docling modern-bert ",
     {QR_GPT2_PATTERN},
     false,
     false},
    {" llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 ",
     {QR_CL100K_PATTERN},
     false,
     true},
    {" cl100k dbrx smaug-bpe chatglm-bpe glm4 seed-coder ", {QR_CL100K_PATTERN}, false, false},
    {" qwen2 deepseek-r1-qwen megrez hunyuan-dense ", {QR_QWEN2_PATTERN}, true, false},
    {" stablelm2 ", {QR_QWEN2_PATTERN}, false, false},
    {" qwen35 ", {QWEN35}, true, false},
    {" o200k gpt-4o llama4 ", {QR_O200K_PATTERN}, false, false},
    {" tekken ", {TEKKEN}, false, true},
    {" starcoder refact command-r smollm codeshell exaone minerva-7b ",
     {"\\p{N}", QR_GPT2_PATTERN},
     false,
     false},
    {" falcon ", {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2_OPEN, "[0-9][0-9][0-9]"}, false, false},
    {" deepseek-coder ", {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK, "\\p{N}"}, false, false},
    {" deepseek-v3 ",
     {"\\p{N}{1,3}", "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+", DEEPSEEK3},
     false,
     false},
    {" default ",
     {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2_OPEN, "\\p{N}+", "[0-9][0-9][0-9]"},
     false,
     false},
};

enum { N_PATTERNS = sizeof(patterns) / sizeof(patterns[0]) };

/* Tokenizers of "tokenizer_class", without "Fast" at its end, and the pattern of each. */
static const struct {
    const char *class_name;
    const char *pattern;
} classes[] = {
    {"GPT2Tokenizer", "gpt-2"},    {"CodeGenTokenizer", "gpt-2"}, {"GPTNeoXTokenizer", "gpt-2"},
    {"RobertaTokenizer", "gpt-2"}, {"BartTokenizer", "gpt-2"},    {"WhisperTokenizer", "gpt-2"},
    {"Qwen2Tokenizer", "qwen2"},
};

enum { N_CLASSES = sizeof(classes) / sizeof(classes[0]) };

static bool has_name(const struct pattern *pattern, const char *name)
{
    size_t length = strlen(name);
    const char *at = pattern->names;

    if (length == 0 || strchr(name, ' ') != NULL)
        return false;
    while ((at = strstr(at, name)) != NULL) {
        if (at[-1] == ' ' && at[length] == ' ')
            return true;
        at += length;
    }
    return false;
}

enum qr_status qr_pattern_apply(const char *name, struct qr_tokenizer *tok,
                                struct qr_byte_level *model, const struct qr_json_place *place)
{
    const struct pattern *found = NULL;
    struct qr_pre_tokenizer *out = &model->pre_tokenizer;

    for (int i = 0; i < N_PATTERNS && found == NULL; i++)
        found = has_name(&patterns[i], name != NULL ? name : "default") ? &patterns[i] : NULL;
    if (found == NULL)
        return qr_json_fail(place, QR_ERR_UNSUPPORTED, "pre",
                            "the pre-tokenizer \"%s\" is not known; gpt-2, llama-bpe, qwen2, "
                            "gpt-4o, tekken, deepseek-v3, falcon, starcoder and default are",
                            name);
    for (int i = 0; i < MAX_STEPS && found->steps[i] != NULL; i++)
        QR_TRY(qr_regex_compile(found->steps[i], &out->steps[out->n_steps++].regex, place->err));
    if (found->composes)
        qr_normalizer_add(&tok->normalizer, QR_NORMALIZER_FORM)->form = QR_NFC;
    model->whole_piece_first = found->whole_piece_first;
    return QR_OK;
}

enum qr_status qr_pattern_of_class(const json_t *class_name, const char **pattern,
                                   struct qr_error *err)
{
    const char *given = json_string_value(class_name);
    size_t length = given != NULL ? strlen(given) : 0;

    if (length > 4 && strcmp(given + length - 4, "Fast") == 0)
        length -= 4;
    for (int i = 0; i < N_CLASSES && length > 0; i++) {
        if (strlen(classes[i].class_name) != length ||
            strncmp(classes[i].class_name, given, length) != 0)
            continue;
        *pattern = classes[i].pattern;
        return QR_OK;
    }
    return qr_fail(err, QR_ERR_UNSUPPORTED,
                   "tokenizer_config.json: tokenizer_class: which pattern goes with \"%s\" is not "
                   "known; it is for GPT2Tokenizer and Qwen2Tokenizer. A tokenizer.json says it",
                   given != NULL ? given : "(none)");
}
