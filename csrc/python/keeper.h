/* The keeper: one thread of an interpreter, started when it is first needed
 * (twspy/_keeper.py), that looks after Connections while their programs do
 * something else. This is its loop: whom it looks after, which descriptors
 * it watches, and when it looks next. What a look is, is in
 * connection_ahead.h.
 *
 * All functions are called with the GIL held, any thread may, and none waits
 * or runs Python code unless it says so. */
#ifndef TWS_PYTHON_KEEPER_H
#define TWS_PYTHON_KEEPER_H

#include "python/state.h"

#include "loop/poller.h"
#include "loop/timers.h"

#include <stdatomic.h>

struct tws_keeper; /* opaque; belongs to the module's state */

/* One that is looked after: the first member of a struct tws_ahead. */
struct tws_kept {
    struct tws_timer timer;    /* first, so that a timer leads here */
    struct tws_keeper *keeper; /* borrowed */
    PyObject *owner;           /* strong; weak reference to the Connection */
    atomic_uint references;

    /* Of the keeper's lock. */
    struct tws_kept *next;
    struct tws_kept *previous;
    bool linked;
    uint64_t called; /* when tws_keeper_call() wants a look, since the last
                      * one has begun; UINT64_MAX: it does not */
    int fd;          /* watched; -1: none */
    unsigned events; /* for what */
};

/* NULL with MemoryError. */
struct tws_keeper *tws_keeper_new(void);
void tws_keeper_free(struct tws_keeper *keeper); /* NULL is allowed */

/* A zeroed struct becomes one that is not looked after yet, with one
 * reference. -1 with an exception. */
int tws_kept_init(struct tws_kept *kept, struct tws_state *state,
                  PyObject *owner);
void tws_kept_retain(struct tws_kept *kept);
/* The last one calls tws_ahead_free(). */
void tws_kept_release(struct tws_kept *kept);

/* Looks after it from `at` on (clock); starts the thread where there is none,
 * which runs Python code. 1; 0 where no thread can be started, as a log says
 * then; -1 with an exception. */
int tws_keeper_add(struct tws_kept *kept, PyObject *module, uint64_t at);

/* Looks after it no more; its descriptor may be closed. It need not be
 * looked after. Keeps a pending exception. */
void tws_keeper_remove(struct tws_kept *kept);

/* Looks at it at this time, and no later. */
void tws_keeper_call(struct tws_kept *kept, uint64_t at);

/* On the keeper's thread: from now on it looks at it also when one of
 * `events` (TWS_READABLE, TWS_WRITABLE; 0: none) is there. False where the
 * system refuses. */
bool tws_keeper_watch(struct tws_kept *kept, int fd, unsigned events);

/* The module's functions for twspy/_keeper.py. */
extern PyMethodDef tws_keeper_functions[];

#endif /* TWS_PYTHON_KEEPER_H */
