/* A Connection whose stream a server's loop reads and writes. */
#include "python/connection_type.h"

#include "python/errors.h"
#include "python/frame_type.h"
#include "python/message_type.h"
#include "python/received_text.h"
#include "python/served_frames.h"
#include "python/served_out.h"
#include "python/server_type.h"
#include "python/served_wait.h"
#include "python/websocket_parts.h"

PyObject *
tws_served_new(struct tws_state *state, PyObject *server,
               const struct tws_address *peer, struct tws_span head,
               PyObject *protocol)
{
    PyTypeObject *type = state->connection_type;
    ConnectionObject *conn = (ConnectionObject *)type->tp_alloc(type, 0);
    if (conn == NULL) {
        return NULL;
    }
    conn->state = state;
    conn->server = Py_NewRef(server);
    conn->protocol = Py_NewRef(protocol);
    conn->head = PyBytes_FromStringAndSize(head.data, (Py_ssize_t)head.length);
    if (conn->head == NULL || tws_connection_set_peer(conn, peer) < 0) {
        Py_DECREF(conn);
        return NULL;
    }
    return (PyObject *)conn;
}

void
tws_served_turn_away(ConnectionObject *conn)
{
    Py_CLEAR(conn->head);
}

int
tws_served_raise_closed(ConnectionObject *conn)
{
    struct tws_ending ending;
    if (conn->close_message != NULL) {
        (void)tws_connection_raise_closed(conn);
        return -1;
    }
    tws_client_describe_closing(conn->client, &ending);
    (void)tws_raise_closed_ending(conn->state, &ending);
    return -1;
}

int
tws_served_sent(ConnectionObject *conn, enum tws_status status,
                const struct tws_error *err)
{
    switch (status) {
    case TWS_OK:
        return 0;
    case TWS_EOF:
        return tws_served_raise_closed(conn);
    default:
        (void)tws_raise(conn->state, err);
        return -1;
    }
}

/* The end of the client is told with what is known of it. */
static int
judge_frames(ConnectionObject *conn, int result)
{
    if (result < 0 && conn->close_message != NULL
        && PyErr_ExceptionMatches(PyExc_OSError)) {
        PyErr_Clear(); /* EBADF: client.sock is closed by now */
        return tws_served_raise_closed(conn);
    }
    return result;
}

/* Through client.sock, whose hooks see each frame. */
static int
send_as_frames(ConnectionObject *conn, PyObject *message, size_t fragment,
               enum tws_compress compress)
{
    PyObject *frames = tws_connection_frames(message, fragment);
    if (frames == NULL) {
        return -1;
    }
    struct tws_sending sending = {.compress = compress};
    int result = tws_websocket_send_frames(
        (WebsocketObject *)conn->sock, &PyTuple_GET_ITEM(frames, 0),
        PyTuple_GET_SIZE(frames), 0, &sending, NULL);
    Py_DECREF(frames);
    return judge_frames(conn, result);
}

/* Through the hooks of client.sock, where there are any, and the extensions.
 * `sending` has all but the frames. */
static int
send_extended(ConnectionObject *conn, PyObject *frames,
              struct tws_served_sending *sending,
              const struct tws_deadline *deadline)
{
    enum tws_status status;
    struct tws_error err;
    PyObject *hooked = frames == NULL
                           ? NULL
                           : tws_websocket_run_hooks_of_all(
                               (WebsocketObject *)conn->sock, frames);
    if (hooked == NULL) {
        return -1;
    }
    sending->frames = &PyTuple_GET_ITEM(hooked, 0);
    sending->count = PyTuple_GET_SIZE(hooked);
    int result =
        tws_served_frames_send(conn, sending, deadline, &status, &err);
    Py_DECREF(hooked);
    return result < 0 ? -1 : tws_served_sent(conn, status, &err);
}

static int
send_message_extended(ConnectionObject *conn, PyObject *message,
                      size_t payload, size_t fragment,
                      enum tws_compress compress,
                      const struct tws_deadline *deadline)
{
    bool whole = tws_chain_joins(conn->frames->chain);
    PyObject *frames = tws_connection_frames(message, whole ? 0 : fragment);
    struct tws_served_sending sending = {
        .fragment = whole ? fragment : 0,
        .compress = compress,
        .message = message,
        .payload = payload,
    };
    int result = send_extended(conn, frames, &sending, deadline);
    Py_XDECREF(frames);
    return result;
}

/* Queues what tws_message_view() has shown, whatever is queued already.
 * `deadline` is for extensions. */
