/* Receiving on a Connection whose calling threads read its websocket. */
#include "python/connection_parts.h"

#include "python/connection_ahead.h"
#include "python/errors.h"
#include "python/frame_type.h"
#include "python/message_type.h"
#include "protocol/message_stream.h"

enum {
    ROUNDS_ALONE = 16, /* of reading, up to 64 KiB each */
    EVENTS_ALONE = 16, /* that are nothing for the program */
};

/* With the lock held: what the end will be told by. False where it is not the
 * program's. */
static bool
note_event(struct tws_blocking *blocking, const struct tws_event *event,
           bool answered)
{
    if (event->type == TWS_EVENT_PONG && blocking->ahead != NULL
        && tws_ahead_take_pong(blocking->ahead, event)) {
        return false;
    }
    if (event->type == TWS_EVENT_PONG && event->length == blocking->ping_length
        && memcmp(event->data, blocking->ping_payload, event->length) == 0) {
        blocking->ping_at = 0;
    }
    if (event->type == TWS_EVENT_CLOSE) {
        tws_ending_set_received(&blocking->ending, event->code, event->reason);
        if (answered) {
            tws_ending_set_sent(&blocking->ending, event->code, TWS_SPAN(""));
        }
    }
    return true;
}

/* Takes note of an event, answers it, and makes an object of it. 1: *in is
 * set; 0: nothing for the program; -1 with an exception. */
static int
take_event(ConnectionObject *conn, const struct tws_event *event,
           struct tws_incoming *in)
{
    WebsocketObject *ws = websocket_of(conn);
    struct tws_control reply = {.length = 0};
    uint8_t storage[4];
    const uint8_t *key = NULL;
    if (event->type >= TWS_EVENT_CLOSE
        && tws_websocket_draw_key(ws, storage, &key) < 0) {
        return -1;
    }
    pthread_mutex_lock(&conn->blocking->lock);
    bool ours_first = conn->blocking->session.sent_code != 0;
    bool concerns =
        tws_session_take(&conn->blocking->session, event, key, &reply);
    concerns = note_event(conn->blocking, event, !ours_first) && concerns;
    pthread_mutex_unlock(&conn->blocking->lock);
    if (reply.length > 0 && tws_websocket_send_control(ws, &reply) < 0) {
        return -1;
    }
    if (ours_first) {
        /* Nothing counts any more, chunks at hand neither. */
        tws_message_stream_discard(&conn->blocking->assembler);
    }
    if (!concerns) {
        return 0;
    }
    in->type = event->type;
    in->length = event->length;
    switch (event->type) {
    case TWS_EVENT_TEXT:
    case TWS_EVENT_BINARY:
        in->object = tws_connection_message(conn->state, event);
        break;
    case TWS_EVENT_CHUNK:
        in->object = tws_connection_chunk(&conn->blocking->assembler, event);
        break;
    case TWS_EVENT_PING:
    case TWS_EVENT_PONG:
        in->object = PyBytes_FromStringAndSize((const char *)event->data,
                                               (Py_ssize_t)event->length);
        break;
    case TWS_EVENT_FRAME: /* these are for a server's client */
        return 0;
    case TWS_EVENT_CLOSE:
        in->object = NULL;
        tws_blocking_set_over(conn,
                              ours_first ? TWS_ENDED_BY_US : TWS_ENDED_BY_PEER,
                              event->code, event->reason, 0);
        return 1;
    }
    return in->object == NULL ? -1 : 1;
}

int
tws_blocking_fail(ConnectionObject *conn, const struct tws_error *err)
{
    struct tws_span reason = {.data = err->reason,
                              .length = strlen(err->reason)};
    uint16_t code = err->close_code != 0 ? err->close_code : TWS_CLOSE_UNABLE;
    if (tws_blocking_send_close(conn, code, reason) < 0) {
        return -1;
    }
    tws_blocking_set_over(conn,
                          err->status == TWS_PROTOCOL ? TWS_ENDED_BY_LIMIT
                                                      : TWS_ENDED_BY_US,
                          code, reason, 0);
    (void)tws_raise(conn->state, err);
    return -1;
}

