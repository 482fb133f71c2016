#include "loop/poller.h"

#include "loop/poller_backend.h"
#include "loop/timers.h"
#include "loop/wakeup.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

struct tws_poller {
    const struct tws_poller_backend *backend;
    void *state;              /* owned; of the back end */
    struct tws_wakeup wakeup; /* its address is the data it is watched by */
};

uint64_t
tws_poller_time_left(uint64_t deadline)
{
    if (deadline == 0 || deadline == UINT64_MAX) {
        return deadline;
    }
    uint64_t now = tws_clock_now();
    return deadline > now ? deadline - now : 0;
}

int
tws_poller_milliseconds(uint64_t timeout_ns)
{
    if (timeout_ns == UINT64_MAX) {
        return -1;
    }
    uint64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

static enum tws_status
open_backend(struct tws_poller *poller, enum tws_poller_kind kind,
             struct tws_error *err)
{
    if (kind == TWS_POLLER_BEST && tws_poller_epoll() != NULL) {
        poller->backend = tws_poller_epoll();
        enum tws_status status = poller->backend->open(&poller->state, err);
        if (status != TWS_OS || err->sys_errno != ENOSYS) {
            return status;
        }
    }
    poller->backend = tws_poller_poll();
    return poller->backend->open(&poller->state, err);
}

enum tws_status
tws_poller_new(enum tws_poller_kind kind, struct tws_poller **poller,
               struct tws_error *err)
{
    enum tws_status status;
    struct tws_poller *made = malloc(sizeof(*made));
    if (made == NULL) {
        return tws_error_nomem(err);
    }
    status = tws_wakeup_init(&made->wakeup, err);
    if (status != TWS_OK) {
        goto fail_wakeup;
    }
    status = open_backend(made, kind, err);
    if (status != TWS_OK) {
        goto fail_backend;
    }
    status = made->backend->add(made->state, made->wakeup.read_fd,
                                TWS_READABLE, &made->wakeup, err);
    if (status != TWS_OK) {
        goto fail_add;
    }
    *poller = made;
    return TWS_OK;

fail_add:
    made->backend->close(made->state);
fail_backend:
    tws_wakeup_fini(&made->wakeup);
fail_wakeup:
    free(made);
    return status;
}

void
tws_poller_free(struct tws_poller *poller)
{
    if (poller == NULL) {
        return;
    }
    poller->backend->close(poller->state);
    tws_wakeup_fini(&poller->wakeup);
    free(poller);
}

enum tws_status
tws_poller_add(struct tws_poller *poller, int fd, unsigned events, void *data,
               struct tws_error *err)
{
    return poller->backend->add(poller->state, fd, events, data, err);
}

enum tws_status
tws_poller_modify(struct tws_poller *poller, int fd, unsigned events,
                  void *data, struct tws_error *err)
{
    return poller->backend->modify(poller->state, fd, events, data, err);
}

enum tws_status
tws_poller_remove(struct tws_poller *poller, int fd, struct tws_error *err)
{
    return poller->backend->remove(poller->state, fd, err);
}

/* Drains the wake-up where it is among `ready` and closes the gap. */
static size_t
take_wakeup(struct tws_poller *poller, struct tws_ready *ready, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (ready[i].data == &poller->wakeup) {
            tws_wakeup_drain(&poller->wakeup);
            memmove(ready + i, ready + i + 1,
                    (count - i - 1) * sizeof(ready[0]));
            return count - 1;
        }
    }
    return count;
}

enum tws_status
tws_poller_wait(struct tws_poller *poller, uint64_t deadline,
                struct tws_ready *ready, size_t capacity, size_t *count,
                bool *due, struct tws_error *err)
{
    if (capacity == 0) {
        return tws_error_os(err, EINVAL, "tws_poller_wait");
    }
    size_t got = 0;
    enum tws_status status = poller->backend->wait(
        poller->state, deadline, ready, capacity, &got, due, err);
    if (status == TWS_OK) {
        *count = take_wakeup(poller, ready, got);
    }
    return status;
}

void
tws_poller_wake(struct tws_poller *poller)
{
    tws_wakeup_notify(&poller->wakeup);
}
