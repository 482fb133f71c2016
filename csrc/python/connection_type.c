#include "python/connection_type.h"

#include "python/server_type.h"

#include "python/address.h"
#include "python/connection_ahead.h"
#include "python/connection_methods.h"
#include "python/served_frames.h"

#include <stdlib.h>

static inline ConnectionObject *
cast(PyObject *self)
{
    return (ConnectionObject *)self;
}

/* Life ------------------------------------------------------------------- */

PyDoc_STRVAR(
    connection_doc,
    "Connection(sock)\n"
    "--\n"
    "\n"
    "A connection that sends and receives messages over a connected "
    "websocket.\n"
    "\n"
    "Subclass it and override the handlers onopen(), onmessage(message),\n"
    "onclose(message), onping(payload), onpong(payload) and onerror(error), "
    "then\n"
    "call receive_forever(); or call recv() and send(), or iterate over it.\n"
    "Pings are answered, fragments joined and text is checked to be UTF-8 on "
    "the\n"
    "way (RFC 6455 sections 5.4, 5.5 and 8.1).\n"
    "\n"
    "sock: a websocket whose opening handshake is done, else ValueError.\n"
    "\n"
    "Any thread may send and close at any time; messages never interleave. "
    "One\n"
    "thread at a time may receive.");

static PyObject *
connection_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    ConnectionObject *conn = (ConnectionObject *)type->tp_alloc(type, 0);
    if (conn != NULL) {
        conn->state = tws_state_of_type(type);
        if (conn->state == NULL) {
            Py_CLEAR(conn);
        }
    }
    return (PyObject *)conn;
}

static int
connection_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"sock", NULL};
    ConnectionObject *conn = cast(self);
    PyObject *sock;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Connection", names,
                                     &sock)) {
        return -1;
    }
    if (conn->sock != NULL || conn->client != NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Connection.__init__() was called before");
        return -1;
    }
    if (!PyObject_TypeCheck(sock, conn->state->websocket_type)) {
        PyErr_Format(PyExc_TypeError,
                     "sock is %.200s, expected a connected websocket",
                     Py_TYPE(sock)->tp_name);
        return -1;
    }
    WebsocketObject *ws = (WebsocketObject *)sock;
    if (ws->phase != TWS_PHASE_OPEN) {
        PyErr_SetString(PyExc_ValueError,
                        "sock is not connected: call its connect(), take it "
                        "from accept(), or upgrade a socket with "
                        "handshake() first");
        return -1;
    }
    return tws_blocking_init(conn, ws);
}

