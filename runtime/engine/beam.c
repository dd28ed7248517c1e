/*
 * beam.c - beam search, step by step as Hugging Face Transformers does it (BeamSearchScorer):
 * of all beams' candidates the best go on, those that end become hypotheses, and the best
 * of these are the outputs.
 *
 * Beams of a request go on together: each keeps the best tokens of its row of logits, not
 * the row, and waits, so that they may be computed in different steps. Then those without
 * a child give their pages back, those with several are forked, and all get their token.
 */
#include <math.h>

#include "base/assert.h"
#include "runtime/engine/engine_internal.h"

/* One way to go on: a token after a beam. */
struct choice {
    struct qr_generation *parent;
    const struct qr_ranked *token;
    double score; /* sum of the scores of all its tokens */
};

/* Walks all beams' candidates, best first; ties go to the better beam. */
struct walk {
    const struct qr_beam_search *beam;
    int32_t next[QR_MAX_WIDTH]; /* of each active beam's candidates */
};

static bool next_choice(struct walk *walk, struct choice *choice)
{
    const struct qr_beam_search *beam = walk->beam;
    int32_t best = -1;

    for (int32_t i = 0; i < beam->n_active; i++) {
        struct qr_generation *seq = beam->active[i];
        if (walk->next[i] == seq->n_ranked)
            continue;
        double score = seq->score + seq->ranked[walk->next[i]].score;
        if (best >= 0 && score <= choice->score)
            continue;
        best = i;
        *choice = (struct choice){seq, &seq->ranked[walk->next[i]], score};
    }
    if (best < 0)
        return false;
    walk->next[best]++;
    return true;
}

static bool is_end(const struct qr_group *group, int32_t token_id)
{
    for (int32_t i = 0; i < group->n_stop_ids; i++) {
        if (group->stop_ids[i] == token_id)
            return true;
    }
    return false;
}

static double final_score(const struct qr_group *group, double sum, int32_t length)
{
    return sum / pow(length, (double)group->request->beam.length_penalty);
}

static int32_t worst_ended(const struct qr_beam_search *beam)
{
    int32_t worst = 0;

    for (int32_t i = 1; i < beam->n_ended; i++) {
        if (beam->ended[i]->score < beam->ended[worst]->score)
            worst = i;
    }
    return worst;
}

static void drop_ended(struct qr_beam_search *beam, int32_t index)
{
    beam->idle[beam->n_idle++] = beam->ended[index];
    beam->n_ended--;
    for (int32_t i = index; i < beam->n_ended; i++)
        beam->ended[i] = beam->ended[i + 1];
}

static void append_choice(struct qr_generation *seq, const struct qr_sampled *row,
                          const struct qr_ranked *token)
{
    struct qr_sampled sampled = *row;

    sampled.token_id = token->token_id;
    sampled.logprob = token->logprob;
    qr_generation_append(seq, &sampled);
}

/* The choice ends here: one of the best so far, or forgotten. */
static void add_ended(struct qr_group *group, const struct choice *choice)
{
    struct qr_beam_search *beam = &group->beam;
    double score = final_score(group, choice->score, qr_generation_n_output(choice->parent) + 1);

    if (beam->n_ended == group->width) {
        int32_t worst = worst_ended(beam);
        if (score <= beam->ended[worst]->score)
            return;
        drop_ended(beam, worst);
    }
    QR_ASSERT(beam->n_idle > 0);
    struct qr_generation *ended = beam->idle[--beam->n_idle];
    qr_generation_copy(ended, choice->parent);
    append_choice(ended, &choice->parent->row, choice->token);
    ended->score = score;
    beam->ended[beam->n_ended++] = ended;
}

/*
 * Sorts the candidates into those that end and the next beams, of which it returns the
 * number; *best is the best score of all.
 */
static int32_t choose(struct qr_group *group, struct choice *next, double *best)
{
    struct walk walk = {.beam = &group->beam};
    struct choice choice;
    int32_t n_next = 0;

    *best = -INFINITY;
    for (int32_t rank = 0; n_next < group->width && next_choice(&walk, &choice); rank++) {
        if (rank == 0)
            *best = choice.score;
        if (!is_end(group, choice.token->token_id))
            next[n_next++] = choice;
        else if (rank < group->width)
            add_ended(group, &choice);
    }
    return n_next;
}

/* No beam that goes on is to be expected to become one of the best. */
static bool is_decided(const struct qr_group *group, double best, int32_t length)
{
    const struct qr_beam_search *beam = &group->beam;

    if (beam->n_ended < group->width)
        return false;
    if (group->request->beam.early_stopping)
        return true;
    return beam->ended[worst_ended(beam)]->score >= final_score(group, best, length);
}

