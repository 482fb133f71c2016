#include "python/keeper.h"

#include "python/connection_ahead.h"
#include "python/errors.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>

enum { READY_A_TURN = 64 };

/* How long the thread stays when there is nobody left to look after. */
#define IDLE ((uint64_t)5 * 1000 * 1000 * 1000)

struct tws_keeper {
    pthread_mutex_t lock; /* of all that follows; held for moments, with the
                           * GIL, and never while Python code runs */
    struct tws_poller *poller; /* owned; NULL while there is no thread, the
                                * only one to wait and to free it */
    struct tws_timers timers;
    struct tws_kept *first;   /* those looked after; a reference each */
    struct tws_kept *removed; /* those that a wait under way may report still;
                               * a reference each; linked by `next` */
    bool stopping;            /* the interpreter ends */
};

struct tws_keeper *
tws_keeper_new(void)
{
    struct tws_keeper *keeper = PyMem_Calloc(1, sizeof(*keeper));
    if (keeper == NULL || pthread_mutex_init(&keeper->lock, NULL) != 0) {
        PyMem_Free(keeper);
        PyErr_NoMemory();
        return NULL;
    }
    return keeper;
}

/* Whom a keeper without a thread has left behind. */
static void
release_removed(struct tws_kept *kept)
{
    while (kept != NULL) {
        struct tws_kept *next = kept->next;
        tws_kept_release(kept);
        kept = next;
    }
}

void
tws_keeper_free(struct tws_keeper *keeper)
{
    if (keeper == NULL) {
        return;
    }
    release_removed(keeper->removed);
    tws_timers_release(&keeper->timers);
    tws_poller_free(keeper->poller);
    pthread_mutex_destroy(&keeper->lock);
    PyMem_Free(keeper);
}

int
tws_kept_init(struct tws_kept *kept, struct tws_state *state, PyObject *owner)
{
    atomic_init(&kept->references, 1);
    kept->keeper = state->keeper;
    kept->fd = -1;
    kept->owner = PyWeakref_NewRef(owner, NULL);
    return kept->owner == NULL ? -1 : 0;
}

void
tws_kept_retain(struct tws_kept *kept)
{
    (void)atomic_fetch_add(&kept->references, 1);
}

void
tws_kept_release(struct tws_kept *kept)
{
    if (atomic_fetch_sub(&kept->references, 1) == 1) {
        Py_CLEAR(kept->owner);
        tws_ahead_free(kept);
    }
}

/* With the lock held ----------------------------------------------------- */

static void
unwatch_lock_held(struct tws_kept *kept)
{
    struct tws_error ignored;
    if (kept->fd >= 0) {
        (void)tws_poller_remove(kept->keeper->poller, kept->fd, &ignored);
        kept->fd = -1;
        kept->events = 0;
    }
}

static void
remove_lock_held(struct tws_kept *kept)
{
    struct tws_keeper *keeper = kept->keeper;
    if (!kept->linked) {
        return;
    }
    unwatch_lock_held(kept);
    tws_timers_cancel(&keeper->timers, &kept->timer);
    if (kept->previous != NULL) {
        kept->previous->next = kept->next;
    }
    else {
        keeper->first = kept->next;
    }
    if (kept->next != NULL) {
        kept->next->previous = kept->previous;
    }
    kept->linked = false;
    kept->next = keeper->removed;
    keeper->removed = kept;
}

/* The thread is gone, or will be at once: nobody is looked after. */
static struct tws_poller *
abandon_lock_held(struct tws_keeper *keeper)
{
    struct tws_poller *poller = keeper->poller;
    while (keeper->first != NULL) {
        keeper->first->fd = -1; /* goes with the poller */
        remove_lock_held(keeper->first);
    }
    keeper->poller = NULL;
    return poller;
}

/* Any thread ------------------------------------------------------------- */

/* Has a thread run. Returns as tws_keeper_add(). */
static int
ensure_thread(struct tws_keeper *keeper, struct tws_state *state,
              PyObject *module)
{
    struct tws_poller *poller = NULL;
    struct tws_error err;
    pthread_mutex_lock(&keeper->lock);
    bool running = keeper->poller != NULL;
    bool stopping = keeper->stopping;
    pthread_mutex_unlock(&keeper->lock);
    if (running || stopping) {
        return running && !stopping;
    }
    if (tws_poller_new(TWS_POLLER_BEST, &poller, &err) != TWS_OK) {
        (void)tws_raise(state, &err);
        return -1;
    }
    pthread_mutex_lock(&keeper->lock);
    bool first = keeper->poller == NULL;
    if (first) {
        keeper->poller = poller;
    }
    pthread_mutex_unlock(&keeper->lock);
    if (!first) {
        tws_poller_free(poller); /* another thread was faster */
        return 1;
    }
    PyObject *started = PyObject_CallOneArg(state->start_keeper, module);
    int result = started == NULL ? -1 : started == Py_True;
    Py_XDECREF(started);
    if (result <= 0) {
        pthread_mutex_lock(&keeper->lock);
        poller = abandon_lock_held(keeper);
        pthread_mutex_unlock(&keeper->lock);
        tws_poller_free(poller);
    }
    return result;
}

