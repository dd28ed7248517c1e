/* cmd_info.c - `quire info`: a model's shape, its weights and what its KV cache costs. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/cli/commands.h"
#include "runtime/cli/options.h"
#include "runtime/models/model.h"
#include "runtime/weights/gguf.h"

enum { SIZE_TEXT = 32 };

struct info_command {
    const char *path; /* a model directory, a config.json or a .gguf file */
    int64_t kv_memory;
    int32_t page_size;
};

/* KV elements: 16 bits, and the F32 of the CPU backend. */
static const struct {
    const char *name;
    int64_t size;
} kv_types[] = {{"16-bit", 2}, {"32-bit", 4}};

enum { N_KV_TYPES = sizeof(kv_types) / sizeof(kv_types[0]) };

static const char *size_text(int64_t bytes, char out[SIZE_TEXT])
{
    return qr_format_size(bytes, out, SIZE_TEXT);
}

static void print_shape(const struct qr_model_config *config)
{
    struct qr_error err;
    bool runs = qr_model_check_supported(config, "no", &err) == QR_OK;

    printf("%-16s %s\n", "architecture", config->architecture);
    printf("%-16s %s\n", "runs", runs ? "yes" : err.message);
    printf("%-16s %d\n", "layers", config->n_layers);
    printf("%-16s %d\n", "hidden size", config->hidden_size);
    printf("%-16s %d\n", "MLP size", config->intermediate_size);
    printf("%-16s %d query, %d KV, of %d elements\n", "heads", config->n_heads, config->n_kv_heads,
           config->head_dim);
    printf("%-16s %d tokens\n", "vocabulary", config->vocab_size);
    printf("%-16s %d tokens\n", "context", config->max_position);
    printf("%-16s", "end of text");
    for (int32_t i = 0; i < config->n_eos; i++)
        printf(" %d", config->eos_ids[i]);
    printf("%s\n", config->n_eos == 0 ? " none" : "");
}

static void print_count(int64_t count)
{
    if (count < 1000000)
        printf("%-16s %lld\n", "parameters", (long long)count);
    else if (count < 1000000000)
        printf("%-16s %lld (%.1f million)\n", "parameters", (long long)count, (double)count / 1e6);
    else
        printf("%-16s %lld (%.2f billion)\n", "parameters", (long long)count, (double)count / 1e9);
}

/* The weights where they are at hand: *out is NULL where there are none. */
static enum qr_status open_weights(const char *path, struct qr_checkpoint **out,
                                   struct qr_error *err)
{
    struct stat info;

    *out = NULL;
    if (!qr_gguf_is_path(path) && (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)))
        return QR_OK;
    enum qr_status status = qr_checkpoint_open(path, out, err);
    return status == QR_ERR_NOT_FOUND ? QR_OK : status;
}

/* Parameters and bytes of the weights that are there, else what the shape makes them. */
static enum qr_status print_weights(const struct info_command *command,
                                    const struct qr_model_config *config, struct qr_error *err)
{
    struct qr_checkpoint *checkpoint;
    char text[SIZE_TEXT];

    QR_TRY(open_weights(command->path, &checkpoint, err));
    if (checkpoint != NULL && qr_checkpoint_n_bytes(checkpoint) > 0) {
        print_count(qr_checkpoint_n_parameters(checkpoint));
        printf("%-16s %s, %s\n", "weights", size_text(qr_checkpoint_n_bytes(checkpoint), text),
               qr_dtype_name(qr_checkpoint_dtype(checkpoint)));
    } else {
        if (qr_model_is_known(config))
            print_count(qr_model_config_n_parameters(config));
        printf("%-16s none here%s%s\n", "weights", config->weight_dtype[0] != '\0' ? "; " : "",
               config->weight_dtype);
    }
    qr_checkpoint_close(checkpoint);
    return QR_OK;
}

static void print_kv(const struct info_command *command, const struct qr_model_config *config)
{
    char token[SIZE_TEXT];
    char page[SIZE_TEXT];

    printf("\n%-16s %14s %20s\n", "KV cache", "a token", "a page");
    for (int i = 0; i < N_KV_TYPES; i++) {
        int64_t bytes = qr_model_config_kv_bytes_per_token(config, kv_types[i].size);
        printf("%-16s %14s %20s\n", kv_types[i].name, size_text(bytes, token),
               size_text(bytes * command->page_size, page));
    }
}

static void print_fit(const struct info_command *command, const struct qr_model_config *config)
{
    char memory[SIZE_TEXT];

    printf("\nsequences that fit in %s of KV memory, in pages of %d tokens\n",
           size_text(command->kv_memory, memory), command->page_size);
    printf("%-16s %14s %20s\n", "tokens each", kv_types[0].name, kv_types[1].name);
    for (int shift = 4; shift >= 0; shift--) {
        int64_t tokens = config->max_position >> shift;
        int64_t blocks = (tokens + command->page_size - 1) / command->page_size;
        if (tokens == 0)
            continue;
        printf("%-16lld", (long long)tokens);
        for (int i = 0; i < N_KV_TYPES; i++) {
            int64_t page_bytes =
                qr_model_config_kv_bytes_per_token(config, kv_types[i].size) * command->page_size;
            printf(" %*lld", i == 0 ? 14 : 20,
                   (long long)(command->kv_memory / page_bytes / blocks));
        }
        printf("\n");
    }
}

static enum qr_status print_info(const struct info_command *command, struct qr_error *err)
{
    struct qr_model_config config;

    QR_TRY(qr_model_config_load(command->path, &config, err));
    printf("%-16s %s\n", "model", command->path);
    print_shape(&config);
    QR_TRY(print_weights(command, &config, err));
    print_kv(command, &config);
    print_fit(command, &config);
    return QR_OK;
}

int qr_cmd_info(int argc, char **argv)
{
    struct info_command command = {.kv_memory = INT64_C(512) << 20, .page_size = 16};
    const struct qr_option options[] = {
        {"kv-memory", QR_OPTION_SIZE, "SIZE", &command.kv_memory, 1, 0x1p50,
         "bytes of KV memory to count sequences for; default 512MiB", NULL},
        {"page-size", QR_OPTION_INT, "TOKENS", &command.page_size, 8, 256,
         "tokens a KV page, a power of two from 8 to 256; default 16", NULL},
    };
    const struct qr_command_line line = {
        .command = "info",
        .synopsis = "[options] PATH",
        .description = "Prints a model's shape, parameters and KV bytes, and how many sequences "
                       "fit.\nPATH is a model directory, a config.json or FILE.gguf.",
        .options = options,
        .n_options = sizeof(options) / sizeof(options[0]),
        .min_positionals = 1,
        .max_positionals = 1,
    };
    struct qr_positionals positionals;
    struct qr_error err = {""};

    enum qr_parse_result parsed = qr_options_parse(&line, argc, argv, &positionals);
    if (parsed != QR_PARSE_OK)
        return parsed == QR_PARSE_HELP ? QR_EXIT_OK : QR_EXIT_USAGE;
    if ((command.page_size & (command.page_size - 1)) != 0) {
        fprintf(stderr, "quire info: --page-size is %d; it must be a power of two\n",
                command.page_size);
        return QR_EXIT_USAGE;
    }
    command.path = positionals.items[0];
    return qr_command_exit("info", print_info(&command, &err), &err);
}
