#include "python/blocking.h"

#include "loop/timers.h"

#include <errno.h>

struct tws_deadline
tws_deadline_after(uint64_t timeout_ns)
{
    struct tws_deadline deadline = {.at = UINT64_MAX};
    if (timeout_ns == 0) {
        deadline.at = 0;
        deadline.immediate = true;
    }
    else if (timeout_ns != UINT64_MAX) {
        uint64_t now = tws_clock_now();
        if (timeout_ns < UINT64_MAX - now) {
            deadline.at = now + timeout_ns;
        }
    }
    return deadline;
}

/* Nanoseconds left; 0 where it has passed. */
static uint64_t
time_left(const struct tws_deadline *deadline)
{
    if (deadline->at == UINT64_MAX) {
        return UINT64_MAX;
    }
    uint64_t now = tws_clock_now();
    return deadline->at > now ? deadline->at - now : 0;
}

bool
tws_deadline_is_over(const struct tws_deadline *deadline)
{
    return deadline->immediate || time_left(deadline) == 0;
}

int
tws_pause(const struct tws_deadline *deadline, const char *what)
{
    Py_BEGIN_ALLOW_THREADS
    Py_END_ALLOW_THREADS
    if (PyErr_CheckSignals() < 0) {
        return -1;
    }
    return tws_deadline_is_over(deadline) ? tws_raise_time_over(deadline, what)
                                          : 0;
}

int
tws_raise_time_over(const struct tws_deadline *deadline, const char *what)
{
    if (deadline->immediate) {
        errno = EAGAIN;
        PyErr_SetFromErrno(PyExc_OSError); /* BlockingIOError */
    }
    else {
        PyErr_Format(PyExc_TimeoutError, "%s timed out", what);
    }
    return -1;
}

int
tws_wait_any_quietly(struct tws_wait *waits, size_t count,
                     const struct tws_deadline *deadline)
{
    if (deadline->immediate) {
        return 0;
    }
    for (;;) {
        struct tws_error err = {.status = TWS_OK};
        enum tws_status status;
        uint64_t left = time_left(deadline);
        Py_BEGIN_ALLOW_THREADS
        status = tws_socket_wait_any(waits, count, left, &err);
        Py_END_ALLOW_THREADS
        if (status == TWS_OS) {
            errno = err.sys_errno;
            PyErr_SetFromErrno(PyExc_OSError);
            return -1;
        }
        /* Also where the descriptor is ready: a call that keeps finding it
         * so would never let Ctrl-C through. */
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
        if (status == TWS_OK) {
            return 1;
        }
        if (left == 0) {
            return 0;
        }
    }
}

int
tws_wait_quietly(int fd, unsigned events, const struct tws_deadline *deadline,
                 unsigned *ready)
{
    struct tws_wait wait = {.fd = fd, .events = events};
    int result = tws_wait_any_quietly(&wait, 1, deadline);
    if (result > 0) {
        *ready = wait.ready;
    }
    return result;
}

int
tws_wait_for(int fd, unsigned events, const struct tws_deadline *deadline,
             const char *what, unsigned *ready)
{
    int result = tws_wait_quietly(fd, events, deadline, ready);
    if (result == 0) {
        return tws_raise_time_over(deadline, what);
    }
    return result < 0 ? -1 : 0;
}

int
tws_lock_wait_quietly(PyThread_type_lock lock,
                      const struct tws_deadline *deadline)
{
    if (PyThread_acquire_lock(lock, NOWAIT_LOCK) == 1) {
        return 1;
    }
    if (deadline->immediate) {
        return 0;
    }
    for (;;) {
        PyLockStatus status;
        uint64_t left = time_left(deadline);
        PY_TIMEOUT_T microseconds = -1; /* no limit */
        if (left != UINT64_MAX) {
            left = (left + 999) / 1000;
            microseconds = left < (uint64_t)PY_TIMEOUT_MAX
                               ? (PY_TIMEOUT_T)left
                               : (PY_TIMEOUT_T)PY_TIMEOUT_MAX;
        }
        Py_BEGIN_ALLOW_THREADS
        status = PyThread_acquire_lock_timed(lock, microseconds, 1);
        Py_END_ALLOW_THREADS
        if (status == PY_LOCK_ACQUIRED) {
            return 1;
        }
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
        if (status == PY_LOCK_FAILURE) {
            return 0;
        }
    }
}

int
tws_lock_wait(PyThread_type_lock lock, const struct tws_deadline *deadline,
              const char *what)
{
    int result = tws_lock_wait_quietly(lock, deadline);
    if (result == 0) {
        return tws_raise_time_over(deadline, what);
    }
    return result < 0 ? -1 : 0;
}
