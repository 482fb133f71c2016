/* What the engine calls while it serves: makes Python objects of what came,
 * and calls the handlers. Runs on the threads of the server, which hold the
 * GIL except between leave() and enter(). */
#include "python/server_type.h"

#include "python/address.h"
#include "python/head_objects.h"
#include "python/message_type.h"
#include "python/object_lock.h"
#include "python/received_text.h"
#include "python/served.h"
#include "python/served_frames.h"
#include "python/tls_bridge.h"
#include "protocol/message_stream.h"

#include <unistd.h>

static void *
leave(void *context)
{
    (void)context;
    return PyEval_SaveThread();
}

static void
enter(void *context, void *token)
{
    (void)context;
    PyEval_RestoreThread(token);
}

static inline ServerObject *
server_of(void *context)
{
    return ((struct tws_loop *)context)->server;
}

/* Calls a method of the runner with the loop's index. True where it returns
 * something true. */
static bool
call_runner(const struct tws_loop *loop, PyObject *name)
{
    PyObject *result = NULL;
    PyObject *index = PyLong_FromUnsignedLong(loop->index);
    if (index != NULL) {
        result = PyObject_CallMethodOneArg(loop->server->runner, name, index);
        Py_DECREF(index);
    }
    int truth = result == NULL ? -1 : PyObject_IsTrue(result);
    Py_XDECREF(result);
    if (truth < 0) {
        PyErr_WriteUnraisable((PyObject *)loop->server);
    }
    return truth > 0;
}

static bool
spawn(void *context)
{
    return call_runner(context, server_of(context)->state->str_spawn);
}

static void
exhausted(void *context)
{
    (void)call_runner(context, server_of(context)->state->str_exhausted);
}

static void
stopping(void *context)
{
    (void)call_runner(context, server_of(context)->state->str_stopping);
}

static void
ended(void *context)
{
    struct tws_loop *loop = context;
    ServerObject *server = loop->server;
    if (!tws_server_stopping(loop->core)) {
        /* It has failed. The others would serve on, and hide it. */
        tws_server_stop_loops(server, TWS_CLOSE_GOING_AWAY,
                              TWS_SPAN("server is stopping"),
                              server->patience);
    }
    (void)call_runner(loop, server->state->str_ended);
}

/* SystemExit and KeyboardInterrupt in a handler stop the server; run() hands
 * SystemExit on. */
static void
stop_for_exit(ServerObject *server)
{
    PyObject *error = PyErr_GetRaisedException();
    if (PyErr_GivenExceptionMatches(error, PyExc_SystemExit)
        && server->exit == NULL) {
        server->exit = Py_NewRef(error);
    }
    Py_DECREF(error);
    tws_server_stop_loops(server, TWS_CLOSE_GOING_AWAY,
                          TWS_SPAN("server is stopping"), server->patience);
}

void
tws_server_handler_failed(ServerObject *server, PyObject *client)
{
    if (server->forked) {
        tws_server_end_child(server);
    }
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        stop_for_exit(server);
        return;
    }
    PyObject *error = PyErr_GetRaisedException();
    PyObject *args[3] = {(PyObject *)server, client, error};
    PyObject *result =
        PyObject_VectorcallMethod(server->state->str_onerror, args,
                                  3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(error);
    if (result != NULL) {
        Py_DECREF(result);
    }
    else if (PyErr_ExceptionMatches(PyExc_Exception)) {
        PyErr_WriteUnraisable((PyObject *)server);
    }
    else {
        stop_for_exit(server);
    }
}

/* Finishes a handler's call. */
static void
handled(ServerObject *server, PyObject *client, PyObject *result)
{
    if (TWS_UNLIKELY(server->forked)) {
        tws_server_end_child(server);
    }
    if (TWS_LIKELY(result != NULL)) {
        Py_DECREF(result);
    }
    else {
        tws_server_handler_failed(server, client);
    }
}

