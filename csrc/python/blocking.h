/* Waiting in a blocking call: always without the GIL, never longer than the
 * deadline, and signals (Ctrl-C) get their turn. */
#ifndef TWS_PYTHON_BLOCKING_H
#define TWS_PYTHON_BLOCKING_H

#include "python/state.h"

#include "net/socket.h"

/* When a blocking call must return. */
struct tws_deadline {
    uint64_t at;    /* nanoseconds of the monotonic clock; UINT64_MAX: never */
    bool immediate; /* a non-blocking socket: do not wait at all */
};

/* The deadline of a call that starts now and may take `timeout_ns`: 0 means
 * non-blocking, UINT64_MAX no limit, as with socket.settimeout(). */
struct tws_deadline tws_deadline_after(uint64_t timeout_ns);

/* True where a call may not go on waiting. */
bool tws_deadline_is_over(const struct tws_deadline *deadline);

/* For what could go on for long without ever waiting: other threads and
 * signals get their turn. -1 with an exception as of tws_wait_for(). */
int tws_pause(const struct tws_deadline *deadline, const char *what);

/* Waits until `fd` is ready for one of `events` (TWS_WAIT_*). 0: ready, with
 * *ready set. -1 with an exception: BlockingIOError (immediate), TimeoutError
 * (`what` names the call that timed out), OSError, or what a signal handler
 * raised. */
int tws_wait_for(int fd, unsigned events, const struct tws_deadline *deadline,
                 const char *what, unsigned *ready);

/* The same, but says itself whether the time is over: 1: ready; 0: it is (at
 * once where `deadline` is immediate); -1 with OSError, or what a signal
 * handler raised, be it a TimeoutError of its own. */
int tws_wait_quietly(int fd, unsigned events,
                     const struct tws_deadline *deadline, unsigned *ready);
/* The same for several; see tws_socket_wait_any(). */
int tws_wait_any_quietly(struct tws_wait *waits, size_t count,
                         const struct tws_deadline *deadline);
/* Raises what tws_wait_for() raises then. Always -1. */
int tws_raise_time_over(const struct tws_deadline *deadline, const char *what);

/* Takes a lock that another thread may hold for long. 0, or -1 as above. */
int tws_lock_wait(PyThread_type_lock lock, const struct tws_deadline *deadline,
                  const char *what);
/* 1: taken; 0: the time is over; -1 with what a signal handler raised. */
int tws_lock_wait_quietly(PyThread_type_lock lock,
                          const struct tws_deadline *deadline);

#endif /* TWS_PYTHON_BLOCKING_H */
