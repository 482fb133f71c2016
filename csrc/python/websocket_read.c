/* Receiving. Whatever interrupts a call, the bytes stay where they are and
 * the next call goes on from there. */
#include "python/websocket_parts.h"

#include "python/errors.h"
#include "python/extension_chain.h"
#include "python/frame_type.h"
#include "loop/timers.h"
#include "protocol/frame_collector.h"

#include <poll.h>

enum {
    SCRATCH_SIZE = 16 * 1024,
    ROOM_MAX = 64 * 1024,   /* asked for ahead of what has arrived */
    KEPT_CAPACITY = 4096,   /* of an empty buffer; more is given back */
    CONTROL_PAYLOADS = 125, /* RFC 6455 §5.5, whatever max_size says */
};

/* Another thread that sends may leave the rest of a frame to us while we are
 * waiting already, and has no means to wake us: so look for it now and then,
 * oftener where another thread has sent before. */
#define LOOK_AROUND ((uint64_t)500 * 1000 * 1000)
#define LOOK_AROUND_ALONE ((uint64_t)5000 * 1000 * 1000)

int
tws_websocket_begin_read(WebsocketObject *ws)
{
    if (tws_websocket_check(ws, TWS_PHASES(TWS_PHASE_OPEN), "recv()") < 0) {
        return -1;
    }
    return tws_websocket_claim(ws, "recv()");
}

void
tws_websocket_end_read(WebsocketObject *ws)
{
    if (tws_buffer_length(&ws->in) == 0 && ws->in.capacity > KEPT_CAPACITY) {
        tws_buffer_release(&ws->in);
    }
    tws_websocket_disclaim(ws);
}

/* Looks again and again for as long as falling asleep and being woken would
 * take; see engine/spin.h. */
static bool
spin(WebsocketObject *ws, uint64_t began)
{
    struct pollfd watched = {.fd = ws->transport.fd, .events = POLLIN};
    bool found;
    Py_BEGIN_ALLOW_THREADS
    do {
        found = poll(&watched, 1, 0) > 0;
    } while (!found && tws_clock_now() - began < TWS_SPIN_MAX);
    Py_END_ALLOW_THREADS
    if (found) {
        tws_spin_note(&ws->spin, ws, tws_clock_now() - began, true);
    }
    else {
        tws_spin_fail(&ws->spin);
    }
    return found;
}

/* Waits for bytes, and for room where something is left to be sent. */
static int
wait_for_bytes(WebsocketObject *ws, const struct tws_deadline *deadline)
{
    uint64_t began = tws_clock_now();
    if (!deadline->immediate && tws_spin_is_worth_it(&ws->spin)) {
        if (spin(ws, began)) {
            return 0;
        }
        /* A signal meanwhile would not end what waits from now on. */
        if (PyErr_CheckSignals() < 0) {
            return -1;
        }
    }
    for (;;) {
        unsigned ready = 0;
        unsigned events = TWS_WAIT_READ;
        struct tws_deadline slice = *deadline;
        if (atomic_load(&ws->unsent) && tws_websocket_write_on(ws)) {
            events |= TWS_WAIT_WRITE;
        }
        if (!deadline->immediate) {
            slice = tws_deadline_after(
                atomic_load(&ws->shared) ? LOOK_AROUND : LOOK_AROUND_ALONE);
        }
        if (slice.at > deadline->at) {
            slice = *deadline;
        }
        int result =
            tws_wait_quietly(ws->transport.fd, events, &slice, &ready);
        if (result < 0) {
            return -1;
        }
        if (result == 0 && slice.at == deadline->at) {
            return tws_raise_time_over(deadline, "recv()");
        }
        if ((ready & TWS_WAIT_READ) != 0) {
            tws_spin_note(&ws->spin, ws, tws_clock_now() - began, false);
            return 0;
        }
    }
}

/* Decrypting takes time that others can use. */
static enum tws_status
read_into(WebsocketObject *ws, uint8_t *room, size_t size, size_t *got,
          struct tws_error *err)
{
    enum tws_status status;
    if (ws->transport.tls == NULL) {
        return tws_read(&ws->transport, room, size, got, err);
    }
    Py_BEGIN_ALLOW_THREADS
    status = tws_read(&ws->transport, room, size, got, err);
    Py_END_ALLOW_THREADS
    return status;
}

