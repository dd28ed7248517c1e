/* tenants.c - see tenants.h for the contract. */
#include "runtime/engine/tenants.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_SPEC = 256 };

static int32_t find_in(const struct qr_tenants *tenants, const char *name, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        if (strcmp(tenants->items[i].name, name) == 0)
            return i;
    }
    return -1;
}

/* "WEIGHT[,QUOTA%]" into *tenant. */
static enum qr_status parse_share(const char *text, int32_t kv_pages,
                                  struct qr_tenant_entry *tenant, struct qr_error *err)
{
    char *end;
    double quota;

    tenant->weight = strtod(text, &end);
    if (end == text || !(tenant->weight >= QR_MIN_WEIGHT && tenant->weight <= QR_MAX_WEIGHT))
        return qr_fail(err, QR_ERR_INVALID,
                       "--tenant: the weight \"%s\" is not a number from 0.000001 to 1000000",
                       text);
    if (*end == '\0')
        return QR_OK;
    text = end + 1;
    quota = *end == ',' ? strtod(text, &end) : 0;
    if (end == text || strcmp(end, "%") != 0 || !(quota > 0 && quota <= 100))
        return qr_fail(err, QR_ERR_INVALID,
                       "--tenant: the quota \"%s\" is not a percentage above 0 and up to 100, such "
                       "as 50%%",
                       text);
    tenant->max_pages = (int32_t)((double)kv_pages * quota / 100);
    if (tenant->max_pages < 1)
        tenant->max_pages = 1;
    return QR_OK;
}

static enum qr_status add_spec(struct qr_tenants *tenants, const char *spec, size_t length,
                               int32_t kv_pages, struct qr_error *err)
{
    char text[MAX_SPEC];
    struct qr_tenant_entry tenant = {.name = ""};

    if (length >= sizeof(text))
        return qr_fail(err, QR_ERR_INVALID, "--tenant: \"%.40s...\" is too long", spec);
    memcpy(text, spec, length);
    text[length] = '\0';
    char *equals = strchr(text, '=');
    if (equals == NULL || equals - text >= QR_TENANT_NAME_MAX)
        return qr_fail(
            err, QR_ERR_INVALID,
            "--tenant: \"%s\" is not NAME=WEIGHT[,QUOTA%%] with a NAME of up to %d bytes", text,
            QR_TENANT_NAME_MAX - 1);
    memcpy(tenant.name, text, (size_t)(equals - text));
    QR_TRY(parse_share(equals + 1, kv_pages, &tenant, err));
    if (tenant.name[0] == '\0') {
        tenants->items[0] = tenant;
        return QR_OK;
    }
    if (find_in(tenants, tenant.name, tenants->count) >= 0)
        return qr_fail(err, QR_ERR_INVALID, "--tenant: \"%s\" is there twice", tenant.name);
    if (tenants->count == QR_MAX_TENANTS)
        return qr_fail(err, QR_ERR_INVALID, "--tenant: more than %d tenants", QR_MAX_TENANTS - 1);
    tenants->items[tenants->count++] = tenant;
    return QR_OK;
}

enum qr_status qr_tenants_configure(struct qr_tenants *tenants, const struct qr_string_list *specs,
                                    int32_t kv_pages, struct qr_error *err)
{
    memset(tenants, 0, sizeof(*tenants));
    tenants->items[0].weight = 1;
    tenants->count = 1;
    for (int32_t i = 0; i < specs->count; i++) {
        const char *spec = specs->items[i];
        while (*spec != '\0') {
            size_t length = strcspn(spec, ";");
            if (length > 0)
                QR_TRY(add_spec(tenants, spec, length, kv_pages, err));
            spec += length + (spec[length] == ';');
        }
    }
    tenants->n_configured = tenants->count;
    return QR_OK;
}

int32_t qr_tenants_find(const struct qr_tenants *tenants, const char *name)
{
    int32_t tenant = find_in(tenants, name, tenants->n_configured);

    return tenant >= 0 ? tenant : 0;
}

/* A number that nobody uses now; 0 when there is none. */
static int32_t take_number(struct qr_tenants *tenants)
{
    if (tenants->count < QR_MAX_TENANTS)
        return tenants->count++;
    for (int32_t i = tenants->n_configured; i < tenants->count; i++) {
        if (tenants->items[i].n_requests == 0)
            return i;
    }
    return 0;
}

int32_t qr_tenants_enter(struct qr_tenants *tenants, const char *name)
{
    int32_t tenant = find_in(tenants, name, tenants->count);

    if (tenant < 0 && (tenant = take_number(tenants)) != 0) {
        tenants->items[tenant] = (struct qr_tenant_entry){.weight = 1};
        memcpy(tenants->items[tenant].name, name, strlen(name) + 1);
    }
    tenants->items[tenant].n_requests++;
    return tenant;
}

void qr_tenants_leave(struct qr_tenants *tenants, int32_t tenant)
{
    tenants->items[tenant].n_requests--;
}
