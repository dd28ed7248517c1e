/* testdata.c - see testdata.h for the contract. */
#include "tests/support/testdata.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

bool qr_testdata(const char *relative, char *path)
{
    const char *root = getenv("QUIRE_TESTDATA");

    snprintf(path, QR_TEST_PATH_MAX, "%s/%s", root != NULL ? root : "../shared/testdata", relative);
    if (access(path, R_OK) == 0)
        return true;
    printf("skipped: %s is not there (set QUIRE_TESTDATA)\n", path);
    return false;
}

json_t *qr_testdata_json(const char *relative)
{
    char path[QR_TEST_PATH_MAX];
    json_error_t error;

    if (!qr_testdata(relative, path))
        return NULL;
    json_t *root = json_load_file(path, 0, &error);
    if (root == NULL)
        fail_msg("%s: %s", path, error.text);
    return root;
}

int qr_for_each_json_line(const char *path, void (*check)(void *arg, const json_t *row), void *arg)
{
    char *line = NULL;
    size_t capacity = 0;
    json_error_t error;
    int count = 0;

    FILE *file = fopen(path, "r");
    if (file == NULL)
        fail_msg("%s cannot be read", path);
    for (; getline(&line, &capacity, file) > 1; count++) {
        json_t *row = json_loads(line, JSON_ALLOW_NUL, &error);
        if (row == NULL)
            fail_msg("%s, line %d: %s", path, count + 1, error.text);
        check(arg, row);
        json_decref(row);
    }
    free(line);
    fclose(file);
    return count;
}
