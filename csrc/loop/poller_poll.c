/* The descriptors stand side by side in `watched`; `slots` finds one by its
 * number. A wait polls a copy, so that other threads may change the set
 * meanwhile: they write to `changed`, and what the kernel then reports is
 * held against the set as it is now. */
#include "loop/poller_backend.h"

#include "loop/wakeup.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>

struct watch {
    struct pollfd entry;
    void *data;
    uint64_t added; /* value of `version` that it came with */
};

struct poll_state {
    pthread_mutex_t lock;  /* guards everything up to `waiting` */
    struct watch *watched; /* owned array, in no order */
    size_t count;
    size_t capacity;
    size_t *slots; /* owned; by descriptor: place in `watched` + 1, or 0 */
    size_t slot_count;
    uint64_t version; /* counts the changes */
    bool waiting;     /* a poll() is under way and wants to hear of changes */
    struct tws_wakeup changed;

    /* Of the thread that waits. */
    struct pollfd *snapshot; /* owned; [0] is `changed` */
    size_t snapshot_count;
    size_t snapshot_capacity;
    uint64_t snapshot_version; /* `version` when it was taken */
    size_t cursor;             /* where the last wait stopped to report */
};

static void
lock(struct poll_state *state)
{
    int failed = pthread_mutex_lock(&state->lock);
    assert(failed == 0);
    (void)failed;
}

static void
unlock(struct poll_state *state)
{
    int failed = pthread_mutex_unlock(&state->lock);
    assert(failed == 0);
    (void)failed;
}

static enum tws_status
open_poll(void **state, struct tws_error *err)
{
    struct poll_state *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return tws_error_nomem(err);
    }
    enum tws_status status;
    int failed = pthread_mutex_init(&made->lock, NULL);
    if (failed != 0) {
        status = tws_error_os(err, failed, "pthread_mutex_init");
        goto fail_lock;
    }
    status = tws_wakeup_init(&made->changed, err);
    if (status != TWS_OK) {
        goto fail_changed;
    }
    made->version = 1; /* no snapshot is of this version yet */
    *state = made;
    return TWS_OK;

fail_changed:
    (void)pthread_mutex_destroy(&made->lock);
fail_lock:
    free(made);
    return status;
}

static void
close_poll(void *opaque)
{
    struct poll_state *state = opaque;
    tws_wakeup_fini(&state->changed);
    (void)pthread_mutex_destroy(&state->lock);
    free(state->watched);
    free(state->slots);
    free(state->snapshot);
    free(state);
}

/* Makes room for `count` entries of `size` bytes; returns the array, which
 * may have moved, or NULL with the old one as it was. */
static void *
grow(void *array, size_t *capacity, size_t count, size_t size)
{
    size_t target = *capacity < 16 ? 16 : *capacity;
    while (target < count) {
        if (target > SIZE_MAX / 2) {
            return NULL;
        }
        target *= 2;
    }
    if (target > SIZE_MAX / size) {
        return NULL;
    }
    void *grown = realloc(array, target * size);
    if (grown != NULL) {
        *capacity = target;
    }
    return grown;
}

