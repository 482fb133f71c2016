/* websocket.connect(): the client's side of the opening handshake. */
#include "python/websocket_handshake.h"

#include "python/address.h"
#include "python/errors.h"
#include "python/head_objects.h"
#include "loop/timers.h"
#include "net/dialing.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/un.h>

/* Where to: a name, or an address of a Unix socket. */
struct destination {
    char host[TWS_HOST_MAX + 1];
    uint16_t port;
    bool is_unix;
    struct tws_address address; /* where is_unix */
};

/* --- the address --- */

/* A host as the bytes that the resolver takes; names that are not ASCII in
 * their IDNA form. */
static int
read_host(PyObject *object, char out[TWS_HOST_MAX + 1])
{
    int result = -1;
    PyObject *bytes;
    if (PyUnicode_Check(object) && !PyUnicode_IS_ASCII(object)) {
        bytes = PyUnicode_AsEncodedString(object, "idna", NULL);
    }
    else if (PyUnicode_Check(object)) {
        bytes = PyUnicode_AsASCIIString(object);
    }
    else if (PyBytes_Check(object)) {
        bytes = Py_NewRef(object);
    }
    else {
        PyErr_Format(PyExc_TypeError,
                     "the host of an address is %.200s, expected str",
                     Py_TYPE(object)->tp_name);
        return -1;
    }
    if (bytes == NULL) {
        return -1;
    }
    size_t length = (size_t)PyBytes_GET_SIZE(bytes);
    const char *data = PyBytes_AS_STRING(bytes);
    if (length > TWS_HOST_MAX || memchr(data, '\0', length) != NULL) {
        PyErr_Format(PyExc_ValueError,
                     "host is %R, expected at most %d bytes without NUL",
                     object, TWS_HOST_MAX);
        goto done;
    }
    memcpy(out, data, length);
    out[length] = '\0';
    result = 0;
done:
    Py_DECREF(bytes);
    return result;
}

static int
read_unix_path(PyObject *object, struct destination *to)
{
    struct sockaddr_un *sun = (struct sockaddr_un *)&to->address.storage;
    PyObject *path = NULL;
    if (PyObject_CheckBuffer(object)) {
        path = PyBytes_FromObject(object); /* the abstract name space, too */
    }
    else if (PyUnicode_FSConverter(object, &path) == 0) {
        path = NULL;
    }
    if (path == NULL) {
        return -1;
    }
    size_t length = (size_t)PyBytes_GET_SIZE(path);
    const char *data = PyBytes_AS_STRING(path);
    bool abstract = length > 0 && data[0] == '\0';
    if (length + (abstract ? 0 : 1) > sizeof(sun->sun_path)) {
        PyErr_SetString(PyExc_OSError, "AF_UNIX path too long");
        Py_DECREF(path);
        return -1;
    }
    *sun = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(sun->sun_path, data, length);
    to->address.length = (socklen_t)(offsetof(struct sockaddr_un, sun_path)
                                     + length + (abstract ? 0 : 1));
    to->is_unix = true;
    Py_DECREF(path);
    return 0;
}

static int
read_address(PyObject *address, int family, struct destination *to)
{
    *to = (struct destination){.is_unix = false};
    if (family == AF_UNIX) {
        return read_unix_path(address, to);
    }
    if (!PyTuple_Check(address) || PyTuple_GET_SIZE(address) < 2
        || PyTuple_GET_SIZE(address) > 4) {
        PyErr_Format(PyExc_TypeError,
                     "address is %R, expected a tuple (host, port)", address);
        return -1;
    }
    long port = PyLong_AsLong(PyTuple_GET_ITEM(address, 1));
    if (port == -1 && PyErr_Occurred() != NULL) {
        return -1;
    }
    if (port < 0 || port > UINT16_MAX) {
        PyErr_Format(PyExc_OverflowError,
                     "the port of an address is %ld, expected 0 to 65535",
                     port);
        return -1;
    }
    to->port = (uint16_t)port;
    return read_host(PyTuple_GET_ITEM(address, 0), to->host);
}

/* --- the request --- */

static int
begin_dialing(WebsocketObject *ws, const char *host, size_t length)
{
    const struct tws_options *options = ws->options;
    struct tws_error err;
    struct tws_dialing *dialing;
    Py_ssize_t size;
    struct tws_handshake_offer offer = {
        .host = {.data = host, .length = length},
        .protocols = options->protocol_spans,
        .protocol_count = options->policy.protocol_count,
        .fields = options->field_spans,
        .field_count = options->field_count,
    };
    offer.target.data = PyUnicode_AsUTF8AndSize(options->location, &size);
    if (offer.target.data == NULL) {
        return -1;
    }
    offer.target.length = (size_t)size;
    if (options->origin != Py_None) {
        offer.origin.data = PyUnicode_AsUTF8AndSize(options->origin, &size);
        if (offer.origin.data == NULL) {
            return -1;
        }
        offer.origin.length = (size_t)size;
    }
    enum tws_status status =
        tws_dialing_new(&offer, &options->http, &dialing, &err);
    if (status == TWS_REFUSED) {
        PyErr_Format(PyExc_ValueError, "can't ask for a connection: %s",
                     err.reason);
        return -1;
    }
    if (status != TWS_OK) {
        (void)tws_raise(ws->state, &err);
        return -1;
    }
    pthread_mutex_lock(&ws->guard);
    ws->dialing = dialing;
    pthread_mutex_unlock(&ws->guard);
    return 0;
}

