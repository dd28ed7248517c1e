/* Blocks are found by their tokens, their parent and their salt, and by nothing less. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "blockmgr/block_tree.h"

enum { PAGE_SIZE = 8, N_BLOCKS = 64, N_ROOTS = 16 };

static const int32_t ones[PAGE_SIZE] = {1, 1, 1, 1, 1, 1, 1, 1};
static const int32_t twos[PAGE_SIZE] = {2, 2, 2, 2, 2, 2, 2, 2};

static struct qr_block_tree tree;

static int open_tree(void **state)
{
    (void)state;
    return qr_block_tree_init(&tree, N_BLOCKS, N_ROOTS, PAGE_SIZE) == QR_OK ? 0 : -1;
}

static int close_tree(void **state)
{
    (void)state;
    qr_block_tree_free(&tree);
    return 0;
}

static uint64_t hash_below(int32_t parent, const int32_t *tokens)
{
    return qr_block_tree_hash(&tree, tree.blocks[parent].hash, tokens);
}

/* A block with a page of its own number, below `parent`. */
static int32_t add(int32_t parent, const int32_t *tokens, int32_t n_tokens)
{
    int32_t id = qr_block_tree_new(&tree);

    tree.blocks[id].fill = (uint16_t)n_tokens;
    qr_block_tree_set_page(&tree, id, id);
    uint64_t hash = n_tokens < PAGE_SIZE ? 0 : hash_below(parent, tokens);
    qr_block_tree_insert(&tree, id, parent, hash, tokens, n_tokens);
    return id;
}

static int32_t find(int32_t parent, const int32_t *tokens)
{
    return qr_block_tree_find(&tree, parent, hash_below(parent, tokens), tokens);
}

static void a_block_is_found_below_its_own_parent_only(void **state)
{
    (void)state;
    int32_t root = qr_block_tree_open_root(&tree, "", 0);
    int32_t a = add(root, ones, PAGE_SIZE);
    int32_t b = add(root, twos, PAGE_SIZE);
    int32_t below_a = add(a, ones, PAGE_SIZE);

    assert_int_equal(find(root, ones), a);
    assert_int_equal(find(root, twos), b);
    assert_int_equal(find(a, ones), below_a);
    assert_int_equal(find(b, ones), QR_BLOCK_NONE);
    assert_int_equal(find(a, twos), QR_BLOCK_NONE);
}

/* What the hash says is never enough. */
static void equal_hashes_do_not_make_equal_blocks(void **state)
{
    (void)state;
    int32_t root = qr_block_tree_open_root(&tree, "", 0);
    int32_t other = qr_block_tree_open_root(&tree, "other", 5);
    int32_t a = add(root, ones, PAGE_SIZE);
    uint64_t hash = tree.blocks[a].hash;

    assert_int_equal(qr_block_tree_find(&tree, root, hash, ones), a);
    assert_int_equal(qr_block_tree_find(&tree, root, hash, twos), QR_BLOCK_NONE);
    assert_int_equal(qr_block_tree_find(&tree, other, hash, ones), QR_BLOCK_NONE);
}

static void salts_are_roots_and_the_same_salt_the_same_root(void **state)
{
    (void)state;
    int32_t a = qr_block_tree_open_root(&tree, "alice", 5);
    int32_t b = qr_block_tree_open_root(&tree, "bob", 3);
    int32_t nobody = qr_block_tree_open_root(&tree, NULL, 0);

    assert_int_equal(qr_block_tree_open_root(&tree, "alice", 5), a);
    assert_int_not_equal(a, b);
    assert_int_not_equal(qr_block_tree_open_root(&tree, "alice", 4), a);
    assert_int_not_equal(qr_block_tree_open_root(&tree, NULL, 0), nobody);
    add(a, ones, PAGE_SIZE);
    assert_int_equal(find(b, ones), QR_BLOCK_NONE);
}

static void a_root_is_free_when_nobody_and_nothing_needs_it(void **state)
{
    (void)state;
    int32_t root = qr_block_tree_open_root(&tree, "x", 1);
    int32_t block = add(root, ones, PAGE_SIZE);
    int32_t n_free = tree.n_free_roots;

    tree.blocks[root].n_pins = 0;
    qr_block_tree_tidy_root(&tree, root);
    assert_int_equal(tree.n_free_roots, n_free); /* it has a child */
    qr_block_tree_remove(&tree, block);
    qr_block_tree_tidy_root(&tree, root);
    assert_int_equal(tree.n_free_roots, n_free + 1);
    qr_block_tree_tidy_root(&tree, root);
    assert_int_equal(tree.n_free_roots, n_free + 1);
    assert_int_equal(find(qr_block_tree_open_root(&tree, "x", 1), ones), QR_BLOCK_NONE);
}

