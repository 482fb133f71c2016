/* The loops of a server: one for each listening socket, of which each has its
 * own threads. Where no GIL stops them they run side by side. */
#include "python/server_type.h"

#include "python/errors.h"
#include "python/tls_context_type.h"

#include <limits.h>

bool
tws_server_is_ready(const ServerObject *server)
{
    if (server->options != NULL) {
        return true;
    }
    PyErr_SetString(PyExc_RuntimeError,
                    "Server.__init__(address) was not called: call "
                    "super().__init__(address) in the subclass");
    return false;
}

void
tws_server_free_loops(struct tws_loop *loops, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        tws_server_free(loops[i].core);
    }
    PyMem_Free(loops);
}

/* Beginning --------------------------------------------------------------- */

/* Two threads at least, or else a slow handler would hold up the others of
 * its loop; one where there shall be no others at all. */
static unsigned
share_of_threads(size_t max, unsigned count, unsigned index)
{
    size_t share = max / count + (index < max % count ? 1 : 0);
    if (share < 2) {
        share = max < 2 ? 1 : 2;
    }
    return share < UINT_MAX ? (unsigned)share : UINT_MAX;
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
        PyErr_SetString(PyExc_ValueError, "the listening socket is closed");
    }
    return (int)fd;
}

static int
make_core(struct tws_loop *loop, unsigned count, PyObject *sock)
{
    ServerObject *server = loop->server;
    const struct tws_options *options = server->options;
    const struct tws_server_limits *limits = &server->limits;
    struct tws_handlers handlers;
    struct tws_error err;
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
        .places = &server->places,
        .max_half_open = limits->max_half_open < UINT32_MAX
                             ? (uint32_t)limits->max_half_open
                             : 0,
        .max_threads =
            share_of_threads(limits->max_threads, count, loop->index),
        .leaves_masked = true,
    };
    int fd = descriptor_of(sock);
    if (fd < 0) {
        return -1;
    }
    tws_server_fill_handlers(loop, &handlers);
    if (tws_socket_prepare(fd, &err) != TWS_OK
        || tws_server_new(fd, TWS_POLLER_BEST, &settings, &handlers,
                          &loop->core, &err)
               != TWS_OK) {
        (void)tws_raise(server->state, &err);
        return -1;
    }
    return 0;
}

