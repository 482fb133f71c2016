/* The descriptor of a websocket: who owns it, who uses it, when it goes. */
#include "python/websocket_parts.h"

#include "python/errors.h"
#include "python/extensions_agreed.h"
#include "python/served.h"
#include "python/websocket_handshake.h"
#include "net/acceptor.h"
#include "net/dialing.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static int
raise_os(int number, const char *text)
{
    PyObject *args = Py_BuildValue("(is)", number, text);
    if (args != NULL) {
        PyErr_SetObject(PyExc_OSError, args);
        Py_DECREF(args);
    }
    return -1;
}

static int
raise_bare(void)
{
    return raise_os(ENOTCONN, "the websocket is for any address family "
                              "(AF_UNSPEC) and has no socket before "
                              "connect(): give a family for this");
}

int
tws_websocket_check(WebsocketObject *ws, unsigned allowed, const char *what)
{
    if (ws->options == NULL) {
        PyErr_Format(PyExc_RuntimeError,
                     "the __init__ of %s did not call super().__init__()",
                     Py_TYPE(ws)->tp_name);
        return -1;
    }
    if ((allowed & TWS_PHASES(ws->phase)) != 0) {
        return 0;
    }
    switch ((enum tws_phase)ws->phase) {
    case TWS_PHASE_CLOSED:
        return raise_os(EBADF, "the websocket is closed");
    case TWS_PHASE_LISTENING:
        return raise_os(EINVAL, "the websocket is listening: this is for "
                                "what accept() returns");
    case TWS_PHASE_OPEN:
        return raise_os(EISCONN, "the websocket is connected already");
    case TWS_PHASE_SERVED:
        PyErr_Format(PyExc_RuntimeError,
                     "%s is not for a client of a Server: the server reads "
                     "this connection; use client.recv() in one of its "
                     "handlers",
                     what);
        return -1;
    case TWS_PHASE_BARE:
        return raise_bare();
    case TWS_PHASE_FRESH:
    case TWS_PHASE_CONNECTING:
        break;
    }
    if ((allowed & TWS_PHASES(TWS_PHASE_LISTENING)) != 0) {
        return raise_os(EINVAL, "the websocket is not listening: call "
                                "bind() and listen() first");
    }
    if (ws->phase == TWS_PHASE_CONNECTING) {
        return raise_os(ENOTCONN, "the opening handshake is not finished: "
                                  "call connect() or handshake() again");
    }
    return raise_os(ENOTCONN, "the websocket is not connected: call "
                              "connect(), accept() or handshake() first");
}

/* --- using and closing the descriptor --- */

static int
enter(WebsocketObject *ws, bool also_bare)
{
    pthread_mutex_lock(&ws->guard);
    bool bare = ws->bare && !ws->closing;
    bool usable = bare ? also_bare : !ws->closing && ws->transport.fd >= 0;
    if (usable) {
        ws->users++;
    }
    pthread_mutex_unlock(&ws->guard);
    if (usable) {
        return 0;
    }
    return bare ? raise_bare() : raise_os(EBADF, "the websocket is closed");
}

int
tws_websocket_enter(WebsocketObject *ws)
{
    return enter(ws, false);
}