static void the_longest_common_beginning_is_found(void **state)
{
    static const int32_t prompt[] = {1, 1, 1, 2, 2, 2, 2};
    static const int32_t three[] = {1, 1, 1, 7};
    static const int32_t five[PAGE_SIZE] = {1, 1, 1, 2, 2, 9, 9, 9};
    int32_t n_common;

    (void)state;
    int32_t root = qr_block_tree_open_root(&tree, "", 0);
    assert_int_equal(qr_block_tree_find_partial(&tree, root, prompt, 7, &n_common), QR_BLOCK_NONE);
    assert_int_equal(n_common, 0);
    add(root, twos, PAGE_SIZE);
    int32_t short_one = add(root, three, 4);
    int32_t long_one = add(root, five, PAGE_SIZE);

    assert_int_equal(qr_block_tree_find_partial(&tree, root, prompt, 7, &n_common), long_one);
    assert_int_equal(n_common, 5);
    assert_int_equal(qr_block_tree_find_partial(&tree, root, three, 4, &n_common), short_one);
    assert_int_equal(n_common, 4);

    /* Off the device, a block is only worth having if all of it is wanted. */
    tree.blocks[long_one].slot = 0;
    qr_block_tree_set_page(&tree, long_one, QR_PAGE_NONE);
    assert_int_equal(qr_block_tree_find_partial(&tree, root, prompt, 7, &n_common), short_one);
    assert_int_equal(n_common, 3);
    assert_int_equal(qr_block_tree_find_partial(&tree, root, five, PAGE_SIZE, &n_common), long_one);
}

static void a_block_that_becomes_full_is_found_by_hash(void **state)
{
    (void)state;
    int32_t root = qr_block_tree_open_root(&tree, "", 0);
    int32_t id = add(root, ones, 3);

    assert_int_equal(find(root, ones), QR_BLOCK_NONE);
    tree.blocks[id].fill = PAGE_SIZE;
    qr_block_tree_extend(&tree, id, 0, ones, 6);
    assert_int_equal(find(root, ones), QR_BLOCK_NONE);
    qr_block_tree_extend(&tree, id, hash_below(root, ones), ones, PAGE_SIZE);
    assert_int_equal(find(root, ones), id);
}

static void families_count_who_is_on_the_device(void **state)
{
    (void)state;
    int32_t root = qr_block_tree_open_root(&tree, "", 0);
    int32_t parent = add(root, ones, PAGE_SIZE);
    int32_t a = add(parent, ones, PAGE_SIZE);
    int32_t b = add(parent, twos, PAGE_SIZE);
    const struct qr_block *above = &tree.blocks[parent];

    assert_int_equal(above->n_children, 2);
    assert_int_equal(above->n_resident_children, 2);
    qr_block_tree_set_page(&tree, a, QR_PAGE_NONE);
    assert_int_equal(above->n_resident_children, 1);
    qr_block_tree_remove(&tree, a);
    assert_int_equal(above->n_children, 1);
    assert_int_equal(above->n_resident_children, 1);
    qr_block_tree_remove(&tree, b);
    assert_int_equal(above->n_resident_children, 0);
    assert_int_equal(above->first_child, QR_BLOCK_NONE);
}

/* Blocks of one bucket do not hide each other, in whatever order they go. */
static void many_blocks_come_and_go(void **state)
{
    int32_t ids[N_BLOCKS];
    int32_t tokens[PAGE_SIZE];

    (void)state;
    memcpy(tokens, ones, sizeof(tokens));
    int32_t root = qr_block_tree_open_root(&tree, "", 0);
    for (int32_t i = 0; i < N_BLOCKS; i++) {
        tokens[0] = i;
        ids[i] = add(root, tokens, PAGE_SIZE);
    }
    for (int32_t gone = 0; gone < N_BLOCKS; gone++) {
        int32_t which = gone * 37 % N_BLOCKS;
        tokens[0] = which;
        assert_int_equal(find(root, tokens), ids[which]);
        qr_block_tree_remove(&tree, ids[which]);
        assert_int_equal(find(root, tokens), QR_BLOCK_NONE);
    }
    assert_int_equal(tree.blocks[root].n_children, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_block_is_found_below_its_own_parent_only, open_tree,
                                        close_tree),
        cmocka_unit_test_setup_teardown(equal_hashes_do_not_make_equal_blocks, open_tree,
                                        close_tree),
        cmocka_unit_test_setup_teardown(salts_are_roots_and_the_same_salt_the_same_root, open_tree,
                                        close_tree),
        cmocka_unit_test_setup_teardown(a_root_is_free_when_nobody_and_nothing_needs_it, open_tree,
                                        close_tree),
        cmocka_unit_test_setup_teardown(the_longest_common_beginning_is_found, open_tree,
                                        close_tree),
        cmocka_unit_test_setup_teardown(a_block_that_becomes_full_is_found_by_hash, open_tree,
                                        close_tree),
        cmocka_unit_test_setup_teardown(families_count_who_is_on_the_device, open_tree, close_tree),
        cmocka_unit_test_setup_teardown(many_blocks_come_and_go, open_tree, close_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
