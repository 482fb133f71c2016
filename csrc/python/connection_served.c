/* A Connection whose stream a server's loop reads and writes. */
#include "python/connection_type.h"

#include "python/address.h"
#include "python/errors.h"
#include "python/frame_type.h"
#include "python/head_objects.h"
#include "python/message_type.h"
#include "python/received_text.h"
#include "python/served.h"
#include "python/served_frames.h"
#include "python/served_out.h"
#include "python/server_type.h"
#include "python/served_wait.h"
#include "python/websocket_parts.h"
#include "protocol/message_stream.h"

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

/* Closing or closed: SocketClosed with what is known of it. */
static int
raise_closed(ConnectionObject *conn)
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

static int
sent(ConnectionObject *conn, enum tws_status status,
     const struct tws_error *err)
{
    switch (status) {
    case TWS_OK:
        return 0;
    case TWS_EOF:
        return raise_closed(conn);
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
        return raise_closed(conn);
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
    return result < 0 ? -1 : sent(conn, status, &err);
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
    return sent(conn, status, &err);
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
    return sent(
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
            return sent(conn, status, &err);
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
        result = sent(conn, status, &err);
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

/* recv() inside a handler ------------------------------------------------- */

static PyObject *
raise_ending(ConnectionObject *conn, const struct tws_ending *ending)
{
    if (ending->by != TWS_ENDED_BY_LIMIT
        || ending->code == TWS_CLOSE_GOING_AWAY /* it was idle */
        || ending->code == TWS_CLOSE_ABNORMAL) {
        return tws_raise_closed_ending(conn->state, ending);
    }
    struct tws_error err;
    (void)tws_error_protocol(&err, ending->code, "%s", ending->reason);
    return tws_raise(conn->state, &err);
}

/* 0, or -1 with ConcurrencyError outside of the client's own handlers, and
 * SocketClosed after its end. */
static int
check_served_here(ConnectionObject *conn)
{
    if (tws_server_check_process((const ServerObject *)conn->server) < 0) {
        return -1;
    }
    if (tws_client_is_served_here(conn->client)) {
        return 0;
    }
    if (conn->close_message != NULL) {
        return raise_closed(conn);
    }
    PyErr_SetString(conn->state->ConcurrencyError,
                    "the server receives for this client: recv() works only "
                    "inside one of this client's own handlers");
    return -1;
}

/* Calls the handler of a ping or pong. */
static int
call_handler(ConnectionObject *conn, const struct tws_event *event)
{
    PyObject *payload = PyBytes_FromStringAndSize((const char *)event->data,
                                                  (Py_ssize_t)event->length);
    if (payload == NULL) {
        return -1;
    }
    tws_server_call((ServerObject *)conn->server,
                    event->type == TWS_EVENT_PING ? conn->state->str_onping
                                                  : conn->state->str_onpong,
                    (PyObject *)conn, payload);
    Py_DECREF(payload);
    return 0;
}

/* Whole messages, or chunks of one, are wanted. */
static int
turn_to(ConnectionObject *conn, struct tws_chunks *chunks)
{
    struct tws_assembler *assembler = tws_served_assembler(conn);
    struct tws_error err;
    if (chunks == NULL) {
        tws_message_stream_discard(assembler);
        return 0;
    }
    if (chunks->stream == 0) {
        if (tws_message_stream_begin(assembler, chunks->limit, &err)
            != TWS_OK) {
            tws_client_fail(conn->client->worker, conn->client, &err);
            return 0; /* tws_client_next() tells */
        }
        chunks->stream = assembler->stream;
    }
    return tws_chunks_check(assembler, chunks);
}

/* Fragments without payload, or what is skipped, may come without end: there
 * is always something to be read, but nothing for the program. */
static int
check_time(ConnectionObject *conn, const struct tws_deadline *deadline)
{
    const struct tws_assembler *assembler = tws_served_assembler(conn);
    if ((assembler->chunked || assembler->skipping) && !deadline->immediate
        && tws_deadline_is_over(deadline)) {
        return tws_raise_time_over(deadline, "recv");
    }
    return 0;
}

PyObject *
tws_served_next(ConnectionObject *conn, const struct tws_deadline *deadline,
                struct tws_chunks *chunks)
{
    if (check_served_here(conn) < 0) {
        return NULL;
    }
    struct tws_worker *worker = conn->client->worker;
    /* Where it was received others will lie. */
    tws_received_text_forget(conn->state);
    for (;;) {
        struct tws_event event;
        PyObject *object;
        bool ignored;
        if (turn_to(conn, chunks) < 0) {
            return NULL;
        }
        if (TWS_UNLIKELY(conn->frames != NULL)) {
            int found = tws_served_frames_chunk(conn, &object);
            if (found != 0) {
                return found < 0 ? NULL : object;
            }
        }
        switch (tws_client_next(worker, conn->client, &event)) {
        case TWS_OK:
            if (event.type <= TWS_EVENT_BINARY) {
                return tws_connection_message(conn->state, &event);
            }
            if (event.type == TWS_EVENT_CHUNK) {
                return tws_connection_chunk(tws_served_assembler(conn),
                                            &event);
            }
            if (event.type == TWS_EVENT_FRAME) {
                int found =
                    tws_served_frames_take(conn, &event, &object, &ignored);
                if (found != 0) {
                    return found < 0 ? NULL : object;
                }
                break;
            }
            if (call_handler(conn, &event) < 0) {
                return NULL;
            }
            /* A peer that pings and does not read: its pongs would pile up. */
            if (TWS_UNLIKELY(conn->client->congested)
                && tws_served_await_room(
                       conn, deadline->at == UINT64_MAX ? NULL : deadline)
                       < 0) {
                return NULL;
            }
            break;
        case TWS_AGAIN:
            if (check_time(conn, deadline) < 0
                || tws_served_await_bytes(conn, deadline, "recv") < 0) {
                return NULL;
            }
            break;
        default:
            return raise_ending(conn, &worker->ending);
        }
    }
}

PyObject *
tws_served_recv(ConnectionObject *conn, const struct tws_deadline *deadline)
{
    return tws_connection_incoming(conn,
                                   tws_served_next(conn, deadline, NULL));
}

/* client.sock ------------------------------------------------------------- */

/* What the websocket view tells of the handshake. */
static int
fill_from_head(ConnectionObject *conn, WebsocketObject *ws)
{
    struct tws_http_head head;
    struct tws_error err;
    struct tws_handshake_request request;
    ServerObject *server = (ServerObject *)conn->server;
    const struct tws_http_limits *limits = &server->options->http;
    if (tws_http_parse_request(PyBytes_AS_STRING(conn->head),
                               (size_t)PyBytes_GET_SIZE(conn->head), limits,
                               &head, &err)
            != TWS_OK
        || tws_handshake_judge(&head, &server->options->policy, &request, &err)
               != TWS_OK) {
        (void)tws_raise(conn->state, &err); /* it was accepted before */
        return -1;
    }
    PyObject *address = tws_address_object(conn->peer);
    if (address == NULL) {
        return -1;
    }
    ws->request = tws_request_object(conn->state, &head, address);
    Py_DECREF(address);
    if (ws->request == NULL) {
        return -1;
    }
    ws->location = PyUnicode_DecodeLatin1(
        request.path.data, (Py_ssize_t)request.path.length, NULL);
    ws->protocol = Py_NewRef(conn->protocol);
    ws->username = Py_XNewRef(conn->username);
    ws->extensions = Py_XNewRef(conn->extensions);
    return ws->location == NULL ? -1 : 0;
}

PyObject *
tws_served_sock(ConnectionObject *conn)
{
    ServerObject *server = (ServerObject *)conn->server;
    if (conn->sock != NULL) {
        return conn->sock;
    }
    PyObject *sock = tws_websocket_new_bare(
        conn->state, conn->state->websocket_type, server->options);
    if (sock == NULL) {
        return NULL;
    }
    WebsocketObject *ws = (WebsocketObject *)sock; /* closed, till below */
    ws->role = TWS_SERVER;
    ws->bridge = Py_XNewRef(conn->bridge);
    if (fill_from_head(conn, ws) < 0) {
        Py_DECREF(sock);
        return NULL;
    }
    /* That ran Python code: another thread may have been here, and the
     * client may have ended. */
    if (conn->sock != NULL) {
        Py_DECREF(sock);
        return conn->sock;
    }
    if (conn->close_message == NULL) {
        ws->phase = TWS_PHASE_SERVED;
        ws->client = Py_NewRef((PyObject *)conn);
        /* What it carries, encrypted or not, is the engine's. */
        tws_transport_plain(&ws->transport, conn->client->transport.fd);
    }
    conn->sock = sock;
    return sock;
}

/* False for control frames alone, which do not wait for anything: extensions
 * have no part in them, unless one has claimed their opcode. */
static bool
passes_extensions(PyObject *const *frames, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        unsigned opcode = ((const FrameObject *)frames[i])->opcode;
        if (!tws_opcode_is_control(opcode) || !tws_opcode_is_known(opcode)) {
            return true;
        }
    }
    return false;
}

static int
send_packed_extended(ConnectionObject *conn, PyObject *const *frames,
                     Py_ssize_t count, const struct tws_sending *sending)
{
    enum tws_status status;
    struct tws_error err;
    struct tws_served_sending all = {
        .frames = frames,
        .count = count,
        .stream = sending->stream,
    };
    int result = tws_served_frames_send(conn, &all, NULL, &status, &err);
    return result < 0 ? -1 : sent(conn, status, &err);
}

/* A frame that is compressed: a message, or one of a message in pieces. 1: it
 * was sent; 0: it is to be sent as it is; -1 with an exception. */
static int
send_compressed(ConnectionObject *conn, PyObject *object,
                const struct tws_sending *sending)
{
    const FrameObject *frame = (const FrameObject *)object;
    enum tws_status status;
    struct tws_error err;
    struct tws_span payload = {
        .data = PyBytes_AS_STRING(frame->payload),
        .length = (size_t)PyBytes_GET_SIZE(frame->payload),
    };
    if (tws_opcode_is_control(frame->opcode) || (frame->rsv & TWS_RSV1) != 0) {
        return 0;
    }
    if (sending->stream != NULL) {
        const struct tws_span parts[2] = {payload, {.length = 0}};
        status = tws_served_out_fragment(conn->client, frame->opcode,
                                         frame->fin, parts, &err);
    }
    else if (frame->fin && frame->opcode != TWS_OPCODE_CONTINUATION) {
        struct tws_client_message message = {.payload = payload,
                                             .opcode = frame->opcode,
                                             .compress =
                                                 (uint8_t)sending->compress};
        status = tws_served_out_message(conn->client, &message, &err);
    }
    else {
        return 0;
    }
    return sent(conn, status, &err) < 0 ? -1 : 1;
}

static int
send_packed(ConnectionObject *conn, PyObject *const *frames, Py_ssize_t count,
            const struct tws_sending *sending)
{
    static const enum tws_role role = TWS_SERVER;
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    int result = -1;
    enum tws_standing standing = TWS_STANDS_BETWEEN;
    bool marked = false;
    if (conn->frames != NULL && passes_extensions(frames, count)) {
        return send_packed_extended(conn, frames, count, sending);
    }
    if (count == 1 && conn->client->compression != NULL) {
        result = send_compressed(conn, frames[0], sending);
        if (result != 0) {
            return result < 0 ? -1 : 0;
        }
        result = -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        const FrameObject *frame = (const FrameObject *)frames[i];
        marked = marked || (frame->rsv & TWS_RSV1) != 0;
        if (!tws_opcode_is_control(frame->opcode)) {
            standing =
                sending->stream != NULL ? TWS_STANDS_WITHIN : TWS_STANDS_ALONE;
        }
        if (tws_frame_append(conn->state, frames[i], &role, &out) < 0) {
            goto done;
        }
    }
    struct tws_span bytes = {.data = (const char *)tws_buffer_data(&out),
                             .length = tws_buffer_length(&out)};
    result = sent(
        conn,
        tws_served_out_packed(conn->client, bytes, standing, marked, &err),
        &err);
done:
    tws_buffer_release(&out);
    return result;
}

int
tws_served_check_process(const WebsocketObject *ws)
{
    const ConnectionObject *conn = (const ConnectionObject *)ws->client;
    return conn == NULL
               ? 0
               : tws_server_check_process((const ServerObject *)conn->server);
}

int
tws_served_send(WebsocketObject *ws, PyObject *const *frames, Py_ssize_t count,
                const struct tws_sending *sending)
{
    if (tws_served_check_process(ws) < 0) {
        return -1;
    }
    ConnectionObject *conn = (ConnectionObject *)Py_XNewRef(ws->client);
    if (conn == NULL) { /* it has ended while hooks ran */
        (void)tws_websocket_check(ws, TWS_PHASES(TWS_PHASE_SERVED), "send()");
        return -1;
    }
    int result = send_packed(conn, frames, count, sending);
    Py_DECREF(conn);
    return result;
}

void
tws_served_part(WebsocketObject *ws)
{
    ws->phase = TWS_PHASE_CLOSED;
    ws->transport.fd = -1; /* the engine's */
    Py_CLEAR(ws->client);
}

void
tws_served_break_off(WebsocketObject *ws)
{
    ConnectionObject *conn = (ConnectionObject *)ws->client;
    tws_client_break_off(conn->client, TWS_ENDED_BY_US,
                         "the program closed client.sock");
}

static struct tws_client *
client_of(const WebsocketObject *ws)
{
    return ((const ConnectionObject *)ws->client)->client;
}

bool
tws_served_tls_info(WebsocketObject *ws, struct tws_tls_info *info)
{
    struct tws_client *client = client_of(ws);
    return client != NULL && tws_client_tls_info(client, info);
}

enum tws_status
tws_served_peer_certificate(WebsocketObject *ws, uint8_t **der, size_t *length,
                            struct tws_error *err)
{
    struct tws_client *client = client_of(ws);
    return client == NULL
               ? TWS_EOF
               : tws_client_peer_certificate(client, der, length, err);
}
