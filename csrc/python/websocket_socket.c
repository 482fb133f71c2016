/* What a websocket has in common with socket.socket: names, options, time.
 * The inner socket.socket does it, as none of it is called often. */
#include "python/websocket_parts.h"

#include "python/address.h"
#include "python/errors.h"
#include "python/served.h"
#include "python/tls_bridge.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <unistd.h>

#define UNCLOSED (~TWS_PHASES(TWS_PHASE_CLOSED) & ~TWS_PHASES(TWS_PHASE_BARE))

/* Calls a method of the inner socket. The client of a server has none; a
 * duplicate of its descriptor stands in for a moment. `args` is stolen. */
static PyObject *
delegate(WebsocketObject *ws, const char *name, PyObject *args)
{
    PyObject *result = NULL;
    PyObject *sock = NULL;
    PyObject *method = NULL;
    if (args == NULL || tws_websocket_enter(ws) < 0) {
        Py_XDECREF(args);
        return NULL;
    }
    if (ws->socket != NULL) {
        sock = Py_NewRef(ws->socket);
    }
    else {
        int fd = fcntl(ws->transport.fd, F_DUPFD_CLOEXEC, 0);
        if (fd < 0) {
            PyErr_SetFromErrno(PyExc_OSError);
            goto done;
        }
        sock =
            PyObject_CallFunction(ws->state->socket, "iiii", -1, -1, -1, fd);
        if (sock == NULL) {
            close(fd);
            goto done;
        }
    }
    method = PyObject_GetAttrString(sock, name);
    if (method != NULL) {
        result = PyObject_CallObject(method, args);
    }
    if (ws->socket == NULL) {
        PyObject *pending = PyErr_GetRaisedException();
        Py_XDECREF(PyObject_CallMethod(sock, "close", NULL));
        PyErr_Clear();
        if (pending != NULL) {
            PyErr_SetRaisedException(pending);
        }
    }
done:
    Py_XDECREF(method);
    Py_XDECREF(sock);
    Py_DECREF(args);
    tws_websocket_leave(ws);
    return result;
}

/* --- before the connection --- */

const char tws_websocket_bind_doc[] = PyDoc_STR(
    "bind($self, address, /)\n--\n\n"
    "Give the websocket its own address: (host, port) for AF_INET and\n"
    "AF_INET6, a path for AF_UNIX.\n\n"
    "'' as host means all addresses. '::' on an AF_INET6 websocket takes\n"
    "IPv4 connections, too, unless IPV6_V6ONLY was set. Port 0 lets the\n"
    "system choose: see getsockname().\n\n"
    "Raises OSError as socket.socket.bind() does.");

/* "::" means every address there is, so IPv4 as well. */
static int
switch_to_dual_stack(WebsocketObject *ws, PyObject *address)
{
    int off = 0;
    if (ws->own_v6only || !PyTuple_Check(address)
        || PyTuple_GET_SIZE(address) < 2) {
        return 0;
    }
    PyObject *host = PyTuple_GET_ITEM(address, 0);
    if (!PyUnicode_Check(host)
        || PyUnicode_CompareWithASCIIString(host, "::") != 0) {
        return 0;
    }
    if (setsockopt(ws->transport.fd, IPPROTO_IPV6, IPV6_V6ONLY, &off,
                   sizeof(off))
            < 0
        && errno != ENOPROTOOPT && errno != EOPNOTSUPP) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

PyObject *
tws_websocket_bind_method(PyObject *self, PyObject *address)
{
    WebsocketObject *ws = tws_websocket_of(self);
    if (tws_websocket_check(ws, TWS_PHASES(TWS_PHASE_FRESH), "bind()") < 0
        || switch_to_dual_stack(ws, address) < 0) {
        return NULL;
    }
    return delegate(ws, "bind", PyTuple_Pack(1, address));
}

const char tws_websocket_listen_doc[] =
    PyDoc_STR("listen($self, /, backlog=128)\n--\n\n"
              "Begin to take connections: accept() returns them.\n\n"
              "backlog is how many may wait in the system for accept().\n\n"
              "Raises OSError as socket.socket.listen() does.");

PyObject *
tws_websocket_listen_method(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"backlog", NULL};
    WebsocketObject *ws = tws_websocket_of(self);
    int backlog = 128;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|i:listen", names,
                                     &backlog)
        || tws_websocket_check(ws,
                               TWS_PHASES(TWS_PHASE_FRESH)
                                   | TWS_PHASES(TWS_PHASE_LISTENING),
                               "listen()")
               < 0
        || tws_websocket_check_auth(ws, TWS_SERVER, "listen()") < 0) {
        return NULL;
    }
    PyObject *result = delegate(ws, "listen", Py_BuildValue("(i)", backlog));
    if (result != NULL) {
        ws->phase = TWS_PHASE_LISTENING;
    }
    return result;
}

/* --- names and options --- */

