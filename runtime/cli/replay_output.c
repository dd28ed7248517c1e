/* replay_output.c - see replay_output.h for the contract. */
#include "runtime/cli/replay_output.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"
#include "runtime/cli/options.h"
#include "runtime/replay/plan_text.h"

static const char *discipline_name(enum qr_discipline discipline)
{
    static const char *const names[] = {
        [QR_DISCIPLINE_COST] = "cost",
        [QR_DISCIPLINE_SWAP] = "swap",
        [QR_DISCIPLINE_RECOMPUTE] = "recompute",
        [QR_DISCIPLINE_RESERVE] = "reserve",
    };
    return names[discipline];
}

/* How the file ends, in words. */
static const char *end_text(const struct qr_replay_result *result)
{
    static const char *const reasons[QR_RECORD_END_COUNT] = {
        [QR_RECORD_END_CLOSED] = "complete: the process ended in order",
        [QR_RECORD_END_TOO_SLOW] = "ended early: the disk was too slow",
        [QR_RECORD_END_FAILED] = "ended early: the disk was full or failed",
        [QR_RECORD_END_LIMIT] = "ended early: the bound on its size was reached",
    };

    if (result->is_damaged)
        return "damaged";
    if (result->end.kind != QR_RECORD_END)
        return "not read to its end";
    if (result->end.end.is_marked)
        return reasons[result->end.end.reason];
    return result->end.end.n_torn_bytes > 0
               ? "cut off within a record: the process was killed, or still writes"
               : "without an end mark: the process was killed, or still writes";
}

static double seconds(int64_t ns)
{
    return (double)ns / 1e9;
}

static double tokens_per_second(const struct qr_replay_result *result,
                                const struct qr_replay_stats *stats)
{
    return result->wall_ns > 0 ? (double)stats->n_rows / seconds(result->wall_ns) : 0;
}

static double bytes_per_step(const struct qr_replay_result *result,
                             const struct qr_replay_stats *stats)
{
    return stats->n_plans > 0 ? (double)result->n_bytes / (double)stats->n_plans : 0;
}

static void print_origin(const struct qr_replay_result *result)
{
    const struct qr_record_header *header = result->header;
    time_t start = (time_t)(header->start_unix_ns / QR_NS_PER_SEC);
    struct tm utc;
    char day[32];
    char version[4 * QR_RECORD_MAX_TEXT + 3];
    char size[32];

    gmtime_r(&start, &utc);
    strftime(day, sizeof(day), "%Y-%m-%d %H:%M:%S", &utc);
    printf("%s: recorded from %s UTC on by quire %s\n", result->path, day,
           qr_log_quote(header->version, version, sizeof(version)));
    printf("%-15s %s; %s\n", "file", qr_format_size(result->n_bytes, size, sizeof(size)),
           end_text(result));
    printf("%-15s %d pages of %d tokens; %d in host memory, %d on disk; prefix cache %s\n",
           "memory", header->blocks.page_count, header->blocks.page_size,
           header->blocks.tier_slots[QR_TIER_HOST], header->blocks.tier_slots[QR_TIER_DISK],
           header->blocks.prefix_cache ? "on" : "off");
    printf("%-15s discipline %s; at most %d sequences, %d rows a step\n", "scheduler",
           discipline_name(header->scheduler.discipline), header->scheduler.max_running,
           header->scheduler.max_batch_tokens);
}