static int
begin_connect(WebsocketObject *ws, PyObject *address)
{
    struct destination to;
    struct tws_error err;
    struct tws_resolve *resolve;
    char field[TWS_HOST_FIELD_MAX + 1];
    int family = AF_INET;
    socklen_t size = sizeof(family);
    (void)getsockopt(ws->transport.fd, SOL_SOCKET, SO_DOMAIN, &family, &size);
    if (read_address(address, family, &to) < 0) {
        return -1;
    }
    if (to.is_unix) {
        if (begin_dialing(ws, "localhost", strlen("localhost")) < 0) {
            return -1;
        }
        tws_dialing_by_address(ws->dialing, &ws->transport, &to.address);
        return 0;
    }
    const char *name = to.host;
    if (name[0] == '\0') {
        name = family == AF_INET6 ? "::1" : "127.0.0.1";
    }
    if (begin_dialing(ws, field, tws_dialing_host_field(name, to.port, field))
        < 0) {
        return -1;
    }
    if (tws_resolve_begin(to.host, to.port, family, &resolve, &err)
        != TWS_OK) {
        tws_handshake_forget(ws);
        (void)tws_raise(ws->state, &err);
        return -1;
    }
    tws_dialing_by_name(ws->dialing, &ws->transport, resolve);
    return 0;
}

/* --- the answer --- */

static int
finish(WebsocketObject *ws)
{
    const struct tws_dialing *dialing = ws->dialing;
    struct tws_http_head head;
    struct tws_error err;
    if (tws_dialing_request(dialing, &head, &err) != TWS_OK) {
        (void)tws_raise(ws->state, &err);
        return -1;
    }
    Py_XSETREF(ws->request, tws_request_object(ws->state, &head, Py_None));
    if (tws_dialing_answer(dialing, &head, &err) != TWS_OK) {
        (void)tws_raise(ws->state, &err);
        return -1;
    }
    Py_XSETREF(ws->response,
               tws_response_object(ws->state, &head, TWS_SPAN("")));
    Py_XSETREF(ws->protocol,
               tws_handshake_protocol(tws_dialing_protocol(dialing)));
    if (ws->request == NULL || ws->response == NULL || ws->protocol == NULL
        || tws_websocket_begin(ws, TWS_CLIENT, tws_dialing_rest(dialing))
               < 0) {
        return -1;
    }
    return 0;
}

static int
raise_refused(WebsocketObject *ws)
{
    struct tws_http_head head;
    struct tws_error refusal;
    struct tws_error err;
    tws_dialing_refusal(ws->dialing, &refusal);
    if (tws_dialing_answer(ws->dialing, &head, &err) != TWS_OK) {
        return tws_handshake_raise(ws, &refusal, NULL, TWS_SPAN(""));
    }
    return tws_handshake_raise(ws, &refusal, &head,
                               tws_dialing_body(ws->dialing));
}

static int
raise_failed(WebsocketObject *ws, struct tws_error *err)
{
    int gai_error = tws_dialing_gai_error(ws->dialing);
    if (gai_error != 0) {
        PyObject *args =
            Py_BuildValue("(is)", gai_error, gai_strerror(gai_error));
        if (args != NULL) {
            PyErr_SetObject(ws->state->gaierror, args);
            Py_DECREF(args);
        }
        return -1;
    }
    if (err->status == TWS_REFUSED) {
        err->http_status = 0; /* those of the parser are for servers */
    }
    return tws_handshake_raise(ws, err, NULL, TWS_SPAN(""));
}

/* 1: connected; 0: go on; -1 with an exception. */
static int
dial_step(WebsocketObject *ws, struct tws_deadline *deadline, bool *retryable)
{
    struct tws_error err;
    int fd;
    unsigned events;
    uint64_t until;
    switch (tws_dialing_advance(
        ws->dialing, tws_clock_now(),
        ws->open_deadline < deadline->at ? ws->open_deadline : deadline->at,
        &err)) {
    case TWS_DIALING_CONNECTED:
        return finish(ws) < 0 ? -1 : 1;
    case TWS_DIALING_REFUSED:
        return raise_refused(ws);
    case TWS_DIALING_FAILED:
        *retryable = tws_dialing_state(ws->dialing) <= TWS_DIALING_CONNECTING;
        return raise_failed(ws, &err);
    case TWS_DIALING_WAIT:
        break;
    }
    enum tws_dialing_state state = tws_dialing_state(ws->dialing);
    struct tws_deadline patience = *deadline;
    if (state == TWS_DIALING_RESOLVING && patience.immediate) {
        /* As socket.connect(): select() could not tell when it is done. */
        patience =
            (struct tws_deadline){.at = ws->open_deadline, .immediate = false};
    }
    if (state == TWS_DIALING_REFUSING) {
        tws_handshake_hurry(ws, &patience);
    }
    tws_dialing_wait(ws->dialing, &fd, &events, &until);
    int result = tws_handshake_wait(
        ws, fd, events, &patience, until,
        (events & TWS_WAIT_WRITE) != 0 ? EINPROGRESS : EAGAIN);
    if (result > 0) {
        return 0;
    }
    if (result == 0 && state == TWS_DIALING_REFUSING) {
        return raise_refused(ws);
    }
    if (result == 0) {
        PyErr_Format(PyExc_TimeoutError, "%s timed out",
                     state == TWS_DIALING_RESOLVING    ? "look-up of the host"
                     : state == TWS_DIALING_CONNECTING ? "connect()"
                                                       : "opening handshake");
    }
    return -1;
}