const char tws_websocket_fileno_doc[] = PyDoc_STR(
    "fileno($self, /)\n--\n\n"
    "The descriptor, an int; -1 where the websocket is closed, or is for\n"
    "any family (AF_UNSPEC) and not connected yet.\n\n"
    "It is always in non-blocking mode, whatever the timeout is.\n"
    "select() does not know about frames that were read already:\n"
    "see pending().");

PyObject *
tws_websocket_fileno_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const WebsocketObject *ws = tws_websocket_of(self);
    return PyLong_FromLong(ws->phase == TWS_PHASE_CLOSED ? -1
                                                         : ws->transport.fd);
}

static int
raise_unconnected(void)
{
    errno = ENOTCONN;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

int
tws_websocket_peer_address(const WebsocketObject *ws,
                           struct tws_address *address)
{
    if (ws->bridge != NULL) {
        *address = tws_bridge_names(ws->bridge)->peer;
        return address->length > 0 ? 0 : raise_unconnected();
    }
    return tws_address_of_peer(ws->transport.fd, address);
}

int
tws_websocket_own_address(const WebsocketObject *ws,
                          struct tws_address *address)
{
    if (ws->bridge != NULL) {
        *address = tws_bridge_names(ws->bridge)->own;
        return address->length > 0 ? 0 : raise_unconnected();
    }
    return tws_address_of_socket(ws->transport.fd, address);
}

const char tws_websocket_getpeername_doc[] =
    PyDoc_STR("getpeername($self, /)\n--\n\n"
              "The peer's address: (host, port) for AF_INET, (host, port,\n"
              "flowinfo, scope_id) for AF_INET6, a path for AF_UNIX.\n\n"
              "Raises OSError where there is no peer.");

PyObject *
tws_websocket_getpeername_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    WebsocketObject *ws = tws_websocket_of(self);
    struct tws_address address;
    if (tws_websocket_check(ws, UNCLOSED, "getpeername()") < 0
        || tws_websocket_enter(ws) < 0) {
        return NULL;
    }
    int result = tws_websocket_peer_address(ws, &address);
    tws_websocket_leave(ws);
    return result < 0 ? NULL : tws_address_object(&address);
}

const char tws_websocket_getsockname_doc[] =
    PyDoc_STR("getsockname($self, /)\n--\n\n"
              "The websocket's own address, in the form of getpeername().");

PyObject *
tws_websocket_getsockname_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    WebsocketObject *ws = tws_websocket_of(self);
    struct tws_address address;
    if (tws_websocket_check(ws, UNCLOSED, "getsockname()") < 0
        || tws_websocket_enter(ws) < 0) {
        return NULL;
    }
    int result = tws_websocket_own_address(ws, &address);
    tws_websocket_leave(ws);
    return result < 0 ? NULL : tws_address_object(&address);
}

const char tws_websocket_getsockopt_doc[] =
    PyDoc_STR("getsockopt($self, level, optname, buflen=0, /)\n--\n\n"
              "A socket option: an int, or bytes where buflen is not 0; see\n"
              "socket.socket.getsockopt().");

PyObject *
tws_websocket_getsockopt_method(PyObject *self, PyObject *args)
{
    WebsocketObject *ws = tws_websocket_of(self);
    if (tws_websocket_check(ws, UNCLOSED, "getsockopt()") < 0) {
        return NULL;
    }
    return delegate(ws, "getsockopt", Py_NewRef(args));
}

const char tws_websocket_setsockopt_doc[] =
    PyDoc_STR("setsockopt($self, level, optname, value, optlen=0, /)\n--\n\n"
              "Set a socket option to an int, bytes or None; see\n"
              "socket.socket.setsockopt().");

static bool
is_number(PyObject *object, long number)
{
    long value = PyLong_AsLong(object);
    if (value == -1) {
        PyErr_Clear();
    }
    return value == number;
}

PyObject *
tws_websocket_setsockopt_method(PyObject *self, PyObject *args)
{
    WebsocketObject *ws = tws_websocket_of(self);
    if (tws_websocket_check(ws, UNCLOSED, "setsockopt()") < 0) {
        return NULL;
    }
    PyObject *result = delegate(ws, "setsockopt", Py_NewRef(args));
    if (result != NULL && is_number(PyTuple_GET_ITEM(args, 0), IPPROTO_IPV6)
        && is_number(PyTuple_GET_ITEM(args, 1), IPV6_V6ONLY)) {
        ws->own_v6only = true;
    }
    return result;
}

const char tws_websocket_shutdown_doc[] =
    PyDoc_STR("shutdown($self, how, /)\n--\n\n"
              "Shut down the receiving half, the sending half, or both:\n"
              "socket.SHUT_RD, SHUT_WR, SHUT_RDWR.\n\n"
              "Sends no Close frame; where the connection is encrypted, it\n"
              "ends the sending half as TLS does (RFC 8446 section 6.1).\n"
              "Raises OSError where there is no peer.");

