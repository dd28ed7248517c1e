/* recording.c - see recording.h. */
#include "tests/support/recording.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static bool append(void *arg, const void *bytes, size_t n)
{
    assert_int_equal(qr_buffer_append(arg, bytes, n), QR_OK);
    return true;
}

struct qr_record_sink recording_sink(struct qr_buffer *bytes)
{
    return (struct qr_record_sink){.write = append, .arg = bytes};
}

struct qr_record_reader *recording_open(const struct qr_buffer *bytes)
{
    struct qr_record_reader *reader;
    struct qr_error err = {""};

    enum qr_status status =
        qr_record_reader_open("memory", (const uint8_t *)bytes->data, bytes->length, &reader, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(status, QR_OK);
    return reader;
}

void recording_next(struct qr_record_reader *reader, enum qr_record_kind kind,
                    struct qr_record *record)
{
    struct qr_error err = {""};

    enum qr_status status = qr_record_reader_next(reader, record, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(status, QR_OK);
    assert_int_equal(record->kind, kind);
}

void recording_assert_same_plan(const struct qr_plan *a, const struct qr_plan *b)
{
    assert_int_equal(a->n_rows, b->n_rows);
    assert_int_equal(a->n_entries, b->n_entries);
    for (int32_t i = 0; i < a->n_entries; i++) {
        assert_int_equal(a->entries[i].seq, b->entries[i].seq);
        assert_int_equal(a->entries[i].first_position, b->entries[i].first_position);
        assert_int_equal(a->entries[i].n_tokens, b->entries[i].n_tokens);
        assert_int_equal(a->entries[i].samples, b->entries[i].samples);
    }
    assert_int_equal(a->n_preempted, b->n_preempted);
    for (int32_t i = 0; i < a->n_preempted; i++) {
        assert_int_equal(a->preempted[i].seq, b->preempted[i].seq);
        assert_int_equal(a->preempted[i].how, b->preempted[i].how);
        assert_int_equal(a->preempted[i].for_seq, b->preempted[i].for_seq);
        assert_int_equal(a->preempted[i].n_pages, b->preempted[i].n_pages);
        assert_true(a->preempted[i].swap_ns == b->preempted[i].swap_ns);
        assert_true(a->preempted[i].recompute_ns == b->preempted[i].recompute_ns);
    }
    assert_int_equal(a->n_admitted, b->n_admitted);
    for (int32_t i = 0; i < a->n_admitted; i++)
        assert_int_equal(a->admitted[i], b->admitted[i]);
    assert_int_equal(a->n_copies, b->n_copies);
    for (int32_t i = 0; i < a->n_copies; i++) {
        assert_int_equal(a->copies[i].from, b->copies[i].from);
        assert_int_equal(a->copies[i].to, b->copies[i].to);
    }
    assert_int_equal(a->n_transfers, b->n_transfers);
    for (int32_t i = 0; i < a->n_transfers; i++) {
        assert_int_equal(a->transfers[i].id, b->transfers[i].id);
        assert_int_equal(a->transfers[i].tier, b->transfers[i].tier);
        assert_int_equal(a->transfers[i].out, b->transfers[i].out);
        assert_int_equal(a->transfers[i].page, b->transfers[i].page);
        assert_int_equal(a->transfers[i].slot, b->transfers[i].slot);
    }
}
