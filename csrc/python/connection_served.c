/* A Connection whose stream a server's loop reads and writes. */
#include "python/connection_type.h"

#include "python/address.h"
#include "python/errors.h"
#include "python/frame_type.h"
#include "python/head_objects.h"
#include "python/message_type.h"
#include "python/served.h"
#include "python/server_type.h"
#include "loop/timers.h"

/* How often a recv() inside a handler looks whether the server stops. */
#define STOP_CHECK ((uint64_t)50 * 1000 * 1000)

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

/* Closing or closed: SocketClosed with what is known of it. */
static int
raise_closed(ConnectionObject *conn)
{
    if (conn->close_message != NULL) {
        (void)tws_connection_raise_closed(conn);
    }
    else {
        (void)tws_raise_closed(conn->state, TWS_CLOSE_ABNORMAL,
                               TWS_SPAN("the closing handshake has begun"));
    }
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

/* Through client.sock, whose hooks see each frame. */
static int
send_as_frames(ConnectionObject *conn, PyObject *message, size_t fragment)
{
    PyObject *frames = tws_connection_frames(message, fragment);
    if (frames == NULL) {
        return -1;
    }
    int result = tws_websocket_send_frames((WebsocketObject *)conn->sock,
                                           &PyTuple_GET_ITEM(frames, 0),
                                           PyTuple_GET_SIZE(frames), NULL);
    Py_DECREF(frames);
    if (result < 0 && conn->close_message != NULL
        && PyErr_ExceptionMatches(PyExc_OSError)) {
        PyErr_Clear(); /* EBADF: client.sock is closed by now */
        return raise_closed(conn);
    }
    return result;
}

int
tws_served_send_message(ConnectionObject *conn, PyObject *message,
                        size_t fragment)
{
    struct tws_error err;
    uint8_t opcode;
    struct tws_span payload;
    if (tws_message_view(conn->state, message, &opcode, &payload) < 0) {
        return -1;
    }
    if (opcode == TWS_OPCODE_CLOSE) {
        struct tws_span reason = {.data = payload.data + 2,
                                  .length = payload.length - 2};
        return tws_served_begin_close(
            conn, ((CloseMessageObject *)message)->code, reason);
    }
    if (tws_opcode_is_control(opcode)) {
        fragment = 0; /* never in fragments (RFC 6455 5.5) */
    }
    WebsocketObject *ws = (WebsocketObject *)conn->sock;
    if (ws != NULL && ws->send_hooks != NULL) {
        return send_as_frames(conn, message, fragment);
    }
    return sent(conn,
                tws_client_send(conn->client, opcode, payload, fragment, &err),
                &err);
}

int
tws_served_ping(ConnectionObject *conn, struct tws_span payload)
{
    struct tws_error err;
    return sent(
        conn, tws_client_send(conn->client, TWS_OPCODE_PING, payload, 0, &err),
        &err);
}

int
tws_served_begin_close(ConnectionObject *conn, uint16_t code,
                       struct tws_span reason)
{
    struct tws_error err;
    enum tws_status status =
        tws_client_close(conn->client, code, reason, &err);
    return status == TWS_EOF ? 0 : sent(conn, status, &err);
}

/* recv() inside a handler ------------------------------------------------- */

/* The driver that serves this client now, on this thread; NULL with
 * ConcurrencyError anywhere else, SocketClosed after its end. */
static struct tws_driver *
own_driver(ConnectionObject *conn)
{
    ServerObject *server = (ServerObject *)conn->server;
    struct tws_driver *driver = tws_server_driver(server->core);
    if (server->driver_thread == PyThread_get_thread_ident()
        && driver->client == conn->client) {
        return driver;
    }
    if (conn->close_message != NULL) {
        (void)raise_closed(conn);
        return NULL;
    }
    PyErr_SetString(conn->state->ConcurrencyError,
                    "the server receives for this client: recv() works only "
                    "inside one of this client's own handlers");
    return NULL;
}

static PyObject *
raise_ending(ConnectionObject *conn, const struct tws_ending *ending)
{
    struct tws_span reason = {.data = ending->reason,
                              .length = ending->reason_length};
    if (!ending->ours) {
        return tws_raise_closed(conn->state, ending->code, reason);
    }
    struct tws_error err;
    (void)tws_error_protocol(&err, ending->code, "%.*s", (int)reason.length,
                             reason.data);
    return tws_raise(conn->state, &err);
}

/* Waits for bytes, and lets what is queued leave meanwhile. 0, or -1 with an
 * exception. */
static int
await_bytes(ConnectionObject *conn, struct tws_driver *driver,
            const struct tws_deadline *deadline)
{
    struct tws_client *client = conn->client;
    ServerObject *server = (ServerObject *)conn->server;
    unsigned ready;
    tws_client_flush(client);
    if (tws_server_stopping(server->core)) {
        (void)tws_raise_closed(conn->state, TWS_CLOSE_GOING_AWAY,
                               TWS_SPAN("server is stopping"));
        return -1;
    }
    struct tws_deadline slice = tws_deadline_after(STOP_CHECK);
    bool whole = deadline->immediate || deadline->at <= slice.at;
    unsigned events = TWS_WAIT_READ;
    if (tws_client_queued(client) > 0) {
        events |= TWS_WAIT_WRITE;
    }
    if (tws_wait_for(client->transport.fd, events, whole ? deadline : &slice,
                     "recv", &ready)
        < 0) {
        if (whole || !PyErr_ExceptionMatches(PyExc_TimeoutError)) {
            return -1;
        }
        PyErr_Clear();
    }
    driver->drained = false;
    driver->reads = 0;
    return 0;
}

/* A client that is closing has close_timeout to answer. The driver, which
 * keeps that deadline else, is busy with us. */
static void
watch_closing(ConnectionObject *conn, uint64_t *give_up_at)
{
    if (conn->client->state != TWS_CLIENT_CLOSING) {
        return;
    }
    uint64_t now = tws_clock_now();
    if (*give_up_at == 0) {
        uint64_t patience =
            ((ServerObject *)conn->server)->options->close_timeout;
        *give_up_at =
            patience < UINT64_MAX - now ? now + patience : UINT64_MAX;
    }
    if (now >= *give_up_at) {
        tws_client_break_off(conn->client); /* the next read finds its end */
    }
}

PyObject *
tws_served_recv(ConnectionObject *conn, const struct tws_deadline *deadline)
{
    ServerObject *server = (ServerObject *)conn->server;
    struct tws_state *state = conn->state;
    struct tws_driver *driver = own_driver(conn);
    uint64_t give_up_at = 0;
    if (driver == NULL) {
        return NULL;
    }
    for (;;) {
        struct tws_event event;
        PyObject *payload;
        switch (tws_client_next(driver, conn->client, &event)) {
        case TWS_OK:
            break;
        case TWS_AGAIN:
            watch_closing(conn, &give_up_at);
            if (await_bytes(conn, driver, deadline) < 0) {
                return NULL;
            }
            continue;
        default:
            return raise_ending(conn, &driver->ending);
        }
        if (event.type <= TWS_EVENT_BINARY) {
            return tws_connection_incoming(
                conn, tws_connection_message(state, &event));
        }
        payload = PyBytes_FromStringAndSize((const char *)event.data,
                                            (Py_ssize_t)event.length);
        if (payload == NULL) {
            return NULL;
        }
        tws_server_call(server,
                        event.type == TWS_EVENT_PING ? state->str_onping
                                                     : state->str_onpong,
                        (PyObject *)conn, payload);
        Py_DECREF(payload);
    }
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
    ws->location = PyUnicode_DecodeLatin1(
        request.path.data, (Py_ssize_t)request.path.length, NULL);
    ws->protocol = Py_NewRef(conn->protocol);
    Py_DECREF(address);
    return ws->request == NULL || ws->location == NULL ? -1 : 0;
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
    ws->client = Py_NewRef((PyObject *)conn);
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
        ws->transport = conn->client->transport;
    }
    conn->sock = sock;
    return sock;
}

int
tws_served_send(WebsocketObject *ws, PyObject *const *frames, Py_ssize_t count)
{
    static const enum tws_role role = TWS_SERVER;
    ConnectionObject *conn = (ConnectionObject *)ws->client;
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    int result = -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (tws_frame_append(conn->state, frames[i], &role, &out) < 0) {
            goto done;
        }
    }
    struct tws_span bytes = {.data = (const char *)tws_buffer_data(&out),
                             .length = tws_buffer_length(&out)};
    result =
        sent(conn, tws_client_send_packed(conn->client, bytes, &err), &err);
done:
    tws_buffer_release(&out);
    return result;
}

void
tws_served_close(WebsocketObject *ws)
{
    ConnectionObject *conn = (ConnectionObject *)ws->client;
    tws_client_break_off(conn->client);
}
