/* cpu_bench_output.c - what `quire bench cpu` measured, as a table and as JSON. */
#include "runtime/bench/cpu/cpu_bench.h"

static int64_t over_weights_and_kv(const struct qr_cpu_memory *memory)
{
    return memory->resident - memory->weights - memory->kv;
}

/* What is better of the two probes. */
static struct qr_machine_limits limits_of(const struct qr_cpu_bench *bench)
{
    return qr_machine_limits_best(&bench->before, &bench->after);
}

static double fraction_of(const struct qr_cpu_case *of, const struct qr_cpu_limit *limit)
{
    return of->median_s > 0 ? limit->seconds / of->median_s : 0;
}

/* What the limit is of. */
static const char *bound_of(const struct qr_cpu_limit *limit)
{
    if (limit->seconds <= 0)
        return "";
    return limit->read_s >= limit->compute_s ? "read" : limit->peak->name;
}

/* ---- the table ---- */

static void print_head(const struct qr_cpu_bench *bench, FILE *out)
{
    const struct qr_cpu_memory *memory = &bench->memory;

    fprintf(out, "%s, %d thread%s; %s: %.1f million parameters, %.1f MB, mostly %s\n",
            bench->dev->ops->name, bench->config.n_threads, bench->config.n_threads == 1 ? "" : "s",
            bench->config.model, (double)qr_model_n_parameters(bench->model) * 1e-6,
            (double)memory->weights * 1e-6, qr_dtype_name(qr_model_weight_dtype(bench->model)));
    fprintf(out,
            "opened in %.3f s; resident %.1f MB, of them %.1f MB of KV, %.1f MB over weights and "
            "KV; at most %.1f MB\n",
            bench->open_s, (double)memory->resident * 1e-6, (double)memory->kv * 1e-6,
            (double)over_weights_and_kv(memory) * 1e-6, (double)memory->peak * 1e-6);
}

static void print_limits(const struct qr_cpu_bench *bench, FILE *out)
{
    const struct qr_machine_limits *a = &bench->before, *b = &bench->after;
    char all[32];

    snprintf(all, sizeof(all), "read, %d threads", a->n_threads);
    fprintf(out, "\n%-34s %9s %9s\n", "the machine's limits", "before", "after");
    fprintf(out, "%-34s %9.1f %9.1f GB/s\n", "read, 1 thread", a->read_one * 1e-9,
            b->read_one * 1e-9);
    fprintf(out, "%-34s %9.1f %9.1f GB/s\n", all, a->read_all * 1e-9, b->read_all * 1e-9);
    fprintf(out, "%-34s %9.1f %9.1f GB/s\n", "  on the average of its passes", a->read_mean * 1e-9,
            b->read_mean * 1e-9);
    fprintf(out, "%-34s %9.2f %9.2f us\n", "starting and joining the threads", a->meeting_s * 1e6,
            b->meeting_s * 1e6);
    for (int32_t i = 0; i < a->n_peaks; i++)
        fprintf(out, "%-34s %9.1f %9.1f GFLOP/s\n", a->peaks[i].name,
                a->peaks[i].operations_per_s * 1e-9, b->peaks[i].operations_per_s * 1e-9);
}

static void print_case(const struct qr_cpu_bench *bench, const struct qr_cpu_case *of, FILE *out)
{
    struct qr_machine_limits limits = limits_of(bench);
    struct qr_cpu_limit limit =
        qr_cpu_bench_limit(&limits, qr_model_weight_dtype(bench->model), of);

    fprintf(out, "%-34s ", of->name);
    if (of->n_runs == 0) {
        fprintf(out, "skipped: %s\n", of->skipped);
        return;
    }
    fprintf(out, "%9.1f %9.2f %7.1f %7.1f %9.1f ", of->tokens / of->median_s,
            of->median_s / of->n_steps * 1e3, of->bytes / of->median_s * 1e-9,
            of->read_bytes_per_s * 1e-9, of->flops / of->median_s * 1e-9);
    if (limit.seconds > 0)
        fprintf(out, "%9.2f %6.3f  %s", limit.seconds / of->n_steps * 1e3, fraction_of(of, &limit),
                bound_of(&limit));
    fprintf(out, "\n");
}

