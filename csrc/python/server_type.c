#include "python/server_type.h"

#include "python/errors.h"

#include <limits.h>

static inline ServerObject *
cast(PyObject *self)
{
    return (ServerObject *)self;
}

static PyObject *
server_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    ServerObject *server = (ServerObject *)type->tp_alloc(type, 0);
    if (server != NULL) {
        server->state = tws_state_of_type(type);
        if (server->state == NULL) {
            Py_CLEAR(server);
        }
    }
    return (PyObject *)server;
}

/* True after __init__(); else RuntimeError. */
static bool
is_ready(const ServerObject *server)
{
    if (server->options != NULL) {
        return true;
    }
    PyErr_SetString(PyExc_RuntimeError,
                    "Server.__init__(address) was not called: call "
                    "super().__init__(address) in the subclass");
    return false;
}

static int
server_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    ServerObject *server = cast(self);
    struct tws_option_args given;
    struct tws_server_args limits;
    PyObject *sock;
    if (tws_server_args_parse(args, kwargs, &sock, &given, &limits) < 0) {
        return -1;
    }
    if (server->options != NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Server.__init__() was called before");
        return -1;
    }
    if (tws_server_limits_from(&limits, &server->limits) < 0) {
        return -1;
    }
    server->options = tws_options_new(server->state, &given);
    if (server->options == NULL) {
        return -1;
    }
    server->socket = Py_NewRef(sock);
    return 0;
}

