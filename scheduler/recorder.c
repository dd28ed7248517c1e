/* recorder.c - see recorder.h for the contract, record_format.h for the bytes. */
#include "scheduler/recorder.h"

#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "scheduler/record_format.h"

enum { BUFFER_BYTES = 64 << 10 };

struct qr_recorder {
    struct qr_record_sink sink;
    bool silent;     /* the sink takes no more */
    int64_t last_ns; /* the latest clock value; times are written as differences to it */
    double costs[QR_RECORD_N_COSTS];
    int32_t n_slots;
    struct qr_plan_entry *entries; /* [n_slots] of the last plan with entries */
    int32_t *entry_of_slot;        /* [n_slots] index in `entries`, if that has the same seq */
    struct qr_record_expected expected;
    size_t length;
    uint8_t buffer[BUFFER_BYTES];
};

static void flush(struct qr_recorder *rec)
{
    if (rec->length > 0 && !rec->silent)
        rec->silent = !rec->sink.write(rec->sink.arg, rec->buffer, rec->length);
    rec->length = 0;
}

static void put_varint(struct qr_recorder *rec, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        rec->buffer[rec->length++] = (uint8_t)(value | 0x80);
    rec->buffer[rec->length++] = (uint8_t)value;
}

static void put_signed(struct qr_recorder *rec, int64_t value)
{
    put_varint(rec, qr_record_zigzag_encode(value));
}

/* What the reader adds to the last clock value, wherever the two stand. */
static void put_time(struct qr_recorder *rec, int64_t ns)
{
    put_signed(rec, (int64_t)((uint64_t)ns - (uint64_t)rec->last_ns));
}

/* Of a value that is never below zero. */
static void put_index(struct qr_recorder *rec, int32_t value)
{
    put_varint(rec, (uint64_t)(uint32_t)value);
}

static void put_bytes(struct qr_recorder *rec, const void *bytes, size_t n)
{
    put_varint(rec, n);
    memcpy(rec->buffer + rec->length, bytes, n);
    rec->length += n;
}

static void put_double(struct qr_recorder *rec, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    for (int shift = 0; shift < 64; shift += 8)
        rec->buffer[rec->length++] = (uint8_t)(bits >> shift);
}

/* Room for one record of any kind; false when nothing is to be written. */
static bool make_room(struct qr_recorder *rec)
{
    if (rec == NULL || rec->silent)
        return false;
    if (rec->length + QR_RECORD_MAX_BYTES > BUFFER_BYTES)
        flush(rec);
    return !rec->silent;
}

static bool begin(struct qr_recorder *rec, enum qr_record_tag tag)
{
    if (!make_room(rec))
        return false;
    put_varint(rec, (uint64_t)tag << 1);
    return true;
}

static void put_header(struct qr_recorder *rec, const struct qr_record_origin *origin,
                       const struct qr_block_manager_config *blocks,
                       const struct qr_scheduler_config *scheduler)
{
    int32_t fields[QR_RECORD_N_CONFIG];

    memcpy(rec->buffer, QR_RECORD_MAGIC, QR_RECORD_MAGIC_BYTES);
    rec->length = QR_RECORD_MAGIC_BYTES;
    put_varint(rec, QR_RECORD_VERSION);
    put_bytes(rec, origin->version, strnlen(origin->version, QR_RECORD_MAX_TEXT));
    put_signed(rec, origin->start_unix_ns);
    put_signed(rec, origin->start_ns);
    qr_record_pack_configs(blocks, scheduler, fields);
    put_varint(rec, QR_RECORD_N_CONFIG);
    for (int32_t i = 0; i < QR_RECORD_N_CONFIG; i++)
        put_signed(rec, fields[i]);
}

enum qr_status qr_recorder_create(const struct qr_record_origin *origin,
                                  const struct qr_block_manager_config *blocks,
                                  const struct qr_scheduler_config *scheduler,
                                  const struct qr_record_sink *sink, struct qr_recorder **out)
{
    *out = NULL;
    struct qr_recorder *rec = qr_malloc(QR_ARENA_ENGINE, sizeof(*rec));
    if (rec == NULL)
        return QR_ERR_NOMEM;
    memset(rec, 0, offsetof(struct qr_recorder, buffer));
    rec->sink = *sink;
    rec->last_ns = origin->start_ns;
    rec->n_slots = qr_scheduler_n_slots(scheduler);
    rec->entries = qr_calloc(QR_ARENA_ENGINE, (size_t)rec->n_slots, sizeof(*rec->entries));
    rec->entry_of_slot =
        qr_calloc(QR_ARENA_ENGINE, (size_t)rec->n_slots, sizeof(*rec->entry_of_slot));
    if (rec->entries == NULL || rec->entry_of_slot == NULL) {
        qr_free(rec->entry_of_slot);
        qr_free(rec->entries);
        qr_free(rec);
        return QR_ERR_NOMEM;
    }
    rec->expected.entries = rec->entries;
    put_header(rec, origin, blocks, scheduler);
    *out = rec;
    return QR_OK;
}

