#include "python/websocket_type.h"

#include "python/address.h"
#include "python/arguments.h"
#include "python/extensions_agreed.h"
#include "python/served.h"
#include "python/websocket_handshake.h"
#include "net/acceptor.h"

#include <stddef.h>
#include <unistd.h>

/* --- making and ending --- */

PyObject *
tws_websocket_new_bare(struct tws_state *state, PyTypeObject *type,
                       struct tws_options *options)
{
    WebsocketObject *ws = (WebsocketObject *)type->tp_alloc(type, 0);
    if (ws == NULL) {
        return NULL;
    }
    ws->state = state;
    ws->transport.fd = -1;
    ws->process = getpid();
    ws->phase = TWS_PHASE_CLOSED;
    ws->timeout = UINT64_MAX;
    atomic_init(&ws->reading, false);
    atomic_init(&ws->reading_thread, 0);
    atomic_init(&ws->heard, 0);
    atomic_init(&ws->read_ahead, false);
    atomic_init(&ws->end_wanted, false);
    atomic_init(&ws->unsent, false);
    atomic_init(&ws->shared, false);
    atomic_init(&ws->maker, 0);
    (void)pthread_mutex_init(&ws->guard, NULL); /* never fails on Linux */
    if (options != NULL) {
        ws->options = tws_options_retain(options);
    }
    ws->write_lock = PyThread_allocate_lock();
    if (ws->write_lock == NULL) {
        Py_DECREF((PyObject *)ws);
        return PyErr_NoMemory();
    }
    return (PyObject *)ws;
}

static PyObject *
websocket_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
              PyObject *Py_UNUSED(kwargs))
{
    struct tws_state *state = tws_state_of_type(type);
    return state == NULL ? NULL : tws_websocket_new_bare(state, type, NULL);
}

static int
websocket_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {
        "sock",          "protocols",
        "extensions",    "origin",
        "location",      "trusted_origins",
        "locations",     "auth",
        "family",        "proto",
        "headers",       "max_size",
        "open_timeout",  "close_timeout",
        "max_head_size", "max_header_lines",
        "compression",   NULL,
    };
    WebsocketObject *ws = tws_websocket_of(self);
    struct tws_option_args given = {.protocols = NULL};
    PyObject *sock = Py_None;
    int family = AF_INET;
    int proto = 0;
    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "|OOOOOOOOii$OOOOOOO:websocket", names, &sock,
            &given.protocols, &given.extensions, &given.origin,
            &given.location, &given.trusted_origins, &given.locations,
            &given.auth, &family, &proto, &given.headers, &given.max_size,
            &given.open_timeout, &given.close_timeout, &given.max_head_size,
            &given.max_header_lines, &given.compression)) {
        return -1;
    }
    if (ws->options != NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the websocket is initialised already");
        return -1;
    }
    struct tws_options *options = tws_options_new(ws->state, &given);
    if (options == NULL) {
        return -1;
    }
    PyObject *templates =
        tws_extensions_read(ws->state, given.extensions, given.compression);
    if (templates == NULL) {
        tws_options_release(options);
        return -1;
    }
    int result = sock == Py_None ? tws_websocket_open_socket(ws, family, proto)
                                 : tws_websocket_take_over(ws, sock);
    if (result < 0) {
        Py_DECREF(templates);
        tws_options_release(options);
        return -1;
    }
    ws->options = options;
    ws->templates = templates;
    if (given.auth != NULL && given.auth != Py_None && options->user == NULL) {
        ws->auth = (AuthObject *)Py_NewRef(given.auth);
    }
    return 0;
}