/* Where a message may be without end and gives nothing for the program, as
 * its rest is skipped, its fragments are empty or inflate to nothing: now and
 * then other threads, signals and the deadline get their turn. */
static int
let_others_in(const struct tws_assembler *assembler, unsigned *rounds,
              const struct tws_deadline *deadline)
{
    if (!assembler->chunked && !assembler->skipping
        && !assembler->compressed) {
        return 0;
    }
    (*rounds)++;
    return *rounds % ROUNDS_ALONE == 0 ? tws_pause(deadline, "recv()") : 0;
}

/* The same after an event that is nothing for the program: a peer may send
 * those faster than they are taken, and then nothing ever waits. What lies
 * behind them is at hand, which a descriptor does not tell: so a call that is
 * not to wait goes on. */
static int
let_others_between(unsigned *events, const struct tws_deadline *deadline)
{
    static const struct tws_deadline never = {.at = UINT64_MAX};
    (*events)++;
    return *events % EVENTS_ALONE == 0
               ? tws_pause(deadline->immediate ? &never : deadline, "recv()")
               : 0;
}

/* Inflating takes time that others can use. */
static enum tws_status
receive_at_hand(WebsocketObject *ws, struct tws_assembler *assembler,
                struct tws_input *input, struct tws_event *event,
                struct tws_error *err)
{
    const struct tws_message_limits *limits = &ws->options->message;
    enum tws_status status;
    if (TWS_LIKELY(assembler->compression == NULL)
        || !tws_receive_is_heavy(&ws->reader, assembler, input)) {
        return tws_receive(&ws->reader, assembler, limits, input, event, err);
    }
    Py_BEGIN_ALLOW_THREADS
    status = tws_receive(&ws->reader, assembler, limits, input, event, err);
    Py_END_ALLOW_THREADS
    return status;
}

/* Reads until there is an event; returns as take_event(). */
static int
read_event(ConnectionObject *conn, const struct tws_deadline *deadline,
           struct tws_incoming *in)
{
    WebsocketObject *ws = websocket_of(conn);
    struct tws_assembler *assembler = &conn->blocking->assembler;
    const struct tws_message_limits *limits = &ws->options->message;
    unsigned rounds = 0;
    unsigned events = 0;
    for (;;) {
        struct tws_event event;
        struct tws_error err;
        uint8_t *room;
        size_t size = 0;
        size_t got;
        size_t before = tws_buffer_length(&ws->in);
        struct tws_input input = {.data = tws_buffer_data(&ws->in),
                                  .length = before};
        enum tws_status status =
            receive_at_hand(ws, assembler, &input, &event, &err);
        if (status == TWS_AGAIN) {
            tws_buffer_consume(&ws->in, before - input.length);
            if (let_others_in(assembler, &rounds, deadline) < 0) {
                return -1;
            }
            bool direct =
                tws_receive_room(&ws->reader, assembler, &room, &size);
            int more = tws_websocket_fill(ws, direct ? room : NULL, size,
                                          deadline, &got);
            if (more <= 0) {
                return more < 0 ? -1 : 2;
            }
            if (direct) {
                before = input.length = 0;
                status = tws_receive_direct(&ws->reader, assembler, limits,
                                            room, got, &event, &err);
            }
        }
        if (status == TWS_OK) {
            int result = take_event(conn, &event, in);
            /* The event may have borrowed these bytes until now. */
            tws_buffer_consume(&ws->in, before - input.length);
            if (result != 0) {
                return result;
            }
            if (let_others_between(&events, deadline) < 0) {
                return -1;
            }
        }
        else if (status != TWS_AGAIN) {
            return tws_blocking_fail(conn, &err);
        }
    }
}

bool
tws_blocking_reads_pieces(ConnectionObject *conn)
{
    const WebsocketObject *ws = websocket_of(conn);
    /* So is a compressed message: its end is of no use without the rest. */
    return conn->blocking->amid_frame || conn->blocking->assembler.compressed
           || (ws->recv_hooks == NULL && ws->kept == NULL && ws->chain == NULL
               && !ws->reader.in_payload && !ws->amid_compressed);
}

/* The same, as the websocket's own recv(), whose hooks and extensions see
 * each frame. */
