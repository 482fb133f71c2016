#include "python/server_type.h"

#include "python/extensions_agreed.h"

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

static int
server_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    ServerObject *server = cast(self);
    struct tws_option_args given;
    struct tws_server_args limits;
    if (tws_server_args_parse(args, kwargs, &given, &limits) < 0) {
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
    if (given.auth != NULL && PyTuple_Check(given.auth)) {
        PyErr_SetString(PyExc_TypeError,
                        "auth is a tuple, which is what a client gives: a "
                        "server takes BasicAuth(check) or "
                        "DigestAuth(password_of)");
        return -1;
    }
    PyObject *templates = tws_extensions_read(server->state, given.extensions,
                                              given.compression);
    if (templates == NULL) {
        return -1;
    }
    server->options = tws_options_new(server->state, &given);
    if (server->options == NULL) {
        Py_DECREF(templates);
        return -1;
    }
    server->templates = templates;
    if (given.auth != NULL && given.auth != Py_None) {
        server->auth = (AuthObject *)Py_NewRef(given.auth);
    }
    return 0;
}

static int
server_traverse(PyObject *self, visitproc visit, void *arg)
{
    ServerObject *server = cast(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(server->runner);
    Py_VISIT(server->ssl_context);
    Py_VISIT(server->bridges);
    Py_VISIT(server->auth);
    Py_VISIT(server->templates);
    Py_VISIT(server->onmessage.function);
    Py_VISIT(server->onclose);
    Py_VISIT(server->exit);
    Py_VISIT(server->dict);
    return 0;
}

static int
server_clear(PyObject *self)
{
    ServerObject *server = cast(self);
    Py_CLEAR(server->runner);
    Py_CLEAR(server->ssl_context);
    Py_CLEAR(server->bridges);
    Py_CLEAR(server->auth);
    Py_CLEAR(server->templates);
    tws_method_cache_clear(&server->onmessage);
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
    tws_server_free_loops(server->loops, server->loop_count);
    tws_options_release(server->options);
    type->tp_free(self);
    Py_DECREF(type);
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
                       "Ask the loops to stop: no new clients, Close with "
                       "code and reason to all,\n"
                       "and patience seconds for them to answer. Any thread. "
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
    struct tws_span text = {.data = reason, .length = (size_t)length};
    tws_server_stop_loops(server, (uint16_t)code, text, ns);
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
    if (!tws_server_is_ready(cast(self))) {
        return NULL;
    }
    uint64_t size = cast(self)->options->message.size;
    return size == UINT64_MAX ? Py_NewRef(Py_None)
                              : PyLong_FromUnsignedLongLong(size);
}

static PyObject *
get_auth(PyObject *self, void *closure)
{
    (void)closure;
    ServerObject *server = cast(self);
    return Py_NewRef(server->auth == NULL ? Py_None
                                          : (PyObject *)server->auth);
}

static PyGetSetDef server_getset[] = {
    {"auth", get_auth, NULL,
     PyDoc_STR("The BasicAuth or DigestAuth that clients have to satisfy, or "
               "None."),
     NULL},
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
    {"_loop_listen", tws_server_listen, METH_VARARGS, tws_server_listen_doc},
    {"_loop_tls", tws_server_tls, METH_O, tws_server_tls_doc},
    {"_loop_work", tws_server_work_loop, METH_O, tws_server_work_doc},
    {"_loop_forget", tws_server_forget, METH_NOARGS, tws_server_forget_doc},
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