static int
queue(ConnectionObject *conn, PyObject *message,
      struct tws_client_message *outgoing, const struct tws_deadline *deadline)
{
    struct tws_error err;
    WebsocketObject *ws = (WebsocketObject *)conn->sock;
    if (tws_opcode_is_control(outgoing->opcode)) {
        outgoing->fragment = 0; /* never in fragments (RFC 6455 5.5) */
    }
    else if (TWS_UNLIKELY(conn->frames != NULL)) {
        return send_message_extended(
            conn, message, outgoing->payload.length, outgoing->fragment,
            (enum tws_compress)outgoing->compress, deadline);
    }
    if (ws != NULL && ws->send_hooks != NULL) {
        return send_as_frames(conn, message, outgoing->fragment,
                              (enum tws_compress)outgoing->compress);
    }
    if (((ServerObject *)conn->server)->tells_sent) {
        outgoing->receipt = Py_NewRef(message);
    }
    enum tws_status status =
        tws_served_out_message(conn->client, outgoing, &err);
    if (status != TWS_OK) {
        Py_XDECREF((PyObject *)outgoing->receipt);
    }
    return tws_served_sent(conn, status, &err);
}

/* Whether hooks, extensions or onsent() are to see what is sent, or it is not
 * to be sent at all. */
static inline bool
is_watched(const ConnectionObject *conn)
{
    const WebsocketObject *ws = (const WebsocketObject *)conn->sock;
    const ServerObject *server = (const ServerObject *)conn->server;
    return conn->send_hooks != NULL || conn->frames != NULL
           || (ws != NULL && ws->send_hooks != NULL) || server->tells_sent
           || server->forked;
}

bool
tws_served_send_short(ConnectionObject *conn, PyObject *message)
{
    const struct tws_state *state = conn->state;
    struct tws_client *client = conn->client;
    PyObject *payload;
    struct tws_span span;
    uint8_t opcode;
    if (client == NULL || is_watched(conn)
        || atomic_load_explicit(&conn->stream_thread, memory_order_relaxed)
               != 0
        || atomic_load_explicit(&client->congested, memory_order_relaxed)) {
        return false;
    }
    if (Py_IS_TYPE(message, state->text_message_type)) {
        payload = ((MessageObject *)message)->payload;
        opcode = TWS_OPCODE_TEXT;
        if (PyUnicode_IS_COMPACT_ASCII(payload)) {
            span.data = PyUnicode_DATA(payload);
            span.length = (size_t)PyUnicode_GET_LENGTH(payload);
        }
        else if (tws_received_text_is(state, payload)) {
            span = state->received_utf8;
        }
        else {
            return false; /* its UTF-8 form may have to be made */
        }
    }
    else if (Py_IS_TYPE(message, state->binary_message_type)) {
        payload = ((MessageObject *)message)->payload;
        opcode = TWS_OPCODE_BINARY;
        span.data = PyBytes_AS_STRING(payload);
        span.length = (size_t)PyBytes_GET_SIZE(payload);
    }
    else {
        return false;
    }
    return tws_client_send_short(client, opcode, span);
}

int
tws_served_queue_message(ConnectionObject *conn, PyObject *message,
                         enum tws_compress compress)
{
    static const struct tws_deadline now = {.immediate = true};
    struct tws_client_message outgoing = {.compress = (uint8_t)compress};
    if (tws_message_view(conn->state, message, &outgoing.opcode,
                         &outgoing.payload)
        < 0) {
        return -1;
    }
    return queue(conn, message, &outgoing, &now);
}

/* While a message is being sent to it in pieces. */
static int
await_behind(ConnectionObject *conn, const struct tws_deadline *deadline)
{
    if (tws_served_check_stream(conn) < 0) {
        return -1;
    }
    return atomic_load_explicit(&conn->client->crowded, memory_order_relaxed)
               ? tws_served_await_stream(conn, deadline)
               : 0;
}

int
tws_served_send_message(ConnectionObject *conn, PyObject *message,
                        size_t fragment, enum tws_compress compress,
                        const struct tws_deadline *deadline)
{
    struct tws_client_message outgoing = {.fragment = fragment,
                                          .compress = (uint8_t)compress};
    if (tws_server_check_process((const ServerObject *)conn->server) < 0
        || tws_message_view(conn->state, message, &outgoing.opcode,
                            &outgoing.payload)
               < 0) {
        return -1;
    }
    if (outgoing.opcode == TWS_OPCODE_CLOSE) {
        struct tws_span reason = {.data = outgoing.payload.data + 2,
                                  .length = outgoing.payload.length - 2};
        struct tws_deadline patience =
            tws_deadline_after(tws_connection_options(conn)->close_timeout);
        return tws_served_close(conn, ((CloseMessageObject *)message)->code,
                                reason,
                                deadline == NULL ? &patience : deadline);
    }
    if (!tws_opcode_is_control(outgoing.opcode)
        && TWS_UNLIKELY(
            atomic_load_explicit(&conn->stream_thread, memory_order_relaxed)
            != 0)
        && await_behind(conn, deadline) < 0) {
        return -1;
    }
    if (TWS_UNLIKELY(atomic_load_explicit(&conn->client->congested,
                                          memory_order_relaxed))
        && tws_served_await_room(conn, deadline) < 0) {
        return -1;
    }
    return queue(conn, message, &outgoing, deadline);
}

