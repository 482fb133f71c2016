#include "net/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Shared by the one who asks and the thread that looks up; the last of them
 * frees it. */
struct job {
    pthread_mutex_t lock; /* of all that changes */
    unsigned owners;
    bool done;
    int writer;               /* end of the pipe; -1 when done */
    int error;                /* EAI_*, or 0 */
    int sys_errno;            /* of EAI_SYSTEM */
    struct addrinfo *answers; /* owned */
    int family;
    char port[8];
    char host[TWS_HOST_MAX + 1];
};

struct tws_resolve {
    struct job *job;             /* NULL where no name was looked up */
    int reader;                  /* end of the pipe; -1: none */
    bool known;                  /* what follows is filled in */
    struct addrinfo *answers;    /* owned */
    const struct addrinfo *next; /* within `answers` */
    int error;
    int sys_errno;
};

static int
look_up(const char *host, const char *port, int family, int flags,
        struct addrinfo **answers, int *sys_errno)
{
    struct addrinfo hints = {
        .ai_family = family,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = flags,
    };
    /* Without a name and without AI_PASSIVE it is the loopback address. */
    int error =
        getaddrinfo(host[0] == '\0' ? NULL : host, port, &hints, answers);
    *sys_errno = errno;
    return error;
}

static void
drop_job(struct job *job)
{
    pthread_mutex_lock(&job->lock);
    unsigned left = --job->owners;
    pthread_mutex_unlock(&job->lock);
    if (left > 0) {
        return;
    }
    if (job->answers != NULL) {
        freeaddrinfo(job->answers);
    }
    if (job->writer >= 0) {
        close(job->writer);
    }
    pthread_mutex_destroy(&job->lock);
    free(job);
}

/* One byte is enough to be readable; more than the pipe holds is not needed,
 * and a reader that is gone neither. */
static void
ring(const struct job *job)
{
    ssize_t ignored = write(job->writer, "", 1);
    (void)ignored;
}

static void *
run_job(void *argument)
{
    struct job *job = argument;
    struct addrinfo *answers = NULL;
    int sys_errno;
    int error =
        look_up(job->host, job->port, job->family, 0, &answers, &sys_errno);
    pthread_mutex_lock(&job->lock);
    job->done = true;
    job->error = error;
    job->sys_errno = sys_errno;
    job->answers = error == 0 ? answers : NULL;
    /* A byte rather than the end of the pipe: a forked child may hold the
     * other end, too. */
    ring(job);
    close(job->writer);
    job->writer = -1;
    pthread_mutex_unlock(&job->lock);
    drop_job(job);
    return NULL;
}

/* Signals are for the threads of the program; SIGPIPE of a pipe that nobody
 * reads any more is for nobody. */
static int
start_thread(struct job *job)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all;
    sigset_t before;
    int failed = pthread_attr_init(&attributes);
    if (failed != 0) {
        return failed;
    }
    sigfillset(&all);
    failed = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (failed == 0) {
        failed = pthread_sigmask(SIG_SETMASK, &all, &before);
    }
    if (failed == 0) {
        failed = pthread_create(&thread, &attributes, run_job, job);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    (void)pthread_attr_destroy(&attributes);
    return failed;
}

static enum tws_status
begin_job(struct tws_resolve *resolve, const char *host, const char *port,
          int family, struct tws_error *err)
{
    int ends[2];
    struct job *job = calloc(1, sizeof(*job));
    if (job == NULL) {
        return tws_error_nomem(err);
    }
    (void)snprintf(job->host, sizeof(job->host), "%s", host);
    (void)snprintf(job->port, sizeof(job->port), "%s", port);
    job->family = family;
    job->writer = -1;
    job->owners = 1;
    pthread_mutex_init(&job->lock, NULL);
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) {
        enum tws_status status = tws_error_os(err, errno, "pipe");
        drop_job(job);
        return status;
    }
    job->writer = ends[1];
    job->owners = 2;
    int failed = start_thread(job);
    if (failed != 0) {
        close(ends[0]);
        job->owners = 1;
        drop_job(job);
        return tws_error_os(err, failed, "pthread_create");
    }
    resolve->job = job;
    resolve->reader = ends[0];
    return TWS_OK;
}

