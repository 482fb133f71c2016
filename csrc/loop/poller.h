/* Which descriptors are ready: epoll, or poll() where there is no epoll. The
 * only place that knows either. Level-triggered. */
#ifndef TWS_LOOP_POLLER_H
#define TWS_LOOP_POLLER_H

#include "protocol/status.h"

enum {
    TWS_READABLE = 1,
    TWS_WRITABLE = 2,
    TWS_HANGUP = 4, /* error or hang-up; reported whether asked for or not */
};

struct tws_ready {
    void *data; /* as given to tws_poller_add() */
    unsigned events;
};

struct tws_poller; /* opaque; owned by whoever made it */

enum tws_poller_kind {
    TWS_POLLER_BEST, /* epoll where the system has it */
    TWS_POLLER_POLL, /* poll(), everywhere */
};

/* TWS_OS or TWS_NOMEM on failure. */
enum tws_status tws_poller_new(enum tws_poller_kind kind,
                               struct tws_poller **poller,
                               struct tws_error *err);
void tws_poller_free(struct tws_poller *poller); /* NULL is allowed */

/* Any thread may call these while another waits; a wait under way takes the
 * change into account. `events` may be 0 (hang-ups are still reported; use
 * remove to hear nothing at all). A removed descriptor's data is not
 * reported by a wait that begins after the call; a wait already under way
 * may still report it. `fd` is removed before it is closed. */
enum tws_status tws_poller_add(struct tws_poller *poller, int fd,
                               unsigned events, void *data,
                               struct tws_error *err);
enum tws_status tws_poller_modify(struct tws_poller *poller, int fd,
                                  unsigned events, void *data,
                                  struct tws_error *err);
enum tws_status tws_poller_remove(struct tws_poller *poller, int fd,
                                  struct tws_error *err);

/* Waits until something is ready, the poller is woken or `deadline` is over:
 * nanoseconds of tws_clock_now() (loop/timers.h). One in the past returns at
 * once with what is ready; 0: looks only; UINT64_MAX: no limit. TWS_OK with
 * *count entries of `ready` filled (0 at the deadline, after a wake-up or a
 * signal) and *due set. One thread at a time.
 *
 * *due is true where the deadline may be over: time to read the clock and run
 * the timers. A deadline that was over when the wait began is due when it
 * ends, however much else is ready, unless the kernel's timer is late (by
 * microseconds) or has found no place in `ready`; both are made up for by the
 * waits that follow, looks included. It may also be true too early: a
 * deadline of a wait before that has moved later since still ends one wait,
 * with nothing if nothing else is ready, and a look by poll() is always due.
 *
 * With epoll, a wait whose deadline is the same as before, or later, costs
 * one system call and does not read the clock. */
enum tws_status tws_poller_wait(struct tws_poller *poller, uint64_t deadline,
                                struct tws_ready *ready, size_t capacity,
                                size_t *count, bool *due,
                                struct tws_error *err);

/* Ends the wait under way, or else the next one, at once. Any thread, and a
 * signal handler. */
void tws_poller_wake(struct tws_poller *poller);

#endif /* TWS_LOOP_POLLER_H */