static void print_figures(const struct qr_replay_result *result,
                          const struct qr_replay_stats *stats)
{
    printf("%-15s %lld steps, %lld plans, in %.3f s of its clock; %.1f bytes a plan\n", "steps",
           (long long)stats->n_steps, (long long)stats->n_plans,
           seconds(stats->last_ns - stats->first_ns), bytes_per_step(result, stats));
    printf("%-15s %lld; %lld forks; %lld times one was refused\n", "requests",
           (long long)stats->n_requests, (long long)stats->n_forks, (long long)stats->n_refused);
    printf("%-15s %lld scheduled; %lld of output\n", "tokens", (long long)stats->n_rows,
           (long long)stats->n_output_tokens);
    printf("%-15s %lld by swap, %lld by recomputation, %lld parked, %lld forced by a test\n",
           "preemptions", (long long)stats->n_preempted[QR_RELEASE_SWAPPED],
           (long long)(stats->n_preempted[QR_RELEASE_RESUMES] +
                       stats->n_preempted[QR_RELEASE_FINISHED]),
           (long long)stats->n_preempted[QR_RELEASE_PARKED], (long long)stats->n_forced);
    printf(
        "%-15s host memory %lld out, %lld in; disk %lld out, %lld in; %lld failed; %lld copied\n",
        "pages moved", (long long)stats->n_out[QR_TIER_HOST], (long long)stats->n_in[QR_TIER_HOST],
        (long long)stats->n_out[QR_TIER_DISK], (long long)stats->n_in[QR_TIER_DISK],
        (long long)stats->n_failed, (long long)stats->n_copied);
    printf("%-15s %.3f s; %.2f million tokens scheduled a second\n", "replayed in",
           seconds(result->wall_ns), tokens_per_second(result, stats) / 1e6);
}

void qr_replay_print_summary(const struct qr_replay_result *result)
{
    struct qr_replay_stats stats;
    const char *difference = qr_replay_difference(result->replay);

    qr_replay_get_stats(result->replay, &stats);
    print_origin(result);
    print_figures(result, &stats);
    if (difference == NULL) {
        printf("%-15s every decision is the same\n", "result");
        return;
    }
    printf("%-15s NOT the same\n\n%s", "result", difference);
    if (strcmp(result->header->version, QUIRE_VERSION) != 0)
        printf("The recording is of another version; this one is %s and may decide otherwise.\n",
               QUIRE_VERSION);
}

/* Milliseconds between two moments; -1: the second has not come. */
static double ms_since(const struct qr_replay_result *result, int64_t from_ns, qr_moment to)
{
    if (to == QR_MOMENT_NONE)
        return -1;
    return (double)(qr_replay_clock_ns(result->replay, to) - from_ns) / 1e6;
}

static void print_ms(double ms)
{
    if (ms < 0)
        printf(" %12s", "-");
    else
        printf(" %12.3f", ms);
}

static int32_t n_recomputed(const struct qr_replay_request *request)
{
    return request->n_preempted[QR_RELEASE_RESUMES] + request->n_preempted[QR_RELEASE_FINISHED];
}

static const char *state_name(const struct qr_replay_request *request)
{
    return request->finished != QR_MOMENT_NONE ? "ended" : "open";
}

void qr_replay_print_requests(const struct qr_replay_result *result)
{
    struct qr_replay_stats stats;
    char name[4 * QR_RECORD_MAX_TEXT + 3];

    qr_replay_get_stats(result->replay, &stats);
    printf("\n%7s %12s %12s %12s %12s %7s %7s %7s %5s %5s %5s %-5s %s\n", "request", "arrived s",
           "queue ms", "first ms", "end ms", "prompt", "cached", "output", "swap", "recmp", "park",
           "state", "id");
    for (int32_t i = 1; i <= stats.n_requests; i++) {
        const struct qr_replay_request *request = qr_replay_request(result->replay, i);
        printf("%7d %12.3f", i, seconds(request->arrival_ns - result->header->start_ns));
        print_ms(ms_since(result, request->arrival_ns, request->admitted));
        print_ms(ms_since(result, request->arrival_ns, request->first_token));
        print_ms(ms_since(result, request->arrival_ns, request->finished));
        printf(" %7d %7d %7d %5d %5d %5d %-5s %s\n", request->n_prompt_tokens,
               request->n_cached_tokens, request->n_output_tokens,
               request->n_preempted[QR_RELEASE_SWAPPED], n_recomputed(request),
               request->n_preempted[QR_RELEASE_PARKED], state_name(request),
               request->name != NULL && request->name[0] != '\0'
                   ? qr_log_quote(request->name, name, sizeof(name))
                   : "");
    }
}

