/* A Connection whose calling threads read and write its websocket. */
#include "python/connection_parts.h"

#include "python/address.h"
#include "python/errors.h"
#include "python/message_type.h"

#include <limits.h>

enum {
    DRAIN_MAX = 1 << 20, /* bytes thrown away after the closing handshake */
    COPY_MAX = 4096,     /* a server's larger payloads are not copied */
};

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

bool
tws_blocking_is_over(ConnectionObject *conn)
{
    pthread_mutex_lock(&conn->blocking->lock);
    bool over = conn->blocking->over;
    pthread_mutex_unlock(&conn->blocking->lock);
    return over;
}

/* Notes how the connection ended; the first to do so wins. Keeps a pending
 * exception. */
int
tws_blocking_set_over(ConnectionObject *conn, uint16_t code,
                      struct tws_span reason)
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

/* Both Close frames have passed, or ours is the last word: lets the peer
 * read what was sent, waits for its end of the stream, and closes. A reset
 * must not overtake our Close frame (RFC 6455 §7.1.1). Keeps a pending
 * exception; -1 where a signal handler raised. */
int
tws_blocking_linger_and_close(ConnectionObject *conn,
                              const struct tws_deadline *deadline)
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

struct tws_deadline
tws_blocking_close_deadline(ConnectionObject *conn)
{
    uint64_t timeout = websocket_of(conn)->options->close_timeout;
    return tws_deadline_after(timeout == 0 ? 1 : timeout);
}

bool
tws_blocking_judge_closed(ConnectionObject *conn)
{
    if (websocket_of(conn)->phase != TWS_PHASE_CLOSED
        || !PyErr_ExceptionMatches(PyExc_OSError)
        || PyErr_ExceptionMatches(conn->state->WebSocketError)) {
        return false;
    }
    PyErr_Clear();
    if (tws_blocking_set_over(conn, TWS_CLOSE_ABNORMAL,
                              TWS_SPAN("the websocket was closed"))
        == 0) {
        (void)tws_connection_raise_closed(conn);
    }
    return true;
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
        (void)tws_connection_raise_closed(conn);
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
    PyObject *frames = tws_connection_frames(message, fragment);
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

static int
send_message(ConnectionObject *conn, PyObject *message, size_t fragment,
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
        struct tws_deadline patience = tws_blocking_close_deadline(conn);
        struct tws_span reason = {.data = payload.data + 2,
                                  .length = payload.length - 2};
        return tws_blocking_close(conn, close->code, reason, &patience);
    }
    if (tws_opcode_is_control(opcode)) {
        fragment = 0; /* never in fragments (RFC 6455 5.5) */
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
tws_blocking_send(ConnectionObject *conn, PyObject *message, size_t fragment,
                  const struct tws_deadline *deadline)
{
    int result = send_message(conn, message, fragment, deadline);
    if (result < 0) {
        (void)tws_blocking_judge_closed(conn);
    }
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
int
tws_blocking_send_close(ConnectionObject *conn, uint16_t code,
                        struct tws_span reason)
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
