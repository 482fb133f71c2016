/* websocket.accept(): the server's side of the opening handshake, for many
 * peers side by side. */
#include "python/websocket_parts.h"

#include "python/address.h"
#include "python/errors.h"
#include "python/extensions_agreed.h"
#include "python/head_objects.h"
#include "python/origin_notice.h"
#include "python/tls_bridge.h"
#include "python/tls_context_type.h"
#include "python/websocket_handshake.h"
#include "loop/timers.h"
#include "net/acceptor.h"

#include <errno.h>
#include <unistd.h>

enum {
    HALF_OPEN_MAX = 128,
    REFUSALS_A_TURN = 256, /* then signals and the deadline have theirs */
};

/* Puts a bridge over a connection that was accepted: TLS by way of an
 * ssl.SSLContext. */
static int
replace(void *context, int fd)
{
    WebsocketObject *ws = context;
    PyObject *tls = tws_websocket_ssl_context(ws, ws->ssl, TWS_SERVER);
    PyObject *bridge = NULL;
    if (tls == NULL) {
        close(fd);
        fd = -1;
        goto done;
    }
    bridge = tws_bridge_start(ws->state, tls, &fd, TWS_SERVER, NULL,
                              ws->options->open_timeout);
    if (bridge != NULL && tws_bridges_put(ws->bridges, fd, bridge) < 0) {
        close(fd);
        fd = -1;
    }
done:
    if (fd < 0) {
        PyErr_WriteUnraisable((PyObject *)ws);
    }
    Py_XDECREF(bridge);
    Py_XDECREF(tls);
    return fd;
}

/* What was agreed on with a client that has vanished. */
static void
discard(void *Py_UNUSED(context), void *user)
{
    Py_DECREF((PyObject *)user);
}

/* -1 with an exception. */
static int
prepare_tls(WebsocketObject *ws, PyObject *context,
            struct tws_acceptor_options *settings)
{
    settings->tls = tws_tls_context_in(ws->state, context);
    if (settings->tls != NULL) {
        return 0;
    }
    ws->bridges = PyDict_New();
    settings->replace = replace;
    return ws->bridges == NULL ? -1 : 0;
}

static int
prepare_acceptor(WebsocketObject *ws)
{
    const struct tws_options *options = ws->options;
    struct tws_error err;
    PyObject *context = NULL;
    int result = -1;
    struct tws_acceptor_options settings = {
        .http = options->http,
        .policy = options->policy,
        .fields = options->field_spans,
        .field_count = options->field_count,
        .open_timeout = options->open_timeout,
        .close_timeout = options->close_timeout,
        .half_open_max = HALF_OPEN_MAX,
        .discard = discard,
        .context = ws,
        .asks = ws->auth != NULL || PyTuple_GET_SIZE(ws->templates) > 0,
    };
    if (ws->acceptor != NULL) {
        return 0;
    }
    if (ws->ssl != NULL) {
        context = tws_websocket_ssl_context(ws, ws->ssl, TWS_SERVER);
        if (context == NULL || prepare_tls(ws, context, &settings) < 0) {
            goto done;
        }
    }
    if (tws_acceptor_new(ws->transport.fd, &settings, &ws->acceptor, &err)
        != TWS_OK) {
        (void)tws_raise(ws->state, &err);
        goto done;
    }
    result = 0;
done:
    Py_XDECREF(context);
    return result;
}

