/* generation_output.c - see generation_output.h for the contract. */
#include "runtime/cli/generation_output.h"

#include <stdio.h>
#include <unistd.h>

enum qr_status qr_generation_output_init(struct qr_generation_output *output, bool json,
                                         bool logprobs)
{
    *output = (struct qr_generation_output){
        .json = json,
        .logprobs = logprobs,
        .ids = json_array(),
        .details = json_array(),
        .text.arena = QR_ARENA_REQUEST,
    };
    return output->ids == NULL || output->details == NULL ? QR_ERR_NOMEM : QR_OK;
}

void qr_generation_output_free(struct qr_generation_output *output)
{
    json_decref(output->ids);
    json_decref(output->details);
    qr_buffer_free(&output->text);
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
    for (int32_t i = 0; i < chunk->n_tokens; i++) {
        const struct qr_sampled *sampled = &chunk->tokens[i].sampled;
        if (chunk->tokens[i].is_prompt)
            continue;
        if (json_array_append_new(output->ids, json_integer(sampled->token_id)) != 0)
            return QR_ERR_NOMEM;
        if (output->logprobs && json_array_append_new(output->details, token_details(sampled)) != 0)
            return QR_ERR_NOMEM;
    }
    if (output->json)
        QR_TRY(qr_buffer_append(&output->text, chunk->text, chunk->n_text_bytes));
    else if (chunk->n_text_bytes > 0) {
        fwrite(chunk->text, 1, chunk->n_text_bytes, stdout);
        fflush(stdout);
    }
    if (chunk->finish != NULL)
        output->finish = *chunk->finish;
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

static enum qr_status print_json(const struct qr_generation_output *output,
                                 const int32_t *prompt_ids, int32_t n_prompt, uint64_t seed)
{
    const struct qr_finish *finish = &output->finish;
    json_t *prompt = prompt_ids != NULL ? ids_json(prompt_ids, n_prompt) : json_null();
    json_t *usage =
        json_pack("{s:i, s:i, s:i, s:i}", "prompt_tokens", finish->usage.n_prompt_tokens,
                  "output_tokens", finish->usage.n_output_tokens, "preemptions",
                  finish->usage.n_preemptions, "kv_pages", finish->usage.n_pages);
    json_t *timings = json_pack(
        "{s:f, s:f, s:f, s:f}", "queue_seconds", seconds(finish->timings.queue_ns),
        "first_token_seconds", seconds(finish->timings.first_token_ns), "total_seconds",
        seconds(finish->timings.total_ns), "tokens_per_second", tokens_per_second(finish));
    json_t *root =
        json_pack("{s:o, s:O, s:s%, s:s, s:o, s:o, s:I}", "prompt_ids", prompt, "ids", output->ids,
                  "text", output->text.data != NULL ? output->text.data : "", output->text.length,
                  "finish_reason", qr_finish_reason_name(finish->reason), "usage", usage, "timings",
                  timings, "seed", (json_int_t)seed);
    if (root == NULL)
        return QR_ERR_NOMEM;
    if (output->logprobs)
        json_object_set(root, "logprobs", output->details);
    int rc = json_dumpf(root, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(root);
    return rc == 0 ? QR_OK : QR_ERR_IO;
}

enum qr_status qr_generation_output_end(struct qr_generation_output *output,
                                        const int32_t *prompt_ids, int32_t n_prompt, uint64_t seed)
{
    const struct qr_finish *finish = &output->finish;

    if (output->json)
        return print_json(output, prompt_ids, n_prompt, seed);
    putchar('\n');
    fflush(stdout);
    const char *dim = isatty(STDERR_FILENO) ? "\033[2m" : "";
    const char *plain = isatty(STDERR_FILENO) ? "\033[0m" : "";
    fprintf(
        stderr,
        "%s%d tokens (%s)  %.0f tokens/s  first token after %.1f ms  %d KV pages  seed %llu%s\n",
        dim, finish->usage.n_output_tokens, qr_finish_reason_name(finish->reason),
        tokens_per_second(finish), seconds(finish->timings.first_token_ns) * 1e3,
        finish->usage.n_pages, (unsigned long long)seed, plain);
    return QR_OK;
}