static int
connection_traverse(PyObject *self, visitproc visit, void *arg)
{
    ConnectionObject *conn = cast(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(conn->sock);
    Py_VISIT(conn->server);
    Py_VISIT(conn->bridge);
    Py_VISIT(conn->close_message);
    Py_VISIT(conn->send_hooks);
    Py_VISIT(conn->recv_hooks);
    Py_VISIT(conn->extensions);
    if (conn->frames != NULL) {
        int result = tws_chain_traverse(conn->frames->chain, visit, arg);
        if (result != 0) {
            return result;
        }
    }
    Py_VISIT(conn->dict);
    return tws_ahead_traverse(conn, visit, arg);
}

static int
connection_clear(PyObject *self)
{
    ConnectionObject *conn = cast(self);
    tws_ahead_end(conn);
    if (conn->blocking != NULL) {
        /* It borrows from the websocket what inflates. */
        tws_assembler_release(&conn->blocking->assembler);
    }
    Py_CLEAR(conn->sock);
    Py_CLEAR(conn->server);
    Py_CLEAR(conn->bridge);
    Py_CLEAR(conn->close_message);
    Py_CLEAR(conn->send_hooks);
    Py_CLEAR(conn->recv_hooks);
    Py_CLEAR(conn->extensions);
    Py_CLEAR(conn->dict);
    return 0;
}

static void
connection_dealloc(PyObject *self)
{
    ConnectionObject *conn = cast(self);
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (conn->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    (void)connection_clear(self);
    Py_CLEAR(conn->head);
    Py_CLEAR(conn->protocol);
    Py_CLEAR(conn->username);
    tws_served_frames_free(conn->frames);
    tws_blocking_free(conn->blocking);
    if (conn->client != NULL) {
        tws_client_release(conn->client);
    }
    free(conn->peer);
    type->tp_free(self);
    Py_DECREF(type);
}

/* Attributes ------------------------------------------------------------- */

static PyObject *
get_sock(PyObject *self, void *closure)
{
    (void)closure;
    ConnectionObject *conn = cast(self);
    if (!tws_connection_ready(conn)) {
        return NULL;
    }
    if (conn->client != NULL && tws_served_sock(conn) == NULL) {
        return NULL;
    }
    return Py_NewRef(conn->sock);
}

static PyObject *
get_remote_address(PyObject *self, void *closure)
{
    (void)closure;
    ConnectionObject *conn = cast(self);
    return conn->peer == NULL ? Py_NewRef(Py_None)
                              : tws_address_object(conn->peer);
}

static int
descriptor_of(ConnectionObject *conn)
{
    if (conn->client != NULL) {
        return conn->client->transport.fd;
    }
    return conn->sock == NULL ? -1
                              : ((WebsocketObject *)conn->sock)->transport.fd;
}

static PyObject *
get_local_address(PyObject *self, void *closure)
{
    (void)closure;
    struct tws_address address;
    int fd = descriptor_of(cast(self));
    if (fd < 0) {
        return Py_NewRef(Py_None);
    }
    if (tws_address_of_socket(fd, &address) < 0) {
        return NULL;
    }
    return tws_address_object(&address);
}

static PyObject *
get_state(PyObject *self, void *closure)
{
    (void)closure;
    ConnectionObject *conn = cast(self);
    const char *state = "closed";
    if (conn->client != NULL) {
        uint8_t now = conn->client->state;
        if (now == TWS_CLIENT_OPEN) {
            state = "open";
        }
        else if (now == TWS_CLIENT_CLOSING) {
            state = "closing";
        }
    }
    else if (conn->server != NULL && conn->head != NULL) {
        state = "connecting";
    }
    else if (conn->blocking != NULL) {
        pthread_mutex_lock(&conn->blocking->lock);
        if (!conn->blocking->over) {
            state = tws_session_open(&conn->blocking->session) ? "open"
                                                               : "closing";
        }
        pthread_mutex_unlock(&conn->blocking->lock);
    }
    return PyUnicode_FromString(state);
}

static PyObject *
connection_str(PyObject *self)
{
    ConnectionObject *conn = cast(self);
    return conn->peer == NULL ? PyUnicode_FromString("unconnected")
                              : tws_address_text(conn->peer);
}

static PyObject *
connection_repr(PyObject *self)
{
    PyObject *result = NULL;
    PyObject *name = connection_str(self);
    PyObject *state = get_state(self, NULL);
    if (name != NULL && state != NULL) {
        result = PyUnicode_FromFormat("<%s %U %U>", Py_TYPE(self)->tp_name,
                                      name, state);
    }
    Py_XDECREF(name);
    Py_XDECREF(state);
    return result;
}

static PyObject *
get_queued(PyObject *self, void *closure)
{
    (void)closure;
    ConnectionObject *conn = cast(self);
    size_t queued = conn->client == NULL ? 0 : tws_client_queued(conn->client);
    return PyLong_FromSize_t(queued);
}

static PyObject *
get_latency(PyObject *self, void *closure)
{
    (void)closure;
    ConnectionObject *conn = cast(self);
    uint64_t latency = 0;
    if (conn->client != NULL) {
        latency =
            atomic_load_explicit(&conn->client->latency, memory_order_relaxed);
    }
    else if (conn->blocking != NULL && conn->blocking->ahead != NULL) {
        latency = atomic_load(&conn->blocking->ahead->latency);
    }
    return latency == 0 ? Py_NewRef(Py_None)
                        : PyFloat_FromDouble((double)latency * 1e-9);
}

static PyObject *
get_username(PyObject *self, void *closure)
{
    (void)closure;
    ConnectionObject *conn = cast(self);
    PyObject *username = conn->username;
    if (username == NULL && conn->blocking != NULL && conn->sock != NULL) {
        username = ((WebsocketObject *)conn->sock)->username;
    }
    return Py_NewRef(username == NULL ? Py_None : username);
}

static PyObject *
get_extensions(PyObject *self, void *closure)
{
    (void)closure;
    ConnectionObject *conn = cast(self);
    PyObject *extensions = conn->extensions;
    if (extensions == NULL && conn->blocking != NULL && conn->sock != NULL) {
        extensions = ((WebsocketObject *)conn->sock)->extensions;
    }
    return extensions == NULL ? PyTuple_New(0) : Py_NewRef(extensions);
}

const struct tws_options *
tws_connection_options(const ConnectionObject *conn)
{
    return conn->client != NULL
               ? ((const ServerObject *)conn->server)->options
               : ((const WebsocketObject *)conn->sock)->options;
}

static PyGetSetDef connection_getset[] = {
    {"sock", get_sock, NULL, PyDoc_STR("The websocket below."), NULL},
    {"remote_address", get_remote_address, NULL,
     PyDoc_STR("The peer's address as the socket module gives it; kept after "
               "the close."),
     NULL},
    {"local_address", get_local_address, NULL,
     PyDoc_STR("Our address, or None once the socket is closed."), NULL},
    {"username", get_username, NULL,
     PyDoc_STR("On a server with auth: the user name that the client has "
               "proved to be\nits own, a str; else None."),
     NULL},
    {"extensions", get_extensions, NULL,
     PyDoc_STR("The agreed extensions, a tuple of Extension; what is sent "
               "passes through\nthe first one first."),
     NULL},
    {"state", get_state, NULL,
     PyDoc_STR("'open', 'closing' (a Close frame was sent) or 'closed', where "
               "recv() may still\ngive what was read ahead; in a server's "
               "onhandshake() 'connecting'."),
     NULL},
    {"queued", get_queued, NULL,
     PyDoc_STR("Bytes that a client of a Server was sent and the system has "
               "not taken\nyet; 0 for other connections, whose send() waits "
               "for that."),
     NULL},
    {"latency", get_latency, NULL,
     PyDoc_STR("Seconds that the answer to the last keepalive ping took, or "
               "None where none\nwas answered yet, or none is sent."),
     NULL},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef connection_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(ConnectionObject, dict), READONLY,
     NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(ConnectionObject, weakrefs),
     READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot connection_slots[] = {
    {Py_tp_doc, (void *)connection_doc},
    {Py_tp_new, connection_new},
    {Py_tp_init, connection_init},
    {Py_tp_dealloc, connection_dealloc},
    {Py_tp_traverse, connection_traverse},
    {Py_tp_clear, connection_clear},
    {Py_tp_str, connection_str},
    {Py_tp_repr, connection_repr},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, tws_connection_next},
    {Py_tp_methods, tws_connection_methods},
    {Py_tp_getset, connection_getset},
    {Py_tp_members, connection_members},
    {0, NULL},
};

PyType_Spec tws_connection_spec = {
    .name = "twspy.Connection",
    .basicsize = sizeof(ConnectionObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = connection_slots,
};
