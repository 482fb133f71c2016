/* websocket.handshake() and what it shares with accept() and connect(). */
#include "python/websocket_handshake.h"

#include "python/errors.h"
#include "python/extensions_agreed.h"
#include "python/head_objects.h"
#include "loop/timers.h"
#include "net/dialing.h"
#include "net/opening.h"

#include <errno.h>

enum { SCRATCH_SIZE = 8192 };

/* The server's side of a handshake under way. */
struct tws_answering {
    struct tws_opening opening;
    struct tws_error refusal; /* status TWS_OK: none */
};

void
tws_handshake_forget(WebsocketObject *ws)
{
    pthread_mutex_lock(&ws->guard);
    struct tws_dialing *dialing = ws->dialing;
    ws->dialing = NULL;
    pthread_mutex_unlock(&ws->guard);
    tws_dialing_free(dialing);
    PyMem_Free(ws->fields_asked);
    ws->fields_asked = NULL;
    Py_CLEAR(ws->offer);
    if (ws->answering != NULL) {
        tws_opening_release(&ws->answering->opening);
        PyMem_Free(ws->answering);
        ws->answering = NULL;
    }
}

/* --- what was agreed --- */

PyObject *
tws_handshake_protocol(struct tws_span protocol)
{
    if (protocol.length == 0) {
        return Py_NewRef(Py_None);
    }
    return PyUnicode_DecodeLatin1(protocol.data, (Py_ssize_t)protocol.length,
                                  NULL);
}

/* Path and query of a target, which may have been an absolute one. */
static PyObject *
location_of(const struct tws_handshake_request *request)
{
    PyObject *path = PyUnicode_DecodeLatin1(
        request->path.data, (Py_ssize_t)request->path.length, NULL);
    if (path == NULL || request->query.length == 0) {
        return path;
    }
    PyObject *location = NULL;
    PyObject *query = PyUnicode_DecodeLatin1(
        request->query.data, (Py_ssize_t)request->query.length, NULL);
    if (query != NULL) {
        location = PyUnicode_FromFormat("%U?%U", path, query);
        Py_DECREF(query);
    }
    Py_DECREF(path);
    return location;
}

int
tws_handshake_note_request(WebsocketObject *ws, struct tws_span bytes)
{
    const struct tws_options *options = ws->options;
    struct tws_http_head head;
    struct tws_handshake_request request;
    struct tws_error err;
    PyObject *address =
        ws->remote_address == NULL ? Py_None : ws->remote_address;
    if (tws_http_parse_request(bytes.data, bytes.length, &options->http, &head,
                               &err)
            != TWS_OK
        || tws_handshake_judge(&head, &options->policy, &request, &err)
               != TWS_OK) {
        (void)tws_raise(ws->state, &err);
        return -1;
    }
    Py_XSETREF(ws->location, location_of(&request));
    if (ws->location == NULL) {
        return -1;
    }
    Py_XSETREF(ws->protocol, tws_handshake_protocol(request.protocol));
    if (ws->protocol == NULL) {
        return -1;
    }
    Py_XSETREF(ws->request, tws_request_object(ws->state, &head, address));
    return ws->request == NULL ? -1 : 0;
}

int
tws_handshake_raise(WebsocketObject *ws, const struct tws_error *err,
                    const struct tws_http_head *head, struct tws_span body)
{
    PyObject *fields = NULL;
    PyObject *headers = NULL;
    PyObject *status = NULL;
    PyObject *error = NULL;
    if (err->status != TWS_REFUSED) {
        (void)tws_raise(ws->state, err);
        return -1;
    }
    fields = head == NULL ? PyTuple_New(0) : tws_field_list(head);
    headers = fields == NULL ? NULL
                             : PyObject_CallOneArg(ws->state->Headers, fields);
    status = err->http_status == 0 ? Py_NewRef(Py_None)
                                   : PyLong_FromLong(err->http_status);
    if (headers != NULL && status != NULL) {
        error = PyObject_CallFunction(
            ws->state->HandshakeError, "sOOy#", err->reason, status, headers,
            body.length == 0 ? "" : body.data, (Py_ssize_t)body.length);
    }
    if (error != NULL) {
        PyErr_SetRaisedException(error);
    }
    Py_XDECREF(fields);
    Py_XDECREF(headers);
    Py_XDECREF(status);
    return -1;
}