/* Below the encryption it would look like an attack. */
static PyObject *
shut_encrypted(WebsocketObject *ws, PyObject *object)
{
    long how = PyLong_AsLong(object);
    if (how == -1 && PyErr_Occurred() != NULL) {
        return NULL;
    }
    if (tws_websocket_enter(ws) < 0) {
        return NULL;
    }
    if (how != SHUT_RD) {
        tws_websocket_end_writing(ws);
    }
    int result = how == SHUT_WR ? 0 : shutdown(ws->transport.fd, (int)how);
    if (result < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
    }
    tws_websocket_leave(ws);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

PyObject *
tws_websocket_shutdown_method(PyObject *self, PyObject *how)
{
    WebsocketObject *ws = tws_websocket_of(self);
    if (tws_websocket_check(ws, UNCLOSED, "shutdown()") < 0
        || tws_served_check_process(ws) < 0) {
        return NULL;
    }
    if (ws->transport.tls != NULL || ws->bridge != NULL) {
        return shut_encrypted(ws, how);
    }
    return delegate(ws, "shutdown", PyTuple_Pack(1, how));
}

/* Of a websocket without a socket: what socket.socket() would have been
 * called with. */
static PyObject *
bare_kind(const WebsocketObject *ws, const char *name)
{
    if (strcmp(name, "family") == 0) {
        return PyLong_FromLong(AF_UNSPEC);
    }
    return PyLong_FromLong(strcmp(name, "type") == 0 ? SOCK_STREAM
                                                     : ws->ip_protocol);
}

PyObject *
tws_websocket_kind_get(PyObject *self, void *closure)
{
    WebsocketObject *ws = tws_websocket_of(self);
    const char *name = closure;
    pthread_mutex_lock(&ws->guard);
    bool bare = ws->bare;
    PyObject *sock = Py_XNewRef(ws->socket);
    pthread_mutex_unlock(&ws->guard);
    if (bare) {
        Py_XDECREF(sock);
        return bare_kind(ws, name);
    }
    if (ws->bridge != NULL && strcmp(name, "family") == 0
        && tws_bridge_names(ws->bridge)->own.length > 0) {
        /* Not that of the end that the bridge has given us. */
        Py_XDECREF(sock);
        return PyLong_FromLong(
            tws_bridge_names(ws->bridge)->own.storage.ss_family);
    }
    if (sock != NULL) {
        PyObject *value = PyObject_GetAttrString(sock, name);
        Py_DECREF(sock);
        return value;
    }
    if (tws_websocket_check(ws, UNCLOSED, name) < 0) {
        return NULL;
    }
    return delegate(ws, "__getattribute__", Py_BuildValue("(s)", name));
}

/* --- time --- */

static int
check_own_time(WebsocketObject *ws, const char *what)
{
    return tws_websocket_check(ws, ~TWS_PHASES(TWS_PHASE_SERVED), what);
}

const char tws_websocket_settimeout_doc[] = PyDoc_STR(
    "settimeout($self, timeout, /)\n--\n\n"
    "How long a call may wait, in seconds; None: for ever.\n\n"
    "A call that takes longer raises TimeoutError. With 0 no call waits: the\n"
    "websocket is non-blocking and raises BlockingIOError instead. What\n"
    "socket.getdefaulttimeout() says is the default.\n\n"
    "Calls that have begun keep the timeout that they began with.");

PyObject *
tws_websocket_settimeout_method(PyObject *self, PyObject *seconds)
{
    WebsocketObject *ws = tws_websocket_of(self);
    uint64_t timeout;
    if (check_own_time(ws, "settimeout()") < 0
        || tws_timeout_from_object(seconds, "timeout", &timeout) < 0) {
        return NULL;
    }
    ws->timeout = timeout;
    return Py_NewRef(Py_None);
}

const char tws_websocket_gettimeout_doc[] =
    PyDoc_STR("gettimeout($self, /)\n--\n\n"
              "The timeout in seconds, a float; None: no limit.");

PyObject *
tws_websocket_gettimeout_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const WebsocketObject *ws = tws_websocket_of(self);
    if (ws->timeout == UINT64_MAX) {
        return Py_NewRef(Py_None);
    }
    return PyFloat_FromDouble((double)ws->timeout / 1e9);
}

const char tws_websocket_setblocking_doc[] =
    PyDoc_STR("setblocking($self, flag, /)\n--\n\n"
              "settimeout(None) where flag is true, else settimeout(0).");

PyObject *
tws_websocket_setblocking_method(PyObject *self, PyObject *flag)
{
    WebsocketObject *ws = tws_websocket_of(self);
    int blocking = PyObject_IsTrue(flag);
    if (blocking < 0 || check_own_time(ws, "setblocking()") < 0) {
        return NULL;
    }
    ws->timeout = blocking ? UINT64_MAX : 0;
    return Py_NewRef(Py_None);
}

const char tws_websocket_getblocking_doc[] = PyDoc_STR(
    "getblocking($self, /)\n--\n\n"
    "False where the websocket is non-blocking, that is, its timeout is 0.");

PyObject *
tws_websocket_getblocking_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(tws_websocket_of(self)->timeout != 0);
}