enum tws_status
tws_resolve_begin(const char *host, uint16_t port, int family,
                  struct tws_resolve **resolve, struct tws_error *err)
{
    char port_text[8];
    if (strlen(host) > TWS_HOST_MAX) {
        return tws_error_os(err, ENAMETOOLONG, "getaddrinfo");
    }
    struct tws_resolve *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return tws_error_nomem(err);
    }
    made->reader = -1;
    (void)snprintf(port_text, sizeof(port_text), "%u", (unsigned)port);
    made->error =
        look_up(host, port_text, family, AI_NUMERICHOST | AI_NUMERICSERV,
                &made->answers, &made->sys_errno);
    /* "No such name" by this question means that it is not in figures. */
    if (made->error == EAI_NONAME && host[0] != '\0') {
        enum tws_status status = begin_job(made, host, port_text, family, err);
        if (status != TWS_OK) {
            free(made);
            return status;
        }
        *resolve = made;
        return TWS_OK;
    }
    if (made->error != 0) {
        made->answers = NULL;
    }
    made->next = made->answers;
    made->known = true;
    *resolve = made;
    return TWS_OK;
}

int
tws_resolve_fd(const struct tws_resolve *resolve)
{
    return resolve->known ? -1 : resolve->reader;
}

/* Moves the answer over from the thread that has found it. */
static bool
fetch(struct tws_resolve *resolve)
{
    struct job *job = resolve->job;
    pthread_mutex_lock(&job->lock);
    bool done = job->done;
    if (done) {
        resolve->answers = job->answers;
        job->answers = NULL;
        resolve->error = job->error;
        resolve->sys_errno = job->sys_errno;
    }
    pthread_mutex_unlock(&job->lock);
    resolve->next = resolve->answers;
    resolve->known = done;
    return done;
}

enum tws_status
tws_resolve_next(struct tws_resolve *resolve, struct tws_address *address,
                 int *gai_error, struct tws_error *err)
{
    if (!resolve->known && !fetch(resolve)) {
        return TWS_AGAIN;
    }
    if (resolve->error == EAI_SYSTEM) {
        return tws_error_os(err, resolve->sys_errno, "getaddrinfo");
    }
    if (resolve->error == EAI_MEMORY) {
        return tws_error_nomem(err);
    }
    if (resolve->error != 0) {
        *gai_error = resolve->error;
        return tws_error_refused(err, 0, "look-up of the host failed: %s",
                                 gai_strerror(resolve->error));
    }
    const struct addrinfo *found = resolve->next;
    while (found != NULL
           && (found->ai_addr == NULL
               || found->ai_addrlen > sizeof(address->storage))) {
        found = found->ai_next;
    }
    if (found == NULL) {
        resolve->next = NULL;
        return TWS_EOF;
    }
    resolve->next = found->ai_next;
    *address = (struct tws_address){.length = found->ai_addrlen};
    memcpy(&address->storage, found->ai_addr, found->ai_addrlen);
    return TWS_OK;
}

size_t
tws_resolve_left(const struct tws_resolve *resolve)
{
    size_t left = 0;
    for (const struct addrinfo *entry = resolve->next; entry != NULL;
         entry = entry->ai_next) {
        left++;
    }
    return left;
}

void
tws_resolve_interrupt(struct tws_resolve *resolve)
{
    struct job *job = resolve->job;
    if (job == NULL) {
        return;
    }
    pthread_mutex_lock(&job->lock);
    if (!job->done) {
        ring(job);
    }
    pthread_mutex_unlock(&job->lock);
}

void
tws_resolve_free(struct tws_resolve *resolve)
{
    if (resolve == NULL) {
        return;
    }
    if (resolve->reader >= 0) {
        close(resolve->reader);
    }
    if (resolve->job != NULL) {
        drop_job(resolve->job);
    }
    if (resolve->answers != NULL) {
        freeaddrinfo(resolve->answers);
    }
    free(resolve);
}
