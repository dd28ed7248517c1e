/* string_list.h - a few strings that somebody else keeps. */
#ifndef QUIRE_BASE_STRING_LIST_H
#define QUIRE_BASE_STRING_LIST_H

#include <stdint.h>

enum { QR_LIST_MAX = 64 };

struct qr_string_list {
    int32_t count;
    const char *items[QR_LIST_MAX]; /* borrowed */
};

#endif /* QUIRE_BASE_STRING_LIST_H */
