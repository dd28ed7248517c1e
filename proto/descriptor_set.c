/* descriptor_set.c - see descriptor_set.h for the contract. The build names the file. */
#include "proto/descriptor_set.h"

__asm__(".section .rodata\n"
        "qr_descriptor_set_begin:\n"
        ".incbin \"" QR_DESCRIPTOR_SET_FILE "\"\n"
        "qr_descriptor_set_end:\n"
        ".byte 0\n"
        ".previous\n");

extern const uint8_t qr_descriptor_set_begin[];
extern const uint8_t qr_descriptor_set_end[];

const uint8_t *qr_descriptor_set(size_t *size)
{
    *size = (size_t)(qr_descriptor_set_end - qr_descriptor_set_begin);
    return qr_descriptor_set_begin;
}
