/* cuda_bench_output.c - the figures of a bench as a table and as JSON. */
#include <math.h>

#include "runtime/bench/cuda/cuda_bench.h"

static bool is_wrong(const struct qr_cuda_figure *figure)
{
    return figure->checked && !(figure->error <= figure->error_bound);
}

/* The share of the floor that was reached; 0 where the case has no floor. */
static double fraction_of(const struct qr_cuda_figure *figure)
{
    return figure->times.median > 0 ? figure->floor_s / figure->times.median : 0;
}

static const char *verdict(const struct qr_cuda_figure *figure)
{
    if (is_wrong(figure))
        return "WRONG";
    if (figure->target > 0)
        return fraction_of(figure) >= figure->target ? "reached" : "missed";
    if (figure->target_s > 0)
        return figure->times.median <= figure->target_s ? "reached" : "missed";
    return "";
}

/* A number in `width` columns, or blanks for none. */
static void print_cell(FILE *out, int width, int decimals, double value)
{
    if (value > 0)
        fprintf(out, " %*.*f", width, decimals, value);
    else
        fprintf(out, " %*s", width, "-");
}

static void print_target(FILE *out, const struct qr_cuda_figure *figure)
{
    if (figure->target > 0)
        fprintf(out, "  >= %.2f  ", figure->target);
    else if (figure->target_s > 0)
        fprintf(out, "  <= %4.1f us", figure->target_s * 1e6);
    else
        fprintf(out, "  %9s", "");
}

static void print_figure(FILE *out, const struct qr_cuda_figure *figure)
{
    double seconds = figure->times.median;

    fprintf(out, "%-10s %-34s %10.2f", figure->group, figure->name, seconds * 1e6);
    print_cell(out, 9, 1, seconds > 0 ? figure->bytes / seconds * 1e-9 : 0);
    print_cell(out, 7, 1, seconds > 0 ? figure->flops / seconds * 1e-12 : 0);
    print_cell(out, 9, 2, figure->floor_s * 1e6);
    print_cell(out, 6, 3, fraction_of(figure));
    print_cell(out, 7, 3, seconds > 0 ? figure->read_s / seconds : 0);
    print_target(out, figure);
    fprintf(out, " %-7s", verdict(figure));
    print_cell(out, 7, 1, figure->plan_s * 1e6);
    if (figure->checked)
        fprintf(out, "  %.1e", figure->error);
    if (figure->note[0] != '\0')
        fprintf(out, "  %s", figure->note);
    fprintf(out, "\n");
}

void qr_cuda_bench_print(const struct qr_cuda_bench *bench, FILE *out)
{
    const struct qr_cuda_properties *device = &bench->cuda.properties;

    fprintf(out, "%s (%s), compute capability %d.%d, %d multiprocessors, %lld MiB, L2 %lld MiB\n",
            device->name, bench->config->platform->name, device->capability / 10,
            device->capability % 10, device->n_sms, (long long)(device->total_bytes >> 20),
            (long long)(device->l2_bytes >> 20));
    if (bench->n_figures == 0)
        return;
    fprintf(out, "%-10s %-34s %10s %9s %7s %9s %6s %7s  %-9s %-7s %7s  %s\n", "",
            "median of a call", "us", "GB/s", "TFLOP/s", "floor us", "of it", "of read", "target",
            "", "plan us", "error");
    for (int32_t i = 0; i < bench->n_figures; i++)
        print_figure(out, &bench->figures[i]);
}

static void set_number(json_t *object, const char *key, double value)
{
    if (value > 0)
        json_object_set_new(object, key, json_real(value));
}

static json_t *figure_json(const struct qr_cuda_figure *figure)
{
    json_t *object = json_pack("{s:s, s:s, s:f, s:f, s:f}", "group", figure->group, "name",
                               figure->name, "seconds", figure->times.median, "seconds_p25",
                               figure->times.low, "seconds_p75", figure->times.high);

    set_number(object, "bytes", figure->bytes);
    set_number(object, "flops", figure->flops);
    set_number(object, "floor_seconds", figure->floor_s);
    set_number(object, "fraction_of_floor", fraction_of(figure));
    set_number(object, "read_seconds", figure->read_s);
    set_number(object, "plan_seconds", figure->plan_s);
    if (figure->tokens > 0 && figure->times.median > 0)
        set_number(object, "tokens_per_second", figure->tokens / figure->times.median);
    set_number(object, "target_fraction", figure->target);
    set_number(object, "target_seconds", figure->target_s);
    if (verdict(figure)[0] != '\0')
        json_object_set_new(object, "verdict", json_string(verdict(figure)));
    if (figure->checked) {
        /* JSON has no NaN. */
        json_object_set_new(object, "error",
                            isfinite(figure->error) ? json_real(figure->error) : json_null());
        json_object_set_new(object, "error_bound", json_real(figure->error_bound));
    }
    if (figure->note[0] != '\0')
        json_object_set_new(object, "note", json_string(figure->note));
    return object;
}

static json_t *device_json(const struct qr_cuda_bench *bench)
{
    const struct qr_cuda_properties *device = &bench->cuda.properties;
    int driver_version = 0;

    (void)bench->cuda.driver->driver_get_version(&driver_version);
    return json_pack("{s:s, s:s, s:i, s:i, s:i, s:I, s:I, s:i}", "platform",
                     bench->config->platform->name, "name", device->name, "ordinal",
                     device->ordinal, "compute_capability", device->capability, "multiprocessors",
                     device->n_sms, "memory_bytes", (json_int_t)device->total_bytes, "l2_bytes",
                     (json_int_t)device->l2_bytes, "driver_cuda_version", driver_version);
}

json_t *qr_cuda_bench_json(const struct qr_cuda_bench *bench)
{
    json_t *figures = json_array();

    for (int32_t i = 0; i < bench->n_figures; i++)
        json_array_append_new(figures, figure_json(&bench->figures[i]));
    return json_pack("{s:o, s:f, s:b, s:i, s:o}", "device", device_json(bench),
                     "read_bytes_per_second", bench->read_rate, "smoke", bench->config->smoke,
                     "n_wrong", qr_cuda_bench_n_wrong(bench), "figures", figures);
}