static enum tws_status
read_some(WebsocketObject *ws, uint8_t *room, size_t size, size_t *got,
          struct tws_error *err)
{
    if (room != NULL) {
        return read_into(ws, room, size, got, err);
    }
    /* By way of the stack, so that an idle websocket holds no more memory
     * than the bytes it has not yet parsed. */
    uint8_t scratch[SCRATCH_SIZE];
    enum tws_status status = read_into(ws, scratch, sizeof(scratch), got, err);
    if (status == TWS_OK
        && tws_buffer_append(&ws->in, scratch, *got) != TWS_OK) {
        return tws_error_nomem(err);
    }
    return status;
}

int
tws_websocket_fill(WebsocketObject *ws, uint8_t *room, size_t size,
                   const struct tws_deadline *deadline, size_t *got)
{
    struct tws_error err;
    if (size >= ROOM_MAX) {
        tws_websocket_note_large(ws);
    }
    while (!ws->at_end) {
        enum tws_status status = read_some(ws, room, size, got, &err);
        switch (status) {
        case TWS_OK:
            /* Only who has the right to read writes it. */
            atomic_store_explicit(
                &ws->heard,
                atomic_load_explicit(&ws->heard, memory_order_relaxed) + 1,
                memory_order_relaxed);
            return 1;
        case TWS_AGAIN:
            if (wait_for_bytes(ws, deadline) < 0) {
                return -1;
            }
            break;
        case TWS_EOF:
            ws->at_end = true;
            break;
        default:
            if (status == TWS_NOMEM) {
                ws->at_end = true; /* what was read is lost */
            }
            if (tws_websocket_is_closing(ws)) {
                ws->at_end = true;
                break;
            }
            if (status == TWS_OS && tws_websocket_is_lost(err.sys_errno)) {
                ws->at_end = true;
                return tws_websocket_raise_lost(ws, &err, NULL);
            }
            (void)tws_raise(ws->state, &err);
            return -1;
        }
    }
    return 0;
}

/* --- frames --- */

/* Keeps in mind that the stream is broken. */
static int
note_broken(WebsocketObject *ws, const struct tws_error *err)
{
    if (ws->broken == NULL) {
        ws->broken = PyMem_Malloc(sizeof(*ws->broken));
        if (ws->broken == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        *ws->broken = *err;
    }
    return 0;
}

int
tws_websocket_raise_broken(WebsocketObject *ws, const struct tws_error *err)
{
    if (note_broken(ws, err) == 0) {
        (void)tws_raise(ws->state, err);
    }
    return -1;
}

/* By the header alone: the payload may never come. */
static enum tws_status
check_size(const WebsocketObject *ws, const struct tws_frame_header *header,
           struct tws_error *err)
{
    uint64_t limit = ws->options->message.size;
    if (ws->chain != NULL || tws_websocket_is_compressed(ws, header)) {
        limit = tws_frame_size_limit(limit);
    }
    if (limit < CONTROL_PAYLOADS && tws_opcode_is_control(header->opcode)) {
        return TWS_OK;
    }
    if (header->length > limit) {
        return tws_error_protocol(
            err, 1009, "frame of %llu bytes, expected at most %llu (max_size)",
            (unsigned long long)header->length, (unsigned long long)limit);
    }
    return TWS_OK;
}

/* A frame whose payload came in one piece, or whose last piece this is. */
static PyObject *
finish_frame(WebsocketObject *ws, const struct tws_piece *piece)
{
    struct tws_buffer *partial = &ws->partial;
    PyObject *payload;
    if (tws_buffer_length(partial) == 0) {
        payload = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)piece->length);
        if (payload == NULL) {
            return NULL;
        }
        tws_piece_copy(piece, (uint8_t *)PyBytes_AS_STRING(payload));
    }
    else {
        payload =
            PyBytes_FromStringAndSize((const char *)tws_buffer_data(partial),
                                      (Py_ssize_t)tws_buffer_length(partial));
        tws_buffer_release(partial);
        if (payload == NULL) {
            return NULL;
        }
    }
    return tws_frame_from_wire(ws->state, piece->header, payload);
}