/* The last one is out: nobody looks at the descriptor any more. */
static void
release_descriptor(WebsocketObject *ws)
{
    PyObject *pending = PyErr_GetRaisedException();
    tws_ahead_release_descriptor(ws);
    tws_acceptor_free(ws->acceptor);
    ws->acceptor = NULL;
    tws_handshake_forget(ws);
    tws_challenge_release(&ws->challenge);
    tws_buffer_release(&ws->in);
    tws_buffer_release(&ws->partial);
    tws_buffer_release(&ws->out);
    tws_buffer_release(&ws->control);
    if (ws->compression != NULL) {
        tws_compression_end(ws->compression);
    }
    tws_transport_release(&ws->transport);
    if (ws->socket != NULL) {
        /* Of the base, _socket.socket: that of socket.socket is Python code,
         * amid which a signal's handler may run, and what it raises (Ctrl-C)
         * would be lost here, the descriptor left open. */
        PyObject *result =
            PyObject_CallMethod((PyObject *)Py_TYPE(ws->socket)->tp_base,
                                "close", "O", ws->socket);
        if (result == NULL) {
            /* close() has closed, whatever it reports (EIO, ENOSPC of a
             * socket never matter). */
            PyErr_Clear();
        }
        Py_XDECREF(result);
    }
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

void
tws_websocket_leave(WebsocketObject *ws)
{
    pthread_mutex_lock(&ws->guard);
    ws->users--;
    bool last = ws->closing && ws->users == 0;
    pthread_mutex_unlock(&ws->guard);
    if (last) {
        release_descriptor(ws);
    }
}

/* Under the guard, as connect() may just be getting a descriptor. */
static void
shut_down(WebsocketObject *ws)
{
    pthread_mutex_lock(&ws->guard);
    if (ws->transport.fd >= 0) {
        (void)shutdown(ws->transport.fd, SHUT_RDWR);
    }
    pthread_mutex_unlock(&ws->guard);
}

void
tws_websocket_close(WebsocketObject *ws)
{
    if (ws->phase == TWS_PHASE_SERVED) {
        tws_served_break_off(ws);
        return;
    }
    bool open = ws->phase == TWS_PHASE_OPEN;
    ws->phase = TWS_PHASE_CLOSED;
    pthread_mutex_lock(&ws->guard);
    bool first = !ws->closing && (ws->bare || ws->transport.fd >= 0);
    bool busy = ws->users > 0;
    if (first) {
        ws->closing = true;
        if (ws->dialing != NULL) {
            tws_dialing_interrupt(ws->dialing);
        }
    }
    pthread_mutex_unlock(&ws->guard);
    if (!first) {
        return;
    }
    if (!busy) {
        (void)tws_websocket_write_on(ws); /* a frame that send() has taken */
    }
    if ((open || !busy) && ws->transport.tls != NULL) {
        /* Or else the peer takes it for an attack (RFC 8446 §6.1). */
        ws->transport.ops->end_writing(&ws->transport);
    }
    if (busy) {
        /* Whoever waits for the descriptor finds it ready; a number that is
         * closed under a poll() would be given to somebody else. */
        shut_down(ws);
        return;
    }
    release_descriptor(ws);
}

void
tws_websocket_abandon(WebsocketObject *ws)
{
    (void)pthread_mutex_init(&ws->guard, NULL); /* whoever held it */
    ws->phase = TWS_PHASE_CLOSED;
    ws->closing = true;
    release_descriptor(ws);
}

bool
tws_websocket_is_closing(WebsocketObject *ws)
{
    pthread_mutex_lock(&ws->guard);
    bool closing = ws->closing;
    pthread_mutex_unlock(&ws->guard);
    return closing;
}

int
tws_websocket_claim(WebsocketObject *ws, const char *what)
{
    if (atomic_exchange(&ws->reading, true)) {
        if (atomic_load(&ws->reading_thread) == PyThread_get_thread_ident()) {
            PyErr_Format(ws->state->ConcurrencyError,
                         "%s within a call of this thread that is receiving "
                         "from the same websocket: what that calls, as "
                         "onrecv() of an extension or a hook, can only look "
                         "at what it is given",
                         what);
            return -1;
        }
        PyErr_Format(ws->state->ConcurrencyError,
                     "%s while another thread is receiving from this "
                     "websocket: only one may at a time",
                     what);
        return -1;
    }
    if (enter(ws, true) < 0) {
        atomic_store(&ws->reading, false);
        return -1;
    }
    atomic_store(&ws->reading_thread, PyThread_get_thread_ident());
    return 0;
}

void
tws_websocket_disclaim(WebsocketObject *ws)
{
    atomic_store(&ws->reading_thread, 0);
    atomic_store(&ws->reading, false);
    tws_websocket_leave(ws);
}

struct tws_deadline
tws_websocket_deadline(const WebsocketObject *ws)
{
    return tws_deadline_after(ws->timeout);
}

/* --- getting a descriptor --- */

/* Puts a new socket.socket around the descriptor, which the caller keeps on
 * failure. */
static int
wrap(WebsocketObject *ws, int fd, int family, int type, int proto)
{
    struct tws_error err;
    PyObject *seconds = NULL;
    int result = -1;
    if (tws_socket_prepare(fd, &err) != TWS_OK) {
        (void)tws_raise(ws->state, &err);
        return -1;
    }
    PyObject *sock = PyObject_CallFunction(ws->state->socket, "iiii", family,
                                           type, proto, fd);
    if (sock == NULL) {
        return -1;
    }
    /* What socket.setdefaulttimeout() says. */
    seconds = PyObject_CallMethod(sock, "gettimeout", NULL);
    if (seconds == NULL
        || tws_timeout_from_object(seconds, "timeout", &ws->timeout) < 0) {
        PyObject *pending = PyErr_GetRaisedException();
        PyObject *back = PyObject_CallMethod(sock, "detach", NULL);
        Py_XDECREF(back);
        PyErr_SetRaisedException(pending);
        goto done;
    }
    ws->socket = Py_NewRef(sock);
    tws_transport_plain(&ws->transport, fd);
    ws->phase = TWS_PHASE_FRESH;
    result = 0;
done:
    Py_XDECREF(seconds);
    Py_DECREF(sock);
    return result;
}

int
tws_websocket_adopt(WebsocketObject *ws, int fd, int family, int type,
                    int proto)
{
    if (wrap(ws, fd, family, type, proto) < 0) {
        close(fd);
        return -1;
    }
    return 0;
}

int
tws_websocket_open_socket(WebsocketObject *ws, int family, int proto)
{
    if (family == AF_UNSPEC) {
        return tws_websocket_stay_bare(ws, proto);
    }
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, proto);
    if (fd < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return tws_websocket_adopt(ws, fd, family, SOCK_STREAM, proto);
}

/* Whether `sock` is an ssl.SSLSocket: without the ssl module it can't be. */
static int
is_ssl_socket(PyObject *sock)
{
    PyObject *modules = PyImport_GetModuleDict();         /* borrowed */
    PyObject *ssl = PyDict_GetItemString(modules, "ssl"); /* borrowed */
    if (ssl == NULL || ssl == Py_None) {
        return 0;
    }
    PyObject *type = PyObject_GetAttrString(ssl, "SSLSocket");
    if (type == NULL) {
        PyErr_Clear(); /* ssl is just being imported */
        return 0;
    }
    int result = PyObject_IsInstance(sock, type);
    Py_DECREF(type);
    return result;
}

static int
check_socket(struct tws_state *state, PyObject *sock)
{
    int is_socket = PyObject_IsInstance(sock, state->socket);
    int is_ssl = is_socket == 1 ? is_ssl_socket(sock) : 0;
    if (is_socket < 0 || is_ssl < 0) {
        return -1;
    }
    if (is_ssl) {
        PyErr_SetString(PyExc_TypeError,
                        "sock is an ssl.SSLSocket, whose encryption can't be "
                        "taken over: pass the socket.socket before it is "
                        "wrapped");
        return -1;
    }
    if (!is_socket) {
        PyErr_Format(PyExc_TypeError,
                     "sock is %.200s, expected a socket.socket",
                     Py_TYPE(sock)->tp_name);
        return -1;
    }
    return 0;
}

static int
int_attribute(PyObject *object, const char *name, int *value)
{
    PyObject *number = PyObject_GetAttrString(object, name);
    if (number == NULL) {
        return -1;
    }
    long result = PyLong_AsLong(number);
    Py_DECREF(number);
    if (result == -1 && PyErr_Occurred() != NULL) {
        return -1;
    }
    *value = (int)result;
    return 0;
}

int
tws_websocket_take_over(WebsocketObject *ws, PyObject *sock)
{
    int family;
    int type;
    int proto;
    int fd;
    int listening = 0;
    socklen_t size = sizeof(listening);
    uint64_t timeout;
    PyObject *seconds = NULL;
    PyObject *detached = NULL;
    int result = -1;

    if (check_socket(ws->state, sock) < 0
        || int_attribute(sock, "family", &family) < 0
        || int_attribute(sock, "type", &type) < 0
        || int_attribute(sock, "proto", &proto) < 0) {
        return -1;
    }
    if (type != SOCK_STREAM) {
        PyErr_Format(PyExc_ValueError,
                     "sock is of type %d, expected a stream socket "
                     "(SOCK_STREAM)",
                     type);
        return -1;
    }
    seconds = PyObject_CallMethod(sock, "gettimeout", NULL);
    if (seconds == NULL
        || tws_timeout_from_object(seconds, "timeout", &timeout) < 0) {
        goto done;
    }
    fd = PyObject_AsFileDescriptor(sock);
    if (fd < 0) {
        PyErr_Clear();
        (void)raise_os(EBADF, "sock is closed");
        goto done;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        goto done;
    }
    detached = PyObject_CallMethod(sock, "detach", NULL);
    if (detached == NULL
        || tws_websocket_adopt(ws, fd, family, type, proto) < 0) {
        goto done;
    }
    ws->timeout = timeout;
    ws->own_v6only = true; /* or not: it is not ours to change */
    if (listening != 0) {
        ws->phase = TWS_PHASE_LISTENING;
    }
    result = 0;
done:
    Py_XDECREF(seconds);
    Py_XDECREF(detached);
    return result;
}

static int
settle_extensions(WebsocketObject *ws)
{
    struct tws_agreed agreed;
    tws_chain_free(ws->chain);
    ws->chain = NULL;
    tws_compression_free(ws->compression);
    ws->compression = NULL;
    ws->amid_compressed = false;
    if (tws_extensions_settle(ws->state, ws->extensions,
                              (enum tws_role)ws->role, true,
                              &ws->options->message, &agreed, &ws->chain)
        < 0) {
        return -1;
    }
    ws->compression = agreed.compression;
    ws->reader.rsv_allowed = agreed.rsv;
    ws->reader.opcodes_allowed = agreed.opcodes;
    return 0;
}

int
tws_websocket_begin(WebsocketObject *ws, enum tws_role role,
                    struct tws_span rest)
{
    ws->role = (uint8_t)role;
    tws_frame_reader_init(&ws->reader, role);
    if (tws_buffer_append(&ws->in, rest.data, rest.length) != TWS_OK) {
        PyErr_NoMemory();
        return -1;
    }
    if (settle_extensions(ws) < 0) {
        return -1;
    }
    ws->phase = TWS_PHASE_OPEN;
    return 0;
}

/* --- giving it away --- */

const char tws_websocket_detach_doc[] = PyDoc_STR(
    "detach($self, /)\n--\n\n"
    "Give the descriptor away and return it, an int; -1 where it is "
    "closed.\n\n"
    "The websocket is closed afterwards, the connection is not. The\n"
    "descriptor is in blocking mode where the timeout is None, else it is\n"
    "not, as with socket.socket.detach().\n\n"
    "Raises RuntimeError where bytes would be lost: frames that were\n"
    "received but not read (call recv() until pending() is 0), or the rest\n"
    "of a frame that is still being sent; and while another thread uses the\n"
    "websocket.");

static bool
holds_bytes(const WebsocketObject *ws)
{
    return tws_buffer_length(&ws->in) > 0 || ws->reader.in_payload
           || ws->reader.partial_length > 0 || ws->kept != NULL
           || tws_buffer_length(&ws->out) > 0
           || tws_buffer_length(&ws->control) > 0 || tws_ahead_holds(ws);
}

/* Nobody else may use the descriptor while it changes hands: from here on
 * it is as if it were closed. */
static int
begin_detach(WebsocketObject *ws)
{
    pthread_mutex_lock(&ws->guard);
    bool busy = ws->users > 0;
    bool bytes = !busy && holds_bytes(ws);
    if (!busy && !bytes) {
        ws->closing = true;
    }
    pthread_mutex_unlock(&ws->guard);
    if (busy) {
        PyErr_SetString(PyExc_RuntimeError,
                        "detach() while another thread uses the websocket");
        return -1;
    }
    if (bytes) {
        PyErr_SetString(PyExc_RuntimeError,
                        "detach() would lose bytes: frames wait to be "
                        "received (see pending()) or sent");
        return -1;
    }
    return 0;
}

PyObject *
tws_websocket_detach_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    WebsocketObject *ws = tws_websocket_of(self);
    if (tws_websocket_check(
            ws, ~TWS_PHASES(TWS_PHASE_SERVED) & ~TWS_PHASES(TWS_PHASE_BARE),
            "detach()")
        < 0) {
        return NULL;
    }
    if (ws->phase == TWS_PHASE_CLOSED) {
        return PyLong_FromLong(-1);
    }
    if (ws->transport.tls != NULL || ws->bridge != NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "detach() would lose the encryption: the keys of TLS "
                        "can't leave the websocket");
        return NULL;
    }
    if (begin_detach(ws) < 0) {
        return NULL;
    }
    int fd = ws->transport.fd;
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && ws->timeout == UINT64_MAX) {
        (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    }
    ws->phase = TWS_PHASE_CLOSED;
    PyObject *result = PyObject_CallMethod(ws->socket, "detach", NULL);
    release_descriptor(ws);
    return result;
}

/* --- a peer that is gone --- */

bool
tws_websocket_is_lost(int sys_errno)
{
    switch (sys_errno) {
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    /* As OSError this one would be a TimeoutError, after which nothing is
     * lost; here everything is. */
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return true;
    default:
        return false;
    }
}

int
tws_websocket_raise_lost(WebsocketObject *ws, const struct tws_error *err,
                         const char *detail)
{
    PyObject *cause = NULL;
    if (err != NULL) {
        (void)tws_raise(ws->state, err);
        cause = PyErr_GetRaisedException();
    }
    PyObject *error = PyObject_CallFunction(ws->state->SocketClosed, "iss",
                                            (int)TWS_CLOSE_ABNORMAL, "",
                                            detail == NULL ? "" : detail);
    if (error == NULL) {
        Py_XDECREF(cause);
        return -1;
    }
    if (cause != NULL) {
        PyException_SetCause(error, cause); /* steals */
    }
    PyErr_SetRaisedException(error);
    return -1;
}