static int
read_event_of_frames(ConnectionObject *conn,
                     const struct tws_deadline *deadline,
                     struct tws_incoming *in)
{
    WebsocketObject *ws = websocket_of(conn);
    struct tws_assembler *assembler = &conn->blocking->assembler;
    unsigned events = 0;
    for (;;) {
        struct tws_event event;
        struct tws_error err;
        int result = 0;
        if (tws_message_stream_chunk(assembler, &event)) {
            result = take_event(conn, &event, in);
            if (result != 0) {
                return result;
            }
        }
        PyObject *object = tws_websocket_next_frame(ws, deadline);
        if (object == NULL) {
            return -1;
        }
        FrameObject *frame = (FrameObject *)object;
        if (!tws_opcode_is_known(frame->opcode)) {
            Py_DECREF(object); /* an extension's own: it is no message */
            if (let_others_between(&events, deadline) < 0) {
                return -1;
            }
            continue;
        }
        struct tws_frame_header header = {
            .opcode = frame->opcode,
            .fin = frame->fin,
            .length = (uint64_t)PyBytes_GET_SIZE(frame->payload),
        };
        /* Not masked, so nothing writes into the payload. */
        struct tws_piece piece = {
            .header = &header,
            .data = (uint8_t *)PyBytes_AS_STRING(frame->payload),
            .length = (size_t)header.length,
            .first = true,
            .last = true,
        };
        enum tws_status status = tws_assembler_take(
            assembler, &ws->options->message, &piece, &event, &err);
        if (status == TWS_OK) {
            result = take_event(conn, &event, in);
        }
        else if (status != TWS_AGAIN) {
            result = tws_blocking_fail(conn, &err);
        }
        Py_DECREF(object);
        if (result != 0) {
            return result;
        }
        if (let_others_between(&events, deadline) < 0) {
            return -1;
        }
    }
}

int
tws_blocking_read_event(ConnectionObject *conn,
                        const struct tws_deadline *deadline,
                        struct tws_incoming *in)
{
    if (!tws_blocking_reads_pieces(conn)) {
        return read_event_of_frames(conn, deadline, in);
    }
    int result = read_event(conn, deadline, in);
    conn->blocking->amid_frame = websocket_of(conn)->reader.in_payload;
    return result;
}

/* The pending exception is an extension's, which stays. */
static void
judge_extension(ConnectionObject *conn, const struct tws_error *why)
{
    PyObject *error = PyErr_GetRaisedException();
    struct tws_span reason = {.data = why->reason,
                              .length = strlen(why->reason)};
    if (tws_blocking_send_close(conn, why->close_code, reason) < 0) {
        PyErr_WriteUnraisable((PyObject *)conn);
    }
    tws_blocking_set_over(conn, TWS_ENDED_BY_US, why->close_code, reason, 0);
    PyErr_SetRaisedException(error);
}

void
tws_blocking_judge_failure(ConnectionObject *conn)
{
    struct tws_state *state = conn->state;
    const WebsocketObject *ws = websocket_of(conn);
    if (ws->extension_failed && !tws_blocking_is_over(conn)) {
        judge_extension(conn, ws->broken);
        return;
    }
    if (tws_blocking_judge_closed(conn) || tws_blocking_is_over(conn)
        || PyErr_ExceptionMatches(PyExc_TimeoutError)
        || PyErr_ExceptionMatches(PyExc_BlockingIOError)
        || PyErr_ExceptionMatches(state->ConcurrencyError)) {
        return;
    }
    if (PyErr_ExceptionMatches(state->ProtocolError)) {
        /* From next_frame(), which leaves the closing to us. */
        PyObject *error = PyErr_GetRaisedException();
        PyObject *code = PyObject_GetAttr(error, state->str_code);
        PyObject *text = PyObject_Str(error);
        long number = code == NULL ? -1 : PyLong_AsLong(code);
        Py_ssize_t length = 0;
        const char *data =
            text == NULL ? NULL : PyUnicode_AsUTF8AndSize(text, &length);
        if (data != NULL && number > 0) {
            struct tws_span reason = {.data = data, .length = (size_t)length};
            (void)tws_blocking_send_close(conn, (uint16_t)number, reason);
            tws_blocking_set_over(conn, TWS_ENDED_BY_LIMIT, (uint16_t)number,
                                  reason, 0);
        }
        Py_XDECREF(code);
        Py_XDECREF(text);
        PyErr_SetRaisedException(error);
        return;
    }
    if (PyErr_ExceptionMatches(PyExc_OSError)) {
        tws_blocking_judge_reading(conn);
    }
}