static enum tws_status
keep_piece(WebsocketObject *ws, const struct tws_piece *piece,
           struct tws_error *err)
{
    uint8_t *room;
    if (piece->length == 0) {
        return TWS_OK;
    }
    if (tws_buffer_reserve(&ws->partial, piece->length, &room) != TWS_OK) {
        return tws_error_nomem(err); /* these bytes are lost */
    }
    tws_piece_copy(piece, room);
    tws_buffer_commit(&ws->partial, piece->length);
    return TWS_OK;
}

/* The next frame from the bytes at hand. 1: *frame is set; 0: more are
 * needed; -1 with an exception. */
static int
parse_frame(WebsocketObject *ws, PyObject **frame)
{
    struct tws_error err;
    struct tws_piece piece;
    if (ws->broken != NULL) {
        return tws_websocket_raise_broken(ws, ws->broken);
    }
    for (;;) {
        size_t length = tws_buffer_length(&ws->in);
        if (length == 0) {
            return 0;
        }
        struct tws_input input = {.data = tws_buffer_data(&ws->in),
                                  .length = length};
        enum tws_status status =
            tws_frame_reader_next(&ws->reader, &input, &piece, &err);
        if (status == TWS_OK && piece.first) {
            status = check_size(ws, piece.header, &err);
        }
        bool last = status == TWS_OK && piece.last;
        if (status == TWS_OK
            && (!last || tws_buffer_length(&ws->partial) > 0)) {
            status = keep_piece(ws, &piece, &err);
        }
        if (status == TWS_OK && last) {
            *frame = finish_frame(ws, &piece);
        }
        tws_buffer_consume(&ws->in, length - input.length);
        if (status != TWS_OK && status != TWS_AGAIN) {
            return tws_websocket_raise_broken(ws, &err);
        }
        if (last) {
            return *frame == NULL ? -1 : 1;
        }
        /* Used up: the reader keeps an unfinished header itself. */
    }
}

/* In the middle of a large payload, reads on straight into its place. The
 * room grows with what has arrived, whatever the header claims. */
static int
fill_partial(WebsocketObject *ws, const struct tws_deadline *deadline,
             PyObject **frame)
{
    size_t have = tws_buffer_length(&ws->partial);
    uint64_t size = ws->reader.left;
    uint8_t *room;
    size_t got;
    struct tws_piece piece;
    if (size > ROOM_MAX && size > have) {
        size = have > ROOM_MAX ? have : ROOM_MAX;
    }
    if (tws_buffer_reserve(&ws->partial, (size_t)size, &room) != TWS_OK) {
        PyErr_NoMemory();
        return -1;
    }
    int result = tws_websocket_fill(ws, room, (size_t)size, deadline, &got);
    if (result <= 0) {
        return result;
    }
    tws_frame_reader_skip(&ws->reader, room, got, &piece);
    tws_piece_copy(&piece, room);
    tws_buffer_commit(&ws->partial, got);
    if (piece.last) {
        *frame = finish_frame(ws, &piece);
        return *frame == NULL ? -1 : 1;
    }
    return 1;
}

static int
raise_end(WebsocketObject *ws)
{
    const char *detail = NULL;
    if (tws_websocket_is_closing(ws)) {
        detail = "the websocket was closed by another thread";
    }
    else if (ws->reader.in_payload || ws->reader.partial_length > 0) {
        detail = "the stream ended in the middle of a frame";
    }
    return tws_websocket_raise_lost(ws, NULL, detail);
}

/* Takes the oldest of the frames that were kept: the list is reversed. */
static PyObject *
take_kept(WebsocketObject *ws)
{
    Py_ssize_t last = PyList_GET_SIZE(ws->kept) - 1;
    PyObject *frame = Py_NewRef(PyList_GET_ITEM(ws->kept, last));
    if (last == 0) {
        Py_CLEAR(ws->kept);
    }
    else if (PyList_SetSlice(ws->kept, last, last + 1, NULL) < 0) {
        Py_CLEAR(frame);
    }
    return frame;
}

/* By a Connection. */
static bool
close_is_sent(WebsocketObject *ws)
{
    pthread_mutex_lock(&ws->guard);
    bool sent = ws->close_queued;
    pthread_mutex_unlock(&ws->guard);
    return sent;
}

