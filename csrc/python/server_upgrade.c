/* A request for an upgrade, on the way to a Connection: who is it, and is it
 * welcome? */
#include "python/server_type.h"

#include "python/address.h"
#include "python/errors.h"
#include "python/extensions_agreed.h"
#include "python/head_objects.h"
#include "python/origin_notice.h"
#include "python/served_frames.h"
#include "python/tls_bridge.h"

/* A request that is being decided. */
struct upgrade {
    struct tws_handshake *handshake;
    const struct tws_http_head *head;
    const struct tws_handshake_request *request;
};

/* The str among options->protocols that the handshake chose, or None. */
static PyObject *
chosen_protocol(ServerObject *server, struct tws_span protocol)
{
    struct tws_options *options = server->options;
    for (size_t i = 0; i < options->policy.protocol_count; i++) {
        if (tws_span_equal(options->protocol_spans[i], protocol)) {
            return PyTuple_GET_ITEM(options->protocols, (Py_ssize_t)i);
        }
    }
    return Py_None;
}

/* Sends a whole answer, and notes why. -1 with an exception. */
static int
turn_away(ServerObject *server, const struct upgrade *upgrade,
          struct tws_span answer, const struct tws_error *why)
{
    struct tws_error err;
    if (tws_handshake_answer(upgrade->handshake, answer, &err) != TWS_OK) {
        (void)tws_raise(server->state, &err);
        return -1;
    }
    tws_handshake_note_refusal(upgrade->handshake, why);
    return 0;
}

/* 1 with who it is (NULL where nobody asks); 0: answered; -1 with an
 * exception. */
static int
authenticate(ServerObject *server, const struct upgrade *upgrade,
             PyObject **username)
{
    struct tws_buffer answer = TWS_BUFFER_EMPTY;
    struct tws_verdict verdict;
    *username = NULL;
    if (server->auth == NULL) {
        return 1;
    }
    struct tws_auth_request request = tws_auth_request_of(upgrade->head);
    int judged = tws_auth_judge(server->auth, &request, &verdict);
    if (server->forked) { /* it has called the program */
        tws_server_end_child(server);
    }
    if (judged < 0) {
        return -1;
    }
    if (verdict.username != NULL) {
        *username = verdict.username;
        return 1;
    }
    int result = tws_auth_write_refusal(server->auth, &verdict, &answer);
    if (result == 0) {
        struct tws_span bytes = {
            .data = (const char *)tws_buffer_data(&answer),
            .length = tws_buffer_length(&answer),
        };
        result = turn_away(server, upgrade, bytes, &verdict.refusal);
    }
    tws_buffer_release(&answer);
    return result;
}

/* Agrees on extensions; `judged` is what agreed->extensions borrows from. -1
 * with an exception. */
static int
agree(ServerObject *server, const struct upgrade *upgrade,
      ConnectionObject *client, PyObject **judged, struct tws_agreed *agreed)
{
    PyObject *extensions;
    struct tws_span value;
    struct tws_chain *chain = NULL;
    *judged = tws_extensions_judge_offers(server->state, server->templates,
                                          upgrade->head);
    if (*judged == NULL
        || tws_extensions_unpack(*judged, &extensions, &value) < 0
        || tws_extensions_settle(server->state, extensions, TWS_SERVER, true,
                                 &server->options->message, agreed, &chain)
               < 0) {
        return -1;
    }
    client->extensions = Py_NewRef(extensions);
    agreed->extensions = value;
    if (chain != NULL) {
        client->frames = tws_served_frames_new(chain);
    }
    return chain != NULL && client->frames == NULL ? -1 : 0;
}

/* The 101 for `client`, which the engine has then. 1: accepted; 0: answered
 * otherwise; -1 with an exception. */
static int
accept_client(ServerObject *server, const struct upgrade *upgrade,
              ConnectionObject *client, const struct tws_http_field *fields,
              size_t field_count)
{
    struct tws_handshake_request request = *upgrade->request;
    struct tws_error err;
    struct tws_error ignored;
    struct tws_agreed agreed;
    PyObject *judged = NULL;
    if (client->protocol != Py_None) {
        Py_ssize_t length;
        request.protocol.data =
            PyUnicode_AsUTF8AndSize(client->protocol, &length);
        if (request.protocol.data == NULL) {
            return -1;
        }
        request.protocol.length = (size_t)length;
    }
    if (tws_notice_foreign_origin(server->state, server->options,
                                  upgrade->head, &server->foreign_origin_seen)
        < 0) {
        return -1;
    }
    if (server->bridges != NULL
        && tws_bridges_take(server->bridges,
                            tws_handshake_fd(upgrade->handshake),
                            &client->bridge)
               < 0) {
        return -1;
    }
    if (agree(server, upgrade, client, &judged, &agreed) < 0) {
        Py_XDECREF(judged);
        return -1;
    }
    enum tws_status status =
        tws_handshake_accept(upgrade->handshake, &request, &agreed, fields,
                             field_count, Py_NewRef(client), &err);
    Py_DECREF(judged);
    if (status == TWS_OK) {
        return 1;
    }
    tws_compression_free(agreed.compression);
    Py_DECREF(client);
    if (status != TWS_REFUSED || err.http_status == 0) {
        (void)tws_raise(server->state, &err);
        return -1;
    }
    /* The last place is gone; undecided, the engine drops it. */
    (void)tws_handshake_refuse(upgrade->handshake, err.http_status, err.reason,
                               false, &ignored);
    tws_handshake_note_refusal(upgrade->handshake, &err);
    return 0;
}