/* With the right to read: whole messages, or chunks of one, are wanted. */
static int
turn_to(ConnectionObject *conn, struct tws_chunks *chunks)
{
    struct tws_assembler *assembler = &conn->blocking->assembler;
    struct tws_error err;
    if (TWS_LIKELY(chunks == NULL)) {
        if (TWS_UNLIKELY(assembler->chunked)) {
            tws_message_stream_discard(assembler);
        }
        return 0;
    }
    if (chunks->stream == 0) {
        if (tws_message_stream_begin(assembler, chunks->limit, &err)
            != TWS_OK) {
            return tws_blocking_fail(conn, &err);
        }
        chunks->stream = assembler->stream;
    }
    return tws_chunks_check(assembler, chunks);
}

/* Returns as tws_blocking_read_event(), or 3: what was read ahead is first. */
static int
read_stream(ConnectionObject *conn, const struct tws_deadline *deadline,
            struct tws_chunks *chunks, struct tws_incoming *in)
{
    int result = tws_ahead_begin_read(conn, deadline, "recv()");
    if (result != 0) {
        return result < 0 ? -1 : 3;
    }
    /* The keeper may have read on until now. */
    result = tws_ahead_any(conn) ? 3 : turn_to(conn, chunks);
    if (result == 0) {
        result = tws_blocking_read_event(conn, deadline, in);
    }
    tws_websocket_end_read(websocket_of(conn));
    return result;
}

/* Where the end was met. Keeps a pending exception; -1 with another one. */
static int
finish(ConnectionObject *conn)
{
    struct tws_deadline patience = tws_blocking_close_deadline(conn);
    return tws_blocking_linger_and_close(conn, &patience);
}

/* The keeper has met the end: it may be about to say with what, or be
 * lingering. */
static int
take_last(ConnectionObject *conn, const struct tws_deadline *deadline,
          struct tws_incoming *in)
{
    if (tws_ahead_settle(conn, deadline, "recv()") < 0) {
        return -1;
    }
    int result = tws_ahead_take(conn, in);
    if (result == 0) {
        if (websocket_of(conn)->phase == TWS_PHASE_CLOSED
            || finish(conn) == 0) {
            (void)tws_connection_raise_closed(conn);
        }
        result = -1;
    }
    return result;
}

int
tws_blocking_take(ConnectionObject *conn, const struct tws_deadline *deadline,
                  struct tws_chunks *chunks, struct tws_incoming *in)
{
    int result;
    in->object = NULL;
    if (chunks != NULL && chunks->stream != 0 && !tws_blocking_is_over(conn)
        && tws_chunks_check(&conn->blocking->assembler, chunks) < 0) {
        return -1; /* what was read ahead is not of its message */
    }
    do {
        result = tws_ahead_take(conn, in);
        if (result == 0 && tws_blocking_is_over(conn)) {
            return take_last(conn, deadline, in);
        }
        if (result != 0) {
            return result;
        }
        result = read_stream(conn, deadline, chunks, in);
    } while (result == 3);
    if (result == 2) {
        if (tws_blocking_lose(conn, 0, TWS_SPAN("")) == 0) {
            (void)tws_connection_raise_closed(conn);
        }
        return -1;
    }
    if (result < 0) {
        tws_blocking_judge_failure(conn);
    }
    if (tws_blocking_is_over(conn) && !tws_ahead_any(conn)
        && finish(conn) < 0) {
        Py_CLEAR(in->object);
        return -1;
    }
    return result;
}

/* The thread that is closing has the socket: waits until it is done. */
static PyObject *
await_other_close(ConnectionObject *conn, const struct tws_deadline *deadline)
{
    PyErr_Clear();
    if (tws_lock_wait(conn->blocking->done, deadline, "recv") < 0) {
        return NULL;
    }
    PyThread_release_lock(conn->blocking->done);
    return tws_connection_raise_closed(conn);
}

