/* Sending. Frames stay whole on the wire: what one call writes, and what is
 * left of it, goes out before anything else. */
#include "python/websocket_parts.h"

#include "python/errors.h"

#include <errno.h>

enum {
    CONTROL_MAX = 4096,      /* bytes of control frames that wait; of Pongs
                              * beyond them only the last one does */
    LARGE_WRITE = 16 * 1024, /* worth to give up the GIL for */
};

/* --- with write_lock held --- */

static void
note_failure(WebsocketObject *ws)
{
    ws->write_failed = true;
    tws_buffer_release(&ws->out);
    pthread_mutex_lock(&ws->guard);
    tws_buffer_release(&ws->control);
    ws->last_pong = 0;
    pthread_mutex_unlock(&ws->guard);
}

/* The control frames that wait become part of `out`. False: there were
 * none. */
static bool
take_controls(WebsocketObject *ws)
{
    pthread_mutex_lock(&ws->guard);
    bool any = tws_buffer_length(&ws->control) > 0;
    if (any) {
        /* `out` is empty: the two change places. */
        struct tws_buffer empty = ws->out;
        ws->out = ws->control;
        ws->control = empty;
        ws->last_pong = 0;
    }
    pthread_mutex_unlock(&ws->guard);
    return any;
}

/* Writes `out` and the control frames that wait. TWS_OK: all is out. */
static enum tws_status
flush(WebsocketObject *ws, struct tws_error *err)
{
    while (tws_buffer_length(&ws->out) > 0 || take_controls(ws)) {
        size_t written;
        enum tws_status status =
            tws_write(&ws->transport, tws_buffer_data(&ws->out),
                      tws_buffer_length(&ws->out), &written, err);
        if (status == TWS_OK) {
            tws_buffer_consume(&ws->out, written);
            continue;
        }
        if (status == TWS_OS && tws_websocket_is_lost(err->sys_errno)) {
            note_failure(ws);
        }
        return status;
    }
    if (ws->out.capacity > 0) {
        tws_buffer_release(&ws->out);
    }
    if (atomic_exchange(&ws->end_wanted, false)) {
        ws->transport.ops->end_writing(&ws->transport);
    }
    return TWS_OK;
}

/* Whether somebody has left something to do for the thread that writes. */
static bool
work_waits(WebsocketObject *ws)
{
    pthread_mutex_lock(&ws->guard);
    bool any = tws_buffer_length(&ws->control) > 0;
    pthread_mutex_unlock(&ws->guard);
    return any || atomic_load(&ws->end_wanted);
}

/* --- the lock --- */

static bool
try_lock(WebsocketObject *ws)
{
    return PyThread_acquire_lock(ws->write_lock, NOWAIT_LOCK) == 1;
}

/* Somebody may have left work for us just before we were done, and found the
 * lock still taken: so look again afterwards. */
static void
unlock(WebsocketObject *ws)
{
    struct tws_error ignored; /* the next write meets it as well */
    do {
        enum tws_status status = flush(ws, &ignored);
        atomic_store(&ws->unsent, tws_buffer_length(&ws->out) > 0);
        PyThread_release_lock(ws->write_lock);
        if (status != TWS_OK) {
            return;
        }
    } while (work_waits(ws) && try_lock(ws));
}

bool
tws_websocket_write_on(WebsocketObject *ws)
{
    if (!try_lock(ws)) {
        return false;
    }
    unlock(ws);
    return atomic_load(&ws->unsent);
}

/* --- writing whole frames --- */

struct remaining {
    struct iovec parts[8];
    int first;
    int count;
    size_t length;
};

static void
step_forward(struct remaining *left, size_t written)
{
    left->length -= written;
    while (left->first < left->count
           && written >= left->parts[left->first].iov_len) {
        written -= left->parts[left->first].iov_len;
        left->first++;
    }
    if (left->first < left->count) {
        struct iovec *part = &left->parts[left->first];
        part->iov_base = (uint8_t *)part->iov_base + written;
        part->iov_len -= written;
    }
}

