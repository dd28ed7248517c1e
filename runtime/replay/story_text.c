/* story_text.c - see story.h for the contract: a story in words and as JSON. */
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "runtime/replay/plan_text.h"
#include "runtime/replay/story_event.h"

static const struct {
    const char *name;
    const char *numbers[QR_STORY_NUMBERS]; /* NULL: not used */
} kinds[QR_STORY_KIND_COUNT] = {
    [QR_STORY_ARRIVED] = {"arrived", {"waiting", "running", "free_pages", "cached_pages"}},
    [QR_STORY_ADMITTED] = {"admitted", {"found_tokens", "known_tokens", "preemptions_before"}},
    [QR_STORY_LOADED] = {"loaded", {"from_host", "from_disk", "not_read"}},
    [QR_STORY_PREFILL] = {"prefill", {"tokens", "steps", "last_position", "tokens_again"}},
    [QR_STORY_FIRST_TOKEN] = {"first_token", {NULL}},
    [QR_STORY_DECODE] = {"decode", {"tokens", "steps", "last_position", "tokens_again"}},
    [QR_STORY_FORKED] = {"forked", {"new_branch"}},
    [QR_STORY_PREEMPTED] = {"preempted", {"freed_pages", "held_pages"}},
    [QR_STORY_PAGES_OUT] = {"pages_out", {"to_host", "to_disk", "not_written"}},
    [QR_STORY_PAUSED] = {"paused", {NULL}},
    [QR_STORY_RESUMED] = {"resumed", {NULL}},
    [QR_STORY_ENDED] = {"ended", {"known_tokens", "output_tokens"}},
};

static const struct qr_replay_request *request_of(const struct qr_story *story)
{
    return qr_replay_request(story->replay, story->request);
}

/* Milliseconds after the request's arrival. */
static double at_ms(const struct qr_story *story, qr_moment moment)
{
    if (moment == QR_MOMENT_NONE)
        return 0;
    return (double)(qr_replay_clock_ns(story->replay, moment) - request_of(story)->arrival_ns) /
           1e6;
}

static double duration_ms(const struct qr_story *story, const struct qr_story_event *event)
{
    return at_ms(story, event->to) - at_ms(story, event->from);
}

static const char *plural(int32_t n)
{
    return n == 1 ? "" : "s";
}

static enum qr_status write_arrived(const struct qr_story_event *event, struct qr_buffer *text)
{
    return qr_buffer_printf(
        text, "arrives: %d sequence%s run%s, %d wait%s; %d page%s free, %d cached",
        event->numbers[1], plural(event->numbers[1]), event->numbers[1] == 1 ? "s" : "",
        event->numbers[0], event->numbers[0] == 1 ? "s" : "", event->numbers[2],
        event->numbers[2] == 1 ? " is" : "s are", event->numbers[3]);
}

/* When the branch was last preempted before event `index`; its arrival when it never was. */
static qr_moment waits_since(const struct qr_story *story, int32_t index)
{
    for (int32_t i = index - 1; i >= 0; i--)
        if (story->events[i].kind == QR_STORY_PREEMPTED &&
            story->events[i].branch == story->events[index].branch)
            return story->events[i].from;
    return QR_MOMENT_NONE;
}

static enum qr_status write_admitted(const struct qr_story *story, int32_t index,
                                     struct qr_buffer *text)
{
    const struct qr_story_event *event = &story->events[index];
    double waited_ms = at_ms(story, event->from) - at_ms(story, waits_since(story, index));

    QR_TRY(qr_buffer_printf(text,
                            event->numbers[2] == 0 ? "admitted, %.3f ms in the queue: "
                                                   : "admitted again, after %.3f ms: ",
                            waited_ms));
    return qr_buffer_printf(text, "%d of its %d tokens %s in the cache", event->numbers[0],
                            event->numbers[1], event->numbers[0] == 1 ? "is" : "are");
}

static enum qr_status write_loaded(const struct qr_story *story, const struct qr_story_event *event,
                                   struct qr_buffer *text)
{
    if (!event->is_over)
        return qr_buffer_printf(text, "loads what lies in lower tiers: %d page%s read, not all",
                                event->numbers[0] + event->numbers[1],
                                plural(event->numbers[0] + event->numbers[1]));
    return qr_buffer_printf(text, "loads %d page%s from host memory and %d from disk, %.3f ms",
                            event->numbers[0], plural(event->numbers[0]), event->numbers[1],
                            duration_ms(story, event));
}