/* Steals *frame, and puts what the extensions make of it in its place; NULL
 * where they need more. -1 with an exception. */
static int
pass_extensions(WebsocketObject *ws, PyObject **frame)
{
    struct tws_chain_failure failure;
    PyObject *received = *frame;
    *frame = NULL;
    if (!tws_opcode_is_control(((FrameObject *)received)->opcode)
        && close_is_sent(ws)) {
        Py_DECREF(received); /* it counts no more (RFC 6455 §5.5.1) */
        return 0;
    }
    if (tws_chain_recv(ws->chain, received, frame, &failure) >= 0) {
        return 0;
    }
    PyObject *pending = PyErr_GetRaisedException();
    if (note_broken(ws, &failure.why) < 0) {
        Py_DECREF(pending);
        return -1;
    }
    ws->extension_failed = failure.of_extension;
    PyErr_SetRaisedException(pending);
    return -1;
}

/* With the right to read: the next frame as it came. */
static PyObject *
wire_frame(WebsocketObject *ws, const struct tws_deadline *deadline)
{
    PyObject *frame = NULL;
    size_t got;
    while (frame == NULL) {
        int result = parse_frame(ws, &frame);
        if (result < 0) {
            return NULL;
        }
        if (result > 0) {
            break;
        }
        result = ws->reader.in_payload && ws->reader.left > SCRATCH_SIZE
                     ? fill_partial(ws, deadline, &frame)
                     : tws_websocket_fill(ws, NULL, 0, deadline, &got);
        if (result == 0) {
            result = raise_end(ws);
        }
        if (result < 0) {
            return NULL;
        }
    }
    return frame;
}

PyObject *
tws_websocket_next_frame(WebsocketObject *ws,
                         const struct tws_deadline *deadline)
{
    PyObject *frame;
    if (ws->kept != NULL) {
        return take_kept(ws); /* has been through the hooks */
    }
    do {
        frame = wire_frame(ws, deadline);
        if (frame == NULL
            || (ws->chain != NULL && pass_extensions(ws, &frame) < 0)
            || (ws->compression != NULL
                && tws_websocket_inflate(ws, &frame) < 0)) {
            return NULL;
        }
    } while (frame == NULL);
    return tws_websocket_run_hooks(ws, ws->recv_hooks, frame, "recv");
}

/* --- methods --- */

/* What its Connection has read ahead would be skipped. */
static int
check_not_read_ahead(WebsocketObject *ws, const char *what)
{
    if (TWS_LIKELY(!atomic_load(&ws->read_ahead))) {
        return 0;
    }
    PyErr_Format(PyExc_RuntimeError,
                 "%s on the websocket of a Connection that reads ahead: call "
                 "recv() of the Connection, or pass max_queue=None to "
                 "twspy.connect()",
                 what);
    return -1;
}

const char tws_websocket_recv_doc[] = PyDoc_STR(
    "recv($self, /)\n--\n\n"
    "Wait for the next frame and return it, a Frame.\n\n"
    "The frame has passed the extensions that were agreed on, and then the\n"
    "recv hooks: what was compressed comes inflated, without rsv1, fragment "
    "by\n"
    "fragment. Only the framing is checked: text\n"
    "may be bad UTF-8, and pings and Close frames are returned, not\n"
    "answered.\n\n"
    "Raises TimeoutError, or BlockingIOError on a non-blocking websocket;\n"
    "either way nothing is lost and the next call goes on. ProtocolError,\n"
    "with the close code to send, where the peer breaks the framing (RFC\n"
    "6455 section 5.2), a frame is larger than max_size, inflated or not, or\n"
    "can't be inflated; every further\n"
    "call raises it again, and closing is up to the caller. SocketClosed at\n"
    "the end of the stream. ConcurrencyError while another thread receives.\n"
    "RuntimeError where a Connection reads ahead (twspy.connect()).");

PyObject *
tws_websocket_recv_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    WebsocketObject *ws = tws_websocket_of(self);
    if (check_not_read_ahead(ws, "recv()") < 0) {
        return NULL;
    }
    struct tws_deadline deadline = tws_websocket_deadline(ws);
    if (tws_websocket_begin_read(ws) < 0) {
        return NULL;
    }
    PyObject *frame = tws_websocket_next_frame(ws, &deadline);
    tws_websocket_end_read(ws);
    return frame;
}

