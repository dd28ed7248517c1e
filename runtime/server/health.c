/*
 * health.c - grpc.health.v1: a service is SERVING until the server drains.
 *
 * The protocol: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
 */
#include <string.h>

#include "proto/grpc/health/v1/health.pb-c.h"
#include "runtime/server/call.h"

typedef Grpc__Health__V1__HealthCheckResponse__ServingStatus serving_status;

#define STATUS(name) GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##name

/* "" asks about the server as a whole. */
static bool is_served(const char *service)
{
    static const char *const services[] = {"", "quire.v1.InferenceService",
                                           "quire.v1.ControlService"};

    for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
        if (strcmp(service, services[i]) == 0)
            return true;
    }
    return false;
}

static serving_status status_of_phase(struct qr_server *server)
{
    return qr_server_phase(server) == QR_SERVER_SERVING ? STATUS(SERVING) : STATUS(NOT_SERVING);
}

static void on_check(struct qr_call *call, const ProtobufCMessage *message)
{
    const Grpc__Health__V1__HealthCheckRequest *request =
        (const Grpc__Health__V1__HealthCheckRequest *)message;
    Grpc__Health__V1__HealthCheckResponse response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    struct qr_rich_error error;

    if (is_served(request->service)) {
        response.status = status_of_phase(call->server);
        qr_call_finish(call, &response.base);
        return;
    }
    qr_rich_error_set(&error, GRPC_STATUS_NOT_FOUND, "UNKNOWN_SERVICE", "no service \"%s\"",
                      request->service);
    qr_call_fail(call, NULL, &error);
}

/* Sends the status when it is news; ends the watch when the server stops. */
static void update(struct qr_call *call)
{
    struct qr_watch_state *watch = &call->watch;
    Grpc__Health__V1__HealthCheckResponse response = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    struct qr_rich_error error;

    if (!qr_call_can_send(call) || !watch->has_request)
        return;
    response.status =
        watch->watches_server ? status_of_phase(call->server) : STATUS(SERVICE_UNKNOWN);
    bool is_news = (int32_t)response.status != watch->last_sent;
    watch->last_sent = (int32_t)response.status;
    if (qr_server_phase(call->server) == QR_SERVER_STOPPING) {
        qr_rich_error_draining(&error);
        qr_call_fail(call, is_news ? &response.base : NULL, &error);
    } else if (is_news) {
        qr_call_send(call, &response.base);
    }
}

static void on_watch(struct qr_call *call, const ProtobufCMessage *message)
{
    const Grpc__Health__V1__HealthCheckRequest *request =
        (const Grpc__Health__V1__HealthCheckRequest *)message;

    call->watch.has_request = true;
    call->watch.watches_server = is_served(request->service);
    call->watch.last_sent = -1;
    update(call);
}

const struct qr_method qr_method_health_check = {
    .path = "/grpc.health.v1.Health/Check",
    .request = &grpc__health__v1__health_check_request__descriptor,
    .received = on_check,
};

const struct qr_method qr_method_health_watch = {
    .path = "/grpc.health.v1.Health/Watch",
    .request = &grpc__health__v1__health_check_request__descriptor,
    .received = on_watch,
    .sent = update,
    .phase_changed = update,
};