void qr_recorder_destroy(struct qr_recorder *rec)
{
    if (rec == NULL)
        return;
    if (make_room(rec)) {
        uint8_t mark[QR_RECORD_END_BYTES];
        qr_record_end_mark(QR_RECORD_END_CLOSED, mark);
        memcpy(rec->buffer + rec->length, mark, sizeof(mark));
        rec->length += sizeof(mark);
        flush(rec);
    }
    qr_free(rec->entry_of_slot);
    qr_free(rec->entries);
    qr_free(rec);
}

void qr_record_end_mark(enum qr_record_end reason, uint8_t mark[QR_RECORD_END_BYTES])
{
    mark[0] = QR_TAG_END << 1;
    mark[1] = (uint8_t)reason;
}

static void put_prompt(struct qr_recorder *rec, const struct qr_seq_params *params)
{
    for (int32_t i = 0; i < params->n_prompt_tokens;) {
        int32_t n = params->n_prompt_tokens - i;
        n = n < QR_RECORD_TOKENS_MAX ? n : QR_RECORD_TOKENS_MAX;
        if (!begin(rec, QR_TAG_TOKENS))
            return;
        put_index(rec, n);
        for (; n > 0; n--)
            put_index(rec, params->tokens[i++]);
    }
}

static void put_optional_params(struct qr_recorder *rec, const struct qr_seq_params *params)
{
    unsigned flags = 0;

    flags |= params->all_logits ? QR_ADD_ALL_LOGITS : 0;
    flags |= params->width != 1 ? QR_ADD_WIDTH : 0;
    flags |= params->priority != 0 ? QR_ADD_PRIORITY : 0;
    flags |= params->tenant != 0 ? QR_ADD_TENANT : 0;
    flags |= params->first_token_ns != 0 ? QR_ADD_FIRST_TOKEN : 0;
    flags |= params->n_salt_bytes > 0 ? QR_ADD_SALT : 0;
    flags |= params->tokens == NULL ? QR_ADD_NO_TOKENS : 0;
    put_varint(rec, flags);
    if (flags & QR_ADD_WIDTH)
        put_signed(rec, params->width);
    if (flags & QR_ADD_PRIORITY)
        put_signed(rec, params->priority);
    if (flags & QR_ADD_TENANT)
        put_signed(rec, params->tenant);
    if (flags & QR_ADD_FIRST_TOKEN)
        put_signed(rec, params->first_token_ns);
    if (params->n_salt_bytes > QR_MAX_SALT_BYTES)
        put_varint(rec, QR_MAX_SALT_BYTES + 1);
    else if (flags & QR_ADD_SALT)
        put_bytes(rec, params->salt, params->n_salt_bytes);
}

void qr_recorder_add(struct qr_recorder *rec, const struct qr_seq_params *params,
                     enum qr_status status, qr_seq_id seq)
{
    if (rec == NULL || rec->silent)
        return;
    if (status == QR_OK) /* of a refused one, tokens and salt may not even be there */
        put_prompt(rec, params);
    if (!begin(rec, QR_TAG_ADD))
        return;
    put_signed(rec, status);
    put_signed(rec, seq);
    put_signed(rec, params->n_prompt_tokens);
    put_signed(rec, params->max_tokens);
    put_time(rec, params->arrival_ns);
    put_optional_params(rec, params);
}

void qr_recorder_fork(struct qr_recorder *rec, qr_seq_id parent, qr_seq_id seq)
{
    if (!begin(rec, QR_TAG_FORK))
        return;
    put_index(rec, parent);
    put_index(rec, seq);
}

static void put_call(struct qr_recorder *rec, enum qr_record_tag tag, int32_t argument)
{
    if (begin(rec, tag))
        put_index(rec, argument);
}