static int
server_traverse(PyObject *self, visitproc visit, void *arg)
{
    ServerObject *server = cast(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(server->socket);
    Py_VISIT(server->runner);
    Py_VISIT(server->onclose);
    Py_VISIT(server->exit);
    Py_VISIT(server->dict);
    return 0;
}

static int
server_clear(PyObject *self)
{
    ServerObject *server = cast(self);
    Py_CLEAR(server->socket);
    Py_CLEAR(server->runner);
    Py_CLEAR(server->onclose);
    Py_CLEAR(server->exit);
    Py_CLEAR(server->dict);
    return 0;
}

static void
server_dealloc(PyObject *self)
{
    ServerObject *server = cast(self);
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (server->weakrefs != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    (void)server_clear(self);
    tws_server_free(server->core);
    tws_options_release(server->options);
    type->tp_free(self);
    Py_DECREF(type);
}

static int
descriptor_of(PyObject *sock)
{
    PyObject *number = PyObject_CallMethod(sock, "fileno", NULL);
    if (number == NULL) {
        return -1;
    }
    long fd = PyLong_AsLong(number);
    Py_DECREF(number);
    if (fd < 0 && PyErr_Occurred() == NULL) {
        PyErr_SetString(PyExc_ValueError,
                        "the listening socket is closed: a server that has "
                        "stopped can't be started again, make a new one");
    }
    return (int)fd;
}

PyDoc_STRVAR(
    listen_doc,
    "_loop_listen($self, runner, backlog, patience, tells_sent, /)\n"
    "--\n"
    "\n"
    "Start listening. runner: its spawn() is to start a thread that calls\n"
    "_loop_work(); its exhausted(), stopping() and ended() hear of that. "
    "patience: seconds "
    "that a\n"
    "stop waits for the clients. tells_sent: call onsent().");

static PyObject *
server_listen(PyObject *self, PyObject *args)
{
    ServerObject *server = cast(self);
    int backlog;
    int tells_sent;
    PyObject *runner;
    PyObject *patience;
    struct tws_error err;
    struct tws_handlers handlers;
    if (!PyArg_ParseTuple(args, "OiOp:_loop_listen", &runner, &backlog,
                          &patience, &tells_sent)
        || !is_ready(server)
        || tws_timeout_from_object(patience, "max_join_time",
                                   &server->patience)
               < 0) {
        return NULL;
    }
    if (server->core != NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the server is running or has run: make a new one");
        return NULL;
    }
    int fd = descriptor_of(server->socket);
    if (fd < 0) {
        return NULL;
    }
    if (tws_socket_prepare(fd, &err) != TWS_OK) {
        return tws_raise(server->state, &err);
    }
    PyObject *result =
        PyObject_CallMethod(server->socket, "listen", "i", backlog);
    if (result == NULL) {
        return NULL;
    }
    Py_DECREF(result);
    const struct tws_options *options = server->options;
    const struct tws_server_limits *limits = &server->limits;
    struct tws_server_options settings = {
        .http = options->http,
        .message = options->message,
        .policy = options->policy,
        .open_timeout = options->open_timeout,
        .close_timeout = options->close_timeout,
        .ping_interval = limits->ping_interval,
        .ping_timeout = limits->ping_timeout,
        .idle_timeout = limits->idle_timeout,
        .high_water = limits->high_water,
        .low_water = limits->low_water,
        .max_clients = limits->max_clients,
        .max_half_open = limits->max_half_open < UINT32_MAX
                             ? (uint32_t)limits->max_half_open
                             : 0,
        .max_threads = limits->max_threads < UINT_MAX
                           ? (unsigned)limits->max_threads
                           : UINT_MAX,
    };
    server->runner = Py_NewRef(runner);
    server->tells_sent = tells_sent != 0;
    tws_server_fill_handlers(server, &handlers);
    if (tws_server_new(fd, TWS_POLLER_BEST, &settings, &handlers,
                       &server->core, &err)
        != TWS_OK) {
        return tws_raise(server->state, &err);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(work_doc,
             "_loop_work($self, /)\n"
             "--\n"
             "\n"
             "Serve on the calling thread, as one of several, until a stop is "
             "done or the\n"
             "thread is not needed any more. Raises OSError where the loop "
             "itself fails.");

static PyObject *
server_work(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    ServerObject *server = cast(self);
    struct tws_error err;
    if (server->core == NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "_loop_work() runs after _loop_listen()");
        return NULL;
    }
    if (tws_server_work(server->core, &err) != TWS_OK) {
        return tws_raise(server->state, &err);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(exit_doc, "_loop_exit($self, /)\n"
                       "--\n"
                       "\n"
                       "The SystemExit that a handler raised, once, or None.");

static PyObject *
server_exit(PyObject *self, PyObject *ignored)
{
    (void)ignored;
    ServerObject *server = cast(self);
    PyObject *exit = server->exit;
    server->exit = NULL;
    return exit == NULL ? Py_NewRef(Py_None) : exit;
}

PyDoc_STRVAR(stop_doc, "_loop_stop($self, code, reason, patience, /)\n"
                       "--\n"
                       "\n"
                       "Ask the loop to stop: no new clients, Close with code "
                       "and reason to all, and\n"
                       "patience seconds for them to answer. Any thread. "
                       "Called again, it can only\n"
                       "shorten the wait.");

static PyObject *
server_stop(PyObject *self, PyObject *args)
{
    ServerObject *server = cast(self);
    int code;
    const char *reason;
    Py_ssize_t length;
    PyObject *patience;
    uint64_t ns;
    if (!PyArg_ParseTuple(args, "is#O:_loop_stop", &code, &reason, &length,
                          &patience)
        || tws_timeout_from_object(patience, "patience", &ns) < 0) {
        return NULL;
    }
    if (!tws_close_code_on_wire((unsigned)code)
        || length > TWS_CLOSE_REASON_MAX) {
        PyErr_Format(PyExc_ValueError,
                     "close code %d with a reason of %zd bytes, expected a "
                     "code that may be sent (RFC 6455 7.4) and at most %d "
                     "bytes",
                     code, length, TWS_CLOSE_REASON_MAX);
        return NULL;
    }
    if (server->core != NULL) {
        struct tws_span text = {.data = reason, .length = (size_t)length};
        tws_server_stop(server->core, (uint16_t)code, text, ns);
    }
    Py_RETURN_NONE;
}

static PyObject *
get_clients(PyObject *self, void *closure)
{
    (void)closure;
    return tws_server_clients(cast(self));
}

static PyObject *
get_max_size(PyObject *self, void *closure)
{
    (void)closure;
    if (!is_ready(cast(self))) {
        return NULL;
    }
    uint64_t size = cast(self)->options->message.size;
    return size == UINT64_MAX ? Py_NewRef(Py_None)
                              : PyLong_FromUnsignedLongLong(size);
}

static PyGetSetDef server_getset[] = {
    {"clients", get_clients, NULL,
     PyDoc_STR("A new list of the open clients (Connection). Any thread."),
     NULL},
    {"max_size", get_max_size, NULL,
     PyDoc_STR("Most bytes a message may have, or None."), NULL},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef server_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(ServerObject, dict), READONLY,
     NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(ServerObject, weakrefs),
     READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef server_methods[] = {
    {"broadcast", (PyCFunction)(void (*)(void))tws_server_broadcast,
     METH_VARARGS | METH_KEYWORDS, tws_server_broadcast_doc},
    {"stats", tws_server_stats_object, METH_NOARGS, tws_server_stats_doc},
    {"_loop_listen", server_listen, METH_VARARGS, listen_doc},
    {"_loop_work", server_work, METH_NOARGS, work_doc},
    {"_loop_exit", server_exit, METH_NOARGS, exit_doc},
    {"_loop_stop", server_stop, METH_VARARGS, stop_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot server_slots[] = {
    {Py_tp_doc, (void *)tws_server_doc}, {Py_tp_new, server_new},
    {Py_tp_init, server_init},           {Py_tp_dealloc, server_dealloc},
    {Py_tp_traverse, server_traverse},   {Py_tp_clear, server_clear},
    {Py_tp_methods, server_methods},     {Py_tp_getset, server_getset},
    {Py_tp_members, server_members},     {0, NULL},
};

PyType_Spec tws_server_spec = {
    .name = "twspy._twspy.Server",
    .basicsize = sizeof(ServerObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC
             | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = server_slots,
};