int
tws_keeper_add(struct tws_kept *kept, PyObject *module, uint64_t at)
{
    struct tws_keeper *keeper = kept->keeper;
    struct tws_state *state = tws_state_of_module(module);
    int result = ensure_thread(keeper, state, module);
    if (result <= 0) {
        return result;
    }
    pthread_mutex_lock(&keeper->lock);
    if (keeper->poller == NULL) {
        result = 0; /* the interpreter ends, this moment */
    }
    else if (tws_timers_set(&keeper->timers, &kept->timer, at) != TWS_OK) {
        result = -1;
    }
    else {
        tws_kept_retain(kept);
        kept->next = keeper->first;
        if (kept->next != NULL) {
            kept->next->previous = kept;
        }
        keeper->first = kept;
        kept->previous = NULL;
        kept->linked = true;
        tws_poller_wake(keeper->poller);
    }
    pthread_mutex_unlock(&keeper->lock);
    if (result < 0) {
        PyErr_NoMemory();
    }
    return result;
}

void
tws_keeper_remove(struct tws_kept *kept)
{
    struct tws_keeper *keeper = kept->keeper;
    pthread_mutex_lock(&keeper->lock);
    remove_lock_held(kept);
    struct tws_kept *removed = NULL;
    if (keeper->poller == NULL) {
        removed = keeper->removed;
        keeper->removed = NULL;
    }
    else if (keeper->first == NULL) {
        tws_poller_wake(keeper->poller); /* to think of going */
    }
    pthread_mutex_unlock(&keeper->lock);
    release_removed(removed);
}

void
tws_keeper_call(struct tws_kept *kept, uint64_t at)
{
    struct tws_keeper *keeper = kept->keeper;
    pthread_mutex_lock(&keeper->lock);
    kept->called = at; /* for a look under way, which sets the timer */
    if (kept->linked && kept->timer.position != 0
        && tws_timers_set(&keeper->timers, &kept->timer, at) == TWS_OK) {
        tws_poller_wake(keeper->poller);
    }
    pthread_mutex_unlock(&keeper->lock);
}

bool
tws_keeper_watch(struct tws_kept *kept, int fd, unsigned events)
{
    struct tws_keeper *keeper = kept->keeper;
    struct tws_error ignored;
    enum tws_status status = TWS_OK;
    pthread_mutex_lock(&keeper->lock);
    if (!kept->linked || events == 0) {
        unwatch_lock_held(kept);
    }
    else if (kept->fd < 0) {
        status = tws_poller_add(keeper->poller, fd, events, kept, &ignored);
    }
    else if (kept->events != events) {
        status = tws_poller_modify(keeper->poller, fd, events, kept, &ignored);
    }
    if (kept->linked && events != 0 && status == TWS_OK) {
        kept->fd = fd;
        kept->events = events;
    }
    pthread_mutex_unlock(&keeper->lock);
    return status == TWS_OK;
}

/* The thread ------------------------------------------------------------- */

/* Its owner decides what there is to do, and when to look again. */
static void
look_at(struct tws_kept *kept)
{
    struct tws_keeper *keeper = kept->keeper;
    PyObject *owner = NULL;
    pthread_mutex_lock(&keeper->lock);
    bool linked = kept->linked;
    kept->called = UINT64_MAX;
    pthread_mutex_unlock(&keeper->lock);
    if (!linked || PyWeakref_GetRef(kept->owner, &owner) <= 0) {
        return; /* gone, or about to be */
    }
    uint64_t at = tws_ahead_look(owner);
    pthread_mutex_lock(&keeper->lock);
    if (at > kept->called) {
        at = kept->called;
    }
    if (kept->linked
        && tws_timers_set(&keeper->timers, &kept->timer, at) != TWS_OK) {
        remove_lock_held(kept); /* no memory: it is alive in recv() only */
    }
    pthread_mutex_unlock(&keeper->lock);
    Py_DECREF(owner);
}

static void
look_at_due(struct tws_keeper *keeper)
{
    uint64_t now = tws_clock_now();
    for (;;) {
        pthread_mutex_lock(&keeper->lock);
        struct tws_timer *timer = tws_timers_pop(&keeper->timers, now);
        pthread_mutex_unlock(&keeper->lock);
        if (timer == NULL) {
            return;
        }
        look_at((struct tws_kept *)timer);
    }
}