static json_t *counts_json(const struct qr_replay_stats *stats)
{
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:{s:I, s:I, s:I, s:I}, s:{s:I, s:I, s:I, s:I, s:I, "
        "s:I}, s:f}",
        "steps", (json_int_t)stats->n_steps, "plans", (json_int_t)stats->n_plans, "requests",
        (json_int_t)stats->n_requests, "refused", (json_int_t)stats->n_refused, "forks",
        (json_int_t)stats->n_forks, "scheduled_tokens", (json_int_t)stats->n_rows, "output_tokens",
        (json_int_t)stats->n_output_tokens, "preemptions", "swap",
        (json_int_t)stats->n_preempted[QR_RELEASE_SWAPPED], "recompute",
        (json_int_t)(stats->n_preempted[QR_RELEASE_RESUMES] +
                     stats->n_preempted[QR_RELEASE_FINISHED]),
        "parked", (json_int_t)stats->n_preempted[QR_RELEASE_PARKED], "forced",
        (json_int_t)stats->n_forced, "pages", "host_out", (json_int_t)stats->n_out[QR_TIER_HOST],
        "host_in", (json_int_t)stats->n_in[QR_TIER_HOST], "disk_out",
        (json_int_t)stats->n_out[QR_TIER_DISK], "disk_in", (json_int_t)stats->n_in[QR_TIER_DISK],
        "failed", (json_int_t)stats->n_failed, "copied", (json_int_t)stats->n_copied, "clock_s",
        seconds(stats->last_ns - stats->first_ns));
}

json_t *qr_replay_summary_json(const struct qr_replay_result *result)
{
    const struct qr_record_header *header = result->header;
    struct qr_replay_stats stats;

    qr_replay_get_stats(result->replay, &stats);
    bool is_version_text = qr_utf8_is_valid(header->version, strlen(header->version));
    return json_pack(
        "{s:s, s:s?, s:I, s:s, s:s, s:b, s:s?, s:s?, s:f, s:f, s:f, s:o}", "file", result->path,
        "version", is_version_text ? header->version : NULL, "bytes", (json_int_t)result->n_bytes,
        "end", end_text(result), "discipline", discipline_name(header->scheduler.discipline),
        "same", qr_replay_difference(result->replay) == NULL && !result->is_damaged, "difference",
        qr_replay_difference(result->replay), "damage",
        result->is_damaged ? result->damage.message : NULL, "wall_s", seconds(result->wall_ns),
        "tokens_per_second", tokens_per_second(result, &stats), "bytes_per_plan",
        bytes_per_step(result, &stats), "counts", counts_json(&stats));
}

static json_t *ms_json(double ms)
{
    return ms < 0 ? json_null() : json_real(ms);
}

json_t *qr_replay_requests_json(const struct qr_replay_result *result)
{
    struct qr_replay_stats stats;
    json_t *list = json_array();

    qr_replay_get_stats(result->replay, &stats);
    for (int32_t i = 1; i <= stats.n_requests; i++) {
        const struct qr_replay_request *request = qr_replay_request(result->replay, i);
        json_t *item = json_pack(
            "{s:i, s:s?, s:s, s:f, s:o, s:o, s:o, s:i, s:i, s:i, s:i, s:i, s:i}", "request", i,
            "request_id", request->name, "state", state_name(request), "arrived_s",
            seconds(request->arrival_ns - result->header->start_ns), "queue_ms",
            ms_json(ms_since(result, request->arrival_ns, request->admitted)), "first_token_ms",
            ms_json(ms_since(result, request->arrival_ns, request->first_token)), "end_ms",
            ms_json(ms_since(result, request->arrival_ns, request->finished)), "prompt_tokens",
            request->n_prompt_tokens, "cached_tokens", request->n_cached_tokens, "output_tokens",
            request->n_output_tokens, "swapped", request->n_preempted[QR_RELEASE_SWAPPED],
            "recomputed", n_recomputed(request), "parked", request->n_preempted[QR_RELEASE_PARKED]);
        if (item == NULL || json_array_append_new(list, item) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}