void qr_recorder_remove(struct qr_recorder *rec, qr_seq_id seq)
{
    put_call(rec, QR_TAG_REMOVE, seq);
}

void qr_recorder_end_forks(struct qr_recorder *rec, qr_seq_id seq)
{
    put_call(rec, QR_TAG_END_FORKS, seq);
}

void qr_recorder_set_paused(struct qr_recorder *rec, qr_seq_id seq, bool paused)
{
    put_call(rec, paused ? QR_TAG_PAUSE : QR_TAG_RESUME, seq);
}

void qr_recorder_set_tenant(struct qr_recorder *rec, int32_t tenant, double weight,
                            int32_t max_pages)
{
    if (!begin(rec, QR_TAG_TENANT))
        return;
    put_index(rec, tenant);
    put_double(rec, weight);
    put_index(rec, max_pages);
}

/* Only what changed, to the bit: figures that are measured anew are often the same. */
void qr_recorder_set_costs(struct qr_recorder *rec, const struct qr_block_costs *costs)
{
    double fields[QR_RECORD_N_COSTS];
    unsigned changed = 0;

    if (!begin(rec, QR_TAG_COSTS))
        return;
    qr_record_pack_costs(costs, fields);
    for (int32_t i = 0; i < QR_RECORD_N_COSTS; i++)
        changed |= memcmp(&fields[i], &rec->costs[i], sizeof(double)) != 0 ? 1u << i : 0;
    put_varint(rec, changed);
    for (int32_t i = 0; i < QR_RECORD_N_COSTS; i++)
        if (changed >> i & 1)
            put_double(rec, fields[i]);
    memcpy(rec->costs, fields, sizeof(fields));
}

/* Index of the sequence's entry in the last plan; -1: it has none. */
static int32_t find_entry(const struct qr_recorder *rec, qr_seq_id seq)
{
    int32_t i = rec->entry_of_slot[seq];

    return i < rec->expected.n_entries && rec->entries[i].seq == seq ? i : -1;
}

void qr_recorder_append_token(struct qr_recorder *rec, qr_seq_id seq, int32_t token)
{
    if (!make_room(rec))
        return;
    int32_t next = qr_record_expect_token(&rec->expected);
    if (next < rec->expected.n_entries && rec->entries[next].seq == seq) {
        put_varint(rec, (uint64_t)(uint32_t)token << 1 | 1);
        rec->expected.next_token = next + 1;
        return;
    }
    put_varint(rec, QR_TAG_TOKEN << 1);
    put_index(rec, seq);
    put_index(rec, token);
    int32_t entry = find_entry(rec, seq);
    if (entry >= 0)
        rec->expected.next_token = entry + 1;
}

void qr_recorder_transfer_done(struct qr_recorder *rec, int32_t id, bool ok)
{
    if (begin(rec, QR_TAG_TRANSFER_DONE))
        put_varint(rec, (uint64_t)(uint32_t)id << 1 | ok);
}

void qr_recorder_close_tier(struct qr_recorder *rec, enum qr_tier tier)
{
    put_call(rec, QR_TAG_CLOSE_TIER, (int32_t)tier);
}

void qr_recorder_launch(struct qr_recorder *rec)
{
    (void)begin(rec, QR_TAG_LAUNCH);
}

void qr_recorder_complete(struct qr_recorder *rec)
{
    (void)begin(rec, QR_TAG_COMPLETE);
}

void qr_recorder_abandon(struct qr_recorder *rec)
{
    (void)begin(rec, QR_TAG_ABANDON);
}

void qr_recorder_plan_begin(struct qr_recorder *rec, int64_t now_ns)
{
    if (!begin(rec, QR_TAG_PLAN_BEGIN))
        return;
    put_time(rec, now_ns);
    rec->last_ns = now_ns;
    flush(rec);
}

static void put_run(struct qr_recorder *rec, enum qr_record_tag tag, int32_t count)
{
    if (count > 0)
        put_call(rec, tag, count);
}

static void put_entry(struct qr_recorder *rec, const struct qr_plan_entry *entry)
{
    if (!begin(rec, QR_TAG_ENTRY))
        return;
    put_index(rec, entry->seq);
    put_index(rec, entry->first_position);
    put_varint(rec, (uint64_t)(uint32_t)entry->n_tokens << 1 | entry->samples);
}