/* Nobody is told but the log: a server lives on. */
static int
log_refusal(WebsocketObject *ws, const struct tws_address *peer,
            const struct tws_error *err)
{
    PyObject *who = tws_address_text(peer);
    if (who == NULL) {
        return -1;
    }
    PyObject *text =
        err->http_status == 0
            ? PyUnicode_FromFormat("refused %U: %s", who, err->reason)
            : PyUnicode_FromFormat("refused %U: %d %s", who,
                                   (int)err->http_status, err->reason);
    Py_DECREF(who);
    PyObject *result =
        text == NULL ? NULL : PyObject_CallOneArg(ws->state->log_debug, text);
    Py_XDECREF(text);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
notice_origin(WebsocketObject *listener, struct tws_span bytes)
{
    struct tws_http_head head;
    struct tws_error err;
    const struct tws_options *options = listener->options;
    if (tws_http_parse_request(bytes.data, bytes.length, &options->http, &head,
                               &err)
        != TWS_OK) {
        (void)tws_raise(listener->state, &err); /* it was accepted before */
        return -1;
    }
    return tws_notice_foreign_origin(listener->state, options, &head,
                                     &listener->foreign_origin_seen);
}

/* A websocket of the listener's class for the connection; takes over all of
 * `accepted`. */
static PyObject *
make_client(WebsocketObject *listener, struct tws_accepted *accepted)
{
    int family = 0;
    int proto = 0;
    int fd = accepted->transport.fd;
    socklen_t size = sizeof(int);
    PyObject *result = NULL;
    WebsocketObject *client = (WebsocketObject *)tws_websocket_new_bare(
        listener->state, Py_TYPE(listener), listener->options);
    if (client == NULL) {
        tws_transport_release(&accepted->transport);
        close(fd);
        goto done;
    }
    /* Cannot fail on a descriptor that was just accepted. */
    (void)getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &size);
    (void)getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &proto, &size);
    if (tws_websocket_adopt(client, fd, family, SOCK_STREAM, proto) < 0) {
        tws_transport_release(&accepted->transport);
        goto done;
    }
    client->transport = accepted->transport; /* encrypted, or as it was */
    client->ssl = Py_XNewRef(listener->ssl);
    client->templates = Py_XNewRef(listener->templates);
    client->extensions = accepted->user;
    accepted->user = NULL;
    if (listener->bridges != NULL
        && tws_bridges_take(listener->bridges, fd, &client->bridge) < 0) {
        tws_websocket_close(client);
        goto done;
    }
    client->remote_address = tws_address_object(&accepted->peer);
    if (listener->auth != NULL) {
        client->username = PyUnicode_DecodeUTF8(
            (const char *)tws_buffer_data(&accepted->note),
            (Py_ssize_t)tws_buffer_length(&accepted->note), NULL);
        if (client->username == NULL) {
            tws_websocket_close(client);
            goto done;
        }
    }
    struct tws_span head = {.data =
                                (const char *)tws_buffer_data(&accepted->head),
                            .length = tws_buffer_length(&accepted->head)};
    struct tws_span rest = {.data =
                                (const char *)tws_buffer_data(&accepted->rest),
                            .length = tws_buffer_length(&accepted->rest)};
    if (client->remote_address == NULL || notice_origin(listener, head) < 0
        || tws_handshake_note_request(client, head) < 0
        || tws_websocket_begin(client, TWS_SERVER, rest) < 0) {
        tws_websocket_close(client);
        goto done;
    }
    result = Py_NewRef((PyObject *)client);
done:
    Py_XDECREF((PyObject *)client);
    Py_XDECREF((PyObject *)accepted->user);
    tws_accepted_release(accepted);
    return result;
}

/* Accepts, once it is known who the client is (NULL: nobody asks). *status is
 * the acceptor's. -1 with an exception. */
static int
accept_request(WebsocketObject *ws,
               const struct tws_handshake_request *request, PyObject *username,
               PyObject *judged, enum tws_status *status,
               struct tws_error *err)
{
    PyObject *agreed;
    struct tws_span extensions;
    struct tws_span note = TWS_SPAN("");
    Py_ssize_t length = 0;
    if (tws_extensions_unpack(judged, &agreed, &extensions) < 0) {
        return -1;
    }
    if (username != NULL) {
        note.data = PyUnicode_AsUTF8AndSize(username, &length);
        note.length = (size_t)length;
    }
    if (note.data == NULL) {
        return -1;
    }
    *status = tws_acceptor_accept(ws->acceptor, request, extensions, note,
                                  Py_NewRef(agreed), err);
    if (*status != TWS_OK) {
        Py_DECREF(agreed);
    }
    return 1;
}