static enum qr_status write_rows(const struct qr_story *story, const struct qr_story_event *event,
                                 struct qr_buffer *text)
{
    QR_TRY(qr_buffer_printf(text, "%s %d token%s in %d step%s, %.3f ms, up to position %d",
                            event->kind == QR_STORY_PREFILL ? "prefills" : "decodes",
                            event->numbers[0], plural(event->numbers[0]), event->numbers[1],
                            plural(event->numbers[1]), duration_ms(story, event),
                            event->numbers[2]));
    if (event->numbers[3] > 0)
        return qr_buffer_printf(text, "; %d of them had been computed before", event->numbers[3]);
    return QR_OK;
}

/* What it would have cost, as the scheduler weighed it. */
static enum qr_status write_costs(const struct qr_story_event *event, struct qr_buffer *text)
{
    if (event->swap_ns == INFINITY)
        return qr_buffer_printf(text, "; no room in a lower tier, recomputing costs %.3f ms",
                                event->recompute_ns / 1e6);
    return qr_buffer_printf(text, "; swapping costs %.3f ms, recomputing %.3f ms",
                            event->swap_ns / 1e6, event->recompute_ns / 1e6);
}

static enum qr_status write_preempted(const struct qr_story_event *event, struct qr_buffer *text)
{
    if (event->is_forced)
        return qr_buffer_printf(text, "preempted by %s, because a test said so",
                                qr_replay_way_name(event->how));
    if (event->how == QR_RELEASE_PARKED)
        return qr_buffer_printf(text,
                                "parked, because its reader is slow: %d of its %d pages freed",
                                event->numbers[0], event->numbers[1]);
    if (event->was_loading && event->other[0] == '\0')
        return qr_buffer_printf(text, "put back: a page that it waited for could not be read; "
                                      "what is lost will be computed");
    QR_TRY(qr_buffer_printf(text, "preempted by %s, because ", qr_replay_way_name(event->how)));
    QR_TRY(event->other[0] != '\0' ? qr_buffer_printf(text, "request %s needs room", event->other)
                                   : qr_buffer_printf(text, "there is no room for its next page"));
    QR_TRY(
        qr_buffer_printf(text, ": %d of its %d pages freed", event->numbers[0], event->numbers[1]));
    return write_costs(event, text);
}

static enum qr_status write_pages_out(const struct qr_story *story,
                                      const struct qr_story_event *event, struct qr_buffer *text)
{
    QR_TRY(qr_buffer_printf(text, "its pages: %d in host memory and %d on disk after %.3f ms",
                            event->numbers[0], event->numbers[1], duration_ms(story, event)));
    if (event->numbers[2] > 0)
        return qr_buffer_printf(text, "; %d could not be written", event->numbers[2]);
    return QR_OK;
}

static enum qr_status write_ended(const struct qr_story *story, const struct qr_story_event *event,
                                  struct qr_buffer *text)
{
    return qr_buffer_printf(
        text, "ends with %d token%s of output%s", event->numbers[1], plural(event->numbers[1]),
        event->numbers[0] == request_of(story)->max_tokens ? ", as many as it may have" : "");
}

static enum qr_status write_event(const struct qr_story *story, int32_t index,
                                  struct qr_buffer *text)
{
    const struct qr_story_event *event = &story->events[index];

    switch (event->kind) {
    case QR_STORY_ARRIVED:
        return write_arrived(event, text);
    case QR_STORY_ADMITTED:
        return write_admitted(story, index, text);
    case QR_STORY_LOADED:
        return write_loaded(story, event, text);
    case QR_STORY_PREFILL:
    case QR_STORY_DECODE:
        return write_rows(story, event, text);
    case QR_STORY_FIRST_TOKEN:
        return qr_buffer_printf(text, "first token");
    case QR_STORY_FORKED:
        return qr_buffer_printf(text, "forked: branch %d goes on from here too", event->numbers[0]);
    case QR_STORY_PREEMPTED:
        return write_preempted(event, text);
    case QR_STORY_PAGES_OUT:
        return write_pages_out(story, event, text);
    case QR_STORY_PAUSED:
        return qr_buffer_printf(text, "its client stops reading");
    case QR_STORY_RESUMED:
        return qr_buffer_printf(text, "its client reads again");
    case QR_STORY_ENDED:
        return write_ended(story, event, text);
    case QR_STORY_KIND_COUNT:
        break;
    }
    return QR_ERR_INVALID;
}