/* One for each socket; NULL with an exception. */
static struct tws_loop *
make_loops(ServerObject *server, PyObject *sockets, int backlog)
{
    unsigned count = (unsigned)PyTuple_GET_SIZE(sockets);
    struct tws_loop *loops = PyMem_Calloc(count, sizeof(*loops));
    if (loops == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (unsigned i = 0; i < count; i++) {
        loops[i].server = server;
        loops[i].index = i;
        if (make_core(&loops[i], count, PyTuple_GET_ITEM(sockets, i)) < 0) {
            goto fail;
        }
    }
    /* Only now can nothing fail but this. */
    for (unsigned i = 0; i < count; i++) {
        PyObject *result = PyObject_CallMethod(PyTuple_GET_ITEM(sockets, i),
                                               "listen", "i", backlog);
        if (result == NULL) {
            goto fail;
        }
        Py_DECREF(result);
    }
    return loops;

fail:
    tws_server_free_loops(loops, count);
    return NULL;
}

const char tws_server_listen_doc[] =
    "_loop_listen($self, runner, sockets, backlog, patience, tells_sent,\n"
    "             asks_handshake, /)\n"
    "--\n"
    "\n"
    "Start listening, on one socket for each loop. runner: its spawn(number) "
    "is to\n"
    "start a thread that calls _loop_work(number); its exhausted(), "
    "stopping() and\n"
    "ended() hear of that for each loop. patience: seconds that a stop waits "
    "for the\n"
    "clients. tells_sent: call onsent(). asks_handshake: call onhandshake().";

static PyObject *
raise_started(void)
{
    PyErr_SetString(PyExc_RuntimeError,
                    "the server is running or has run: make a new one");
    return NULL;
}

PyObject *
tws_server_listen(PyObject *self, PyObject *args)
{
    ServerObject *server = (ServerObject *)self;
    int backlog;
    int tells_sent;
    int asks_handshake;
    PyObject *runner;
    PyObject *sockets;
    PyObject *patience;
    if (!PyArg_ParseTuple(args, "OO!iOpp:_loop_listen", &runner, &PyTuple_Type,
                          &sockets, &backlog, &patience, &tells_sent,
                          &asks_handshake)
        || !tws_server_is_ready(server)
        || tws_timeout_from_object(patience, "max_join_time",
                                   &server->patience)
               < 0) {
        return NULL;
    }
    if (server->loops != NULL) {
        return raise_started();
    }
    if (PyTuple_GET_SIZE(sockets) == 0
        || (size_t)PyTuple_GET_SIZE(sockets) > UINT_MAX) {
        PyErr_SetString(PyExc_ValueError, "sockets is empty, or too large");
        return NULL;
    }
    struct tws_loop *loops = make_loops(server, sockets, backlog);
    if (loops == NULL) {
        return NULL;
    }
    if (server->loops != NULL) { /* by another thread, as that ran Python */
        tws_server_free_loops(loops, (unsigned)PyTuple_GET_SIZE(sockets));
        return raise_started();
    }
    server->loops = loops;
    server->loop_count = (unsigned)PyTuple_GET_SIZE(sockets);
    server->runner = Py_NewRef(runner);
    server->tells_sent = tells_sent != 0;
    server->asks_handshake = asks_handshake != 0;
    Py_RETURN_NONE;
}

const char tws_server_tls_doc[] =
    "_loop_tls($self, context, /)\n"
    "--\n"
    "\n"
    "Encrypt the connections that come from now on with a _TLSContext or an\n"
    "ssl.SSLContext. After _loop_listen().";

PyObject *
tws_server_tls(PyObject *self, PyObject *context)
{
    ServerObject *server = (ServerObject *)self;
    struct tws_tls_context *native =
        tws_tls_context_in(server->state, context);
    if (native == NULL && server->bridges == NULL) {
        server->bridges = PyDict_New();
        if (server->bridges == NULL) {
            return NULL;
        }
    }
    for (unsigned i = 0; i < server->loop_count; i++) {
        tws_server_set_tls(server->loops[i].core, native);
    }
    PyObject *bridged = native == NULL ? Py_NewRef(context) : NULL;
    Py_XSETREF(server->ssl_context, bridged);
    Py_RETURN_NONE;
}

/* Running ----------------------------------------------------------------- */

const char tws_server_work_doc[] =
    "_loop_work($self, number, /)\n"
    "--\n"
    "\n"
    "Serve in that loop on the calling thread, as one of several, until a "
    "stop is\n"
    "done or the thread is not needed any more. Raises OSError where the loop "
    "itself\n"
    "fails.";

PyObject *
tws_server_work_loop(PyObject *self, PyObject *number)
{
    ServerObject *server = (ServerObject *)self;
    struct tws_error err;
    unsigned long index = PyLong_AsUnsignedLong(number);
    if (index == (unsigned long)-1 && PyErr_Occurred() != NULL) {
        return NULL;
    }
    if (index >= server->loop_count) {
        PyErr_Format(PyExc_RuntimeError,
                     "there is no loop %lu: _loop_listen() makes them", index);
        return NULL;
    }
    if (tws_server_work(server->loops[index].core, &err) != TWS_OK) {
        return tws_raise(server->state, &err);
    }
    Py_RETURN_NONE;
}

bool
tws_server_before_wait_loops(ServerObject *server, struct tws_server *core)
{
    for (unsigned i = 0; i < server->loop_count; i++) {
        if (server->loops[i].core != core) {
            (void)tws_server_before_wait(server->loops[i].core);
        }
    }
    return tws_server_before_wait(core);
}

void
tws_server_stop_loops(ServerObject *server, uint16_t code,
                      struct tws_span reason, uint64_t patience)
{
    for (unsigned i = 0; i < server->loop_count; i++) {
        tws_server_stop(server->loops[i].core, code, reason, patience);
    }
}
