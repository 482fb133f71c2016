/* A Connection whose calling threads read and write its websocket. */
#include "python/connection_type.h"

#include "python/address.h"
#include "python/errors.h"
#include "python/frame_type.h"
#include "python/message_type.h"

#include <limits.h>

enum {
    DRAIN_MAX = 1 << 20, /* bytes thrown away after the closing handshake */
    COPY_MAX = 4096,     /* a server's larger payloads are not copied */
};

static inline WebsocketObject *
websocket_of(ConnectionObject *conn)
{
    return (WebsocketObject *)conn->sock;
}

int
tws_blocking_init(ConnectionObject *conn, WebsocketObject *ws)
{
    struct tws_address peer;
    struct tws_blocking *blocking = PyMem_Calloc(1, sizeof(*blocking));
    if (blocking == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    blocking->done = PyThread_allocate_lock();
    if (blocking->done == NULL
        || pthread_mutex_init(&blocking->lock, NULL) != 0) {
        PyErr_NoMemory();
        goto fail;
    }
    (void)PyThread_acquire_lock(blocking->done, NOWAIT_LOCK);
    if (tws_address_of_peer(ws->transport.fd, &peer) < 0) {
        /* Gone already; the first recv() will tell. */
        PyErr_Clear();
    }
    else if (tws_connection_set_peer(conn, &peer) < 0) {
        pthread_mutex_destroy(&blocking->lock);
        goto fail;
    }
    conn->blocking = blocking;
    conn->sock = Py_NewRef((PyObject *)ws);
    return 0;

fail:
    if (blocking->done != NULL) {
        PyThread_release_lock(blocking->done);
        PyThread_free_lock(blocking->done);
    }
    PyMem_Free(blocking);
    return -1;
}

void
tws_blocking_free(struct tws_blocking *blocking)
{
    if (blocking == NULL) {
        return;
    }
    tws_assembler_release(&blocking->assembler);
    pthread_mutex_destroy(&blocking->lock);
    if (!blocking->over) {
        PyThread_release_lock(blocking->done);
    }
    PyThread_free_lock(blocking->done);
    PyMem_Free(blocking);
}

/* The end ---------------------------------------------------------------- */

static bool
is_over(ConnectionObject *conn)
{
    pthread_mutex_lock(&conn->blocking->lock);
    bool over = conn->blocking->over;
    pthread_mutex_unlock(&conn->blocking->lock);
    return over;
}

/* Notes how the connection ended; the first to do so wins. Keeps a pending
 * exception. */
static int
set_over(ConnectionObject *conn, uint16_t code, struct tws_span reason)
{
    struct tws_blocking *blocking = conn->blocking;
    PyObject *pending = PyErr_GetRaisedException();
    PyObject *message = tws_close_message_make(conn->state, code, reason);
    if (message == NULL) {
        Py_XDECREF(pending);
        return -1;
    }
    pthread_mutex_lock(&blocking->lock);
    bool first = !blocking->over;
    blocking->over = true;
    if (first) {
        PyObject *none = conn->close_message;
        conn->close_message = message;
        message = none;
    }
    pthread_mutex_unlock(&blocking->lock);
    if (first) {
        PyThread_release_lock(blocking->done);
    }
    Py_XDECREF(message);
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
    return 0;
}

static PyObject *
raise_closed(ConnectionObject *conn)
{
    CloseMessageObject *message = (CloseMessageObject *)conn->close_message;
    PyObject *error = PyObject_CallFunction(
        conn->state->SocketClosed, "iO", (int)message->code, message->reason);
    if (error != NULL) {
        PyErr_SetRaisedException(error);
    }
    return NULL;
}

/* Both Close frames have passed, or ours is the last word: lets the peer
 * read what was sent, waits for its end of the stream, and closes. A reset
 * must not overtake our Close frame (RFC 6455 §7.1.1). Keeps a pending
 * exception; -1 where a signal handler raised. */
static int
linger_and_close(ConnectionObject *conn, const struct tws_deadline *deadline)
{
    WebsocketObject *ws = websocket_of(conn);
    PyObject *pending = PyErr_GetRaisedException();
    size_t drained = 0;
    int result = 0;
    if (tws_websocket_begin_read(ws) == 0) {
        tws_websocket_end_writing(ws);
        int more = 1;
        while (more > 0 && drained < DRAIN_MAX) {
            size_t got;
            tws_buffer_release(&ws->in);
            more = tws_websocket_fill(ws, NULL, 0, deadline, &got);
            drained += more > 0 ? got : 0;
        }
        if (more < 0 && PyErr_ExceptionMatches(PyExc_OSError)) {
            PyErr_Clear(); /* its time is over, or it was reset */
        }
        tws_websocket_end_read(ws);
    }
    else {
        PyErr_Clear(); /* the thread that reads meets the end itself */
    }
    tws_websocket_close(ws);
    if (PyErr_Occurred() != NULL) {
        Py_XDECREF(pending);
        result = -1;
    }
    else if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
    return result;
}

static struct tws_deadline
close_deadline(ConnectionObject *conn)
{
    uint64_t timeout = websocket_of(conn)->options->close_timeout;
    return tws_deadline_after(timeout == 0 ? 1 : timeout);
}

/* Sending ---------------------------------------------------------------- */

/* True while messages may be sent; else SocketClosed. */
static bool
may_send(ConnectionObject *conn)
{
    struct tws_blocking *blocking = conn->blocking;
    pthread_mutex_lock(&blocking->lock);
    bool over = blocking->over;
    bool open = tws_session_open(&blocking->session);
    uint16_t code = blocking->session.sent_code;
    pthread_mutex_unlock(&blocking->lock);
    if (over) {
        (void)raise_closed(conn);
        return false;
    }
    if (!open) {
        (void)tws_raise_closed(conn->state, code,
                               TWS_SPAN("the closing handshake has begun"));
        return false;
    }
    return true;
}

/* Through the websocket's own send(), so that its hooks see each frame. */
static int
send_as_frames(ConnectionObject *conn, PyObject *message, size_t fragment,
               const struct tws_deadline *deadline)
{
    PyObject *frames;
    if (fragment == 0) {
        PyObject *frame = PyObject_CallMethod(message, "frame", NULL);
        frames = frame == NULL ? NULL : PyTuple_Pack(1, frame);
        Py_XDECREF(frame);
    }
    else {
        PyObject *list = PyObject_CallMethod(message, "fragment", "n",
                                             (Py_ssize_t)fragment);
        frames = list == NULL ? NULL : PySequence_Tuple(list);
        Py_XDECREF(list);
    }
    if (frames == NULL) {
        return -1;
    }
    int result = tws_websocket_send_frames(websocket_of(conn),
                                           &PyTuple_GET_ITEM(frames, 0),
                                           PyTuple_GET_SIZE(frames), deadline);
    Py_DECREF(frames);
    return result;
}

/* Appends one frame to `out`, masked where `key` is not NULL. */
static int
append_frame(struct tws_buffer *out, uint8_t opcode, bool fin,
             struct tws_span payload, const uint8_t *key)
{
    uint8_t *room;
    struct tws_frame_header header = {
        .opcode = opcode,
        .fin = fin,
        .length = payload.length,
        .masked = key != NULL,
    };
    if (tws_buffer_reserve(out, TWS_FRAME_HEADER_MAX + payload.length, &room)
        != TWS_OK) {
        PyErr_NoMemory();
        return -1;
    }
    if (key != NULL) {
        memcpy(header.key, key, sizeof(header.key));
    }
    size_t length = tws_frame_header_encode(&header, room);
    struct tws_piece piece = {
        .header = &header,
        .data = (uint8_t *)(uintptr_t)payload.data,
        .length = payload.length,
    };
    tws_piece_copy(&piece, room + length);
    tws_buffer_commit(out, length + payload.length);
    return 0;
}

/* All frames of a message, one behind the other. */
static int
pack_message(WebsocketObject *ws, uint8_t opcode, struct tws_span payload,
             size_t fragment, struct tws_buffer *out)
{
    bool last;
    do {
        uint8_t storage[4];
        const uint8_t *key;
        size_t length = payload.length < fragment ? payload.length : fragment;
        struct tws_span part = {.data = payload.data, .length = length};
        last = length == payload.length;
        if (tws_websocket_draw_key(ws, storage, &key) < 0
            || append_frame(out, opcode, last, part, key) < 0) {
            return -1;
        }
        payload.data += length;
        payload.length -= length;
        opcode = TWS_OPCODE_CONTINUATION;
    } while (!last);
    return 0;
}

int
tws_blocking_send(ConnectionObject *conn, PyObject *message, size_t fragment,
                  const struct tws_deadline *deadline)
{
    WebsocketObject *ws = websocket_of(conn);
    uint8_t opcode;
    struct tws_span payload;
    if (!may_send(conn)
        || tws_message_view(conn->state, message, &opcode, &payload) < 0) {
        return -1;
    }
    if (opcode == TWS_OPCODE_CLOSE) {
        CloseMessageObject *close = (CloseMessageObject *)message;
        struct tws_deadline patience = close_deadline(conn);
        struct tws_span reason = {.data = payload.data + 2,
                                  .length = payload.length - 2};
        return tws_blocking_close(conn, close->code, reason, &patience);
    }
    if (ws->send_hooks != NULL) {
        return send_as_frames(conn, message, fragment, deadline);
    }
    if (fragment == 0) {
        fragment = SIZE_MAX;
    }
    if (ws->role == TWS_SERVER && fragment >= payload.length
        && payload.length > COPY_MAX) {
        uint8_t header[TWS_FRAME_HEADER_MAX];
        struct tws_frame_header fields = {
            .opcode = opcode, .fin = true, .length = payload.length};
        struct iovec parts[2] = {
            {.iov_base = header,
             .iov_len = tws_frame_header_encode(&fields, header)},
            {.iov_base = (void *)(uintptr_t)payload.data,
             .iov_len = payload.length},
        };
        return tws_websocket_write(ws, parts, 2, deadline);
    }
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    int result = pack_message(ws, opcode, payload, fragment, &out);
    if (result == 0) {
        struct iovec part = {.iov_base = tws_buffer_data(&out),
                             .iov_len = tws_buffer_length(&out)};
        result = tws_websocket_write(ws, &part, 1, deadline);
    }
    tws_buffer_release(&out);
    return result;
}

int
tws_blocking_ping(ConnectionObject *conn, struct tws_span payload)
{
    WebsocketObject *ws = websocket_of(conn);
    struct tws_control control;
    uint8_t storage[4];
    const uint8_t *key;
    if (!may_send(conn) || tws_websocket_draw_key(ws, storage, &key) < 0) {
        return -1;
    }
    tws_control_pack(&control, TWS_OPCODE_PING, (const uint8_t *)payload.data,
                     payload.length, key);
    return tws_websocket_send_control(ws, &control, true);
}

/* Sends our Close frame, unless it is out already. */
static int
send_close(ConnectionObject *conn, uint16_t code, struct tws_span reason)
{
    WebsocketObject *ws = websocket_of(conn);
    struct tws_control control;
    uint8_t storage[4];
    const uint8_t *key;
    if (tws_websocket_draw_key(ws, storage, &key) < 0) {
        return -1;
    }
    pthread_mutex_lock(&conn->blocking->lock);
    tws_session_close(&conn->blocking->session, code, reason, key, &control);
    pthread_mutex_unlock(&conn->blocking->lock);
    if (control.length == 0) {
        return 0;
    }
    return tws_websocket_send_control(ws, &control, true);
}

/* Receiving -------------------------------------------------------------- */

/* What the stream brought. */
struct incoming {
    enum tws_event_type type;
    PyObject *object; /* owned: Message, bytes of a ping or pong, or NULL */
};

/* Takes note of an event, answers it, and makes an object of it. 1: *in is
 * set; 0: nothing for the program; -1 with an exception. */
static int
take_event(ConnectionObject *conn, const struct tws_event *event,
           struct incoming *in)
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
    bool concerns =
        tws_session_take(&conn->blocking->session, event, key, &reply);
    pthread_mutex_unlock(&conn->blocking->lock);
    if (reply.length > 0
        && tws_websocket_send_control(ws, &reply,
                                      event->type == TWS_EVENT_CLOSE)
               < 0) {
        return -1;
    }
    if (!concerns) {
        return 0;
    }
    in->type = event->type;
    switch (event->type) {
    case TWS_EVENT_TEXT:
    case TWS_EVENT_BINARY:
        in->object = tws_connection_message(conn->state, event);
        break;
    case TWS_EVENT_PING:
    case TWS_EVENT_PONG:
        in->object = PyBytes_FromStringAndSize((const char *)event->data,
                                               (Py_ssize_t)event->length);
        break;
    case TWS_EVENT_CLOSE:
        in->object = NULL;
        return set_over(conn, event->code, event->reason) < 0 ? -1 : 1;
    }
    return in->object == NULL ? -1 : 1;
}