int
tws_served_ping(ConnectionObject *conn, struct tws_span payload)
{
    struct tws_error err;
    if (tws_server_check_process((const ServerObject *)conn->server) < 0) {
        return -1;
    }
    return tws_served_sent(
        conn,
        tws_client_send(conn->client, TWS_OPCODE_PING, payload, 0, NULL, &err),
        &err);
}

/* A message in pieces ----------------------------------------------------- */

/* -1 with an exception, else *status. */
static int
try_begin_stream(ConnectionObject *conn, const void *stream,
                 enum tws_compress compress,
                 const struct tws_deadline *deadline, enum tws_status *status,
                 struct tws_error *err)
{
    bool extended = conn->frames != NULL;
    if (extended && tws_served_frames_lock(conn, deadline) < 0) {
        return -1;
    }
    *status = tws_served_out_begin(conn->client, stream, compress, err);
    if (*status == TWS_OK) {
        atomic_store(&conn->stream_thread, PyThread_get_thread_ident());
    }
    if (extended) {
        tws_served_frames_unlock(conn);
    }
    return 0;
}

int
tws_served_begin_stream(ConnectionObject *conn, const void *stream,
                        enum tws_compress compress,
                        const struct tws_deadline *deadline)
{
    if (tws_server_check_process((const ServerObject *)conn->server) < 0) {
        return -1;
    }
    if (conn->frames != NULL
        && tws_chain_check_pieces(conn->frames->chain) < 0) {
        return -1;
    }
    for (;;) {
        struct tws_error err;
        enum tws_status status;
        if (try_begin_stream(conn, stream, compress, deadline, &status, &err)
            < 0) {
            return -1;
        }
        if (status == TWS_OK) {
            return 0;
        }
        if (status != TWS_AGAIN) {
            return tws_served_sent(conn, status, &err);
        }
        if (tws_served_await_stream(conn, deadline) < 0) {
            return -1;
        }
    }
}

static int
send_fragment_frame(ConnectionObject *conn, struct tws_fragment *fragment)
{
    struct tws_sending sending = {.stream = fragment->stream};
    PyObject *frame = tws_connection_fragment_frame(conn->state, fragment);
    if (frame == NULL) {
        return -1;
    }
    int result = tws_websocket_send_frames((WebsocketObject *)conn->sock,
                                           &frame, 1, 0, &sending, NULL);
    Py_DECREF(frame);
    return judge_frames(conn, result);
}

static int
send_fragment_extended(ConnectionObject *conn,
                       const struct tws_fragment *fragment,
                       const struct tws_deadline *deadline)
{
    struct tws_served_sending sending = {.stream = fragment->stream,
                                         .compress = fragment->compress};
    PyObject *frame = tws_connection_fragment_frame(conn->state, fragment);
    PyObject *frames = frame == NULL ? NULL : PyTuple_Pack(1, frame);
    Py_XDECREF(frame);
    int result = send_extended(conn, frames, &sending, deadline);
    Py_XDECREF(frames);
    return result;
}

int
tws_served_send_fragment(ConnectionObject *conn, struct tws_fragment *fragment,
                         const struct tws_deadline *deadline)
{
    struct tws_error err;
    const WebsocketObject *ws = (WebsocketObject *)conn->sock;
    int result;
    fragment->taken = false;
    if (tws_server_check_process((const ServerObject *)conn->server) < 0) {
        return -1;
    }
    atomic_store(&conn->stream_thread, PyThread_get_thread_ident());
    if (atomic_load_explicit(&conn->client->congested, memory_order_relaxed)
        && tws_served_await_room(conn, deadline) < 0) {
        return -1;
    }
    if (conn->frames != NULL) {
        result = send_fragment_extended(conn, fragment, deadline);
    }
    else if (ws != NULL && ws->send_hooks != NULL) {
        result = send_fragment_frame(conn, fragment);
    }
    else {
        enum tws_status status =
            tws_served_out_fragment(conn->client, fragment->opcode,
                                    fragment->fin, fragment->parts, &err);
        result = tws_served_sent(conn, status, &err);
    }
    fragment->taken = result == 0;
    return result;
}

void
tws_served_end_stream(ConnectionObject *conn, const void *stream,
                      bool unfinished)
{
    struct tws_error err;
    if (((const ServerObject *)conn->server)->forked) {
        return; /* the parent goes on with it */
    }
    if (unfinished) {
        enum tws_status status =
            tws_client_close(conn->client, TWS_CLOSE_UNABLE,
                             TWS_SPAN(TWS_UNFINISHED), TWS_ENDED_BY_US, &err);
        if (status != TWS_OK && status != TWS_EOF) {
            tws_client_break_off(conn->client, TWS_ENDED_BY_US,
                                 TWS_UNFINISHED);
        }
    }
    atomic_store(&conn->stream_thread, 0);
    tws_client_end_stream(conn->client, stream);
}