/* --- time --- */

static uint64_t
later(uint64_t timeout)
{
    uint64_t now = tws_clock_now();
    return timeout > UINT64_MAX - now ? UINT64_MAX : now + timeout;
}

struct tws_deadline
tws_handshake_deadline(WebsocketObject *ws, bool begins)
{
    struct tws_deadline deadline = tws_websocket_deadline(ws);
    if (begins) {
        ws->open_deadline = later(ws->options->open_timeout);
    }
    if (!deadline.immediate && ws->open_deadline < deadline.at) {
        deadline.at = ws->open_deadline;
    }
    return deadline;
}

void
tws_handshake_hurry(WebsocketObject *ws, struct tws_deadline *deadline)
{
    uint64_t end = later(ws->options->close_timeout);
    if (end < ws->open_deadline) {
        ws->open_deadline = end;
    }
    if (!deadline->immediate && ws->open_deadline < deadline->at) {
        deadline->at = ws->open_deadline;
    }
}

int
tws_handshake_raise_closed(void)
{
    errno = EBADF;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

int
tws_handshake_wait(WebsocketObject *ws, struct tws_wait *waits, size_t count,
                   const struct tws_deadline *deadline, uint64_t until,
                   int sys_errno)
{
    struct tws_deadline slice = *deadline;
    if (tws_websocket_is_closing(ws)) {
        return tws_handshake_raise_closed(); /* before anybody could be woken
                                              */
    }
    if (deadline->immediate) {
        if (tws_clock_now() >= ws->open_deadline) {
            return 0;
        }
        errno = sys_errno;
        PyErr_SetFromErrno(PyExc_OSError); /* BlockingIOError */
        return -1;
    }
    if (until < slice.at) {
        slice.at = until;
    }
    int result = tws_wait_any_quietly(waits, count, &slice);
    if (result >= 0 && tws_websocket_is_closing(ws)) {
        return tws_handshake_raise_closed();
    }
    return result == 0 && slice.at < deadline->at ? 1 : result;
}

/* --- the server's side --- */

static int
begin_answering(WebsocketObject *ws, struct tws_span initial)
{
    struct tws_error err;
    struct tws_answering *answering = PyMem_Calloc(1, sizeof(*answering));
    if (answering == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (tws_opening_init(&answering->opening, &ws->transport, initial, &err)
        != TWS_OK) {
        PyMem_Free(answering);
        (void)tws_raise(ws->state, &err);
        return -1;
    }
    ws->answering = answering;
    return 0;
}

/* Where the peer turns out to speak plain HTTP, encryption is gone. */
static void
take_transport(WebsocketObject *ws)
{
    ws->transport = ws->answering->opening.transport;
}

/* 1 with *extensions, which borrows from `judged`; -1 with an exception. */
static int
take_agreed(WebsocketObject *ws, PyObject *judged, struct tws_span *extensions)
{
    PyObject *agreed;
    if (tws_extensions_unpack(judged, &agreed, extensions) < 0) {
        return -1;
    }
    Py_XSETREF(ws->extensions, Py_NewRef(agreed));
    return 1;
}

/* With what ends handshake(), as KeyboardInterrupt, pending: sends what the
 * kernel takes of the answer, as the connection is closed then. */
static void
answer_at_last(WebsocketObject *ws, struct tws_span answer)
{
    struct tws_opening *opening = &ws->answering->opening;
    struct tws_http_head head;
    struct tws_error ignored;
    uint8_t scratch[SCRATCH_SIZE];
    if (answer.length > 0
        && tws_opening_answer(opening, answer, &ignored) == TWS_OK) {
        (void)tws_opening_advance(opening, &ws->options->http, scratch,
                                  sizeof(scratch), &head, &ignored);
    }
}

/* Accepts an upgrade that the policy allows, or refuses who it is. -1 with an
 * exception. */
static int
admit(WebsocketObject *ws, const struct tws_http_head *head,
      struct tws_span bytes, const struct tws_handshake_request *request)
{
    struct tws_answering *answering = ws->answering;
    const struct tws_options *options = ws->options;
    struct tws_buffer answer = TWS_BUFFER_EMPTY;
    struct tws_error err;
    PyObject *judged = NULL;
    enum tws_status status = TWS_OK;
    PyObject *username;
    struct tws_span extensions = TWS_SPAN("");
    int known = tws_websocket_authenticate(ws, head, &username, &answer,
                                           &answering->refusal);
    if (known > 0) {
        Py_XSETREF(ws->username, username);
        known = tws_websocket_negotiate(ws, head, &judged, &answer,
                                        &answering->refusal);
    }
    if (known > 0) {
        known = take_agreed(ws, judged, &extensions);
    }
    struct tws_span text = {
        .data = (const char *)tws_buffer_data(&answer),
        .length = tws_buffer_length(&answer),
    };
    if (known < 0) {
        answer_at_last(ws, text);
    }
    else if (known == 0) {
        status = tws_opening_answer(&answering->opening, text, &err);
    }
    else {
        if (tws_clock_now() >= ws->open_deadline) { /* that took its time */
            PyErr_SetString(PyExc_TimeoutError, "handshake() timed out");
            known = -1;
        }
        else if (tws_handshake_note_request(ws, bytes) < 0) {
            known = -1;
        }
        else {
            status = tws_opening_accept(&answering->opening, request,
                                        extensions, options->field_spans,
                                        options->field_count, &err);
        }
    }
    tws_buffer_release(&answer);
    Py_XDECREF(judged);
    if (status != TWS_OK) {
        (void)tws_raise(ws->state, &err);
        known = -1;
    }
    return known < 0 ? -1 : 0;
}

/* Accepts or refuses. -1 with an exception that the peer is not to blame
 * for. */
static int
decide(WebsocketObject *ws, const struct tws_http_head *head)
{
    struct tws_answering *answering = ws->answering;
    const struct tws_options *options = ws->options;
    struct tws_handshake_request request;
    struct tws_error err;
    /* The head begins with its method and ends where the rest begins. */
    const char *end = (const char *)answering->opening.rest.data;
    struct tws_span bytes = {.data = head->method.data,
                             .length = (size_t)(end - head->method.data)};
    enum tws_status status =
        tws_handshake_judge(head, &options->policy, &request, &err);
    if (status == TWS_OK && !request.upgrade) {
        status = tws_error_refused(
            &err, 426,
            "this is a WebSocket endpoint: a plain HTTP request can't be "
            "answered, expected \"Upgrade: websocket\"");
    }
    if (status == TWS_REFUSED) {
        bool head_only = tws_span_equal(head->method, TWS_SPAN("HEAD"));
        answering->refusal = err;
        status =
            tws_opening_refuse(&answering->opening, err.http_status,
                               answering->refusal.reason, head_only, &err);
    }
    else if (status == TWS_OK) {
        return admit(ws, head, bytes, &request);
    }
    if (status != TWS_OK) {
        (void)tws_raise(ws->state, &err);
        return -1;
    }
    return 0;
}

/* 1: connected; 0: go on; -1 with an exception. */
static int
answer_step(WebsocketObject *ws, struct tws_deadline *deadline)
{
    struct tws_answering *answering = ws->answering;
    struct tws_opening *opening = &answering->opening;
    struct tws_error err = {.status = TWS_OK};
    struct tws_http_head head;
    uint8_t scratch[SCRATCH_SIZE];
    struct tws_wait wait = {.fd = ws->transport.fd, .events = TWS_WAIT_READ};
    enum tws_opening_step step = TWS_STEP_READ;
    int result;

    if (opening->state == TWS_OPENING_SECURING) {
        Py_BEGIN_ALLOW_THREADS /* it computes for milliseconds */
        step = tws_opening_secure(opening, &err);
        Py_END_ALLOW_THREADS
        take_transport(ws);
    }
    if (opening->state != TWS_OPENING_SECURING) {
        step = tws_opening_advance(opening, &ws->options->http, scratch,
                                   sizeof(scratch), &head, &err);
    }
    switch (step) {
    case TWS_STEP_REQUEST:
        return decide(ws, &head);
    case TWS_STEP_CONNECTED: {
        struct tws_span rest = {.data = (const char *)opening->rest.data,
                                .length = opening->rest.length};
        return tws_websocket_begin(ws, TWS_SERVER, rest) < 0 ? -1 : 1;
    }
    case TWS_STEP_GONE:
        if (answering->refusal.status == TWS_OK) {
            answering->refusal = err;
        }
        return tws_handshake_raise(ws, &answering->refusal, NULL,
                                   TWS_SPAN(""));
    case TWS_STEP_WRITE:
        wait.events = TWS_WAIT_WRITE;
        break;
    case TWS_STEP_READ:
        break;
    }
    if (err.status == TWS_REFUSED) {
        answering->refusal = err; /* a head that can't be read */
    }
    if (opening->state == TWS_OPENING_LINGERING) {
        tws_handshake_hurry(ws, deadline);
    }
    result = tws_handshake_wait(ws, &wait, 1, deadline, UINT64_MAX, EAGAIN);
    if (result > 0) {
        return 0;
    }
    if (result == 0 && answering->refusal.status != TWS_OK) {
        return tws_handshake_raise(ws, &answering->refusal, NULL,
                                   TWS_SPAN(""));
    }
    if (result == 0) {
        PyErr_SetString(PyExc_TimeoutError, "handshake() timed out");
    }
    return -1;
}

int
tws_handshake_check_initial(const WebsocketObject *ws, struct tws_span initial)
{
    if (ws->ssl != NULL && initial.length > 0) {
        PyErr_Format(PyExc_ValueError,
                     "initial has %zu bytes, but the connection is to be "
                     "encrypted: leave them in the socket",
                     initial.length);
        return -1;
    }
    return 0;
}

static int
as_server(WebsocketObject *ws, struct tws_span initial)
{
    bool begins = ws->answering == NULL;
    struct tws_deadline deadline = tws_handshake_deadline(ws, begins);
    if (begins
        && (tws_handshake_check_initial(ws, initial) < 0
            || tws_websocket_start_tls(ws) < 0
            || begin_answering(ws, initial) < 0)) {
        return -1;
    }
    ws->phase = TWS_PHASE_CONNECTING;
    int result = 0;
    while (result == 0) {
        result = answer_step(ws, &deadline);
    }
    if (result > 0) {
        tws_handshake_forget(ws);
        return 0;
    }
    if (!deadline.immediate
        || !PyErr_ExceptionMatches(PyExc_BlockingIOError)) {
        tws_websocket_close(ws); /* it can't be begun again */
    }
    return -1;
}

/* --- the method --- */

const char tws_websocket_handshake_doc[] = PyDoc_STR(
    "handshake($self, /, server=False, host=None, initial=b'')\n--\n\n"
    "Do the opening handshake on a stream that is connected already (RFC\n"
    "6455 section 4): upgrade a socket.socket that was given to "
    "websocket().\n\n"
    "server   True: read a request and answer it; False: ask\n"
    "host     of a client: what the Host field says, \"host\" or\n"
    "         \"host:port\"; the peer's address where it is None\n"
    "initial  bytes of the peer that were read from the socket before\n\n"
    "The whole takes at most open_timeout and the websocket's timeout.\n\n"
    "Raises HandshakeError where the other side refuses, or, on a server,\n"
    "asks for something else (it is then sent a 4xx answer), or has not the\n"
    "credentials that auth asks for; TimeoutError.\n"
    "The websocket is closed then. On a non-blocking one BlockingIOError\n"
    "means that the call is to be repeated.");

PyObject *
tws_websocket_handshake_method(PyObject *self, PyObject *args,
                               PyObject *kwargs)
{
    static char *names[] = {"server", "host", "initial", NULL};
    WebsocketObject *ws = tws_websocket_of(self);
    PyObject *host = Py_None;
    Py_buffer initial = {.buf = NULL};
    int server = 0;
    int result = -1;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|pOy*:handshake", names,
                                     &server, &host, &initial)) {
        return NULL;
    }
    struct tws_span bytes = {.data = initial.buf,
                             .length = (size_t)initial.len};
    if (tws_websocket_check(
            ws, TWS_PHASES(TWS_PHASE_FRESH) | TWS_PHASES(TWS_PHASE_CONNECTING),
            "handshake()")
            == 0
        && tws_websocket_check_auth(ws, server ? TWS_SERVER : TWS_CLIENT,
                                    "handshake()")
               == 0
        && tws_websocket_claim(ws, "handshake()") == 0) {
        result = server ? as_server(ws, bytes)
                        : tws_handshake_as_client(ws, host, bytes);
        tws_websocket_disclaim(ws);
    }
    if (initial.buf != NULL) {
        PyBuffer_Release(&initial);
    }
    return result < 0 ? NULL : Py_NewRef(Py_None);
}