/* The peer broke a rule, or memory is short: tells it and ends. */
static int
fail(ConnectionObject *conn, const struct tws_error *err)
{
    struct tws_span reason = {.data = err->reason,
                              .length = strlen(err->reason)};
    uint16_t code = err->close_code != 0 ? err->close_code : TWS_CLOSE_UNABLE;
    if (send_close(conn, code, reason) < 0
        || set_over(conn, code, reason) < 0) {
        return -1;
    }
    (void)tws_raise(conn->state, err);
    return -1;
}

/* The stream ended without a Close frame, or reading it failed (an exception
 * is pending then and stays). */
static int
lose(ConnectionObject *conn, struct tws_span reason)
{
    int result = set_over(conn, TWS_CLOSE_ABNORMAL, reason);
    tws_websocket_close(websocket_of(conn));
    return result;
}

/* Reads until there is an event; returns as take_event(). */
static int
read_event(ConnectionObject *conn, const struct tws_deadline *deadline,
           struct incoming *in)
{
    WebsocketObject *ws = websocket_of(conn);
    struct tws_assembler *assembler = &conn->blocking->assembler;
    const struct tws_message_limits *limits = &ws->options->message;
    for (;;) {
        struct tws_event event;
        struct tws_error err;
        uint8_t *room;
        size_t size;
        size_t got;
        size_t before = tws_buffer_length(&ws->in);
        struct tws_input input = {.data = tws_buffer_data(&ws->in),
                                  .length = before};
        enum tws_status status =
            tws_receive(&ws->reader, assembler, limits, &input, &event, &err);
        if (status == TWS_AGAIN) {
            tws_buffer_consume(&ws->in, before - input.length);
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
        }
        else if (status != TWS_AGAIN) {
            return fail(conn, &err);
        }
    }
}