/* Goes on with ws->dialing. */
static int
dial(WebsocketObject *ws, struct tws_deadline *deadline)
{
    bool retryable = false;
    int result = 0;
    ws->phase = TWS_PHASE_CONNECTING;
    while (result == 0) {
        result = dial_step(ws, deadline, &retryable);
    }
    if (result > 0) {
        tws_handshake_forget(ws);
        return 0;
    }
    if (deadline->immediate && !tws_websocket_is_closing(ws)
        && PyErr_ExceptionMatches(PyExc_BlockingIOError)) {
        return -1; /* to be called again */
    }
    if (retryable && !tws_websocket_is_closing(ws)) {
        tws_handshake_forget(ws);
        ws->phase = TWS_PHASE_FRESH;
    }
    else {
        tws_websocket_close(ws); /* half a handshake can't be repaired */
    }
    return -1;
}

/* --- methods --- */

int
tws_handshake_as_client(WebsocketObject *ws, PyObject *host,
                        struct tws_span initial)
{
    bool begins = ws->dialing == NULL;
    struct tws_deadline deadline = tws_handshake_deadline(ws, begins);
    PyObject *field = NULL;
    int result = -1;
    if (!begins) {
        return dial(ws, &deadline);
    }
    if (host == Py_None) {
        struct tws_address peer;
        if (tws_address_of_peer(ws->transport.fd, &peer) < 0) {
            return -1;
        }
        field = peer.storage.ss_family == AF_UNIX
                    ? PyUnicode_FromString("localhost")
                    : tws_address_text(&peer);
    }
    else if (PyUnicode_Check(host)) {
        field = Py_NewRef(host);
    }
    else {
        PyErr_Format(PyExc_TypeError, "host is %.200s, expected str or None",
                     Py_TYPE(host)->tp_name);
    }
    Py_ssize_t length = 0;
    const char *text =
        field == NULL ? NULL : PyUnicode_AsUTF8AndSize(field, &length);
    if (text != NULL && begin_dialing(ws, text, (size_t)length) == 0) {
        struct tws_error err;
        if (tws_dialing_connected(ws->dialing, &ws->transport, initial, &err)
            == TWS_OK) {
            result = dial(ws, &deadline);
        }
        else {
            tws_handshake_forget(ws);
            (void)tws_raise(ws->state, &err);
        }
    }
    Py_XDECREF(field);
    return result;
}

const char tws_websocket_connect_doc[] = PyDoc_STR(
    "connect($self, address, /)\n--\n\n"
    "Connect to a server and do the client's side of the opening handshake\n"
    "(RFC 6455 section 4.1).\n\n"
    "address is (host, port), or a path for AF_UNIX. '' as host means this\n"
    "machine. Where a name has several addresses they are tried in turn.\n"
    "The whole takes at most open_timeout and the websocket's timeout.\n\n"
    "Raises HandshakeError, with the answer's status, headers and body,\n"
    "where the server refuses; socket.gaierror for an unknown host;\n"
    "TimeoutError; OSError. Where there was no TCP connection, connect()\n"
    "can be tried again, else the websocket is closed.\n\n"
    "On a non-blocking websocket BlockingIOError means that the call is to\n"
    "be repeated: with errno EINPROGRESS as soon as fileno() is writable,\n"
    "with EAGAIN as soon as it is readable. Look-ups of names do wait.");

PyObject *
tws_websocket_connect_method(PyObject *self, PyObject *address)
{
    WebsocketObject *ws = tws_websocket_of(self);
    struct tws_address peer;
    int result = -1;
    if (tws_websocket_check(
            ws, TWS_PHASES(TWS_PHASE_FRESH) | TWS_PHASES(TWS_PHASE_CONNECTING),
            "connect()")
            < 0
        || tws_websocket_claim(ws, "connect()") < 0) {
        return NULL;
    }
    bool begins = ws->dialing == NULL;
    struct tws_deadline deadline = tws_handshake_deadline(ws, begins);
    if (begins && tws_address_of_peer(ws->transport.fd, &peer) == 0) {
        errno = EISCONN;
        PyErr_SetFromErrno(PyExc_OSError);
        goto done;
    }
    PyErr_Clear();
    if (!begins || begin_connect(ws, address) == 0) {
        result = dial(ws, &deadline);
    }
done:
    tws_websocket_disclaim(ws);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}
