/* bench_server.c - see bench_server.h for the contract. */
#include "runtime/bench/bench_server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum { MAX_ARGS = 64, READY_TIMEOUT_S = 60, STOP_TIMEOUT_S = 60, POLL_MS = 5 };

extern char **environ;

enum qr_status qr_bench_folder_make(char folder[QR_BENCH_FOLDER_BYTES], struct qr_error *err)
{
    snprintf(folder, QR_BENCH_FOLDER_BYTES, "/tmp/quire-bench-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return qr_fail(err, QR_ERR_IO, "%s: %s", folder, strerror(errno));
    return QR_OK;
}

void qr_bench_folder_remove(const char *folder)
{
    char path[QR_BENCH_FOLDER_BYTES + 16];

    snprintf(path, sizeof(path), "%s/server.log", folder);
    unlink(path);
    snprintf(path, sizeof(path), "%s/socket", folder);
    unlink(path);
    rmdir(folder);
}

/* "...: " and the last line of the log, which says why a server did not work. */
static void last_log_line(const char *path, char *out, size_t out_size)
{
    char line[512];
    FILE *file = fopen(path, "r");

    out[0] = '\0';
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] != '\0')
            snprintf(out, out_size, "%s", line);
    }
    if (file != NULL)
        fclose(file);
}

static enum qr_status fail_with_log(const struct qr_bench_server *server, const char *what,
                                    struct qr_error *err)
{
    char line[256];

    last_log_line(server->log, line, sizeof(line));
    return qr_fail(err, QR_ERR_IO, "the server %s; its last words: \"%s\"", what, line);
}

/* In the child: its ready line goes into `out_fd`, its log into `log`. It ends when `parent` does,
 * however that comes about. */
static void become_server(const char *log, char **argv, int out_fd, pid_t parent)
{
    int log_fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    if (log_fd >= 0 && prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && getppid() == parent &&
        dup2(out_fd, STDOUT_FILENO) >= 0 && dup2(log_fd, STDERR_FILENO) >= 0)
        execve("/proc/self/exe", argv, environ);
    _exit(127);
}

/* 0, or errno. */
static int spawn(struct qr_bench_server *server, char **argv, int out_fd)
{
    pid_t parent = getpid();
    pid_t pid = fork();

    if (pid == 0)
        become_server(server->log, argv, out_fd, parent);
    server->pid = pid > 0 ? pid : 0;
    return pid < 0 ? errno : 0;
}

/* Reads a line of at most size - 1 bytes; false when none came in time. */
static bool read_line(int fd, char *line, size_t size)
{
    int64_t until_ns = qr_now_ns() + READY_TIMEOUT_S * QR_NS_PER_SEC;
    size_t length = 0;

    while (length + 1 < size && qr_now_ns() < until_ns) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (poll(&ready, 1, 1000) <= 0)
            continue;
        if (read(fd, &line[length], 1) != 1)
            return false;
        if (line[length] == '\n') {
            line[length] = '\0';
            return true;
        }
        length++;
    }
    return false;
}

static enum qr_status wait_until_ready(struct qr_bench_server *server, int fd, struct qr_error *err)
{
    char line[512];

    if (!read_line(fd, line, sizeof(line)))
        return fail_with_log(server, "did not get ready", err);
    const char *pages = strstr(line, "kv_pages=");
    if (strncmp(line, "ready ", 6) != 0 || pages == NULL ||
        sscanf(pages, "kv_pages=%d", &server->kv_pages) != 1)
        return qr_fail(err, QR_ERR_IO, "the server said \"%s\" instead of a ready line", line);
    return QR_OK;
}

enum qr_status qr_bench_server_start(const char *folder, const char *const *args,
                                     struct qr_bench_server *server, struct qr_error *err)
{
    const char *argv[MAX_ARGS] = {"quire", "serve", "--listen", server->addr};
    int n_args = 4, out[2];

    *server = (struct qr_bench_server){.pid = 0};
    if (snprintf(server->addr, sizeof(server->addr), "unix:%s/socket", folder) >=
        (int)sizeof(server->addr))
        return qr_fail(err, QR_ERR_INVALID, "%s: too long for the path of a socket", folder);
    snprintf(server->log, sizeof(server->log), "%s/server.log", folder);
    for (; *args != NULL && n_args < MAX_ARGS - 1; args++)
        argv[n_args++] = *args;
    if (pipe2(out, O_CLOEXEC) != 0)
        return qr_fail(err, QR_ERR_IO, "no pipe for a server: %s", strerror(errno));
    int rc = spawn(server, (char **)argv, out[1]);
    close(out[1]);
    enum qr_status status =
        rc == 0 ? wait_until_ready(server, out[0], err)
                : qr_fail(err, QR_ERR_IO, "no process for a server: %s", strerror(rc));
    close(out[0]);
    if (status != QR_OK)
        qr_bench_server_kill(server);
    return status;
}

enum qr_status qr_bench_server_stop(struct qr_bench_server *server, struct qr_error *err)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000};
    int64_t until_ns = qr_now_ns() + STOP_TIMEOUT_S * QR_NS_PER_SEC;
    int wait_status = 0;

    kill(server->pid, SIGTERM);
    while (waitpid(server->pid, &wait_status, WNOHANG) == 0) {
        if (qr_now_ns() >= until_ns) {
            qr_bench_server_kill(server);
            return fail_with_log(server, "did not stop", err);
        }
        nanosleep(&pause, NULL);
    }
    server->pid = 0;
    if (!WIFEXITED(wait_status) || WEXITSTATUS(wait_status) != 0)
        return fail_with_log(server, "did not exit well", err);
    return QR_OK;
}

void qr_bench_server_kill(struct qr_bench_server *server)
{
    if (server->pid <= 0)
        return;
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
    server->pid = 0;
}

double qr_bench_server_cpu_s(const struct qr_bench_server *server)
{
    struct timespec time;
    clockid_t clock;

    if (clock_getcpuclockid(server->pid, &clock) != 0 || clock_gettime(clock, &time) != 0)
        return 0;
    return (double)time.tv_sec + (double)time.tv_nsec / QR_NS_PER_SEC;
}

double qr_bench_server_resident_mb(const struct qr_bench_server *server)
{
    char path[64];
    long long n_pages = 0;

    snprintf(path, sizeof(path), "/proc/%d/statm", (int)server->pid);
    FILE *file = fopen(path, "r");
    if (file != NULL && fscanf(file, "%*d %lld", &n_pages) != 1)
        n_pages = 0;
    if (file != NULL)
        fclose(file);
    return (double)n_pages * (double)sysconf(_SC_PAGESIZE) / 1e6;
}