void
tws_server_call(ServerObject *server, PyObject *name, PyObject *client,
                PyObject *argument)
{
    PyObject *args[3] = {(PyObject *)server, client, argument};
    size_t count = argument == NULL ? 2 : 3;
    PyObject *result = PyObject_VectorcallMethod(
        name, args, count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    handled(server, client, result);
}

static void
on_open(void *context, struct tws_client *client)
{
    ServerObject *server = server_of(context);
    PyObject *object = client->user;
    tws_client_retain(client);
    ((ConnectionObject *)object)->client = client;
    tws_server_call(server, server->state->str_onopen, object, NULL);
}

/* A message, or NULL with an exception, on its way to onmessage(). */
static void
call_onmessage(ServerObject *server, PyObject *client, PyObject *message)
{
    message = tws_connection_incoming((ConnectionObject *)client, message);
    if (TWS_UNLIKELY(message == NULL)) {
        tws_server_handler_failed(server, client);
        return;
    }
    PyObject *name = server->state->str_onmessage;
    PyObject *function = tws_method_cache_get(
        &server->onmessage, (PyObject *)server, server->dict, name);
    if (TWS_LIKELY(function != NULL)) {
        PyObject *args[3] = {(PyObject *)server, client, message};
        Py_INCREF(function); /* the class may change meanwhile */
        PyObject *result = PyObject_Vectorcall(function, args, 3, NULL);
        Py_DECREF(function);
        handled(server, client, result);
    }
    else {
        tws_server_call(server, name, client, message);
    }
    Py_DECREF(message);
}

static void
on_message(void *context, struct tws_client *client,
           const struct tws_event *event)
{
    ServerObject *server = server_of(context);
    struct tws_state *state = server->state;
    PyObject *object = client->user;
    PyObject *message = tws_connection_message(state, event);
    if (event->type == TWS_EVENT_BINARY || event->ascii || message == NULL) {
        call_onmessage(server, object, message);
        return;
    }
    const PyObject *text = ((const MessageObject *)message)->payload;
    tws_received_text_remember(state, ((MessageObject *)message)->payload,
                               (struct tws_span){
                                   .data = (const char *)event->data,
                                   .length = event->length,
                               });
    call_onmessage(server, object, message);
    /* Unless another handler has had its own remembered. */
    if (tws_received_text_is(state, text)) {
        tws_received_text_forget(state);
    }
}

static void
on_frame(void *context, struct tws_client *client,
         const struct tws_event *event)
{
    ServerObject *server = server_of(context);
    ConnectionObject *conn = client->user;
    PyObject *message;
    bool blame;
    tws_message_stream_discard(tws_served_assembler(conn));
    int found = tws_served_frames_take(conn, event, &message, &blame);
    if (found > 0) {
        call_onmessage(server, (PyObject *)conn, message);
    }
    else if (found < 0 && blame) {
        tws_server_handler_failed(server, (PyObject *)conn);
    }
    else if (found < 0) {
        PyErr_Clear(); /* the peer's mistake: onclose() tells of it */
    }
}

static void
call_with_payload(ServerObject *server, PyObject *name,
                  struct tws_client *client, const struct tws_event *event)
{
    PyObject *payload = PyBytes_FromStringAndSize((const char *)event->data,
                                                  (Py_ssize_t)event->length);
    if (payload == NULL) {
        tws_server_handler_failed(server, client->user);
        return;
    }
    tws_server_call(server, name, client->user, payload);
    Py_DECREF(payload);
}

static void
on_ping(void *context, struct tws_client *client,
        const struct tws_event *event)
{
    ServerObject *server = server_of(context);
    call_with_payload(server, server->state->str_onping, client, event);
}

static void
on_pong(void *context, struct tws_client *client,
        const struct tws_event *event)
{
    ServerObject *server = server_of(context);
    call_with_payload(server, server->state->str_onpong, client, event);
}

/* True where onclose is to be called with the message, too. The signature is
 * looked at once for each callable: overriding on the class or the instance
 * shows as another one. -1 with an exception. */
static int
onclose_takes_message(ServerObject *server, PyObject *handler)
{
    PyObject *key = handler;
    if (PyMethod_Check(handler)) {
        key = PyMethod_GET_FUNCTION(handler); /* bound anew at each call */
    }
    PyObject *before;
    bool known;
    bool takes;
    TWS_BEGIN_LOCKED(server);
    known = server->onclose == key;
    takes = server->onclose_takes_message;
    TWS_END_LOCKED;
    if (known) {
        return takes;
    }
    PyObject *answer =
        PyObject_CallOneArg(server->state->takes_close_message, handler);
    int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    if (truth < 0) {
        return -1;
    }
    TWS_BEGIN_LOCKED(server);
    before = server->onclose;
    server->onclose = Py_NewRef(key);
    server->onclose_takes_message = truth != 0;
    TWS_END_LOCKED;
    Py_XDECREF(before);
    return truth;
}

static void
call_onclose(ServerObject *server, PyObject *client, PyObject *message)
{
    PyObject *handler =
        PyObject_GetAttr((PyObject *)server, server->state->str_onclose);
    int takes = handler == NULL ? -1 : onclose_takes_message(server, handler);
    if (takes < 0) {
        Py_XDECREF(handler);
        tws_server_handler_failed(server, client);
        return;
    }
    PyObject *args[3] = {NULL, client, message};
    size_t count = takes > 0 ? 2 : 1;
    PyObject *result = PyObject_Vectorcall(
        handler, args + 1, count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_DECREF(handler);
    handled(server, client, result);
}

static void
on_sent(void *context, struct tws_client *client, void *receipt)
{
    ServerObject *server = server_of(context);
    tws_server_call(server, server->state->str_onsent, client->user, receipt);
    Py_DECREF((PyObject *)receipt);
}

static void
on_unsent(void *context, void *receipt)
{
    (void)context;
    Py_DECREF((PyObject *)receipt);
}

static void
on_close(void *context, struct tws_client *client,
         const struct tws_ending *ending)
{
    ServerObject *server = server_of(context);
    PyObject *object = client->user;
    ConnectionObject *conn = (ConnectionObject *)object;
    PyObject *message = tws_close_message_of_ending(server->state, ending);
    /* Together, with nothing between that runs Python code: who asks for
     * client.sock from now on gets a closed one. */
    conn->close_message = Py_XNewRef(message);
    WebsocketObject *ws = (WebsocketObject *)conn->sock;
    if (ws != NULL) {
        tws_served_part(ws);
    }
    if (message == NULL) {
        tws_server_handler_failed(server, object);
    }
    else {
        handled(server, object,
                PyObject_CallFunctionObjArgs(server->state->log_client_ended,
                                             object, message, NULL));
        call_onclose(server, object, message);
        Py_DECREF(message);
    }
    Py_DECREF(object); /* the engine's reference */
}

static void
discard(void *context, void *user)
{
    (void)context;
    tws_served_turn_away(user);
    Py_DECREF((PyObject *)user);
}

static void
refused(void *context, const struct tws_address *peer,
        const struct tws_error *err)
{
    ServerObject *server = server_of(context);
    PyObject *name = tws_address_text(peer);
    PyObject *result = NULL;
    if (name != NULL) {
        result = PyObject_CallFunction(server->state->log_refused, "Ois", name,
                                       (int)err->http_status, err->reason);
        Py_DECREF(name);
    }
    handled(server, Py_None, result);
}

static void
accept_paused(void *context, const struct tws_error *err)
{
    ServerObject *server = server_of(context);
    if (atomic_exchange(&server->accept_paused, true)) {
        return; /* said before */
    }
    handled(server, Py_None,
            PyObject_CallFunction(server->state->log_accept_paused, "is",
                                  err->sys_errno, err->reason));
}

/* Where TLS is an ssl.SSLContext's, it happens in a bridge: the engine sees
 * what comes out of it. */
static int
replace(void *context, int fd)
{
    ServerObject *server = server_of(context);
    if (server->ssl_context == NULL) {
        return fd;
    }
    PyObject *bridge =
        tws_bridge_start(server->state, server->ssl_context, &fd, TWS_SERVER,
                         NULL, server->options->open_timeout);
    if (bridge != NULL && tws_bridges_put(server->bridges, fd, bridge) < 0) {
        close(fd);
        fd = -1;
    }
    if (fd < 0) {
        tws_server_handler_failed(server, Py_None);
    }
    Py_XDECREF(bridge);
    return fd;
}

/* What onrequest() returns, as bytes; by default 426 with advice. */
static PyObject *
plain_answer(ServerObject *server, struct tws_handshake *handshake,
             const struct tws_http_head *head)
{
    struct tws_state *state = server->state;
    PyObject *result = NULL;
    PyObject *response = NULL;
    PyObject *request = NULL;
    PyObject *address = tws_address_object(tws_handshake_peer(handshake));
    if (address == NULL) {
        goto done;
    }
    request = tws_request_object(state, head, address);
    if (request == NULL) {
        goto done;
    }
    response = PyObject_CallMethodOneArg((PyObject *)server,
                                         state->str_onrequest, request);
    if (server->forked) {
        tws_server_end_child(server);
    }
    if (response == NULL || response == Py_None) {
        result = response == NULL ? NULL : Py_NewRef(Py_None);
        goto done;
    }
    if (!PyObject_TypeCheck(response, (PyTypeObject *)state->Response)) {
        PyErr_Format(PyExc_TypeError,
                     "onrequest() returned %.200s, expected a Response or "
                     "None",
                     Py_TYPE(response)->tp_name);
        goto done;
    }
    result = PyObject_CallMethod(
        response, "pack", "O",
        tws_span_equal(head->method, TWS_SPAN("HEAD")) ? Py_True : Py_False);
    if (result != NULL && !PyBytes_Check(result)) {
        PyErr_Format(PyExc_TypeError, "pack() returned %.200s, expected bytes",
                     Py_TYPE(result)->tp_name);
        Py_CLEAR(result);
    }
done:
    Py_XDECREF(address);
    Py_XDECREF(request);
    Py_XDECREF(response);
    return result;
}

static void
on_request(void *context, struct tws_handshake *handshake,
           const struct tws_http_head *head,
           const struct tws_handshake_request *request)
{
    ServerObject *server = server_of(context);
    struct tws_error err;
    bool head_only = tws_span_equal(head->method, TWS_SPAN("HEAD"));
    enum tws_status status;
    if (request->upgrade) {
        tws_server_on_upgrade(server, handshake, head, request);
        return;
    }
    PyObject *answer = plain_answer(server, handshake, head);
    if (answer == NULL) {
        tws_server_handler_failed(server, Py_None);
        status = tws_handshake_refuse(handshake, 500,
                                      "the server failed to answer this "
                                      "request",
                                      head_only, &err);
    }
    else if (answer == Py_None) {
        status = tws_handshake_refuse(
            handshake, 426,
            "this is a WebSocket server: connect with a WebSocket client, "
            "such as new WebSocket('ws://...') in a browser",
            head_only, &err);
    }
    else {
        struct tws_span bytes = {
            .data = PyBytes_AS_STRING(answer),
            .length = (size_t)PyBytes_GET_SIZE(answer),
        };
        status = tws_handshake_answer(handshake, bytes, &err);
    }
    (void)status; /* undecided, the engine drops it */
    Py_XDECREF(answer);
}

void
tws_server_fill_handlers(struct tws_loop *loop, struct tws_handlers *handlers)
{
    *handlers = (struct tws_handlers){
        .context = loop,
        .leave = leave,
        .enter = enter,
        .spawn = spawn,
        .exhausted = exhausted,
        .replace = replace,
        .request = on_request,
        .refused = refused,
        .discard = discard,
        .open = on_open,
        .message = on_message,
        .frame = on_frame,
        .ping = on_ping,
        .pong = on_pong,
        .sent = on_sent,
        .unsent = on_unsent,
        .close = on_close,
        .accept_paused = accept_paused,
        .stopping = stopping,
        .ended = ended,
    };
}