static int
websocket_traverse(PyObject *self, visitproc visit, void *arg)
{
    WebsocketObject *ws = tws_websocket_of(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(ws->socket);
    Py_VISIT(ws->kept);
    Py_VISIT(ws->templates);
    Py_VISIT(ws->offer);
    Py_VISIT(ws->extensions);
    Py_VISIT(ws->send_hooks);
    Py_VISIT(ws->recv_hooks);
    Py_VISIT(ws->location);
    Py_VISIT(ws->protocol);
    Py_VISIT(ws->username);
    Py_VISIT(ws->request);
    Py_VISIT(ws->response);
    Py_VISIT(ws->remote_address);
    Py_VISIT(ws->auth);
    Py_VISIT(ws->client);
    Py_VISIT(ws->ssl);
    Py_VISIT(ws->bridge);
    Py_VISIT(ws->bridge_to);
    Py_VISIT(ws->bridges);
    Py_VISIT(ws->dict);
    return tws_chain_traverse(ws->chain, visit, arg);
}

static int
websocket_clear(PyObject *self)
{
    WebsocketObject *ws = tws_websocket_of(self);
    Py_CLEAR(ws->socket);
    Py_CLEAR(ws->kept);
    Py_CLEAR(ws->templates);
    Py_CLEAR(ws->offer);
    Py_CLEAR(ws->extensions);
    Py_CLEAR(ws->send_hooks);
    Py_CLEAR(ws->recv_hooks);
    Py_CLEAR(ws->location);
    Py_CLEAR(ws->protocol);
    Py_CLEAR(ws->username);
    Py_CLEAR(ws->request);
    Py_CLEAR(ws->response);
    Py_CLEAR(ws->remote_address);
    Py_CLEAR(ws->auth);
    Py_CLEAR(ws->client);
    Py_CLEAR(ws->ssl);
    Py_CLEAR(ws->bridge);
    Py_CLEAR(ws->bridge_to);
    Py_CLEAR(ws->bridges);
    Py_CLEAR(ws->dict);
    return 0;
}

/* As with socket.socket: a descriptor that nobody closed is a mistake. */
static void
websocket_finalize(PyObject *self)
{
    WebsocketObject *ws = tws_websocket_of(self);
    if (ws->phase == TWS_PHASE_CLOSED || ws->phase == TWS_PHASE_SERVED
        || ws->phase == TWS_PHASE_BARE) {
        return; /* nothing is open, or it is somebody else's */
    }
    if (ws->process != getpid()) {
        tws_websocket_abandon(ws);
        return;
    }
    PyObject *pending = PyErr_GetRaisedException();
    if (PyErr_ResourceWarning(self, 1, "unclosed %R", self) < 0) {
        /* Warnings may be errors, but nobody is there to catch one. */
        if (PyErr_ExceptionMatches(PyExc_Warning)) {
            PyErr_WriteUnraisable(self);
        }
        PyErr_Clear();
    }
    tws_websocket_close(ws);
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

static void
websocket_dealloc(PyObject *self)
{
    WebsocketObject *ws = tws_websocket_of(self);
    PyTypeObject *type = Py_TYPE(self);
    if (PyObject_CallFinalizerFromDealloc(self) < 0) {
        return; /* alive again */
    }
    PyObject_GC_UnTrack(self);
    if (ws->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    tws_handshake_forget(ws);
    tws_challenge_release(&ws->challenge);
    tws_acceptor_free(ws->acceptor);
    tws_buffer_release(&ws->in);
    tws_buffer_release(&ws->partial);
    tws_buffer_release(&ws->out);
    tws_buffer_release(&ws->control);
    PyMem_Free(ws->broken);
    (void)websocket_clear(self);
    tws_chain_free(ws->chain);
    tws_compression_free(ws->compression);
    tws_options_release(ws->options);
    if (ws->stream_lock != NULL) {
        PyThread_free_lock(ws->stream_lock);
    }
    if (ws->write_lock != NULL) {
        PyThread_free_lock(ws->write_lock);
    }
    pthread_mutex_destroy(&ws->guard);
    type->tp_free(self);
    Py_DECREF(type);
}

/* --- how it looks --- */

static const char *
phase_name(const WebsocketObject *ws)
{
    switch ((enum tws_phase)ws->phase) {
    case TWS_PHASE_BARE:
    case TWS_PHASE_FRESH:
        return "new";
    case TWS_PHASE_LISTENING:
        return "listening";
    case TWS_PHASE_CONNECTING:
        return "connecting";
    case TWS_PHASE_OPEN:
        return ws->role == TWS_SERVER ? "open server" : "open client";
    case TWS_PHASE_SERVED:
        return "served";
    case TWS_PHASE_CLOSED:
        break;
    }
    return "closed";
}

/* " 127.0.0.1:80" behind `before`; nothing where there is no address. */
static PyObject *
address_part(const char *before,
             int (*get)(const WebsocketObject *, struct tws_address *),
             const WebsocketObject *ws)
{
    struct tws_address address;
    if (ws->transport.fd < 0 || get(ws, &address) < 0) {
        PyErr_Clear();
        return PyUnicode_FromString("");
    }
    PyObject *text = tws_address_text(&address);
    if (text == NULL) {
        return NULL;
    }
    PyObject *part = PyUnicode_FromFormat("%s%U", before, text);
    Py_DECREF(text);
    return part;
}

static PyObject *
websocket_repr(PyObject *self)
{
    WebsocketObject *ws = tws_websocket_of(self);
    bool is_server = ws->role == TWS_SERVER || ws->phase == TWS_PHASE_SERVED;
    PyObject *result = NULL;
    if (ws->phase == TWS_PHASE_CLOSED || tws_websocket_enter(ws) < 0) {
        /* Of an AF_UNSPEC websocket there may be no more to say yet. */
        PyErr_Clear();
        return PyUnicode_FromFormat(
            "<%s %s>", Py_TYPE(self)->tp_name,
            tws_websocket_is_closing(ws) ? "closed" : phase_name(ws));
    }
    int fd = ws->transport.fd;
    PyObject *own = address_part(" ", tws_websocket_own_address, ws);
    PyObject *peer = address_part(is_server ? " from " : " to ",
                                  tws_websocket_peer_address, ws);
    if (own != NULL && peer != NULL) {
        result =
            PyUnicode_FromFormat("<%s fd=%d %s%U%U>", Py_TYPE(self)->tp_name,
                                 fd, phase_name(ws), own, peer);
    }
    Py_XDECREF(own);
    Py_XDECREF(peer);
    tws_websocket_leave(ws);
    return result;
}

/* --- attributes --- */

static PyObject *
timeout_get(PyObject *self, void *Py_UNUSED(closure))
{
    return tws_websocket_gettimeout_method(self, NULL);
}

static PyObject *
location_get(PyObject *self, void *Py_UNUSED(closure))
{
    const WebsocketObject *ws = tws_websocket_of(self);
    if (ws->location != NULL) {
        return Py_NewRef(ws->location);
    }
    if (ws->options == NULL) {
        return Py_NewRef(Py_None);
    }
    return Py_NewRef(ws->options->location);
}

/* None until the handshake has set it. */
static PyObject *
agreed_get(PyObject *self, void *closure)
{
    PyObject *value;
    memcpy(&value, (char *)self + (size_t)(uintptr_t)closure,
           sizeof(PyObject *));
    return Py_NewRef(value == NULL ? Py_None : value);
}

/* An object among the options. */
static PyObject *
option_get(PyObject *self, void *closure)
{
    const WebsocketObject *ws = tws_websocket_of(self);
    PyObject *value;
    if (ws->options == NULL) {
        return Py_NewRef(Py_None);
    }
    memcpy(&value, (const char *)ws->options + (size_t)(uintptr_t)closure,
           sizeof(PyObject *));
    return Py_NewRef(value);
}

static PyObject *
extensions_get(PyObject *self, void *Py_UNUSED(closure))
{
    const WebsocketObject *ws = tws_websocket_of(self);
    return ws->extensions == NULL ? PyTuple_New(0) : Py_NewRef(ws->extensions);
}

#define AGREED(name, doc)                                                     \
    {                                                                         \
#name, agreed_get, NULL, PyDoc_STR(doc),                              \
            (void *)(uintptr_t)offsetof(WebsocketObject, name)                \
    }
#define OPTION(name, doc)                                                     \
    {                                                                         \
#name, option_get, NULL, PyDoc_STR(doc),                              \
            (void *)(uintptr_t)offsetof(struct tws_options, name)             \
    }
#define KIND(name, doc)                                                       \
    {                                                                         \
#name, tws_websocket_kind_get, NULL, PyDoc_STR(doc),                  \
            (void *)(uintptr_t) #name                                         \
    }

static PyGetSetDef websocket_getset[] = {
    KIND(family, "The address family, such as socket.AF_INET; AF_UNSPEC where "
                 "connect() is to find out."),
    KIND(type, "The socket type: socket.SOCK_STREAM."),
    KIND(proto, "The protocol number."),
    {"timeout", timeout_get, NULL,
     PyDoc_STR("The timeout in seconds; None: no limit."), NULL},
    {"location", location_get, NULL,
     PyDoc_STR("Path and query that the client asks for."), NULL},
    AGREED(protocol, "The agreed subprotocol, or None."),
    {"extensions", extensions_get, NULL,
     PyDoc_STR("The agreed extensions, a tuple of Extension."), NULL},
    AGREED(username, "Of a listener's client: the user name that it has "
                     "proved to be its own, or None."),
    AGREED(request, "The handshake's Request, None before it."),
    AGREED(response,
           "The server's Response to a client's handshake, else None."),
    {"secure", tws_websocket_secure_get, NULL,
     PyDoc_STR("True where the connection is, or will be, encrypted (TLS)."),
     NULL},
    {"cipher", tws_websocket_cipher_get, NULL,
     PyDoc_STR("(name, TLS version, bits of the key) of an open encrypted "
               "connection, else None."),
     NULL},
    {"version", tws_websocket_version_get, NULL,
     PyDoc_STR("'TLSv1.2' or 'TLSv1.3' of an open encrypted connection, else "
               "None."),
     NULL},
    {"alpn_protocol", tws_websocket_alpn_get, NULL,
     PyDoc_STR("What ALPN has agreed on (RFC 7301), or None."), NULL},
    {"peer_certificate", tws_websocket_peer_certificate_get, NULL,
     PyDoc_STR("The peer's Certificate on an open encrypted connection, None "
               "where it has none."),
     NULL},
    OPTION(protocols, "The subprotocols that were given, a tuple of str."),
    OPTION(origin, "What a client's Origin field says, or None."),
    OPTION(trusted_origins,
           "The origins that may connect: a tuple of str, empty for any, or "
           "'same-origin'."),
    OPTION(locations,
           "The paths that a listener serves, a tuple of str, empty for any."),
    {NULL, NULL, NULL, NULL, NULL},
};

/* --- methods of this file --- */

const char tws_websocket_add_hook_doc[] = PyDoc_STR(
    "add_hook($self, /, send=None, recv=None, prepend=False)\n--\n\n"
    "Add functions that each frame passes which is sent or received.\n\n"
    "A hook gets a Frame and returns one, the same or another. Hooks are\n"
    "called in the order in which they were added; with prepend the new\n"
    "ones come first. What a hook raises comes out of send() or recv(): a\n"
    "frame that was to be sent is not sent then, one that was received is\n"
    "gone.\n\n"
    "What accept() returns has no hooks. Raises TypeError for what is\n"
    "neither a callable nor None.");

PyObject *
tws_websocket_add_hook_method(PyObject *self, PyObject *args, PyObject *kwargs)
{
    WebsocketObject *ws = tws_websocket_of(self);
    return tws_add_hooks(args, kwargs, &ws->send_hooks, &ws->recv_hooks);
}

const char tws_websocket_close_doc[] = PyDoc_STR(
    "close($self, /)\n--\n\n"
    "Close the descriptor. Sends no Close frame: Connection.close() does.\n\n"
    "Calls that other threads are in end with an error. A second close()\n"
    "does nothing.");

PyObject *
tws_websocket_close_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    WebsocketObject *ws = tws_websocket_of(self);
    if (tws_served_check_process(ws) < 0) {
        return NULL;
    }
    tws_websocket_close(ws);
    return Py_NewRef(Py_None);
}

static PyObject *
websocket_enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self);
}