/* Keeps what the kernel did not take of a frame that it began to take. */
static int
keep(WebsocketObject *ws, const struct remaining *left)
{
    for (int i = left->first; i < left->count; i++) {
        if (tws_buffer_append(&ws->out, left->parts[i].iov_base,
                              left->parts[i].iov_len)
            != TWS_OK) {
            /* Half a frame is out and the rest is lost: the stream can't be
             * used any more. */
            note_failure(ws);
            (void)shutdown(ws->transport.fd, SHUT_RDWR);
            PyErr_NoMemory();
            return -1;
        }
    }
    return 0;
}

static int
raise_write_error(WebsocketObject *ws, const struct tws_error *err)
{
    if (tws_websocket_is_closing(ws)) {
        return tws_websocket_raise_lost(
            ws, NULL, "the websocket was closed by another thread");
    }
    if (tws_websocket_is_lost(err->sys_errno)) {
        return tws_websocket_raise_lost(ws, err, NULL);
    }
    (void)tws_raise(ws->state, err);
    return -1;
}

static enum tws_status
write_some(WebsocketObject *ws, const struct remaining *left, size_t *written,
           struct tws_error *err)
{
    enum tws_status status;
    if (left->length < LARGE_WRITE && ws->transport.tls == NULL) {
        return tws_writev(&ws->transport, &left->parts[left->first],
                          left->count - left->first, written, err);
    }
    Py_BEGIN_ALLOW_THREADS
    status = tws_writev(&ws->transport, &left->parts[left->first],
                        left->count - left->first, written, err);
    Py_END_ALLOW_THREADS
    return status;
}

/* Nothing may follow a Close frame (RFC 6455 §5.5.1). */
static bool
close_is_queued(WebsocketObject *ws)
{
    pthread_mutex_lock(&ws->guard);
    bool queued = ws->close_queued;
    pthread_mutex_unlock(&ws->guard);
    return queued;
}

/* With the lock held: what came before, then `left`. TWS_OK: all is out;
 * TWS_EOF: nothing is, as a Close frame was first. */
static enum tws_status
write_what_fits(WebsocketObject *ws, struct remaining *left, bool *taken,
                struct tws_error *err)
{
    /* In the middle of our frames nothing may come between, and `out` is
     * empty. */
    enum tws_status status = *taken ? TWS_OK : flush(ws, err);
    if (status == TWS_OK && !*taken && close_is_queued(ws)) {
        return TWS_EOF;
    }
    while (status == TWS_OK && left->length > 0) {
        size_t written;
        status = write_some(ws, left, &written, err);
        if (status == TWS_OK) {
            *taken = true;
            step_forward(left, written);
        }
    }
    return status;
}

/* With the lock held. Once *taken, the frames are ours to finish: the time
 * may be over then, but nothing has gone wrong. */
static int
write_locked(WebsocketObject *ws, struct remaining *left,
             const struct tws_deadline *deadline, bool *taken)
{
    struct tws_error err;
    unsigned ready;
    for (;;) {
        if (ws->write_failed) {
            return tws_websocket_raise_lost(ws, NULL, NULL);
        }
        enum tws_status status = write_what_fits(ws, left, taken, &err);
        if (status == TWS_OK) {
            return 0;
        }
        if (status == TWS_EOF) {
            return tws_websocket_raise_lost(
                ws, NULL, "a Close frame was sent, nothing may follow it");
        }
        if (status != TWS_AGAIN) {
            if (tws_websocket_is_lost(err.sys_errno)) {
                note_failure(ws);
            }
            return raise_write_error(ws, &err);
        }
        int result = tws_wait_quietly(ws->transport.fd, TWS_WAIT_WRITE,
                                      deadline, &ready);
        if (result < 0) {
            return -1;
        }
        if (result == 0) {
            return *taken ? 0 : tws_raise_time_over(deadline, "send()");
        }
    }
}

/* The same, and keeps what the kernel did not take of frames that it began
 * to take, or that are *taken from the start. */
static int
write_and_keep(WebsocketObject *ws, struct remaining *left, bool *taken,
               const struct tws_deadline *deadline)
{
    int result = write_locked(ws, left, deadline, taken);
    if (!*taken || left->length == 0 || ws->write_failed) {
        return result;
    }
    PyObject *pending = PyErr_GetRaisedException(); /* of a signal handler */
    if (keep(ws, left) < 0) {
        Py_XDECREF(pending);
        return -1;
    }
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
    return result;
}

/* What could make the call fail comes first: an extension may not be asked
 * twice about the same frame. */