/* No wait that is to come reports them. */
static void
bury(struct tws_keeper *keeper)
{
    pthread_mutex_lock(&keeper->lock);
    struct tws_kept *removed = keeper->removed;
    keeper->removed = NULL;
    pthread_mutex_unlock(&keeper->lock);
    release_removed(removed);
}

/* One wait and what comes of it. 1; 0: the thread is to end; -1 with
 * OSError. *idle: since when nobody is looked after, or UINT64_MAX. */
static int
turn(struct tws_keeper *keeper, struct tws_state *state, uint64_t *idle)
{
    struct tws_ready ready[READY_A_TURN];
    struct tws_error err;
    size_t count = 0;
    bool due = false;
    enum tws_status status;
    pthread_mutex_lock(&keeper->lock);
    bool nobody = keeper->first == NULL;
    bool stopping = keeper->stopping;
    uint64_t deadline = tws_timers_next(&keeper->timers);
    struct tws_poller *poller = keeper->poller;
    pthread_mutex_unlock(&keeper->lock);
    if (nobody) {
        uint64_t now = tws_clock_now();
        *idle = *idle == UINT64_MAX ? now : *idle;
        deadline = *idle + IDLE;
        stopping = stopping || now >= deadline;
    }
    else {
        *idle = UINT64_MAX;
    }
    if (stopping) {
        return 0;
    }
    Py_BEGIN_ALLOW_THREADS
    status = tws_poller_wait(poller, deadline, ready, READY_A_TURN, &count,
                             &due, &err);
    Py_END_ALLOW_THREADS
    if (status != TWS_OK) {
        (void)tws_raise(state, &err);
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        look_at(ready[i].data);
    }
    if (due) {
        look_at_due(keeper);
    }
    bury(keeper);
    return 1;
}

/* Signals are for the program's threads: one that is delivered here would not
 * interrupt their system calls. What a fault raises stays as it is. */
static void
block_signals(void)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    sigset_t all;
    (void)sigfillset(&all);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(faults); i++) {
        (void)sigdelset(&all, faults[i]);
    }
    (void)pthread_sigmask(SIG_BLOCK, &all, NULL);
}

static PyObject *
keeper_work(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    struct tws_state *state = tws_state_of_module(module);
    struct tws_keeper *keeper = state->keeper;
    uint64_t idle = UINT64_MAX;
    int result;
    block_signals();
    for (;;) {
        do {
            result = turn(keeper, state, &idle);
        } while (result > 0);
        pthread_mutex_lock(&keeper->lock);
        /* Somebody may have come since. */
        if (result == 0 && keeper->first != NULL && !keeper->stopping) {
            pthread_mutex_unlock(&keeper->lock);
            continue;
        }
        struct tws_poller *poller = abandon_lock_held(keeper);
        pthread_mutex_unlock(&keeper->lock);
        bury(keeper);
        tws_poller_free(poller);
        return result < 0 ? NULL : Py_NewRef(Py_None);
    }
}

static PyObject *
keeper_stop(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    struct tws_keeper *keeper = tws_state_of_module(module)->keeper;
    pthread_mutex_lock(&keeper->lock);
    keeper->stopping = true;
    if (keeper->poller != NULL) {
        tws_poller_wake(keeper->poller);
    }
    pthread_mutex_unlock(&keeper->lock);
    return Py_NewRef(Py_None);
}

/* In a forked child, where the thread is not: those it looked after are the
 * parent's, and so is what the poller's descriptors stand for. Closing them
 * here leaves the parent's alone; taking one out of epoll would not. */
static PyObject *
keeper_forget(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    struct tws_keeper *keeper = tws_state_of_module(module)->keeper;
    (void)pthread_mutex_init(&keeper->lock, NULL); /* whoever held it */
    for (struct tws_kept *kept = keeper->first; kept != NULL;
         kept = kept->next) {
        tws_ahead_forget(kept);
    }
    tws_poller_free(abandon_lock_held(keeper));
    keeper->stopping = false;
    bury(keeper);
    return Py_NewRef(Py_None);
}

PyMethodDef tws_keeper_functions[] = {
    {"_keeper_work", keeper_work, METH_NOARGS,
     PyDoc_STR("_keeper_work($module, /)\n--\n\nThe thread's work.")},
    {"_keeper_stop", keeper_stop, METH_NOARGS,
     PyDoc_STR("_keeper_stop($module, /)\n--\n\nHave the thread end.")},
    {"_keeper_forget", keeper_forget, METH_NOARGS,
     PyDoc_STR("_keeper_forget($module, /)\n--\n\n"
               "In a forked child: there is no thread.")},
    {"_check_keepalive", tws_ahead_check, METH_VARARGS,
     PyDoc_STR("_check_keepalive($module, ping_interval, ping_timeout, "
               "max_queue, /)\n--\n\n"
               "Raise TypeError or ValueError for what can't be meant.")},
    {NULL, NULL, 0, NULL},
};