static PyObject *
receive(ConnectionObject *conn, const struct tws_deadline *deadline,
        struct tws_chunks *chunks)
{
    struct tws_state *state = conn->state;
    unsigned events = 0;
    for (;;) {
        struct tws_incoming in;
        int status = 0;
        if (tws_blocking_take(conn, deadline, chunks, &in) < 0) {
            pthread_mutex_lock(&conn->blocking->lock);
            bool closing = conn->blocking->session.sent_code != 0;
            pthread_mutex_unlock(&conn->blocking->lock);
            if (closing && !tws_blocking_is_reading(conn)
                && PyErr_ExceptionMatches(state->ConcurrencyError)) {
                return await_other_close(conn, deadline);
            }
            return NULL;
        }
        switch (in.type) {
        case TWS_EVENT_TEXT:
        case TWS_EVENT_BINARY:
        case TWS_EVENT_CHUNK:
            return in.object;
        case TWS_EVENT_FRAME:
        case TWS_EVENT_CLOSE:
            return tws_connection_raise_closed(conn);
        case TWS_EVENT_PING:
            status = tws_connection_call(conn, state->str_onping, in.object);
            break;
        case TWS_EVENT_PONG:
            status = tws_connection_call(conn, state->str_onpong, in.object);
            break;
        }
        Py_DECREF(in.object);
        if (status < 0 || let_others_between(&events, deadline) < 0) {
            return NULL;
        }
    }
}

PyObject *
tws_blocking_recv(ConnectionObject *conn, const struct tws_deadline *deadline)
{
    tws_ahead_enter(conn);
    PyObject *message =
        tws_connection_incoming(conn, receive(conn, deadline, NULL));
    tws_ahead_leave(conn);
    return message;
}

PyObject *
tws_blocking_next(ConnectionObject *conn, const struct tws_deadline *deadline,
                  struct tws_chunks *chunks)
{
    tws_ahead_enter(conn);
    PyObject *object = receive(conn, deadline, chunks);
    tws_ahead_leave(conn);
    return object;
}

/* True, once, where the pending exception is an extension's, which has ended
 * the connection. */
static bool
extension_failed(ConnectionObject *conn)
{
    WebsocketObject *ws = websocket_of(conn);
    bool failed = ws->extension_failed && tws_blocking_is_over(conn);
    ws->extension_failed = ws->extension_failed && !failed;
    return failed && PyErr_ExceptionMatches(PyExc_Exception);
}

PyObject *
tws_blocking_receive_forever(ConnectionObject *conn)
{
    struct tws_state *state = conn->state;
    struct tws_blocking *blocking = conn->blocking;
    if (!blocking->opened) {
        blocking->opened = true;
        if (tws_connection_call(conn, state->str_onopen, NULL) < 0) {
            return NULL;
        }
    }
    for (;;) {
        struct tws_deadline deadline =
            tws_deadline_after(websocket_of(conn)->timeout);
        PyObject *message = tws_blocking_recv(conn, &deadline);
        if (message == NULL) {
            if (extension_failed(conn)) {
                if (tws_connection_report(conn) < 0) {
                    return NULL;
                }
                break;
            }
            if (!tws_blocking_is_over(conn) || tws_ahead_any(conn)
                || (!PyErr_ExceptionMatches(state->WebSocketError)
                    && !PyErr_ExceptionMatches(PyExc_OSError))) {
                return NULL;
            }
            PyErr_Clear(); /* onclose() tells it */
            break;
        }
        int status = tws_connection_call(conn, state->str_onmessage, message);
        Py_DECREF(message);
        if (status < 0) {
            return NULL;
        }
    }
    if (!blocking->reported) {
        struct tws_ending ending;
        tws_blocking_read_ending(conn, &ending);
        PyObject *message = tws_close_message_of_ending(state, &ending);
        if (message == NULL) {
            return NULL;
        }
        blocking->reported = true;
        int status = tws_connection_call(conn, state->str_onclose, message);
        Py_DECREF(message);
        if (status < 0) {
            return NULL;
        }
    }
    return Py_NewRef(Py_None);
}