static int
find_room(WebsocketObject *ws, const struct tws_deadline *deadline)
{
    unsigned ready;
    if (deadline->immediate) {
        return 0;
    }
    int room =
        tws_wait_quietly(ws->transport.fd, TWS_WAIT_WRITE, deadline, &ready);
    if (room == 0) {
        return tws_raise_time_over(deadline, "send()");
    }
    return room < 0 ? -1 : 0;
}

/* Has frames made, and writes them. */
static int
make_and_write(WebsocketObject *ws, const struct tws_making *making,
               bool *taken, const struct tws_deadline *deadline)
{
    struct remaining nothing = {.count = 0};
    struct tws_buffer made = TWS_BUFFER_EMPTY;
    if (write_locked(ws, &nothing, deadline, taken) < 0
        || (making->unmade == NULL && find_room(ws, deadline) < 0)) {
        return -1;
    }
    atomic_store(&ws->maker, PyThread_get_thread_ident());
    int result = making->make(making->context, &made);
    atomic_store(&ws->maker, 0);
    if (result == 0) {
        struct remaining left = {.count = 1,
                                 .length = tws_buffer_length(&made)};
        left.parts[0] = (struct iovec){.iov_base = tws_buffer_data(&made),
                                       .iov_len = left.length};
        *taken = making->unmade == NULL;
        result = write_and_keep(ws, &left, taken, deadline);
        if (!*taken) {
            making->unmade(making->context);
        }
    }
    tws_buffer_release(&made);
    return result;
}

/* True where another message is being sent in pieces. Only with the lock held
 * does the answer hold. */
static bool
must_wait(WebsocketObject *ws, const struct tws_sending *sending)
{
    const void *stream = atomic_load(&ws->stream);
    return sending != NULL && stream != NULL && stream != sending->stream;
}

static int
await_stream(WebsocketObject *ws, const char *what,
             const struct tws_deadline *deadline)
{
    if (atomic_load(&ws->stream_thread) == PyThread_get_thread_ident()) {
        PyErr_Format(ws->state->ConcurrencyError,
                     "%s while this thread is sending a message in pieces: "
                     "leave the block of send_stream() first",
                     what);
        return -1;
    }
    return tws_lock_wait(ws->stream_lock, deadline, what);
}

int
tws_websocket_check_maker(WebsocketObject *ws, const char *what)
{
    if (TWS_LIKELY(atomic_load_explicit(&ws->maker, memory_order_relaxed)
                   != PyThread_get_thread_ident())) {
        return 0;
    }
    PyErr_Format(ws->state->ConcurrencyError,
                 "%s in onsend() of an extension of the same connection: it "
                 "can only return another frame",
                 what);
    return -1;
}

/* Waits for its turn, then writes `left`, or what is to be made (NULL: that
 * is there already). */
static int
write_in_turn(WebsocketObject *ws, struct remaining *left,
              const struct tws_making *making, struct tws_sending *sending,
              const struct tws_deadline *deadline)
{
    if (tws_websocket_check_maker(ws, "send()") < 0) {
        return -1;
    }
    for (;;) {
        if (tws_lock_wait(ws->write_lock, deadline, "send()") < 0) {
            return -1;
        }
        if (!must_wait(ws, sending)) {
            bool taken = false;
            int result = making == NULL
                             ? write_and_keep(ws, left, &taken, deadline)
                             : make_and_write(ws, making, &taken, deadline);
            if (sending != NULL) {
                sending->taken = taken;
            }
            unlock(ws);
            return result;
        }
        unlock(ws);
        if (await_stream(ws, "send()", deadline) < 0) {
            return -1;
        }
        PyThread_release_lock(ws->stream_lock);
    }
}

