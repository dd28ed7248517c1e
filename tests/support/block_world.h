/*
 * block_world.h - a block manager with the shadow memory beside it, and sequences whose
 * tokens and keys are known: every operation carries out the copies it leads to, writes
 * and reads the rows, and checks what was promised. Transfers end when the test says so.
 *
 * Everything lies on the heap of block_heap.h. Broken rules end the test (block_trail.h).
 */
#ifndef QUIRE_TESTS_SUPPORT_BLOCK_WORLD_H
#define QUIRE_TESTS_SUPPORT_BLOCK_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "blockmgr/block_manager.h"
#include "tests/support/block_shadow.h"

struct block_world_seq {
    bool is_open;
    bool holds;      /* blocks: between acquire or fork and release */
    bool is_loading; /* some of them are on the way */
    int32_t n_known;
    int32_t n_computed;
    int32_t salt;    /* in [0, 26): the letter */
    int32_t branch;  /* which of the continuations of its prompt it follows */
    int32_t *tokens; /* [max_seq_tokens] */
    uint64_t *keys;  /* [max_seq_tokens] of the token and all before it */
};

struct block_world {
    struct qr_block_manager_config config;
    struct qr_block_manager *blocks;
    struct block_shadow *shadow;
    struct block_world_seq *seqs; /* [max_sequences] */
};

QR_BEGIN_DECLS

struct block_world *block_world_create(const struct qr_block_manager_config *config);
/* Releases and closes what is open. */
void block_world_destroy(struct block_world *world);

/*
 * Opens a closed slot. Token p of a prompt is a function of p and of `document` before
 * token `cut`, of p and `branch` from there on, so that prompts begin alike.
 */
void block_world_open(struct block_world *world, int32_t seq, int32_t document, int32_t cut,
                      int32_t branch, int32_t n_prompt, int32_t salt);
/* One known token more. */
void block_world_append(struct block_world *world, int32_t seq);
/* False: no pages. */
bool block_world_acquire(struct block_world *world, int32_t seq, int32_t n_promised);
/* Computes rows up to n_tokens of the known ones. False: no pages. */
bool block_world_compute(struct block_world *world, int32_t seq, int32_t n_tokens);
/* `seq` is opened as a copy of the parent, which holds its blocks; `branch` from now on. */
void block_world_fork(struct block_world *world, int32_t parent, int32_t seq, int32_t branch);
void block_world_release(struct block_world *world, int32_t seq, enum qr_release how);
/* Of a sequence that holds nothing. */
void block_world_close(struct block_world *world, int32_t seq);
/* Asks for the loads of a sequence that has some; after a failure it holds nothing. */
enum qr_load block_world_poll(struct block_world *world, int32_t seq);
void block_world_start_transfers(struct block_world *world);
void block_world_end_transfer(struct block_world *world, int32_t id, bool ok);
/* Everything that waits for a transfer is moved. */
void block_world_move_all(struct block_world *world, bool ok);
/* Releases the sequence as finished and closes it. */
void block_world_finish(struct block_world *world, int32_t id);

/* Counts, tables, contents and estimates; `deep`: with qr_block_manager_check and the index. */
void block_world_check(const struct block_world *world, bool deep);
/* The figures, after a deep check. */
struct qr_block_stats block_world_stats(const struct block_world *world);

/* The first token whose KV a row at `position` reads. */
int32_t block_world_first_seen(const struct qr_block_manager_config *config, int32_t position);
/* Keys and tokens of one sequence, used by scheduler_world too. */
int32_t block_world_token(int32_t document, int32_t cut, int32_t branch, int32_t position);

QR_END_DECLS

#endif /* QUIRE_TESTS_SUPPORT_BLOCK_WORLD_H */
