/* testdata.h - where outside test data stands, and whether it is there. */
#ifndef QUIRE_TESTS_SUPPORT_TESTDATA_H
#define QUIRE_TESTS_SUPPORT_TESTDATA_H

#include <jansson.h>
#include <stdbool.h>

enum { QR_TEST_PATH_MAX = 1024 };

/*
 * Writes the path of `relative` below QUIRE_TESTDATA to path[QR_TEST_PATH_MAX]. When
 * it does not exist, prints "skipped: ..." and returns false.
 */
bool qr_testdata(const char *relative, char *path);

/* The JSON file `relative` below QUIRE_TESTDATA; NULL (and "skipped: ...") when it is absent. */
json_t *qr_testdata_json(const char *relative);

#endif /* QUIRE_TESTS_SUPPORT_TESTDATA_H */