static PyObject *
websocket_exit(PyObject *self, PyObject *const *Py_UNUSED(args),
               Py_ssize_t Py_UNUSED(count))
{
    return tws_websocket_close_method(self, NULL);
}

/* --- the type --- */

#define METHOD(name, flags)                                                   \
    {#name, (PyCFunction)(void (*)(void))tws_websocket_##name##_method,       \
     (flags), tws_websocket_##name##_doc},

static PyMethodDef websocket_methods[] = {
#define X(name) METHOD(name, METH_NOARGS)
    TWS_WEBSOCKET_NOARGS(X)
#undef X
#define X(name) METHOD(name, METH_O)
        TWS_WEBSOCKET_ONEARG(X)
#undef X
#define X(name) METHOD(name, METH_VARARGS)
            TWS_WEBSOCKET_VARARGS(X)
#undef X
#define X(name) METHOD(name, METH_VARARGS | METH_KEYWORDS)
                TWS_WEBSOCKET_KEYWORDS(X)
#undef X
                    METHOD(send, METH_FASTCALL){
                        "__enter__", websocket_enter, METH_NOARGS,
                        PyDoc_STR("__enter__($self, /)\n--\n\nThe websocket "
                                  "itself.")},
    {"__exit__", (PyCFunction)(void (*)(void))websocket_exit, METH_FASTCALL,
     PyDoc_STR("__exit__($self, /, *exc)\n--\n\nclose().")},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef websocket_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(WebsocketObject, dict), READONLY,
     NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(WebsocketObject, weakrefs),
     READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(
    websocket_doc,
    "websocket(sock=None, protocols=(), extensions=(), origin=None, "
    "location='/', trusted_origins=(), locations=(), auth=None, family=2, "
    "proto=0, *, headers=(), max_size=1048576, open_timeout=10.0, "
    "close_timeout=2.0, max_head_size=16384, max_header_lines=128, "
    "compression=None)\n--\n\n"
    "A stream socket that sends and receives frames (RFC 6455).\n\n"
    "sock             a socket.socket to take over: connected, listening or\n"
    "                 fresh. It is closed for its owner afterwards\n"
    "                 (detach()). None makes a new one\n"
    "protocols        subprotocols, an iterable of str: a client's wishes,\n"
    "                 what a listener speaks; the client's order decides\n"
    "extensions       those that may be agreed on: an iterable of Extension,\n"
    "                 classes or instances, see twspy.Extension\n"
    "origin           of a client: what its Origin field says\n"
    "location         of a client: path and query to ask for\n"
    "trusted_origins  of a listener: the origins of web pages that may\n"
    "                 connect, as 'https://example.com', or 'same-origin';\n"
    "                 () lets any connect\n"
    "locations        of a listener: the paths it serves; () is any\n"
    "auth             of a listener: a BasicAuth or DigestAuth that clients\n"
    "                 have to satisfy; `username` of what accept() returns\n"
    "                 tells who it is; of a client: ('user', 'password'),\n"
    "                 sent by connect() once the server asks for it\n"
    "family, proto    as in socket.socket(), where sock is None; of a client\n"
    "                 also AF_UNSPEC: connect() finds out which fits\n"
    "headers          further header fields of the handshake's message: a\n"
    "                 mapping or (name, value) pairs\n"
    "max_size         bytes that a received frame may have; None: no limit\n"
    "open_timeout     seconds for the opening handshake; None: no limit\n"
    "close_timeout    seconds to wait for a peer that was refused\n"
    "max_head_size, max_header_lines  bytes and fields in the peer's head\n"
    "compression      more extensions: 'deflate', an Extension or an "
    "iterable\n"
    "                 of them; left out where `extensions` has one of the\n"
    "                 name. None: no more\n\n"
    "What accept() returns has the listener's options. Raises TypeError and\n"
    "ValueError that name the argument, OSError of the system.\n\n"
    "One thread may receive and any number may send at a time; close() may\n"
    "come from any thread.");

static PyType_Slot websocket_slots[] = {
    {Py_tp_doc, (void *)(uintptr_t)websocket_doc},
    {Py_tp_new, websocket_new},
    {Py_tp_init, websocket_init},
    {Py_tp_traverse, websocket_traverse},
    {Py_tp_clear, websocket_clear},
    {Py_tp_finalize, websocket_finalize},
    {Py_tp_dealloc, websocket_dealloc},
    {Py_tp_repr, websocket_repr},
    {Py_tp_iter, tws_websocket_iter},
    {Py_tp_methods, websocket_methods},
    {Py_tp_members, websocket_members},
    {Py_tp_getset, websocket_getset},
    {0, NULL},
};

PyType_Spec tws_websocket_spec = {
    .name = "twspy.websocket",
    .basicsize = sizeof(WebsocketObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE
             | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = websocket_slots,
};
