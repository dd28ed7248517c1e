/* settings.c - see emulator.h: what is set, and the environment. */
#include <stdlib.h>
#include <string.h>

#include "base/cuda/emulator/emulator.h"
#include "base/cuda/emulator/machine.h"

static struct qr_emulator_settings current;
static bool is_set;

static bool env_is(const char *name, const char *value)
{
    const char *text = getenv(name);
    return text != NULL && strcmp(text, value) == 0;
}

static int64_t env_number(const char *name, int64_t otherwise)
{
    const char *text = getenv(name);
    if (text == NULL || text[0] == '\0')
        return otherwise;
    char *end;
    long long value = strtoll(text, &end, 10);
    if (*end != '\0' || value < 0)
        qr_emulator_die("%s=%s is not a number", name, text);
    return value;
}

static enum qr_emulator_async env_async(void)
{
    const char *text = getenv("QUIRE_EMULATOR_ASYNC");
    if (text == NULL || strcmp(text, "late") == 0)
        return QR_EMULATOR_LATE;
    if (strcmp(text, "early") == 0)
        return QR_EMULATOR_EARLY;
    if (strcmp(text, "random") != 0)
        qr_emulator_die("QUIRE_EMULATOR_ASYNC=%s is not late, early or random", text);
    return QR_EMULATOR_RANDOM;
}

struct qr_emulator_settings qr_emulator_default_settings(void)
{
#ifdef QR_EMULATOR_TSAN
    enum { N_WORKERS = 2 }; /* races between blocks show between OS threads */
#else
    enum { N_WORKERS = 1 };
#endif
    return (struct qr_emulator_settings){
        .seed = (uint64_t)env_number("QUIRE_EMULATOR_SEED", 0),
        .async = env_async(),
        .late_streams = env_is("QUIRE_EMULATOR_STREAMS", "late"),
        .n_workers = (int32_t)env_number("QUIRE_EMULATOR_THREADS", N_WORKERS),
        .capability = (int32_t)env_number("QUIRE_EMULATOR_CAPABILITY", 90),
        .n_sms = 4,
        .n_devices = 1,
        .device_bytes = 1ll << 30,
    };
}

struct qr_emulator_settings qr_emulator_get_settings(void)
{
    if (!is_set)
        return qr_emulator_default_settings();
    return current;
}

void qr_emulator_set(const struct qr_emulator_settings *settings)
{
    current = *settings;
    if (current.n_workers < 1)
        current.n_workers = 1;
    is_set = true;
}