static bool
grow_watched_lock_held(struct poll_state *state)
{
    if (state->count < state->capacity) {
        return true;
    }
    struct watch *grown = grow(state->watched, &state->capacity,
                               state->count + 1, sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    state->watched = grown;
    return true;
}

static bool
grow_slots_lock_held(struct poll_state *state, int fd)
{
    size_t old_count = state->slot_count;
    if ((size_t)fd < old_count) {
        return true;
    }
    size_t *grown =
        grow(state->slots, &state->slot_count, (size_t)fd + 1, sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    memset(grown + old_count, 0,
           (state->slot_count - old_count) * sizeof(*grown));
    state->slots = grown;
    return true;
}

/* NULL where the descriptor is not watched. */
static struct watch *
find_lock_held(struct poll_state *state, int fd)
{
    if (fd < 0 || (size_t)fd >= state->slot_count || state->slots[fd] == 0) {
        return NULL;
    }
    return &state->watched[state->slots[fd] - 1];
}

static short
wanted_events(unsigned events)
{
    int wanted = 0;
    if (events & TWS_READABLE) {
        wanted |= POLLIN;
    }
    if (events & TWS_WRITABLE) {
        wanted |= POLLOUT;
    }
    return (short)wanted;
}

/* A removal is told as well: while poll() holds a closed descriptor, the
 * kernel does not end its connection. */
static void
tell_lock_held(struct poll_state *state)
{
    if (state->waiting) {
        tws_wakeup_notify(&state->changed);
    }
}

static enum tws_status
add(void *opaque, int fd, unsigned events, void *data, struct tws_error *err)
{
    struct poll_state *state = opaque;
    enum tws_status status = TWS_OK;
    /* poll() would say so only later, and again in every wait. */
    if (fcntl(fd, F_GETFD) < 0) {
        int saved = errno;
        return tws_error_os(err, saved, "fcntl");
    }
    lock(state);
    if (find_lock_held(state, fd) != NULL) {
        status = tws_error_os(err, EEXIST, "tws_poller_add");
        goto done;
    }
    if (!grow_watched_lock_held(state) || !grow_slots_lock_held(state, fd)) {
        status = tws_error_nomem(err);
        goto done;
    }
    state->watched[state->count] = (struct watch){
        .entry = {.fd = fd, .events = wanted_events(events)},
        .data = data,
        .added = ++state->version,
    };
    state->slots[fd] = ++state->count;
    tell_lock_held(state);
done:
    unlock(state);
    return status;
}

static enum tws_status
modify(void *opaque, int fd, unsigned events, void *data,
       struct tws_error *err)
{
    struct poll_state *state = opaque;
    enum tws_status status = TWS_OK;
    lock(state);
    struct watch *watch = find_lock_held(state, fd);
    if (watch == NULL) {
        status = tws_error_os(err, ENOENT, "tws_poller_modify");
        goto done;
    }
    watch->entry.events = wanted_events(events);
    watch->data = data;
    state->version++;
    tell_lock_held(state);
done:
    unlock(state);
    return status;
}

static enum tws_status
remove_fd(void *opaque, int fd, struct tws_error *err)
{
    struct poll_state *state = opaque;
    enum tws_status status = TWS_OK;
    lock(state);
    struct watch *watch = find_lock_held(state, fd);
    if (watch == NULL) {
        status = tws_error_os(err, ENOENT, "tws_poller_remove");
        goto done;
    }
    *watch = state->watched[--state->count];
    state->slots[watch->entry.fd] = state->slots[fd];
    state->slots[fd] = 0;
    state->version++;
    tell_lock_held(state);
done:
    unlock(state);
    return status;
}

static bool
take_snapshot_lock_held(struct poll_state *state)
{
    if (state->snapshot_version == state->version) {
        return true;
    }
    size_t count = state->count + 1;
    if (count > state->snapshot_capacity) {
        struct pollfd *grown = grow(state->snapshot, &state->snapshot_capacity,
                                    count, sizeof(*grown));
        if (grown == NULL) {
            return false;
        }
        state->snapshot = grown;
    }
    state->snapshot[0] = (struct pollfd){
        .fd = state->changed.read_fd,
        .events = POLLIN,
    };
    for (size_t i = 0; i < state->count; i++) {
        state->snapshot[i + 1] = state->watched[i].entry;
    }
    state->snapshot_count = count;
    state->snapshot_version = state->version;
    return true;
}

/* Takes the snapshot and polls it. *got is the number of entries that poll()
 * has marked, 0 after a signal as well, which *interrupted tells. */
static enum tws_status
poll_snapshot(struct poll_state *state, uint64_t timeout_ns, size_t *got,
              bool *interrupted, struct tws_error *err)
{
    lock(state);
    bool taken = take_snapshot_lock_held(state);
    state->waiting = taken && timeout_ns > 0;
    unlock(state);
    if (!taken) {
        return tws_error_nomem(err);
    }
    int marked = poll(state->snapshot, (nfds_t)state->snapshot_count,
                      tws_poller_milliseconds(timeout_ns));
    int saved = errno;
    lock(state);
    state->waiting = false;
    unlock(state);
    if (marked < 0 && saved != EINTR) {
        return tws_error_os(err, saved, "poll");
    }
    *interrupted = marked < 0;
    *got = marked < 0 ? 0 : (size_t)marked;
    return TWS_OK;
}

/* What to report of a marked entry; 0 where a change has overtaken it. */
static unsigned
ready_events(const struct watch *watch, short marked)
{
    unsigned events = 0;
    int wanted = marked & watch->entry.events;
    if (wanted & POLLIN) {
        events |= TWS_READABLE;
    }
    if (wanted & POLLOUT) {
        events |= TWS_WRITABLE;
    }
    if (marked & (POLLHUP | POLLERR | POLLNVAL)) {
        events |= TWS_HANGUP;
    }
    return events;
}

/* Reports up to `capacity` of the `marked` entries, going round from where
 * the last wait stopped so that nobody starves. */
static size_t
report_lock_held(struct poll_state *state, size_t marked,
                 struct tws_ready *ready, size_t capacity)
{
    size_t count = 0;
    size_t total = state->snapshot_count - 1;
    const struct pollfd *entries = state->snapshot + 1;
    size_t at = state->cursor < total ? state->cursor : 0;
    for (size_t i = 0; i < total && marked > 0 && count < capacity; i++) {
        const struct pollfd *entry = &entries[at];
        at = at + 1 < total ? at + 1 : 0;
        if (entry->revents == 0) {
            continue;
        }
        marked--;
        const struct watch *watch = find_lock_held(state, entry->fd);
        /* A younger one is another file with the number of an old one. */
        if (watch == NULL || watch->added > state->snapshot_version) {
            continue;
        }
        unsigned events = ready_events(watch, entry->revents);
        if (events != 0) {
            ready[count].data = watch->data;
            ready[count].events = events;
            count++;
        }
    }
    state->cursor = at;
    return count;
}

static enum tws_status
wait_poll(void *opaque, uint64_t deadline, struct tws_ready *ready,
          size_t capacity, size_t *count, bool *due, struct tws_error *err)
{
    struct poll_state *state = opaque;
    uint64_t left = tws_poller_time_left(deadline);
    size_t reported = 0;
    bool interrupted = false;
    while (true) {
        size_t marked = 0;
        enum tws_status status =
            poll_snapshot(state, left, &marked, &interrupted, err);
        if (status != TWS_OK) {
            return status;
        }
        if (interrupted) {
            break;
        }
        lock(state);
        if (marked > 0 && state->snapshot[0].revents != 0) {
            tws_wakeup_drain(&state->changed);
            marked--;
        }
        reported = report_lock_held(state, marked, ready, capacity);
        unlock(state);
        /* Nothing to report before time: only the set has changed. */
        if (reported > 0 || left == 0) {
            break;
        }
        left = tws_poller_time_left(deadline);
        if (left == 0) {
            break;
        }
    }
    *count = reported;
    *due = left == 0;
    return TWS_OK;
}

static const struct tws_poller_backend backend = {
    .open = open_poll,
    .close = close_poll,
    .add = add,
    .modify = modify,
    .remove = remove_fd,
    .wait = wait_poll,
};

const struct tws_poller_backend *
tws_poller_poll(void)
{
    return &backend;
}
