#include "loop/poller_backend.h"

#ifdef __linux__

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

/* Descriptors a wait reports at most. The kernel moves those it has reported
 * to the end of its list, so that nobody starves. */
enum { BATCH = 512 };

struct epoll_state {
    int fd;                           /* owned */
    struct epoll_event events[BATCH]; /* of the thread that waits */
};

static enum tws_status
open_epoll(void **state, struct tws_error *err)
{
    struct epoll_state *epoll = malloc(sizeof(*epoll));
    if (epoll == NULL) {
        return tws_error_nomem(err);
    }
    epoll->fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll->fd < 0) {
        int saved = errno;
        free(epoll);
        return tws_error_os(err, saved, "epoll_create1");
    }
    *state = epoll;
    return TWS_OK;
}

static void
close_epoll(void *state)
{
    struct epoll_state *epoll = state;
    (void)close(epoll->fd);
    free(epoll);
}

static enum tws_status
control(void *state, int operation, int fd, unsigned events, void *data,
        struct tws_error *err)
{
    struct epoll_state *epoll = state;
    struct epoll_event event = {.data.ptr = data};
    if (events & TWS_READABLE) {
        event.events |= EPOLLIN;
    }
    if (events & TWS_WRITABLE) {
        event.events |= EPOLLOUT;
    }
    if (epoll_ctl(epoll->fd, operation, fd, &event) < 0) {
        int saved = errno;
        return tws_error_os(err, saved, "epoll_ctl");
    }
    return TWS_OK;
}

static enum tws_status
add(void *state, int fd, unsigned events, void *data, struct tws_error *err)
{
    return control(state, EPOLL_CTL_ADD, fd, events, data, err);
}

static enum tws_status
modify(void *state, int fd, unsigned events, void *data, struct tws_error *err)
{
    return control(state, EPOLL_CTL_MOD, fd, events, data, err);
}

static enum tws_status
remove_fd(void *state, int fd, struct tws_error *err)
{
    return control(state, EPOLL_CTL_DEL, fd, 0, NULL, err);
}

static unsigned
ready_events(uint32_t got)
{
    unsigned events = 0;
    if (got & EPOLLIN) {
        events |= TWS_READABLE;
    }
    if (got & EPOLLOUT) {
        events |= TWS_WRITABLE;
    }
    if (got & (EPOLLHUP | EPOLLERR)) {
        events |= TWS_HANGUP;
    }
    return events;
}

/* A limit beyond what epoll_wait() takes (24 days) ends early, as a signal
 * ends a wait early. */
static enum tws_status
wait_epoll(void *state, uint64_t timeout_ns, struct tws_ready *ready,
           size_t capacity, size_t *count, struct tws_error *err)
{
    struct epoll_state *epoll = state;
    int limit = capacity < BATCH ? (int)capacity : BATCH;
    int got = epoll_wait(epoll->fd, epoll->events, limit,
                         tws_poller_milliseconds(timeout_ns));
    if (got < 0) {
        int saved = errno;
        if (saved != EINTR) {
            return tws_error_os(err, saved, "epoll_wait");
        }
        got = 0;
    }
    for (int i = 0; i < got; i++) {
        ready[i].data = epoll->events[i].data.ptr;
        ready[i].events = ready_events(epoll->events[i].events);
    }
    *count = (size_t)got;
    return TWS_OK;
}

static const struct tws_poller_backend backend = {
    .open = open_epoll,
    .close = close_epoll,
    .add = add,
    .modify = modify,
    .remove = remove_fd,
    .wait = wait_epoll,
};

const struct tws_poller_backend *
tws_poller_epoll(void)
{
    return &backend;
}

#else

const struct tws_poller_backend *
tws_poller_epoll(void)
{
    return NULL;
}

#endif
