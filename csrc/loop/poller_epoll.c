#include "loop/poller_backend.h"

#ifdef __linux__

#include "loop/timers.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* Descriptors a wait reports at most. The kernel moves those it has reported
 * to the end of its list, so that nobody starves. */
enum { BATCH = 512 };

/* Seconds that a time_t of 32 bits holds, 68 years. A timer for a later time
 * goes off then, for nothing. */
enum { TIMER_SECONDS_MAX = INT32_MAX };

/* The deadline is a timer of the kernel's, whose descriptor is one among the
 * others: that it is over is then told by the call that is made anyhow, and
 * nobody reads the clock to find out. */
struct epoll_state {
    int fd;       /* owned */
    int timer_fd; /* owned, watched by its address; -1 where there is none */

    /* Of the thread that waits. */
    uint64_t armed;      /* when it goes off, or did; UINT64_MAX: never */
    bool timer_is_ready; /* went off and has not been set since */
    struct epoll_event events[BATCH];
};

/* Leaves `timer_fd` at -1 where the kernel has no timers of this kind. */
static enum tws_status
open_timer(struct epoll_state *epoll, struct tws_error *err)
{
    struct epoll_event event = {
        .events = EPOLLIN,
        .data.ptr = &epoll->timer_fd,
    };
    epoll->timer_fd =
        timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (epoll->timer_fd < 0) {
        int saved = errno;
        return saved == ENOSYS ? TWS_OK
                               : tws_error_os(err, saved, "timerfd_create");
    }
    if (epoll_ctl(epoll->fd, EPOLL_CTL_ADD, epoll->timer_fd, &event) < 0) {
        int saved = errno;
        (void)close(epoll->timer_fd);
        return tws_error_os(err, saved, "epoll_ctl");
    }
    return TWS_OK;
}

static enum tws_status
open_epoll(void **state, struct tws_error *err)
{
    enum tws_status status;
    struct epoll_state *epoll = malloc(sizeof(*epoll));
    if (epoll == NULL) {
        return tws_error_nomem(err);
    }
    epoll->armed = UINT64_MAX;
    epoll->timer_is_ready = false;
    epoll->fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll->fd < 0) {
        int saved = errno;
        status = tws_error_os(err, saved, "epoll_create1");
        goto fail_create;
    }
    status = open_timer(epoll, err);
    if (status != TWS_OK) {
        goto fail_timer;
    }
    *state = epoll;
    return TWS_OK;

fail_timer:
    (void)close(epoll->fd);
fail_create:
    free(epoll);
    return status;
}

static void
close_epoll(void *state)
{
    struct epoll_state *epoll = state;
    if (epoll->timer_fd >= 0) {
        (void)close(epoll->timer_fd);
    }
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

/* Sets the timer, or stops it for UINT64_MAX. Either way it is no longer
 * readable, so that there is nothing to drain. */
static enum tws_status
set_timer(struct epoll_state *epoll, uint64_t deadline, struct tws_error *err)
{
    struct itimerspec at = {0}; /* all zero stops it */
    if (deadline != UINT64_MAX) {
        uint64_t seconds = deadline / 1000000000;
        if (seconds > TIMER_SECONDS_MAX) {
            seconds = TIMER_SECONDS_MAX;
        }
        at.it_value.tv_sec = (time_t)seconds;
        at.it_value.tv_nsec = (long)(deadline % 1000000000);
    }
    if (timerfd_settime(epoll->timer_fd, TFD_TIMER_ABSTIME, &at, NULL) < 0) {
        int saved = errno;
        return tws_error_os(err, saved, "timerfd_settime");
    }
    epoll->armed = deadline;
    epoll->timer_is_ready = false;
    return TWS_OK;
}

/* Sees to it that the timer ends the wait in time. One that goes off too
 * early stays as it is: deadlines move later all the time, and setting it
 * anew each time would cost a system call. *over is set where the deadline is
 * over. */
static enum tws_status
prepare_timer(struct epoll_state *epoll, uint64_t deadline, bool *over,
              struct tws_error *err)
{
    uint64_t wanted = deadline == 0 ? UINT64_MAX : deadline;
    if (wanted >= epoll->armed && !epoll->timer_is_ready) {
        return TWS_OK;
    }
    /* A timer set to the past goes off with the next interrupt, which may be
     * after the wait. */
    if (wanted != UINT64_MAX && wanted <= tws_clock_now()) {
        *over = true;
        return TWS_OK;
    }
    return set_timer(epoll, wanted, err);
}

/* Passes on what the kernel has reported, but for the timer; returns how
 * many. */
static size_t
report(struct epoll_state *epoll, int got, struct tws_ready *ready)
{
    size_t count = 0;
    for (int i = 0; i < got; i++) {
        const struct epoll_event *event = &epoll->events[i];
        if (event->data.ptr == &epoll->timer_fd) {
            epoll->timer_is_ready = true;
            continue;
        }
        ready[count].data = event->data.ptr;
        ready[count].events = ready_events(event->events);
        count++;
    }
    return count;
}

/* Without a timer the clock says how long to sleep; a limit beyond what
 * epoll_wait() takes (24 days) then ends early, as a signal ends a wait
 * early. */
static enum tws_status
wait_epoll(void *state, uint64_t deadline, struct tws_ready *ready,
           size_t capacity, size_t *count, bool *due, struct tws_error *err)
{
    struct epoll_state *epoll = state;
    int limit = capacity < BATCH ? (int)capacity : BATCH;
    bool over = false;
    int timeout;
    if (epoll->timer_fd >= 0) {
        enum tws_status status = prepare_timer(epoll, deadline, &over, err);
        if (status != TWS_OK) {
            return status;
        }
        timeout = over || deadline == 0 ? 0 : -1;
    }
    else {
        timeout = tws_poller_milliseconds(tws_poller_time_left(deadline));
    }
    int got = epoll_wait(epoll->fd, epoll->events, limit, timeout);
    if (got < 0) {
        int saved = errno;
        if (saved != EINTR) {
            return tws_error_os(err, saved, "epoll_wait");
        }
        got = 0;
    }
    *count = report(epoll, got, ready);
    *due = over || epoll->timer_is_ready
           || (epoll->timer_fd < 0 && tws_poller_time_left(deadline) == 0);
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
