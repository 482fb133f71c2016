/* A request for an upgrade, on the way to a Connection: who is it, and is it
 * welcome? */
#include "python/server_type.h"

#include "python/errors.h"
#include "python/head_objects.h"
#include "python/origin_notice.h"
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
    if (tws_auth_judge(server->auth, &request, &verdict) < 0) {
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

/* The 101 for `client`, which the engine has then. 0, or -1 with an
 * exception. */
static int
accept_client(ServerObject *server, const struct upgrade *upgrade,
              ConnectionObject *client)
{
    struct tws_error err;
    struct tws_error ignored;
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
    enum tws_status status =
        tws_handshake_accept(upgrade->handshake, upgrade->request, NULL, 0,
                             Py_NewRef(client), &err);
    if (status == TWS_OK) {
        return 0;
    }
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

/* 0: decided; -1 with an exception. */
static int
decide(ServerObject *server, const struct upgrade *upgrade)
{
    PyObject *username;
    int known = authenticate(server, upgrade, &username);
    if (known <= 0) {
        return known;
    }
    PyObject *client =
        tws_served_new(server->state, (PyObject *)server,
                       tws_handshake_peer(upgrade->handshake),
                       tws_handshake_head(upgrade->handshake, upgrade->head),
                       chosen_protocol(server, upgrade->request->protocol));
    if (client == NULL) {
        Py_XDECREF(username);
        return -1;
    }
    ((ConnectionObject *)client)->username = username;
    int result = accept_client(server, upgrade, (ConnectionObject *)client);
    Py_DECREF(client);
    return result;
}

void
tws_server_on_upgrade(ServerObject *server, struct tws_handshake *handshake,
                      const struct tws_http_head *head,
                      const struct tws_handshake_request *request)
{
    struct tws_error err;
    const struct upgrade upgrade = {
        .handshake = handshake,
        .head = head,
        .request = request,
    };
    if (decide(server, &upgrade) < 0) {
        tws_server_handler_failed(server, Py_None);
        /* Undecided, the engine drops it. */
        (void)tws_handshake_refuse(handshake, 500,
                                   "the server failed to accept this "
                                   "connection",
                                   false, &err);
    }
}