/* The frames at hand stay for the next call. */
static void
keep_frames(WebsocketObject *ws, PyObject *frames)
{
    PyObject *pending = PyErr_GetRaisedException();
    /* What was kept before has been used up: it stands first in the list. */
    if (PyList_GET_SIZE(frames) > 0 && PyList_Reverse(frames) == 0) {
        Py_XSETREF(ws->kept, Py_NewRef(frames));
    }
    PyErr_SetRaisedException(pending);
}

const char tws_websocket_recvn_doc[] = PyDoc_STR(
    "recvn($self, n, /)\n--\n\n"
    "Wait for n frames and return them, a list of Frame.\n\n"
    "The timeout bounds the whole call. As recv() otherwise; where it\n"
    "raises, the frames that had come already stay and are what the next\n"
    "calls return first.");

PyObject *
tws_websocket_recvn_method(PyObject *self, PyObject *number)
{
    WebsocketObject *ws = tws_websocket_of(self);
    Py_ssize_t count = PyNumber_AsSsize_t(number, PyExc_OverflowError);
    if (count == -1 && PyErr_Occurred() != NULL) {
        return NULL;
    }
    if (count < 0) {
        PyErr_Format(PyExc_ValueError, "n is %zd, expected at least 0", count);
        return NULL;
    }
    if (check_not_read_ahead(ws, "recvn()") < 0) {
        return NULL;
    }
    struct tws_deadline deadline = tws_websocket_deadline(ws);
    PyObject *frames = PyList_New(0);
    if (frames == NULL || tws_websocket_begin_read(ws) < 0) {
        Py_XDECREF(frames);
        return NULL;
    }
    while (PyList_GET_SIZE(frames) < count) {
        PyObject *frame = tws_websocket_next_frame(ws, &deadline);
        int result = frame == NULL ? -1 : PyList_Append(frames, frame);
        Py_XDECREF(frame);
        if (result < 0) {
            keep_frames(ws, frames);
            Py_CLEAR(frames);
            break;
        }
    }
    tws_websocket_end_read(ws);
    return frames;
}

const char tws_websocket_pending_doc[] = PyDoc_STR(
    "pending($self, /)\n--\n\n"
    "How many times recv() would answer without reading from the "
    "descriptor.\n\n"
    "That many whole frames were read already; select() does not know about\n"
    "them. A frame that breaks the protocol counts as the last. 0 while\n"
    "another thread receives.");

/* Whole frames in the bytes at hand. The copy of the reader sees them
 * without consuming anything. */
static Py_ssize_t
count_frames(const WebsocketObject *ws)
{
    struct tws_frame_reader reader = ws->reader;
    struct tws_input input = {.length = tws_buffer_length(&ws->in)};
    struct tws_piece piece;
    struct tws_error err;
    Py_ssize_t count = ws->kept == NULL ? 0 : PyList_GET_SIZE(ws->kept);
    enum tws_status status = TWS_OK;
    if (ws->broken != NULL) {
        return count + 1;
    }
    if (input.length == 0) {
        return count;
    }
    input.data = tws_buffer_data(&ws->in);
    while (status == TWS_OK) {
        status = tws_frame_reader_next(&reader, &input, &piece, &err);
        if (status == TWS_OK && piece.first) {
            status = check_size(ws, piece.header, &err);
        }
        count += status == TWS_OK && piece.last;
    }
    return count + (status == TWS_PROTOCOL);
}

PyObject *
tws_websocket_pending_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    WebsocketObject *ws = tws_websocket_of(self);
    if (tws_websocket_check(ws, ~TWS_PHASES(TWS_PHASE_SERVED), "pending()")
        < 0) {
        return NULL;
    }
    Py_ssize_t count = 0;
    if (ws->phase == TWS_PHASE_OPEN && !atomic_exchange(&ws->reading, true)) {
        if (tws_websocket_enter(ws) == 0) {
            count = count_frames(ws);
            tws_websocket_leave(ws);
        }
        PyErr_Clear(); /* closed this moment */
        atomic_store(&ws->reading, false);
    }
    return PyLong_FromSsize_t(count);
}
