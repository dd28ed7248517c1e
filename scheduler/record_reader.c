/*
 * record_reader.c - see record_reader.h for the contract, record_format.h for the bytes.
 *
 * Reading goes on after a problem, with zeros and without touching more bytes, and the
 * first problem is looked at once, when the record is complete.
 */
#include "scheduler/record_reader.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/array.h"
#include "scheduler/record_format.h"

enum { MAX_SLOTS = 1 << 24 }; /* sequences of one recording: far more than can be served */

/* What the records read last are parts of. */
enum parts { PARTS_NONE, PARTS_OF_PROMPT, PARTS_OF_PLAN };

struct entry_list {
    struct qr_plan_entry *items;
    int32_t count;
    int32_t capacity;
};

struct qr_record_reader {
    const char *name;
    const uint8_t *bytes;
    size_t n_bytes;
    size_t next;           /* offset of the next byte */
    bool is_torn;          /* the file ended within a record */
    enum qr_status status; /* of the first problem; `err` says it in words */
    struct qr_error err;

    struct qr_record_header header;
    int32_t n_slots;
    int64_t last_ns;
    double costs[QR_RECORD_N_COSTS];

    /* Parts of a record that is being put together. */
    enum parts parts;
    char salt[QR_MAX_SALT_BYTES];
    int32_t *tokens;
    int32_t n_tokens;
    int32_t tokens_capacity;
    struct entry_list entries; /* of the plan that is being read */
    struct entry_list last;    /* of the last plan that had any */
    struct qr_record_expected expected;
    struct qr_preemption *preempted;
    int32_t preempted_capacity;
    qr_seq_id *admitted;
    int32_t admitted_capacity;
    struct qr_page_copy *copies;
    int32_t copies_capacity;
    struct qr_transfer *transfers;
    int32_t transfers_capacity;
    struct qr_plan plan;
};

static bool has_failed(const struct qr_record_reader *reader)
{
    return reader->is_torn || reader->status != QR_OK;
}

static void fail(struct qr_record_reader *reader, size_t offset, const char *fmt, ...)
    QR_PRINTF(3, 4);

/* The first problem counts: what is read behind it means nothing. */
static void fail(struct qr_record_reader *reader, size_t offset, const char *fmt, ...)
{
    char text[128];
    va_list args;

    if (has_failed(reader))
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    reader->status =
        qr_fail(&reader->err, QR_ERR_INVALID,
                "%s: at byte %zu: %s; the file is damaged, what comes before can be trusted",
                reader->name, offset, text);
}

static uint8_t take_byte(struct qr_record_reader *reader)
{
    if (has_failed(reader))
        return 0;
    if (reader->next == reader->n_bytes) {
        reader->is_torn = true;
        return 0;
    }
    return reader->bytes[reader->next++];
}

static uint64_t take_varint(struct qr_record_reader *reader)
{
    size_t offset = reader->next;
    uint64_t value = 0;

    for (int shift = 0; shift < 64; shift += 7) {
        uint8_t byte = take_byte(reader);
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80 && (shift < 63 || byte <= 1))
            return value;
    }
    fail(reader, offset, "a number of more than 64 bits");
    return 0;
}

static int64_t take_signed(struct qr_record_reader *reader)
{
    return qr_record_zigzag_decode(take_varint(reader));
}

static int64_t take_signed_in(struct qr_record_reader *reader, const char *what, int64_t min,
                              int64_t max)
{
    size_t offset = reader->next;
    int64_t value = take_signed(reader);

    if (value >= min && value <= max)
        return value;
    fail(reader, offset, "%s is %lld, not in [%lld, %lld]", what, (long long)value, (long long)min,
         (long long)max);
    return 0;
}

static int32_t take_int(struct qr_record_reader *reader, const char *what)
{
    return (int32_t)take_signed_in(reader, what, INT32_MIN, INT32_MAX);
}

/* In [0, limit); 0 after a problem, even where limit is 0. */
static int64_t take_below(struct qr_record_reader *reader, const char *what, int64_t limit)
{
    size_t offset = reader->next;
    uint64_t value = take_varint(reader);

    if (value < (uint64_t)limit)
        return (int64_t)value;
    fail(reader, offset, "%s is %llu, not below %lld", what, (unsigned long long)value,
         (long long)limit);
    return 0;
}