static void close_beams(struct qr_engine *engine, struct qr_group *group)
{
    struct qr_beam_search *beam = &group->beam;

    for (int32_t i = 0; i < beam->n_active; i++) {
        qr_engine_close_sequence(engine, beam->active[i]);
        beam->idle[beam->n_idle++] = beam->active[i];
    }
    beam->n_active = 0;
}

/* The outputs are the n best that have ended, best first, ties in the order they did. */
static void finish_search(struct qr_engine *engine, struct qr_group *group)
{
    struct qr_beam_search *beam = &group->beam;

    close_beams(engine, group);
    if (beam->n_ended < group->request->n) {
        struct qr_error err;
        qr_fail(&err, QR_ERR_INVALID, "beam search found %d outputs, fewer than the %d wanted",
                beam->n_ended, group->request->n);
        qr_engine_fail_group(engine, group, &err);
        return;
    }
    for (int32_t i = 0; i < group->request->n; i++) {
        int32_t best = -1;
        for (int32_t j = 0; j < beam->n_ended; j++) {
            struct qr_generation *seq = beam->ended[j];
            if (seq != NULL && (best < 0 || seq->score > beam->ended[best]->score))
                best = j;
        }
        group->chosen[i] = beam->ended[best];
        beam->ended[best] = NULL;
    }
    qr_engine_begin_outputs(engine, group);
}

/* Beams without a child give back their pages, before others ask for more. */
static void close_childless(struct qr_engine *engine, struct qr_beam_search *beam,
                            const struct choice *next, int32_t n_next)
{
    for (int32_t i = 0; i < beam->n_active; i++)
        beam->active[i]->n_children = 0;
    for (int32_t i = 0; i < n_next; i++)
        next[i].parent->n_children++;
    for (int32_t i = 0; i < beam->n_active; i++) {
        if (beam->active[i]->n_children > 0)
            continue;
        qr_engine_close_sequence(engine, beam->active[i]);
        beam->idle[beam->n_idle++] = beam->active[i];
    }
}

/* The last child of a beam takes its place, so that the others are forked before it. */
static struct qr_generation *make_child(struct qr_engine *engine, struct qr_beam_search *beam,
                                        struct qr_generation *parent)
{
    if (--parent->n_children == 0)
        return parent;
    QR_ASSERT(beam->n_idle > 0);
    struct qr_generation *child = beam->idle[--beam->n_idle];
    qr_engine_fork(engine, parent, child);
    return child;
}

static void go_on(struct qr_engine *engine, struct qr_group *group, const struct choice *next,
                  int32_t n_next)
{
    struct qr_beam_search *beam = &group->beam;

    close_childless(engine, beam, next, n_next);
    for (int32_t i = 0; i < n_next; i++) {
        const struct qr_generation *parent = next[i].parent;
        struct qr_generation *seq = make_child(engine, beam, next[i].parent);
        append_choice(seq, &parent->row, next[i].token);
        seq->score = next[i].score;
        qr_scheduler_append_token(engine->sched, seq->slot);
        beam->active[i] = seq;
    }
    for (int32_t i = 0; i < n_next; i++)
        beam->active[i]->n_ranked = 0;
    beam->n_active = n_next;
    beam->n_ready = 0;
    engine->counters.n_output_tokens += n_next;
}

/* All beams have their candidates. */
static void step_beams(struct qr_engine *engine, struct qr_group *group)
{
    struct choice next[QR_MAX_WIDTH];
    double best;
    int32_t n_next = choose(group, next, &best);
    int32_t length = qr_generation_n_output(group->beam.active[0]) + 1;

    if (n_next == 0 || is_decided(group, best, length)) {
        finish_search(engine, group);
    } else if (group->request->n_prompt + length == group->max_tokens) {
        for (int32_t i = 0; i < n_next; i++)
            add_ended(group, &next[i]);
        finish_search(engine, group);
    } else {
        go_on(engine, group, next, n_next);
    }
}

static bool rank(struct qr_engine *engine, struct qr_generation *seq,
                 const struct qr_logit_row *row)
{
    struct qr_sampler_selections selections = qr_engine_selections(row);
    struct qr_sampler_input input = qr_engine_sampler_input(seq, row);
    int32_t n = seq->group->beam.n_ranked;

    if (row->logits == NULL)
        return qr_sampler_rank_selected(&seq->sampling, &selections, n, seq->ranked, &seq->n_ranked,
                                        &seq->row) == QR_OK;
    return qr_sampler_rank(engine->sampler, &seq->sampling, &input, n, seq->ranked, &seq->n_ranked,
                           &seq->row) == QR_OK;
}

void qr_beam_take_row(struct qr_engine *engine, struct qr_generation *seq,
                      const struct qr_logit_row *row)
{
    struct qr_group *group = seq->group;

    if (!rank(engine, seq, row)) {
        qr_engine_fail_on_logits(engine, seq);
        return;
    }
    if (++group->beam.n_ready == group->beam.n_active)
        step_beams(engine, group);
}