void qr_cpu_bench_print(const struct qr_cpu_bench *bench, FILE *out)
{
    print_head(bench, out);
    print_limits(bench, out);
    fprintf(out, "\nmedian of %-2d run%-20s %9s %9s %7s %7s %9s %9s %6s  %s\n",
            bench->config.n_runs, bench->config.n_runs == 1 ? "" : "s", "tokens/s", "ms a step",
            "GB/s", "at most", "GFLOP/s", "limit ms", "of it", "by");
    for (int32_t i = 0; i < bench->n_cases; i++)
        print_case(bench, &bench->cases[i], out);
}

/* ---- JSON ---- */

static json_t *limits_json(const struct qr_machine_limits *limits)
{
    json_t *peaks = json_object();

    for (int32_t i = 0; i < limits->n_peaks; i++)
        json_object_set_new(peaks, limits->peaks[i].name,
                            json_real(limits->peaks[i].operations_per_s));
    return json_pack("{s:f, s:f, s:f, s:f, s:o}", "read_bytes_per_s_1_thread", limits->read_one,
                     "read_bytes_per_s", limits->read_all, "read_bytes_per_s_mean",
                     limits->read_mean, "meeting_s", limits->meeting_s, "operations_per_s", peaks);
}

static json_t *memory_json(const struct qr_cpu_memory *memory)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "resident_bytes", (json_int_t)memory->resident,
                     "peak_bytes", (json_int_t)memory->peak, "weight_bytes",
                     (json_int_t)memory->weights, "kv_bytes", (json_int_t)memory->kv,
                     "over_weights_and_kv_bytes", (json_int_t)over_weights_and_kv(memory));
}

static void set_measured(json_t *object, const struct qr_cpu_case *of,
                         const struct qr_cpu_limit *limit)
{
    json_t *runs = json_array();

    for (int32_t i = 0; i < of->n_runs; i++)
        json_array_append_new(runs, json_real(of->seconds[i]));
    json_object_set_new(object, "tokens_per_s", json_real(of->tokens / of->median_s));
    json_object_set_new(object, "median_s", json_real(of->median_s));
    json_object_set_new(object, "seconds", runs);
    json_object_set_new(object, "read_bytes_per_s", json_real(of->read_bytes_per_s));
    if (limit->seconds <= 0)
        return;
    json_object_set_new(object, "bytes", json_real(of->bytes));
    json_object_set_new(object, "flops", json_real(of->flops));
    json_object_set_new(object, "limit_s", json_real(limit->seconds));
    json_object_set_new(object, "fraction_of_limit", json_real(fraction_of(of, limit)));
    json_object_set_new(object, "limited_by", json_string(bound_of(limit)));
}

static json_t *case_json(const struct qr_cpu_bench *bench, const struct qr_cpu_case *of)
{
    struct qr_machine_limits limits = limits_of(bench);
    struct qr_cpu_limit limit =
        qr_cpu_bench_limit(&limits, qr_model_weight_dtype(bench->model), of);
    json_t *object = json_pack("{s:s, s:s, s:i, s:i, s:i, s:f}", "name", of->name, "kind",
                               of->is_prefill ? "prefill" : "decode", "batch", of->batch, "context",
                               of->context, "steps", of->n_steps, "tokens", of->tokens);

    if (of->n_runs > 0)
        set_measured(object, of, &limit);
    else
        json_object_set_new(object, "skipped", json_string(of->skipped));
    return object;
}

json_t *qr_cpu_bench_json(const struct qr_cpu_bench *bench)
{
    json_t *cases = json_array();

    for (int32_t i = 0; i < bench->n_cases; i++)
        json_array_append_new(cases, case_json(bench, &bench->cases[i]));
    return json_pack(
        "{s:s, s:s, s:i, s:I, s:s, s:f, s:o, s:o, s:o, s:o}", "model", bench->config.model,
        "device", bench->dev->ops->name, "threads", bench->config.n_threads, "parameters",
        (json_int_t)qr_model_n_parameters(bench->model), "weight_dtype",
        qr_dtype_name(qr_model_weight_dtype(bench->model)), "open_s", bench->open_s, "memory",
        memory_json(&bench->memory), "limits_before", limits_json(&bench->before), "limits_after",
        limits_json(&bench->after), "cases", cases);
}
