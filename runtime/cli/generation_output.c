/* generation_output.c - see generation_output.h for the contract. */
#include "runtime/cli/generation_output.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum qr_status qr_generation_output_init(struct qr_generation_output *output, int32_t n_outputs,
                                         bool json, bool logprobs)
{
    bool ok = true;

    memset(output, 0, sizeof(*output));
    output->json = json;
    output->logprobs = logprobs;
    output->n_outputs = n_outputs;
    for (int32_t i = 0; i < n_outputs; i++) {
        struct qr_shown_output *shown = &output->outputs[i];
        shown->text.arena = QR_ARENA_REQUEST;
        shown->ids = json_array();
        shown->details = json_array();
        ok = ok && shown->ids != NULL && shown->details != NULL;
    }
    return ok ? QR_OK : QR_ERR_NOMEM;
}

void qr_generation_output_free(struct qr_generation_output *output)
{
    for (int32_t i = 0; i < output->n_outputs; i++) {
        json_decref(output->outputs[i].ids);
        json_decref(output->outputs[i].details);
        qr_buffer_free(&output->outputs[i].text);
    }
}

static json_t *token_details(const struct qr_sampled *sampled)
{
    json_t *top = json_array();

    for (int32_t i = 0; i < sampled->n_top; i++)
        json_array_append_new(top, json_pack("{s:i, s:f}", "id", sampled->top[i].token_id,
                                             "logprob", (double)sampled->top[i].logprob));
    return json_pack("{s:i, s:f, s:o}", "id", sampled->token_id, "logprob",
                     (double)sampled->logprob, "top", top);
}

enum qr_status qr_generation_output_chunk(struct qr_generation_output *output,
                                          const struct qr_stream_chunk *chunk)
{
    struct qr_shown_output *shown = &output->outputs[chunk->output];

    for (int32_t i = 0; i < chunk->n_tokens; i++) {
        const struct qr_sampled *sampled = &chunk->tokens[i].sampled;
        if (chunk->tokens[i].is_prompt)
            continue;
        if (json_array_append_new(shown->ids, json_integer(sampled->token_id)) != 0)
            return QR_ERR_NOMEM;
        if (output->logprobs && json_array_append_new(shown->details, token_details(sampled)) != 0)
            return QR_ERR_NOMEM;
    }
    if (output->json || output->n_outputs > 1) {
        QR_TRY(qr_buffer_append(&shown->text, chunk->text, chunk->n_text_bytes));
    } else if (chunk->n_text_bytes > 0) {
        fwrite(chunk->text, 1, chunk->n_text_bytes, stdout);
        fflush(stdout);
    }
    if (chunk->finish != NULL)
        shown->finish = *chunk->finish;
    return QR_OK;
}

static double seconds(int64_t ns)
{
    return (double)ns / 1e9;
}

/* Decode speed: tokens after the first, over the time after the first. */
static double tokens_per_second(const struct qr_finish *finish)
{
    int64_t span = finish->timings.total_ns - finish->timings.first_token_ns;
    int32_t tokens = finish->usage.n_output_tokens - 1;
    return tokens > 0 && span > 0 ? tokens / seconds(span) : 0;
}

static json_t *ids_json(const int32_t *ids, int32_t count)
{
    json_t *array = json_array();

    for (int32_t i = 0; i < count; i++)
        json_array_append_new(array, json_integer(ids[i]));
    return array;
}

static json_t *usage_json(const struct qr_usage *usage)
{
    return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "prompt_tokens",
                     usage->n_prompt_tokens, "output_tokens", usage->n_output_tokens, "preemptions",
                     qr_usage_preemptions(usage), "kv_pages", usage->n_pages,
                     "cached_prompt_tokens", usage->n_cached_tokens, "swaps", usage->n_swapped,
                     "recomputations", usage->n_recomputed, "parkings", usage->n_parked);
}

/* Everything about one output. */
static json_t *output_json(const struct qr_generation_output *output,
                           const struct qr_shown_output *shown)
{
    const struct qr_finish *finish = &shown->finish;
    json_t *timings = json_pack(
        "{s:f, s:f, s:f, s:f}", "queue_seconds", seconds(finish->timings.queue_ns),
        "first_token_seconds", seconds(finish->timings.first_token_ns), "total_seconds",
        seconds(finish->timings.total_ns), "tokens_per_second", tokens_per_second(finish));
    json_t *object = json_pack("{s:O, s:s%, s:s, s:o, s:o, s:I, s:f}", "ids", shown->ids, "text",
                               shown->text.data != NULL ? shown->text.data : "", shown->text.length,
                               "finish_reason", qr_finish_reason_name(finish->reason), "usage",
                               usage_json(&finish->usage), "timings", timings, "seed",
                               (json_int_t)finish->seed, "cumulative_logprob", finish->sum_logprob);

    if (object != NULL && output->logprobs)
        json_object_set(object, "logprobs", shown->details);
    return object;
}

/* One output stands in the root itself, several in "outputs". */
static int add_outputs(json_t *root, const struct qr_generation_output *output)
{
    if (output->n_outputs == 1) {
        json_t *object = output_json(output, &output->outputs[0]);
        int rc = object != NULL ? json_object_update(root, object) : -1;
        json_decref(object);
        return rc;
    }
    json_t *outputs = json_array();
    int rc = 0;
    for (int32_t i = 0; i < output->n_outputs; i++)
        rc |= json_array_append_new(outputs, output_json(output, &output->outputs[i]));
    return rc | json_object_set_new(root, "outputs", outputs);
}

static enum qr_status print_json(const struct qr_generation_output *output,
                                 const int32_t *prompt_ids, int32_t n_prompt)
{
    json_t *root = json_pack("{s:o}", "prompt_ids",
                             prompt_ids != NULL ? ids_json(prompt_ids, n_prompt) : json_null());

    if (root == NULL || add_outputs(root, output) != 0) {
        json_decref(root);
        return QR_ERR_NOMEM;
    }
    int rc = json_dumpf(root, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(root);
    return rc == 0 ? QR_OK : QR_ERR_IO;
}

/* The text of each of several, under its number. */
static void print_texts(const struct qr_generation_output *output)
{
    for (int32_t i = 0; i < output->n_outputs; i++) {
        const struct qr_buffer *text = &output->outputs[i].text;
        printf("%s--- output %d ---\n", i > 0 ? "\n" : "", i);
        fwrite(text->data, 1, text->length, stdout);
        putchar('\n');
    }
}

static void print_figures(const struct qr_finish *finish)
{
    const char *dim = isatty(STDERR_FILENO) ? "\033[2m" : "";
    const char *plain = isatty(STDERR_FILENO) ? "\033[0m" : "";

    fprintf(
        stderr,
        "%s%d tokens (%s)  %.0f tokens/s  first token after %.1f ms  %d KV pages  seed %llu%s\n",
        dim, finish->usage.n_output_tokens, qr_finish_reason_name(finish->reason),
        tokens_per_second(finish), seconds(finish->timings.first_token_ns) * 1e3,
        finish->usage.n_pages, (unsigned long long)finish->seed, plain);
}

enum qr_status qr_generation_output_end(struct qr_generation_output *output,
                                        const int32_t *prompt_ids, int32_t n_prompt)
{
    if (output->json)
        return print_json(output, prompt_ids, n_prompt);
    if (output->n_outputs > 1)
        print_texts(output);
    else
        putchar('\n');
    fflush(stdout);
    for (int32_t i = 0; i < output->n_outputs; i++)
        print_figures(&output->outputs[i].finish);
    return QR_OK;
}
