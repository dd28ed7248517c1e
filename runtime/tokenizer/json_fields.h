/* json_fields.h - typed access to the fields of a JSON file, with errors that name them. */
#ifndef QUIRE_RUNTIME_TOKENIZER_JSON_FIELDS_H
#define QUIRE_RUNTIME_TOKENIZER_JSON_FIELDS_H

#include <jansson.h>
#include <stdbool.h>

#include "base/status.h"

/* Where an object stands: "FILE: PATH.KEY: ..." is how an error begins. */
struct qr_json_place {
    const char *name; /* of the file */
    const char *path; /* of the object, "" for the outermost */
    struct qr_error *err;
};

QR_BEGIN_DECLS

/*
 * Parses a whole file; the caller owns *out (json_decref). It is an object. With
 * ints_as_reals whole numbers may be of any size, and are all read as reals.
 */
QR_MUST_CHECK enum qr_status qr_json_parse(const char *name, const char *text, size_t n_bytes,
                                           bool ints_as_reals, json_t **out, struct qr_error *err);
/* Says what is wrong with a field of the place's object and returns `status`. */
enum qr_status qr_json_fail(const struct qr_json_place *place, enum qr_status status,
                            const char *key, const char *fmt, ...) QR_PRINTF(4, 5);

/* A field that is absent or null leaves *out as it is; one of another type is an error. */
QR_MUST_CHECK enum qr_status qr_json_bool(const struct qr_json_place *place, const json_t *object,
                                          const char *key, bool *out);
QR_MUST_CHECK enum qr_status qr_json_string(const struct qr_json_place *place, const json_t *object,
                                            const char *key, const json_t **out);
QR_MUST_CHECK enum qr_status qr_json_object(const struct qr_json_place *place, const json_t *object,
                                            const char *key, const json_t **out);
QR_MUST_CHECK enum qr_status qr_json_array(const struct qr_json_place *place, const json_t *object,
                                           const char *key, const json_t **out);
/* Whether the string field is there and equals `text`. */
bool qr_json_is(const json_t *object, const char *key, const char *text);
/* The object's field "type" for messages; "(none)" where it is no string. */
const char *qr_json_type_name(const json_t *object);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_TOKENIZER_JSON_FIELDS_H */