/* What the program decides on; see twspy/_onhandshake.py. */
static PyObject *
ask_program(ServerObject *server, const struct upgrade *upgrade,
            ConnectionObject *client)
{
    PyObject *decision = NULL;
    PyObject *request = NULL;
    PyObject *address =
        tws_address_object(tws_handshake_peer(upgrade->handshake));
    if (address != NULL) {
        request = tws_request_object(server->state, upgrade->head, address);
        Py_DECREF(address);
    }
    if (request != NULL) {
        decision = PyObject_CallFunctionObjArgs(
            server->state->call_onhandshake, (PyObject *)server,
            (PyObject *)client, request, NULL);
        Py_DECREF(request);
        if (server->forked) {
            tws_server_end_child(server);
        }
    }
    return decision;
}

/* Accepts with the fields that `pairs` holds, a tuple of pairs of bytes; as
 * accept_client(). */
static int
accept_with(ServerObject *server, const struct upgrade *upgrade,
            ConnectionObject *client, PyObject *pairs)
{
    Py_ssize_t count = PyTuple_GET_SIZE(pairs);
    int result = -1;
    struct tws_http_field *fields =
        PyMem_Calloc((size_t)count + 1, sizeof(*fields));
    if (fields == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t name;
        Py_ssize_t value;
        if (!PyArg_ParseTuple(PyTuple_GET_ITEM(pairs, i), "y#y#",
                              &fields[i].name.data, &name,
                              &fields[i].value.data, &value)) {
            goto done;
        }
        fields[i].name.length = (size_t)name;
        fields[i].value.length = (size_t)value;
    }
    result = accept_client(server, upgrade, client, fields, (size_t)count);
done:
    PyMem_Free(fields);
    return result;
}

/* As accept_client(). */
static int
carry_out(ServerObject *server, const struct upgrade *upgrade,
          ConnectionObject *client, PyObject *decision)
{
    int http_status;
    PyObject *pairs;
    PyObject *protocol;
    const char *reason;
    Py_ssize_t reason_length;
    struct tws_error why;
    struct tws_span answer;
    Py_ssize_t length;
    if (!PyArg_ParseTuple(decision, "iO!Oy#y#", &http_status, &PyTuple_Type,
                          &pairs, &protocol, &reason, &reason_length,
                          &answer.data, &length)) {
        return -1;
    }
    if (http_status != 101) {
        answer.length = (size_t)length;
        (void)tws_error_refused(&why, (uint16_t)http_status, "%s", reason);
        return turn_away(server, upgrade, answer, &why);
    }
    if (protocol != Py_None) {
        Py_SETREF(client->protocol, Py_NewRef(protocol));
    }
    return accept_with(server, upgrade, client, pairs);
}

/* As accept_client(). */
static int
decide_on_client(ServerObject *server, const struct upgrade *upgrade,
                 ConnectionObject *client)
{
    if (!server->asks_handshake) {
        return accept_client(server, upgrade, client, NULL, 0);
    }
    PyObject *decision = ask_program(server, upgrade, client);
    if (decision == NULL) {
        return -1;
    }
    int result = carry_out(server, upgrade, client, decision);
    Py_DECREF(decision);
    return result;
}

/* 0: decided; -1 with an exception, and *client where there was one by then
 * (strong, or None). */
static int
decide(ServerObject *server, const struct upgrade *upgrade, PyObject **client)
{
    PyObject *username;
    int result = authenticate(server, upgrade, &username);
    if (result <= 0) {
        return result;
    }
    PyObject *made =
        tws_served_new(server->state, (PyObject *)server,
                       tws_handshake_peer(upgrade->handshake),
                       tws_handshake_head(upgrade->handshake, upgrade->head),
                       chosen_protocol(server, upgrade->request->protocol));
    if (made == NULL) {
        Py_XDECREF(username);
        return -1;
    }
    ConnectionObject *conn = (ConnectionObject *)made;
    conn->username = username;
    result = decide_on_client(server, upgrade, conn);
    if (result <= 0) {
        tws_served_turn_away(conn);
    }
    if (result < 0) {
        Py_SETREF(*client, made);
        return -1;
    }
    Py_DECREF(made);
    return 0;
}

void
tws_server_on_upgrade(ServerObject *server, struct tws_handshake *handshake,
                      const struct tws_http_head *head,
                      const struct tws_handshake_request *request)
{
    struct tws_error err;
    PyObject *client = Py_NewRef(Py_None);
    const struct upgrade upgrade = {
        .handshake = handshake,
        .head = head,
        .request = request,
    };
    if (decide(server, &upgrade, &client) < 0) {
        tws_server_handler_failed(server, client);
        /* Undecided, the engine drops it. */
        (void)tws_handshake_refuse(handshake, 500,
                                   "the server failed to accept this "
                                   "connection",
                                   false, &err);
    }
    Py_DECREF(client);
}