/* The same, through the websocket's own recv(), whose hooks see each
 * frame. */
static int
read_event_of_frames(ConnectionObject *conn,
                     const struct tws_deadline *deadline, struct incoming *in)
{
    WebsocketObject *ws = websocket_of(conn);
    for (;;) {
        struct tws_event event;
        struct tws_error err;
        PyObject *object = tws_websocket_recv_frame(ws, deadline);
        if (object == NULL) {
            return -1;
        }
        FrameObject *frame = (FrameObject *)object;
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
        int result = 0;
        enum tws_status status =
            tws_assembler_take(&conn->blocking->assembler,
                               &ws->options->message, &piece, &event, &err);
        if (status == TWS_OK) {
            result = take_event(conn, &event, in);
        }
        else if (status != TWS_AGAIN) {
            result = fail(conn, &err);
        }
        Py_DECREF(object);
        if (result != 0) {
            return result;
        }
    }
}

/* What an exception of reading means for the connection. It stays pending,
 * or SocketClosed takes its place. */
static void
judge_failure(ConnectionObject *conn)
{
    struct tws_state *state = conn->state;
    if (is_over(conn) || PyErr_ExceptionMatches(PyExc_TimeoutError)
        || PyErr_ExceptionMatches(PyExc_BlockingIOError)
        || PyErr_ExceptionMatches(state->ConcurrencyError)) {
        return;
    }
    if (PyErr_ExceptionMatches(state->ProtocolError)) {
        /* From recv_frame(), which leaves the closing to us. */
        PyObject *error = PyErr_GetRaisedException();
        PyObject *code = PyObject_GetAttr(error, state->str_code);
        PyObject *text = PyObject_Str(error);
        long number = code == NULL ? -1 : PyLong_AsLong(code);
        Py_ssize_t length = 0;
        const char *data =
            text == NULL ? NULL : PyUnicode_AsUTF8AndSize(text, &length);
        if (data != NULL && number > 0) {
            struct tws_span reason = {.data = data, .length = (size_t)length};
            (void)send_close(conn, (uint16_t)number, reason);
            (void)set_over(conn, (uint16_t)number, reason);
        }
        Py_XDECREF(code);
        Py_XDECREF(text);
        PyErr_SetRaisedException(error);
        return;
    }
    if (PyErr_ExceptionMatches(PyExc_OSError)) {
        PyObject *error = PyErr_GetRaisedException();
        PyObject *text = PyObject_Str(error);
        Py_ssize_t length = 0;
        const char *data =
            text == NULL ? NULL : PyUnicode_AsUTF8AndSize(text, &length);
        if (data != NULL) {
            struct tws_span reason = {.data = data, .length = (size_t)length};
            (void)lose(conn, reason);
        }
        Py_XDECREF(text);
        PyErr_SetRaisedException(error);
    }
}

