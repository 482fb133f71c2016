/* client.sock: the websocket view of a served client. What it sends goes the
 * client's way. */
#include "python/connection_type.h"

#include "python/address.h"
#include "python/errors.h"
#include "python/frame_type.h"
#include "python/head_objects.h"
#include "python/served.h"
#include "python/served_frames.h"
#include "python/served_out.h"
#include "python/server_type.h"
#include "python/websocket_parts.h"

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
    return result < 0 ? -1 : tws_served_sent(conn, status, &err);
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
    return tws_served_sent(conn, status, &err) < 0 ? -1 : 1;
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
    result = tws_served_sent(
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