/* Where the entry stands among those expected and not yet passed; -1: it is not expected. */
static int32_t find_expected(const struct qr_recorder *rec, const struct qr_plan_entry *entry)
{
    int32_t i = find_entry(rec, entry->seq);

    if (i < rec->expected.next_entry) /* those without an entry too */
        return -1;
    struct qr_plan_entry expected = qr_record_expect_entry(&rec->expected, i);
    return qr_record_same_entry(entry, &expected) ? i : -1;
}

/* Runs of entries as expected, runs to be left out, and what is different in full. */
static void put_entries(struct qr_recorder *rec, const struct qr_plan *plan)
{
    struct qr_record_expected *expected = &rec->expected;
    int32_t n_kept = 0;

    expected->next_entry = 0;
    for (int32_t i = 0; i < plan->n_entries; i++) {
        int32_t found = find_expected(rec, &plan->entries[i]);
        if (found != expected->next_entry) {
            put_run(rec, QR_TAG_KEEP, n_kept);
            n_kept = 0;
        }
        if (found < 0) {
            put_entry(rec, &plan->entries[i]);
            qr_record_take_entry(expected, plan->entries[i].seq);
            continue;
        }
        put_run(rec, QR_TAG_SKIP, found - expected->next_entry);
        expected->next_entry = found + 1;
        n_kept++;
    }
    put_run(rec, QR_TAG_KEEP, n_kept);
}

static void remember_entries(struct qr_recorder *rec, const struct qr_plan *plan)
{
    if (plan->n_entries == 0)
        return;
    QR_ASSERT(plan->n_entries <= rec->n_slots);
    memcpy(rec->entries, plan->entries, (size_t)plan->n_entries * sizeof(*rec->entries));
    for (int32_t i = 0; i < plan->n_entries; i++)
        rec->entry_of_slot[rec->entries[i].seq] = i;
    rec->expected.n_entries = plan->n_entries;
    rec->expected.next_token = 0;
}

static void put_preempted(struct qr_recorder *rec, const struct qr_preemption *preempted)
{
    if (!begin(rec, QR_TAG_PREEMPTED))
        return;
    put_index(rec, preempted->seq);
    put_index(rec, (int32_t)preempted->how);
    put_index(rec, preempted->n_pages);
    put_signed(rec, preempted->for_seq);
    put_double(rec, preempted->swap_ns);
    put_double(rec, preempted->recompute_ns);
}

static void put_copy(struct qr_recorder *rec, const struct qr_page_copy *copy)
{
    if (!begin(rec, QR_TAG_COPY))
        return;
    put_index(rec, copy->from);
    put_index(rec, copy->to);
}

static void put_transfer(struct qr_recorder *rec, const struct qr_transfer *transfer)
{
    if (!begin(rec, QR_TAG_TRANSFER))
        return;
    put_index(rec, transfer->id);
    put_varint(rec, (uint64_t)transfer->tier << 1 | transfer->out);
    put_index(rec, transfer->page);
    put_index(rec, transfer->slot);
}

void qr_recorder_plan(struct qr_recorder *rec, const struct qr_plan *plan)
{
    if (rec == NULL || rec->silent)
        return;
    for (int32_t i = 0; i < plan->n_preempted; i++)
        put_preempted(rec, &plan->preempted[i]);
    for (int32_t i = 0; i < plan->n_admitted; i++)
        put_call(rec, QR_TAG_ADMITTED, plan->admitted[i]);
    for (int32_t i = 0; i < plan->n_copies; i++)
        put_copy(rec, &plan->copies[i]);
    for (int32_t i = 0; i < plan->n_transfers; i++)
        put_transfer(rec, &plan->transfers[i]);
    put_entries(rec, plan);
    if (!begin(rec, QR_TAG_PLAN_END))
        return;
    remember_entries(rec, plan);
    flush(rec);
}

void qr_recorder_note_request(struct qr_recorder *rec, qr_seq_id seq, const char *request_id)
{
    if (!begin(rec, QR_TAG_NAME))
        return;
    put_index(rec, seq);
    put_bytes(rec, request_id, strnlen(request_id, QR_RECORD_MAX_TEXT));
}

void qr_recorder_note_forced(struct qr_recorder *rec, qr_seq_id seq, enum qr_release how)
{
    if (!begin(rec, QR_TAG_FORCED))
        return;
    put_index(rec, seq);
    put_index(rec, (int32_t)how);
}
