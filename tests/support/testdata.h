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

/* Calls `check` with each line of the file of JSON at `path`; returns how many there are. */
int qr_for_each_json_line(const char *path, void (*check)(void *arg, const json_t *row), void *arg);

#endif /* QUIRE_TESTS_SUPPORT_TESTDATA_H */