static enum qr_status write_heading(const struct qr_story *story,
                                    const struct qr_record_header *header, struct qr_buffer *text)
{
    const struct qr_replay_request *request = request_of(story);
    int64_t since_start_ns = request->arrival_ns - header->start_ns;
    int64_t unix_ns = header->start_unix_ns + since_start_ns;
    time_t seconds = (time_t)(unix_ns / QR_NS_PER_SEC);
    struct tm utc;
    char day[32];
    char quoted[4 * QR_RECORD_MAX_TEXT + 3];

    gmtime_r(&seconds, &utc);
    strftime(day, sizeof(day), "%Y-%m-%d %H:%M:%S", &utc);
    QR_TRY(qr_buffer_printf(text, "request %d", story->request));
    if (request->name != NULL && request->name[0] != '\0')
        QR_TRY(qr_buffer_printf(text, " %s", qr_log_quote(request->name, quoted, sizeof(quoted))));
    QR_TRY(qr_buffer_printf(text, ": %d prompt tokens, at most %d in all; priority %d, tenant %d\n",
                            request->n_prompt_tokens, request->max_tokens, request->priority,
                            request->tenant));
    if (request->width > 1)
        QR_TRY(qr_buffer_printf(text, "up to %d sequences at one time\n", request->width));
    return qr_buffer_printf(text, "arrived %s.%03lld UTC, %.3f ms into the recording\n\n", day,
                            (long long)(unix_ns / 1000000 % 1000), (double)since_start_ns / 1e6);
}

static enum qr_status write_still_there(const struct qr_story *story, struct qr_buffer *text)
{
    const struct qr_replay_request *request = request_of(story);

    if (request->finished != QR_MOMENT_NONE)
        return QR_OK;
    return qr_buffer_printf(text, "the recording ends and the request has not\n");
}

enum qr_status qr_story_write(struct qr_story *story, const struct qr_record_header *header,
                              struct qr_buffer *text)
{
    bool has_branches = request_of(story)->n_branches > 1;

    QR_TRY(write_heading(story, header, text));
    for (int32_t i = 0; i < story->n_events; i++) {
        QR_TRY(qr_buffer_printf(text, "%+14.3f ms  ", at_ms(story, story->events[i].from)));
        if (has_branches)
            QR_TRY(qr_buffer_printf(text, "branch %d: ", story->events[i].branch));
        QR_TRY(write_event(story, i, text));
        QR_TRY(qr_buffer_printf(text, "\n"));
    }
    return write_still_there(story, text);
}

/* Infinity is no number of JSON. */
static json_t *cost_json(double ns)
{
    return ns == INFINITY ? json_null() : json_real(ns / 1e6);
}

static bool add_preemption_fields(json_t *object, const struct qr_story_event *event)
{
    return json_object_set_new(object, "how", json_string(qr_replay_way_name(event->how))) == 0 &&
           json_object_set_new(object, "for",
                               event->other[0] != '\0' ? json_string(event->other) : json_null()) ==
               0 &&
           json_object_set_new(object, "forced", json_boolean(event->is_forced)) == 0 &&
           json_object_set_new(object, "swap_ms", cost_json(event->swap_ns)) == 0 &&
           json_object_set_new(object, "recompute_ms", cost_json(event->recompute_ns)) == 0;
}

static json_t *event_json(struct qr_story *story, int32_t index)
{
    const struct qr_story_event *event = &story->events[index];
    struct qr_buffer text = {.arena = QR_ARENA_ENGINE};
    json_t *object = json_object();

    bool ok = object != NULL && write_event(story, index, &text) == QR_OK &&
              json_object_set_new(object, "at_ms", json_real(at_ms(story, event->from))) == 0 &&
              json_object_set_new(object, "event", json_string(kinds[event->kind].name)) == 0 &&
              json_object_set_new(object, "branch", json_integer(event->branch)) == 0 &&
              json_object_set_new(object, "text", json_string(text.data)) == 0;
    if (ok && event->to != event->from)
        ok = json_object_set_new(object, "duration_ms", json_real(duration_ms(story, event))) == 0;
    for (int32_t i = 0; ok && i < QR_STORY_NUMBERS && kinds[event->kind].numbers[i] != NULL; i++)
        ok = json_object_set_new(object, kinds[event->kind].numbers[i],
                                 json_integer(event->numbers[i])) == 0;
    if (ok && event->kind == QR_STORY_PREEMPTED)
        ok = add_preemption_fields(object, event);
    qr_buffer_free(&text);
    if (!ok) {
        json_decref(object);
        return NULL;
    }
    return object;
}

json_t *qr_story_to_json(struct qr_story *story)
{
    const struct qr_replay_request *request = request_of(story);
    json_t *events = json_array();

    for (int32_t i = 0; i < story->n_events; i++) {
        json_t *event = event_json(story, i);
        if (event == NULL || json_array_append_new(events, event) != 0) {
            json_decref(events);
            return NULL;
        }
    }
    return json_pack("{s:i, s:s?, s:i, s:i, s:i, s:i, s:i, s:b, s:o}", "request", story->request,
                     "request_id", request->name, "prompt_tokens", request->n_prompt_tokens,
                     "max_tokens", request->max_tokens, "width", request->width, "priority",
                     request->priority, "tenant", request->tenant, "ended",
                     request->finished != QR_MOMENT_NONE, "events", events);
}