/* With what ends accept(), as KeyboardInterrupt, pending: the program may not
 * call it again, so that client is answered now. */
static void
answer_at_last(WebsocketObject *ws, struct tws_span answer)
{
    struct tws_error ignored;
    if (answer.length > 0) {
        (void)tws_acceptor_answer_now(ws->acceptor, tws_clock_now(), answer,
                                      &ignored);
    }
}

/* Decides on what the acceptor asks about; only where there is an `auth`, or
 * extensions. -1 with an exception that the peer is not to blame for. */
static int
decide(WebsocketObject *ws, const struct tws_address *peer)
{
    const struct tws_options *options = ws->options;
    struct tws_http_head head;
    struct tws_handshake_request request;
    struct tws_error err;
    struct tws_error refusal;
    struct tws_buffer answer = TWS_BUFFER_EMPTY;
    PyObject *username;
    PyObject *judged = NULL;
    struct tws_span bytes = tws_acceptor_request(ws->acceptor);
    if (tws_http_parse_request(bytes.data, bytes.length, &options->http, &head,
                               &err)
            != TWS_OK
        || tws_handshake_judge(&head, &options->policy, &request, &err)
               != TWS_OK) {
        (void)tws_raise(ws->state, &err); /* it was allowed before */
        return -1;
    }
    enum tws_status status = TWS_OK;
    int known =
        tws_websocket_authenticate(ws, &head, &username, &answer, &refusal);
    if (known > 0) {
        known = tws_websocket_negotiate(ws, &head, &judged, &answer, &refusal);
    }
    if (known > 0) {
        known = accept_request(ws, &request, username, judged, &status, &err);
    }
    struct tws_span text = {
        .data = (const char *)tws_buffer_data(&answer),
        .length = tws_buffer_length(&answer),
    };
    if (known == 0) {
        status = tws_acceptor_answer(ws->acceptor, text, &err);
    }
    else if (known < 0) {
        answer_at_last(ws, text);
    }
    tws_buffer_release(&answer);
    Py_XDECREF(username);
    Py_XDECREF(judged);
    if (status != TWS_OK) {
        (void)tws_raise(ws->state, &err);
        return -1;
    }
    return known == 0 ? log_refusal(ws, peer, &refusal) : known;
}

/* *over is set once the time is: what is ready then still counts. */
static int
wait_for_peers(WebsocketObject *ws, const struct tws_deadline *deadline,
               bool *over)
{
    struct tws_error err;
    enum tws_status status;
    uint64_t now = tws_clock_now();
    uint64_t left = UINT64_MAX;
    if (*over) {
        return tws_raise_time_over(deadline, "accept()");
    }
    if (deadline->at != UINT64_MAX) {
        left = deadline->at > now ? deadline->at - now : 0;
    }
    *over = left == 0;
    if (*over) {
        status = tws_acceptor_wait(ws->acceptor, now, 0, &err);
    }
    else {
        Py_BEGIN_ALLOW_THREADS
        status = tws_acceptor_wait(ws->acceptor, now, left, &err);
        Py_END_ALLOW_THREADS
    }
    if (PyErr_CheckSignals() < 0) {
        return -1;
    }
    if (tws_websocket_is_closing(ws)) {
        (void)tws_error_os(&err, EBADF, "accept");
        status = TWS_OS;
    }
    if (status == TWS_OS) {
        (void)tws_raise(ws->state, &err);
        return -1;
    }
    return 0;
}

/* TLS handshakes compute for milliseconds, which others can use. */
static enum tws_acceptor_event
advance(WebsocketObject *ws, struct tws_accepted *accepted,
        struct tws_address *peer, struct tws_error *err)
{
    enum tws_acceptor_event event;
    if (ws->ssl == NULL || ws->bridges != NULL) {
        return tws_acceptor_advance(ws->acceptor, tws_clock_now(), accepted,
                                    peer, err);
    }
    Py_BEGIN_ALLOW_THREADS
    event = tws_acceptor_advance(ws->acceptor, tws_clock_now(), accepted, peer,
                                 err);
    Py_END_ALLOW_THREADS
    return event;
}