int
tws_websocket_begin_stream(WebsocketObject *ws, const void *stream,
                           const struct tws_deadline *deadline)
{
    if (ws->stream_lock == NULL) {
        ws->stream_lock = PyThread_allocate_lock();
        if (ws->stream_lock == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    if (tws_websocket_check_maker(ws, "send_stream()") < 0
        || await_stream(ws, "send_stream()", deadline) < 0) {
        return -1;
    }
    /* Whoever is writing a message has ended it then. */
    if (tws_lock_wait(ws->write_lock, deadline, "send_stream()") < 0) {
        PyThread_release_lock(ws->stream_lock);
        return -1;
    }
    atomic_store(&ws->stream_thread, PyThread_get_thread_ident());
    atomic_store(&ws->stream, stream);
    unlock(ws);
    return 0;
}

void
tws_websocket_end_stream(WebsocketObject *ws)
{
    atomic_store(&ws->stream_thread, 0);
    atomic_store(&ws->stream, NULL);
    PyThread_release_lock(ws->stream_lock);
}

static int
write_any(WebsocketObject *ws, struct remaining *left,
          const struct tws_making *making, struct tws_sending *sending,
          const struct tws_deadline *deadline)
{
    if (tws_websocket_enter(ws) < 0) {
        return -1;
    }
    if (atomic_load(&ws->reading)
        && atomic_load(&ws->reading_thread) != PyThread_get_thread_ident()) {
        atomic_store(&ws->shared, true);
    }
    if (sending != NULL && sending->stream != NULL) {
        atomic_store(&ws->stream_thread, PyThread_get_thread_ident());
    }
    int result = write_in_turn(ws, left, making, sending, deadline);
    tws_websocket_leave(ws);
    return result;
}

int
tws_websocket_write_made(WebsocketObject *ws, const struct tws_making *making,
                         struct tws_sending *sending,
                         const struct tws_deadline *deadline)
{
    struct remaining none = {.count = 0};
    return write_any(ws, &none, making, sending, deadline);
}

int
tws_websocket_write(WebsocketObject *ws, const struct iovec *parts, int count,
                    struct tws_sending *sending,
                    const struct tws_deadline *deadline)
{
    struct remaining left = {.count = count};
    if (count > (int)TWS_ARRAY_SIZE(left.parts)) {
        PyErr_SetString(PyExc_SystemError, "too many parts to write");
        return -1;
    }
    for (int i = 0; i < count; i++) {
        left.parts[i] = parts[i];
        left.length += parts[i].iov_len;
    }
    if (left.length >= TWS_LARGE_MESSAGE) {
        tws_websocket_note_large(ws);
    }
    return write_any(ws, &left, NULL, sending, deadline);
}

/* With the guard held. */
static enum tws_status
queue_control(WebsocketObject *ws, const struct tws_control *control)
{
    bool pong = (control->bytes[0] & 0x0f) == TWS_OPCODE_PONG;
    size_t replaced = 0;
    /* The Pong for the latest Ping stands for those before (RFC 6455 §5.5.3),
     * the other way round it would not. */
    if (pong && tws_buffer_length(&ws->control) >= CONTROL_MAX) {
        replaced = ws->last_pong;
    }
    tws_buffer_withdraw(&ws->control, replaced);
    enum tws_status status =
        tws_buffer_append(&ws->control, control->bytes, control->length);
    ws->last_pong = status == TWS_OK && pong ? control->length : 0;
    return status;
}

int
tws_websocket_send_control(WebsocketObject *ws,
                           const struct tws_control *control)
{
    if (tws_websocket_enter(ws) < 0) {
        PyErr_Clear(); /* closed: nobody is there to read it */
        return 0;
    }
    enum tws_status status = TWS_OK;
    pthread_mutex_lock(&ws->guard);
    if (!ws->close_queued) {
        status = queue_control(ws, control);
        ws->close_queued = status == TWS_OK && tws_control_is_close(control);
    }
    pthread_mutex_unlock(&ws->guard);
    (void)tws_websocket_write_on(ws);
    tws_websocket_leave(ws);
    if (status != TWS_OK) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

int
tws_websocket_draw_key(WebsocketObject *ws, uint8_t storage[4],
                       const uint8_t **key)
{
    struct tws_error err;
    *key = NULL;
    if (ws->role == TWS_SERVER) {
        return 0;
    }
    if (tws_mask_pool_take(ws->state->mask_pool, storage, &err) != TWS_OK) {
        (void)tws_raise(ws->state, &err);
        return -1;
    }
    *key = storage;
    return 0;
}

void
tws_websocket_end_writing(WebsocketObject *ws)
{
    if (tws_websocket_enter(ws) < 0) {
        PyErr_Clear();
        return;
    }
    /* Behind what is still to be written: whoever writes that does it. */
    atomic_store(&ws->end_wanted, true);
    (void)tws_websocket_write_on(ws);
    tws_websocket_leave(ws);
}
