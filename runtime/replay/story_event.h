/* story_event.h - the events of a story, between story.c, which sees, and story_text.c, which
 * tells. */
#ifndef QUIRE_RUNTIME_REPLAY_STORY_EVENT_H
#define QUIRE_RUNTIME_REPLAY_STORY_EVENT_H

#include "runtime/replay/story.h"

enum qr_story_kind {
    QR_STORY_ARRIVED,  /* numbers: waiting, running, free pages, cached pages */
    QR_STORY_ADMITTED, /* found tokens, of so many; after so many preemptions */
    QR_STORY_LOADED,   /* pages from host memory, from disk, not read */
    QR_STORY_PREFILL,  /* rows, steps, last position, rows computed before */
    QR_STORY_FIRST_TOKEN,
    QR_STORY_DECODE,    /* as of a prefill */
    QR_STORY_FORKED,    /* branch that it became */
    QR_STORY_PREEMPTED, /* freed pages, held pages */
    QR_STORY_PAGES_OUT, /* to host memory, to disk, not written */
    QR_STORY_PAUSED,
    QR_STORY_RESUMED,
    QR_STORY_ENDED, /* known tokens, of which output */
    QR_STORY_KIND_COUNT,
};

enum { QR_STORY_NUMBERS = 4 };

struct qr_story_event {
    enum qr_story_kind kind;
    int32_t branch;
    qr_moment from; /* QR_MOMENT_NONE: at its arrival */
    qr_moment to;   /* equal to `from` when it took no time */
    int32_t numbers[QR_STORY_NUMBERS];
    enum qr_release how;
    bool is_forced;                   /* a test asked for the preemption */
    bool was_loading;                 /* when it was preempted */
    bool is_over;                     /* the load: all is there */
    char other[QR_REPLAY_NAME_BYTES]; /* who needed the room; "": nobody */
    double swap_ns;
    double recompute_ns;
};

struct qr_story {
    const struct qr_replay *replay;
    int32_t request;
    struct qr_story_event *events;
    int32_t n_events;
    int32_t events_capacity;

    struct qr_story_branch *branches; /* of story.c */
    int32_t n_branches;
    int32_t branches_capacity;
    struct qr_story_transfer *transfers; /* under way, of pages of this request */
    int32_t n_transfers;
    int32_t transfers_capacity;
};

#endif /* QUIRE_RUNTIME_REPLAY_STORY_EVENT_H */
