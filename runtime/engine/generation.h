/*
 * generation.h - one sequence of a request: its tokens, and the text they become.
 *
 * Most requests have one. Those with several outputs, or a beam search, have a group of
 * them (group.h), which owns all memory: a step allocates nothing. Engine thread only.
 *
 * A sequence either streams, each token as it comes, or is withheld: its tokens are kept
 * with their log-probabilities until it is known whether they are an output, and which;
 * then they are said one after the other, as if they came just now.
 */
#ifndef QUIRE_RUNTIME_ENGINE_GENERATION_H
#define QUIRE_RUNTIME_ENGINE_GENERATION_H

#include "runtime/engine/stream_producer.h"
#include "runtime/sampling/sampler.h"
#include "runtime/sampling/stop_matcher.h"
#include "runtime/tokenizer/tokenizer.h"

struct qr_group;

struct qr_generation {
    struct qr_group *group;
    struct qr_sampling_params sampling; /* the request's, with the seed of this output */
    int32_t output;                     /* whose stream it says its tokens to; -1: withheld */
    int32_t slot;                       /* in the scheduler, -1 when it is not there */
    int32_t *tokens;                    /* [group->max_tokens] prompt, then output */
    int32_t n_tokens;
    int32_t n_scored; /* prompt tokens whose log-probability is reported, the first included */
    int32_t n_said;   /* output tokens that went through detokenizer and stop matcher */
    double sum_logprob;
    struct qr_detokenizer detokenizer;
    struct qr_stop_matcher stop_matcher;
    struct qr_finish finish;        /* how it ended */
    struct qr_token_counts *counts; /* of its tokens, where it is penalized for them; else NULL */

    /* Of withheld ones, else NULL: of each output token. */
    float *logprobs;             /* [group->max_tokens - n_prompt] */
    struct qr_top_logprob *tops; /* [group->max_tokens - n_prompt][n_top] */
    int32_t n_top;               /* of each token; at most the vocabulary */

    /* Of beams, else NULL and 0. */
    double score;             /* of its tokens; of a hypothesis that ended, the final one */
    struct qr_ranked *ranked; /* [group->beam.n_ranked] what may come next, best first */
    int32_t n_ranked;         /* 0: its row of logits has not come yet */
    struct qr_sampled row;    /* the top log-probabilities of that row */
    int32_t n_children;       /* in the beam step under way */
};

QR_BEGIN_DECLS

int32_t qr_generation_n_output(const struct qr_generation *seq);
/* `seq` becomes like `parent`, except for seed, output and slot. */
void qr_generation_copy(struct qr_generation *seq, const struct qr_generation *parent);

/* Reports the log-probability of prompt token number n_scored to output 0. */
void qr_generation_push_scored(struct qr_generation *seq, const struct qr_sampled *scored);

/* Appends a token; what it means is left to qr_generation_say. */
void qr_generation_append(struct qr_generation *seq, const struct qr_sampled *sampled);
/*
 * Turns the next token that was not said yet, `sampled`, into text, looks for stops and
 * puts it on the stream unless the sequence is withheld. True when the sequence ends with
 * it: seq->finish has reason, stop_string and stop_token_id.
 */
bool qr_generation_say(struct qr_generation *seq, const struct qr_sampled *sampled);

/* A withheld sequence that has ended is output number `output`, and says its tokens anew. */
void qr_generation_begin_output(struct qr_generation *seq, int32_t output);
/* Says what the stream has room for. True when everything was said. */
bool qr_generation_say_more(struct qr_generation *seq);

/*
 * The last words on the stream, with usage and timings as given: releases held text
 * unless a stop string matched, which it may find only now.
 */
void qr_generation_finish(struct qr_generation *seq, struct qr_finish *finish);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_ENGINE_GENERATION_H */
