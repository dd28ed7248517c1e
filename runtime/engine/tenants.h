/*
 * tenants.h - names of tenants to the scheduler's numbers.
 *
 * Those that the operator named have fixed numbers, weights and quotas. Others get a
 * number while they have requests; when all are taken, they share that of requests
 * without a tenant. After configure, find is for any thread, the rest for one.
 */
#ifndef QUIRE_RUNTIME_ENGINE_TENANTS_H
#define QUIRE_RUNTIME_ENGINE_TENANTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "base/string_list.h"
#include "runtime/engine/request.h"
#include "scheduler/scheduler.h"

struct qr_tenant_entry {
    char name[QR_TENANT_NAME_MAX]; /* of number 0: empty */
    double weight;
    int32_t max_pages; /* 0: no bound */
    int32_t n_requests;
};

struct qr_tenants {
    int32_t n_configured; /* these come first */
    int32_t count;
    struct qr_tenant_entry items[QR_MAX_TENANTS];
};

QR_BEGIN_DECLS

/*
 * specs: "NAME=WEIGHT[,QUOTA%]", several joined by ';'. An empty NAME means requests
 * without a tenant. A quota is a share of kv_pages, rounded down, at least one page.
 */
QR_MUST_CHECK enum qr_status qr_tenants_configure(struct qr_tenants *tenants,
                                                  const struct qr_string_list *specs,
                                                  int32_t kv_pages, struct qr_error *err);
/* The number of a tenant that was configured; else 0. */
int32_t qr_tenants_find(const struct qr_tenants *tenants, const char *name);
/* The number of a request's tenant, until qr_tenants_leave. */
int32_t qr_tenants_enter(struct qr_tenants *tenants, const char *name);
void qr_tenants_leave(struct qr_tenants *tenants, int32_t tenant);

QR_END_DECLS

#endif /* QUIRE_RUNTIME_ENGINE_TENANTS_H */