/* The next event, whatever it is; 1 or -1. A CLOSE has been answered then,
 * and the socket closed. */
static int
next_incoming(ConnectionObject *conn, const struct tws_deadline *deadline,
              struct incoming *in)
{
    WebsocketObject *ws = websocket_of(conn);
    int result;
    if (is_over(conn)) {
        (void)raise_closed(conn);
        return -1;
    }
    if (ws->recv_hooks != NULL) {
        result = read_event_of_frames(conn, deadline, in);
    }
    else {
        if (tws_websocket_begin_read(ws) < 0) {
            return -1;
        }
        result = read_event(conn, deadline, in);
        tws_websocket_end_read(ws);
    }
    if (result == 2) {
        if (lose(conn, TWS_SPAN("peer ended the connection without a Close "
                                "frame"))
            == 0) {
            (void)raise_closed(conn);
        }
        return -1;
    }
    if (result < 0) {
        judge_failure(conn);
    }
    if (is_over(conn)) {
        struct tws_deadline patience = close_deadline(conn);
        if (linger_and_close(conn, &patience) < 0) {
            return -1;
        }
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
    return raise_closed(conn);
}

PyObject *
tws_blocking_recv(ConnectionObject *conn, const struct tws_deadline *deadline)
{
    struct tws_state *state = conn->state;
    for (;;) {
        struct incoming in;
        int status = 0;
        if (next_incoming(conn, deadline, &in) < 0) {
            pthread_mutex_lock(&conn->blocking->lock);
            bool closing = conn->blocking->session.sent_code != 0;
            pthread_mutex_unlock(&conn->blocking->lock);
            if (closing && PyErr_ExceptionMatches(state->ConcurrencyError)) {
                return await_other_close(conn, deadline);
            }
            return NULL;
        }
        switch (in.type) {
        case TWS_EVENT_TEXT:
        case TWS_EVENT_BINARY:
            return tws_connection_incoming(conn, in.object);
        case TWS_EVENT_CLOSE:
            return raise_closed(conn);
        case TWS_EVENT_PING:
            status = tws_connection_call(conn, state->str_onping, in.object);
            break;
        case TWS_EVENT_PONG:
            status = tws_connection_call(conn, state->str_onpong, in.object);
            break;
        }
        Py_DECREF(in.object);
        if (status < 0) {
            return NULL;
        }
    }
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
            if (!is_over(conn)
                || !PyErr_ExceptionMatches(state->WebSocketError)) {
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
        blocking->reported = true;
        if (tws_connection_call(conn, state->str_onclose, conn->close_message)
            < 0) {
            return NULL;
        }
    }
    return Py_NewRef(Py_None);
}

/* Closing ---------------------------------------------------------------- */

/* Reads and discards until the peer's Close has come, or the end. 0, or -1
 * with an exception. */
static int
await_close(ConnectionObject *conn, const struct tws_deadline *deadline)
{
    struct incoming in;
    while (!is_over(conn)) {
        if (next_incoming(conn, deadline, &in) < 0) {
            return -1;
        }
        if (in.type != TWS_EVENT_CLOSE) {
            Py_DECREF(in.object); /* arrived before our Close was sent */
        }
    }
    return 0;
}

/* Another thread is in recv(): it will meet the peer's Close. */
static int
await_reader(ConnectionObject *conn, const struct tws_deadline *deadline)
{
    PyErr_Clear();
    if (tws_lock_wait(conn->blocking->done, deadline, "close") < 0) {
        return -1;
    }
    PyThread_release_lock(conn->blocking->done);
    return 0;
}

int
tws_blocking_close(ConnectionObject *conn, uint16_t code,
                   struct tws_span reason, const struct tws_deadline *deadline)
{
    struct tws_state *state = conn->state;
    int result = 0;
    if (is_over(conn)) {
        tws_websocket_close(websocket_of(conn));
        return 0;
    }
    if (send_close(conn, code, reason) == 0) {
        result = await_close(conn, deadline);
    }
    else {
        result = -1;
    }
    if (result < 0 && PyErr_ExceptionMatches(state->ConcurrencyError)) {
        result = await_reader(conn, deadline);
    }
    if (result < 0
        && (PyErr_ExceptionMatches(PyExc_OSError)
            || PyErr_ExceptionMatches(state->WebSocketError))) {
        /* Not answered in time, or gone: closed all the same. */
        PyErr_Clear();
        result = lose(conn, TWS_SPAN("peer did not answer our Close frame in "
                                     "time"));
    }
    return result;
}