static int32_t take_index(struct qr_record_reader *reader, const char *what, int32_t limit)
{
    return (int32_t)take_below(reader, what, limit);
}

static qr_seq_id take_seq(struct qr_record_reader *reader)
{
    return take_index(reader, "a sequence", reader->n_slots);
}

static int32_t take_token(struct qr_record_reader *reader)
{
    return (int32_t)take_below(reader, "a token id", INT64_C(1) << 32);
}

/* An int64 from two that may be anything. */
static int64_t add_wrapping(int64_t a, int64_t b)
{
    return (int64_t)((uint64_t)a + (uint64_t)b);
}

static double take_double(struct qr_record_reader *reader)
{
    uint64_t bits = 0;
    double value;

    for (int shift = 0; shift < 64; shift += 8)
        bits |= (uint64_t)take_byte(reader) << shift;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static double take_number(struct qr_record_reader *reader, const char *what)
{
    size_t offset = reader->next;
    double value = take_double(reader);

    if (value >= 0) /* not NaN; infinity says that there is no such way */
        return value;
    fail(reader, offset, "%s is %g, not at least 0", what, value);
    return 0;
}

/* A length and so many bytes, as a string. */
static size_t take_text(struct qr_record_reader *reader, const char *what, size_t max, char *out)
{
    size_t n = (size_t)take_below(reader, what, (int64_t)max + 1);

    for (size_t i = 0; i < n; i++)
        out[i] = (char)take_byte(reader);
    out[n] = '\0';
    return n;
}

/* `items` with room for one more; NULL after a problem, then `items` is as it was. */
static void *with_room(struct qr_record_reader *reader, void *items, int32_t count,
                       int32_t *capacity, size_t item_size)
{
    if (has_failed(reader))
        return NULL;
    items = qr_array_grow(QR_ARENA_ENGINE, items, count, capacity, item_size);
    if (items == NULL)
        reader->status = qr_fail(&reader->err, QR_ERR_NOMEM, "%s: out of memory at byte %zu",
                                 reader->name, reader->next);
    return items;
}

static void read_configs(struct qr_record_reader *reader)
{
    struct qr_record_header *header = &reader->header;
    int32_t fields[QR_RECORD_N_CONFIG];
    size_t offset = reader->next;
    uint64_t n_fields = take_varint(reader);

    if (n_fields != QR_RECORD_N_CONFIG)
        fail(reader, offset, "the configuration has %llu numbers, this program's %d",
             (unsigned long long)n_fields, QR_RECORD_N_CONFIG);
    offset = reader->next;
    for (int32_t i = 0; i < QR_RECORD_N_CONFIG; i++) {
        fields[i] = take_int(reader, "a number of the configuration");
        if (fields[i] < 0)
            fail(reader, offset, "number %d of the configuration is %d", i, fields[i]);
    }
    qr_record_unpack_configs(fields, &header->blocks, &header->scheduler);
    const struct qr_scheduler_config *scheduler = &header->scheduler;
    int64_t n_slots =
        (int64_t)scheduler->max_running + scheduler->max_waiting + scheduler->max_parked;
    if (n_slots < 1 || n_slots > MAX_SLOTS || header->blocks.max_seq_tokens < 1 ||
        header->blocks.page_count < 1 || scheduler->discipline > QR_DISCIPLINE_RESERVE)
        fail(reader, offset, "the configuration cannot be (%lld sequences, %d pages)",
             (long long)n_slots, header->blocks.page_count);
    reader->n_slots = (int32_t)n_slots;
}

static enum qr_status read_header(struct qr_record_reader *reader)
{
    struct qr_record_header *header = &reader->header;

    if (reader->n_bytes < QR_RECORD_MAGIC_BYTES ||
        memcmp(reader->bytes, QR_RECORD_MAGIC, QR_RECORD_MAGIC_BYTES) != 0)
        return qr_fail(&reader->err, QR_ERR_INVALID,
                       "%s: not a recording: it does not begin with \"%s\"; quire serve --record "
                       "FILE makes one",
                       reader->name, QR_RECORD_MAGIC);
    reader->next = QR_RECORD_MAGIC_BYTES;
    uint64_t version = take_varint(reader);
    if (!reader->is_torn && version != QR_RECORD_VERSION)
        return qr_fail(&reader->err, QR_ERR_INVALID,
                       "%s: format version %llu, but this program reads version %d; use the "
                       "quire that made it",
                       reader->name, (unsigned long long)version, QR_RECORD_VERSION);
    take_text(reader, "the length of the program's version", QR_RECORD_MAX_TEXT, header->version);
    header->start_unix_ns = take_signed(reader);
    header->start_ns = reader->last_ns = take_signed(reader);
    read_configs(reader);
    if (reader->is_torn)
        return qr_fail(&reader->err, QR_ERR_INVALID,
                       "%s: ends after %zu bytes, before its header does; there is nothing to "
                       "replay",
                       reader->name, reader->n_bytes);
    return reader->status;
}

enum qr_status qr_record_reader_open(const char *name, const uint8_t *bytes, size_t n_bytes,
                                     struct qr_record_reader **out, struct qr_error *err)
{
    *out = NULL;
    struct qr_record_reader *reader = qr_calloc(QR_ARENA_ENGINE, 1, sizeof(*reader));
    if (reader == NULL)
        return qr_fail(err, QR_ERR_NOMEM, "%s: out of memory", name);
    reader->name = name;
    reader->bytes = bytes;
    reader->n_bytes = n_bytes;
    enum qr_status status = read_header(reader);
    if (status != QR_OK) {
        if (err != NULL)
            *err = reader->err;
        qr_record_reader_close(reader);
        return status;
    }
    *out = reader;
    return QR_OK;
}

void qr_record_reader_close(struct qr_record_reader *reader)
{
    if (reader == NULL)
        return;
    qr_free(reader->transfers);
    qr_free(reader->copies);
    qr_free(reader->admitted);
    qr_free(reader->preempted);
    qr_free(reader->last.items);
    qr_free(reader->entries.items);
    qr_free(reader->tokens);
    qr_free(reader);
}

const struct qr_record_header *qr_record_reader_header(const struct qr_record_reader *reader)
{
    return &reader->header;
}

static void read_tokens(struct qr_record_reader *reader)
{
    int32_t n = take_index(reader, "a number of tokens", QR_RECORD_TOKENS_MAX + 1);

    for (; n > 0 && !has_failed(reader); n--) {
        int32_t *tokens = with_room(reader, reader->tokens, reader->n_tokens,
                                    &reader->tokens_capacity, sizeof(*tokens));
        if (tokens == NULL)
            return;
        reader->tokens = tokens;
        tokens[reader->n_tokens++] = take_token(reader);
    }
}

/* What a refused prompt points to: its tokens are not recorded, and nobody reads them. */
static const int32_t no_token;

static void read_optional_params(struct qr_record_reader *reader, struct qr_seq_params *params)
{
    int32_t flags = take_index(reader, "the flags of a sequence", QR_ADD_FLAGS_END);

    params->all_logits = (flags & QR_ADD_ALL_LOGITS) != 0;
    params->width = (flags & QR_ADD_WIDTH) != 0 ? take_int(reader, "a width") : 1;
    if (flags & QR_ADD_PRIORITY)
        params->priority = take_int(reader, "a priority");
    if (flags & QR_ADD_TENANT)
        params->tenant = take_int(reader, "a tenant");
    if (flags & QR_ADD_FIRST_TOKEN)
        params->first_token_ns = take_signed(reader);
    if ((flags & QR_ADD_NO_TOKENS) == 0)
        params->tokens = reader->tokens != NULL ? reader->tokens : &no_token;
    if ((flags & QR_ADD_SALT) == 0)
        return;
    params->n_salt_bytes =
        (size_t)take_below(reader, "the length of a salt", QR_MAX_SALT_BYTES + 2);
    params->salt = reader->salt;
    size_t n_bytes = params->n_salt_bytes <= QR_MAX_SALT_BYTES ? params->n_salt_bytes : 0;
    for (size_t i = 0; i < n_bytes; i++)
        reader->salt[i] = (char)take_byte(reader);
}

/* What the scheduler accepts of a sequence that it accepted. */
static void check_accepted(struct qr_record_reader *reader, size_t offset,
                           const struct qr_seq_params *params)
{
    int32_t max_seq_tokens = reader->header.blocks.max_seq_tokens;

    if (params->n_prompt_tokens < 1 || params->n_prompt_tokens > max_seq_tokens ||
        params->n_prompt_tokens != reader->n_tokens || params->tokens == NULL)
        fail(reader, offset, "a prompt has %d tokens, %d are recorded", params->n_prompt_tokens,
             reader->n_tokens);
    if (params->n_salt_bytes > QR_MAX_SALT_BYTES)
        fail(reader, offset, "a salt has more than %d bytes", QR_MAX_SALT_BYTES);
    if (params->max_tokens < params->n_prompt_tokens || params->max_tokens > max_seq_tokens)
        fail(reader, offset, "a sequence may have %d tokens, none more than %d", params->max_tokens,
             max_seq_tokens);
}

static void read_add(struct qr_record_reader *reader, struct qr_record *record)
{
    struct qr_seq_params *params = &record->add.params;
    size_t offset = reader->next;
    bool accepted;

    record->kind = QR_RECORD_ADD;
    record->add.status = (enum qr_status)take_signed_in(reader, "a status", QR_ERR_CLOSED, QR_OK);
    accepted = record->add.status == QR_OK;
    record->seq = (qr_seq_id)take_signed_in(reader, "a sequence", accepted ? 0 : QR_SEQ_NONE,
                                            accepted ? reader->n_slots - 1 : QR_SEQ_NONE);
    *params = (struct qr_seq_params){0};
    params->n_prompt_tokens = take_int(reader, "a number of prompt tokens");
    params->max_tokens = take_int(reader, "a number of tokens");
    params->arrival_ns = add_wrapping(reader->last_ns, take_signed(reader));
    read_optional_params(reader, params);
    if (accepted)
        check_accepted(reader, offset, params);
    reader->n_tokens = 0;
}

static void read_costs(struct qr_record_reader *reader, struct qr_record *record)
{
    record->kind = QR_RECORD_SET_COSTS;
    int32_t changed = take_index(reader, "the set of costs", 1 << QR_RECORD_N_COSTS);
    for (int32_t i = 0; i < QR_RECORD_N_COSTS; i++)
        if (changed >> i & 1)
            reader->costs[i] = take_number(reader, "a cost");
    qr_record_unpack_costs(reader->costs, &record->costs);
}

static void read_tenant(struct qr_record_reader *reader, struct qr_record *record)
{
    record->kind = QR_RECORD_SET_TENANT;
    record->tenant.tenant = take_index(reader, "a tenant", QR_MAX_TENANTS);
    size_t offset = reader->next;
    record->tenant.weight = take_number(reader, "a weight");
    if (!(record->tenant.weight > 0 && isfinite(record->tenant.weight)))
        fail(reader, offset, "a weight is %g, not above 0", record->tenant.weight);
    record->tenant.max_pages = take_index(reader, "a number of pages", INT32_MAX);
}

static void read_known_token(struct qr_record_reader *reader, struct qr_record *record,
                             size_t offset, uint64_t token)
{
    int32_t next = qr_record_expect_token(&reader->expected);

    record->kind = QR_RECORD_APPEND_TOKEN;
    if (next == reader->expected.n_entries)
        fail(reader, offset, "a token that no sequence waits for");
    if (token > UINT32_MAX)
        fail(reader, offset, "a token id is %llu, of more than 32 bits", (unsigned long long)token);
    if (has_failed(reader))
        return;
    record->seq = reader->last.items[next].seq;
    record->token = (int32_t)token;
    reader->expected.next_token = next + 1;
}

static void read_token(struct qr_record_reader *reader, struct qr_record *record)
{
    record->kind = QR_RECORD_APPEND_TOKEN;
    record->seq = take_seq(reader);
    record->token = take_token(reader);
    for (int32_t i = 0; i < reader->last.count; i++)
        if (reader->last.items[i].seq == record->seq)
            reader->expected.next_token = i + 1;
}

static void read_transfer_done(struct qr_record_reader *reader, struct qr_record *record)
{
    int64_t value = take_below(reader, "the end of a transfer",
                               2 * (int64_t)reader->header.blocks.max_transfers);

    record->kind = QR_RECORD_TRANSFER_DONE;
    record->transfer.id = (int32_t)(value >> 1);
    record->transfer.ok = (value & 1) != 0;
}

static void read_paused(struct qr_record_reader *reader, struct qr_record *record, bool paused)
{
    record->kind = QR_RECORD_SET_PAUSED;
    record->seq = take_seq(reader);
    record->paused = paused;
}

static void read_end(struct qr_record_reader *reader, struct qr_record *record)
{
    record->kind = QR_RECORD_END;
    record->end.is_marked = true;
    record->end.reason =
        (enum qr_record_end)take_index(reader, "the reason of the end", QR_RECORD_END_COUNT);
    record->end.n_torn_bytes = 0;
    if (!has_failed(reader) && reader->next != reader->n_bytes)
        fail(reader, reader->next, "%zu bytes behind the end", reader->n_bytes - reader->next);
}

static void add_entry(struct qr_record_reader *reader, size_t offset,
                      const struct qr_plan_entry *entry)
{
    struct entry_list *list = &reader->entries;
    int32_t max_seq_tokens = reader->header.blocks.max_seq_tokens;

    if (entry->n_tokens < 1 || entry->first_position > max_seq_tokens - entry->n_tokens)
        fail(reader, offset, "%d rows from position %d on, of a sequence of at most %d tokens",
             entry->n_tokens, entry->first_position, max_seq_tokens);
    if (list->count >= reader->n_slots)
        fail(reader, offset, "a plan of more than %d entries", reader->n_slots);
    struct qr_plan_entry *items =
        with_room(reader, list->items, list->count, &list->capacity, sizeof(*items));
    if (items == NULL)
        return;
    list->items = items;
    items[list->count++] = *entry;
    reader->plan.n_rows += entry->n_tokens;
}

static int32_t take_run(struct qr_record_reader *reader)
{
    return take_index(reader, "a number of entries",
                      reader->expected.n_entries - reader->expected.next_entry + 1);
}

static void read_kept(struct qr_record_reader *reader)
{
    size_t offset = reader->next;

    for (int32_t n = take_run(reader); n > 0 && !has_failed(reader); n--) {
        struct qr_plan_entry entry =
            qr_record_expect_entry(&reader->expected, reader->expected.next_entry++);
        add_entry(reader, offset, &entry);
    }
}

static void read_entry(struct qr_record_reader *reader)
{
    size_t offset = reader->next;
    struct qr_plan_entry entry;

    entry.seq = take_seq(reader);
    entry.first_position = take_index(reader, "a position", reader->header.blocks.max_seq_tokens);
    int64_t rows = take_below(reader, "a number of rows",
                              2 * (int64_t)reader->header.blocks.max_seq_tokens + 2);
    entry.n_tokens = (int32_t)(rows >> 1);
    entry.samples = (rows & 1) != 0;
    add_entry(reader, offset, &entry);
    qr_record_take_entry(&reader->expected, entry.seq);
}

static void read_preempted(struct qr_record_reader *reader)
{
    struct qr_preemption *items = with_room(reader, reader->preempted, reader->plan.n_preempted,
                                            &reader->preempted_capacity, sizeof(*items));

    if (items == NULL)
        return;
    reader->preempted = items;
    struct qr_preemption *item = &items[reader->plan.n_preempted++];
    item->seq = take_seq(reader);
    item->how = (enum qr_release)take_index(reader, "a kind of preemption", QR_RELEASE_PARKED + 1);
    item->n_pages = take_index(reader, "a number of pages", reader->header.blocks.page_count + 1);
    item->for_seq =
        (qr_seq_id)take_signed_in(reader, "a sequence", QR_SEQ_NONE, reader->n_slots - 1);
    item->swap_ns = take_number(reader, "a cost");
    item->recompute_ns = take_number(reader, "a cost");
}

static void read_admitted(struct qr_record_reader *reader)
{
    qr_seq_id *items = with_room(reader, reader->admitted, reader->plan.n_admitted,
                                 &reader->admitted_capacity, sizeof(*items));

    if (items == NULL)
        return;
    reader->admitted = items;
    items[reader->plan.n_admitted++] = take_seq(reader);
}

static qr_page_id take_page(struct qr_record_reader *reader)
{
    return take_index(reader, "a page", reader->header.blocks.page_count);
}

static void read_copy(struct qr_record_reader *reader)
{
    struct qr_page_copy *items = with_room(reader, reader->copies, reader->plan.n_copies,
                                           &reader->copies_capacity, sizeof(*items));

    if (items == NULL)
        return;
    reader->copies = items;
    struct qr_page_copy *item = &items[reader->plan.n_copies++];
    item->from = take_page(reader);
    item->to = take_page(reader);
}

static void read_transfer(struct qr_record_reader *reader)
{
    const struct qr_block_manager_config *blocks = &reader->header.blocks;
    struct qr_transfer *items = with_room(reader, reader->transfers, reader->plan.n_transfers,
                                          &reader->transfers_capacity, sizeof(*items));

    if (items == NULL)
        return;
    reader->transfers = items;
    struct qr_transfer *item = &items[reader->plan.n_transfers++];
    item->id = take_index(reader, "a transfer", blocks->max_transfers);
    int32_t way = take_index(reader, "the way of a transfer", 2 * QR_TIER_COUNT);
    item->tier = (enum qr_tier)(way >> 1);
    item->out = (way & 1) != 0;
    item->page = take_page(reader);
    item->slot = take_index(reader, "a slot", blocks->tier_slots[item->tier]);
}

/* The plan is complete; the next one is expected to go on from it. */
static void end_plan(struct qr_record_reader *reader, struct qr_record *record)
{
    struct entry_list entries = reader->entries;

    record->kind = QR_RECORD_PLAN;
    record->plan = reader->plan;
    record->plan.n_entries = entries.count;
    record->plan.entries = entries.items;
    record->plan.preempted = reader->preempted;
    record->plan.admitted = reader->admitted;
    record->plan.copies = reader->copies;
    record->plan.transfers = reader->transfers;
    if (entries.count > 0) {
        reader->entries = reader->last;
        reader->last = entries;
        reader->expected.entries = entries.items;
        reader->expected.n_entries = entries.count;
        reader->expected.next_token = 0;
    }
    reader->entries.count = 0;
    reader->expected.next_entry = 0;
    reader->plan = (struct qr_plan){0};
}

/* A record that is only a part of the one that is handed out. */
static bool read_part(struct qr_record_reader *reader, enum qr_record_tag tag)
{
    switch (tag) {
    case QR_TAG_TOKENS:
        read_tokens(reader);
        return true;
    case QR_TAG_KEEP:
        read_kept(reader);
        return true;
    case QR_TAG_SKIP:
        reader->expected.next_entry += take_run(reader);
        return true;
    case QR_TAG_ENTRY:
        read_entry(reader);
        return true;
    case QR_TAG_PREEMPTED:
        read_preempted(reader);
        return true;
    case QR_TAG_ADMITTED:
        read_admitted(reader);
        return true;
    case QR_TAG_COPY:
        read_copy(reader);
        return true;
    case QR_TAG_TRANSFER:
        read_transfer(reader);
        return true;
    default:
        return false;
    }
}

static void read_call(struct qr_record_reader *reader, enum qr_record_tag tag, size_t offset,
                      struct qr_record *record)
{
    switch (tag) {
    case QR_TAG_ADD:
        read_add(reader, record);
        return;
    case QR_TAG_FORK:
        record->kind = QR_RECORD_FORK;
        record->parent = take_seq(reader);
        record->seq = take_seq(reader);
        return;
    case QR_TAG_REMOVE:
    case QR_TAG_END_FORKS:
        record->kind = tag == QR_TAG_REMOVE ? QR_RECORD_REMOVE : QR_RECORD_END_FORKS;
        record->seq = take_seq(reader);
        return;
    case QR_TAG_PAUSE:
    case QR_TAG_RESUME:
        read_paused(reader, record, tag == QR_TAG_PAUSE);
        return;
    case QR_TAG_TENANT:
        read_tenant(reader, record);
        return;
    case QR_TAG_COSTS:
        read_costs(reader, record);
        return;
    case QR_TAG_TOKEN:
        read_token(reader, record);
        return;
    case QR_TAG_TRANSFER_DONE:
        read_transfer_done(reader, record);
        return;
    case QR_TAG_CLOSE_TIER:
        record->kind = QR_RECORD_CLOSE_TIER;
        record->tier = (enum qr_tier)take_index(reader, "a tier", QR_TIER_COUNT);
        return;
    case QR_TAG_LAUNCH:
        record->kind = QR_RECORD_LAUNCH;
        return;
    case QR_TAG_COMPLETE:
        record->kind = QR_RECORD_COMPLETE;
        return;
    case QR_TAG_ABANDON:
        record->kind = QR_RECORD_ABANDON;
        return;
    case QR_TAG_PLAN_BEGIN:
        record->kind = QR_RECORD_PLAN_BEGIN;
        record->now_ns = reader->last_ns = add_wrapping(reader->last_ns, take_signed(reader));
        return;
    case QR_TAG_PLAN_END:
        end_plan(reader, record);
        return;
    case QR_TAG_NAME:
        record->kind = QR_RECORD_NAME;
        record->seq = take_seq(reader);
        take_text(reader, "the length of a name", QR_RECORD_MAX_TEXT, record->name);
        return;
    case QR_TAG_FORCED:
        record->kind = QR_RECORD_FORCED;
        record->seq = take_seq(reader);
        record->how =
            (enum qr_release)take_index(reader, "a kind of preemption", QR_RELEASE_PARKED + 1);
        return;
    case QR_TAG_END:
        read_end(reader, record);
        return;
    default:
        fail(reader, offset, "%d begins no record", (int)tag);
    }
}

/* Parts go before the record that they belong to, and before nothing else but the end. */
static void check_parts(struct qr_record_reader *reader, size_t offset, enum qr_record_tag tag)
{
    static const enum qr_record_tag ends[] = {
        [PARTS_OF_PROMPT] = QR_TAG_ADD,
        [PARTS_OF_PLAN] = QR_TAG_PLAN_END,
    };
    enum parts parts = PARTS_NONE;

    if (tag == QR_TAG_TOKENS)
        parts = PARTS_OF_PROMPT;
    else if (tag >= QR_TAG_KEEP && tag <= QR_TAG_TRANSFER)
        parts = PARTS_OF_PLAN;
    bool fits = reader->parts == PARTS_NONE || parts == reader->parts ||
                tag == ends[reader->parts] || tag == QR_TAG_END;
    if (!fits)
        fail(reader, offset, "a record of kind %d within %s", (int)tag,
             reader->parts == PARTS_OF_PROMPT ? "a prompt" : "a plan");
    reader->parts = parts;
}

/* False when it was only a part of one. */
static bool read_record(struct qr_record_reader *reader, struct qr_record *record)
{
    size_t offset = reader->next;
    uint64_t head = take_varint(reader);
    enum qr_record_tag tag = QR_TAG_TOKEN;

    if (has_failed(reader))
        return false;
    if ((head & 1) == 0)
        tag = head >> 1 < QR_TAG_COUNT ? (enum qr_record_tag)(head >> 1) : QR_TAG_COUNT;
    check_parts(reader, offset, tag);
    if (head & 1)
        read_known_token(reader, record, offset, head >> 1);
    else if (read_part(reader, tag))
        return false;
    else
        read_call(reader, tag, offset, record);
    return true;
}

enum qr_status qr_record_reader_next(struct qr_record_reader *reader, struct qr_record *record,
                                     struct qr_error *err)
{
    size_t first = reader->next;
    bool is_whole = false;

    *record = (struct qr_record){.seq = QR_SEQ_NONE, .offset = first};
    while (!is_whole && !has_failed(reader))
        is_whole = read_record(reader, record);
    if (reader->status != QR_OK && err != NULL)
        *err = reader->err;
    if (reader->is_torn) {
        record->kind = QR_RECORD_END;
        record->end.is_marked = false;
        record->end.n_torn_bytes = reader->n_bytes - first;
    }
    return reader->status;
}
