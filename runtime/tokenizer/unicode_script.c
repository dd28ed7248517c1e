/* unicode_script.c - see unicode_script.h for the contract. */
#include "runtime/tokenizer/unicode_script.h"

#include <stdio.h>
#include <utf8proc.h>

#include "runtime/tokenizer/regex.h"

/* PCRE2 knows the scripts, but by name only. */
/* clang-format off */
static const char *const scripts[] = {
    "Adlam", "Ahom", "Anatolian_Hieroglyphs", "Arabic", "Armenian", "Avestan", "Balinese", "Bamum",
    "Bassa_Vah", "Batak", "Bengali", "Bhaiksuki", "Bopomofo", "Brahmi", "Braille", "Buginese",
    "Buhid", "Canadian_Aboriginal", "Carian", "Caucasian_Albanian", "Chakma", "Cham", "Cherokee",
    "Chorasmian", "Common", "Coptic", "Cuneiform", "Cypriot", "Cypro_Minoan", "Cyrillic",
    "Deseret", "Devanagari", "Dives_Akuru", "Dogra", "Duployan", "Egyptian_Hieroglyphs", "Elbasan",
    "Elymaic", "Ethiopic", "Georgian", "Glagolitic", "Gothic", "Grantha", "Greek", "Gujarati",
    "Gunjala_Gondi", "Gurmukhi", "Hangul", "Hanifi_Rohingya", "Hanunoo", "Hatran", "Hebrew",
    "Imperial_Aramaic", "Inherited", "Inscriptional_Pahlavi", "Inscriptional_Parthian", "Javanese",
    "Kaithi", "Kannada", "Kayah_Li", "Kharoshthi", "Khitan_Small_Script", "Khmer", "Khojki",
    "Khudawadi", "Lao", "Latin", "Lepcha", "Limbu", "Linear_A", "Linear_B", "Lisu", "Lycian",
    "Lydian", "Mahajani", "Makasar", "Malayalam", "Mandaic", "Manichaean", "Marchen",
    "Masaram_Gondi", "Medefaidrin", "Meetei_Mayek", "Mende_Kikakui", "Meroitic_Cursive",
    "Meroitic_Hieroglyphs", "Miao", "Modi", "Mongolian", "Mro", "Multani", "Myanmar", "Nabataean",
    "Nandinagari", "New_Tai_Lue", "Newa", "Nko", "Nushu", "Nyiakeng_Puachue_Hmong", "Ogham",
    "Ol_Chiki", "Old_Hungarian", "Old_Italic", "Old_North_Arabian", "Old_Permic", "Old_Persian",
    "Old_Sogdian", "Old_South_Arabian", "Old_Turkic", "Old_Uyghur", "Oriya", "Osage", "Osmanya",
    "Pahawh_Hmong", "Palmyrene", "Pau_Cin_Hau", "Phags_Pa", "Phoenician", "Psalter_Pahlavi",
    "Rejang", "Runic", "Samaritan", "Saurashtra", "Sharada", "Shavian", "Siddham", "SignWriting",
    "Sinhala", "Sogdian", "Sora_Sompeng", "Soyombo", "Sundanese", "Syloti_Nagri", "Syriac",
    "Tagalog", "Tagbanwa", "Tai_Le", "Tai_Tham", "Tai_Viet", "Takri", "Tamil", "Tangsa", "Tangut",
    "Telugu", "Thaana", "Thai", "Tibetan", "Tifinagh", "Tirhuta", "Toto", "Ugaritic", "Vai",
    "Vithkuqi", "Wancho", "Warang_Citi", "Yezidi", "Yi", "Zanabazar_Square",
};
/* clang-format on */

enum { N_SCRIPTS = sizeof(scripts) / sizeof(scripts[0]), HAN_SCRIPT = N_SCRIPTS, UNKNOWN_SCRIPT };

enum { LONG_VOWEL_MARK = 0x30fc }; /* of both kana, so of neither's script */

/* Sets `script` for those of chars[n_chars] that match the pattern and have none yet. */
static enum qr_status set_matching(struct qr_training_char *chars, int32_t n_chars,
                                   const struct qr_regex *regex, int32_t script)
{
    struct qr_regex_scan scan = {0};
    enum qr_status status = qr_regex_scan_begin(regex, &scan);

    for (int32_t i = 0; i < n_chars && status == QR_OK; i++) {
        char utf8[4];
        bool found;
        size_t begin;
        size_t end;
        if (chars[i].script != UNKNOWN_SCRIPT)
            continue;
        size_t n = (size_t)utf8proc_encode_char(chars[i].codepoint, (utf8proc_uint8_t *)utf8);
        status = qr_regex_scan_next(&scan, utf8, n, 0, &found, &begin, &end);
        if (status == QR_OK && found)
            chars[i].script = script;
    }
    qr_regex_scan_end(&scan);
    return status;
}

/*
 * "sc:" asks for the script alone, without what other scripts use it, too; before PCRE2 10.40
 * that was what the name meant. A script that the library is too old to know is left out.
 */
static enum qr_status set_script(struct qr_training_char *chars, int32_t n_chars, const char *name,
                                 int32_t script)
{
    static const char *const forms[] = {"\\p{sc:%s}", "\\p{%s}"};
    enum qr_status status = QR_ERR_INVALID;
    struct qr_regex *regex = NULL;
    char pattern[64];

    for (int i = 0; i < 2 && status == QR_ERR_INVALID; i++) {
        struct qr_error err = {0};
        snprintf(pattern, sizeof(pattern), forms[i], name);
        status = qr_regex_compile(pattern, &regex, &err);
    }
    if (status == QR_ERR_INVALID)
        return QR_OK;
    if (status == QR_OK)
        status = set_matching(chars, n_chars, regex, script);
    qr_regex_free(regex);
    return status;
}

enum qr_status qr_unicode_scripts(struct qr_training_char *chars, int32_t n_chars)
{
    static const char *const as_han[] = {"Han", "Hiragana", "Katakana"};

    for (int32_t i = 0; i < n_chars; i++) {
        chars[i].script = UNKNOWN_SCRIPT;
        if (chars[i].codepoint == QR_SPACE_CODEPOINT)
            chars[i].script = QR_NO_SCRIPT;
        else if (chars[i].codepoint == LONG_VOWEL_MARK)
            chars[i].script = HAN_SCRIPT;
    }
    for (size_t i = 0; i < sizeof(as_han) / sizeof(as_han[0]); i++)
        QR_TRY(set_script(chars, n_chars, as_han[i], HAN_SCRIPT));
    for (int32_t i = 0; i < N_SCRIPTS; i++)
        QR_TRY(set_script(chars, n_chars, scripts[i], i));
    return QR_OK;
}