static PyObject *
accept_one(WebsocketObject *ws, const struct tws_deadline *deadline)
{
    struct tws_accepted accepted;
    struct tws_address peer;
    struct tws_error err;
    bool over = false;
    int refusals = 0;
    if (prepare_acceptor(ws) < 0) {
        return NULL;
    }
    for (;;) {
        switch (advance(ws, &accepted, &peer, &err)) {
        case TWS_ACCEPTOR_CONNECTED:
            return make_client(ws, &accepted);
        case TWS_ACCEPTOR_REFUSED:
            if (log_refusal(ws, &peer, &err) < 0) {
                return NULL;
            }
            refusals++;
            if (refusals % REFUSALS_A_TURN != 0) {
                continue;
            }
            break;
        case TWS_ACCEPTOR_REQUEST:
            if (decide(ws, &peer) < 0) {
                return NULL;
            }
            continue;
        case TWS_ACCEPTOR_FAILED:
            (void)tws_raise(ws->state, &err);
            return NULL;
        case TWS_ACCEPTOR_IDLE:
            break;
        }
        if (wait_for_peers(ws, deadline, &over) < 0) {
            return NULL;
        }
    }
}

const char tws_websocket_accept_doc[] = PyDoc_STR(
    "accept($self, /)\n--\n\n"
    "Wait for a client and return a websocket connected to it.\n\n"
    "Does the server's side of the opening handshake (RFC 6455 section 4.2).\n"
    "The result has the class and the options of this websocket; its class's\n"
    "__init__ is not run again, its timeout is socket.getdefaulttimeout().\n"
    "It may be used as it is, or unpacked: client, address = "
    "sock.accept().\n\n"
    "A peer that asks for something else is answered with a 4xx status and\n"
    "logged at DEBUG, one that stays silent is dropped after open_timeout;\n"
    "nobody waits for them, as handshakes go on side by side, and accept()\n"
    "waits for the next. With auth, one without the right credentials gets\n"
    "401; all handshakes wait while the program's function looks at them, "
    "and\n"
    "what that raises is logged, and answered with 500. They only go on while "
    "accept() is running: call it\n"
    "again and again on a non-blocking websocket, also where select() has\n"
    "nothing to tell.\n\n"
    "Raises TimeoutError where the timeout passes, BlockingIOError on a\n"
    "non-blocking websocket, OSError where the system can't accept (as\n"
    "EMFILE). Threads that call it at the same time take turns.");

PyObject *
tws_websocket_accept_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    WebsocketObject *ws = tws_websocket_of(self);
    struct tws_deadline deadline = tws_websocket_deadline(ws);
    PyObject *result = NULL;
    if (tws_websocket_check(ws, TWS_PHASES(TWS_PHASE_LISTENING), "accept()")
            < 0
        || tws_websocket_check_auth(ws, TWS_SERVER, "accept()") < 0
        || tws_websocket_enter(ws) < 0) {
        return NULL;
    }
    /* A listener writes nothing: its lock is free for this. */
    if (tws_lock_wait(ws->write_lock, &deadline, "accept()") == 0) {
        result = accept_one(ws, &deadline);
        PyThread_release_lock(ws->write_lock);
    }
    tws_websocket_leave(ws);
    return result;
}

/* client, address = sock.accept() */
PyObject *
tws_websocket_iter(PyObject *self)
{
    const WebsocketObject *ws = tws_websocket_of(self);
    if (ws->remote_address == NULL) {
        PyErr_Format(PyExc_TypeError,
                     "can't iterate over a %s: only what accept() returned "
                     "unpacks, as (client, address)",
                     Py_TYPE(self)->tp_name);
        return NULL;
    }
    PyObject *pair = PyTuple_Pack(2, self, ws->remote_address);
    if (pair == NULL) {
        return NULL;
    }
    PyObject *iterator = PyObject_GetIter(pair);
    Py_DECREF(pair);
    return iterator;
}
