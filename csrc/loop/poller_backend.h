/* What a back end of the poller offers to poller.c. The functions mean what
 * those of the same names in loop/poller.h mean; a back end knows nothing of
 * wake-ups, as their descriptor is one among the others. */
#ifndef TWS_LOOP_POLLER_BACKEND_H
#define TWS_LOOP_POLLER_BACKEND_H

#include "loop/poller.h"

struct tws_poller_backend {
    enum tws_status (*open)(void **state, struct tws_error *err);
    void (*close)(void *state);
    enum tws_status (*add)(void *state, int fd, unsigned events, void *data,
                           struct tws_error *err);
    enum tws_status (*modify)(void *state, int fd, unsigned events, void *data,
                              struct tws_error *err);
    enum tws_status (*remove)(void *state, int fd, struct tws_error *err);
    enum tws_status (*wait)(void *state, uint64_t deadline,
                            struct tws_ready *ready, size_t capacity,
                            size_t *count, bool *due, struct tws_error *err);
};

/* NULL where the system was built without epoll; open() gives ENOSYS where
 * the running kernel has none. */
const struct tws_poller_backend *tws_poller_epoll(void);
const struct tws_poller_backend *tws_poller_poll(void);

/* For a back end that sleeps by a relative timeout: the nanoseconds up to
 * the deadline, 0 where it is over; UINT64_MAX stays. Reads the clock. */
uint64_t tws_poller_time_left(uint64_t deadline);

/* The timeout as poll() and epoll_wait() take it: rounded up, so that a wait
 * never ends before its deadline; -1 for UINT64_MAX; at most INT_MAX. */
int tws_poller_milliseconds(uint64_t timeout_ns);

#endif /* TWS_LOOP_POLLER_BACKEND_H */
