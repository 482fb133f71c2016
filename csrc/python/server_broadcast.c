/* One message to many clients: framed once, never waits. */
#include "python/server_type.h"

#include "python/connection_methods.h"
#include "python/errors.h"
#include "python/message_type.h"
#include "python/served_out.h"

/* Takes references to the clients' Connections while the table is locked;
 * nothing here may allocate objects or run Python code. */
struct collection {
    PyObject **objects;
    size_t count;
    size_t room;
};

static void
collect(void *context, struct tws_client *client)
{
    struct collection *collection = context;
    if (collection->count < collection->room) {
        collection->objects[collection->count] = Py_NewRef(client->user);
        collection->count++;
    }
}

PyObject *
tws_server_clients(ServerObject *server)
{
    struct collection collection = {.count = 0};
    /* Clients that come between counting and collecting are left out. */
    for (unsigned i = 0; i < server->loop_count; i++) {
        collection.room += tws_server_count(server->loops[i].core);
    }
    collection.objects = PyMem_Calloc(collection.room + 1, sizeof(PyObject *));
    if (collection.objects == NULL) {
        return PyErr_NoMemory();
    }
    for (unsigned i = 0; i < server->loop_count; i++) {
        tws_server_each(server->loops[i].core, collect, &collection);
    }
    PyObject *list = PyList_New((Py_ssize_t)collection.count);
    for (size_t i = 0; i < collection.count; i++) {
        if (list != NULL) {
            PyList_SET_ITEM(list, (Py_ssize_t)i, collection.objects[i]);
        }
        else {
            Py_DECREF(collection.objects[i]);
        }
    }
    PyMem_Free(collection.objects);
    return list;
}

enum { WINDOWS = TWS_WINDOW_BITS_MAX - TWS_WINDOW_BITS_MIN + 1 };

/* A message, framed once for everybody, and compressed once for those whose
 * windows have the same size. */
struct framed {
    PyObject *message; /* borrowed */
    uint8_t opcode;
    uint8_t compress;                      /* enum tws_compress */
    struct tws_span payload;               /* borrowed from message */
    struct tws_buffer bytes;               /* owned; header and payload */
    struct tws_buffer compressed[WINDOWS]; /* owned; made when needed */
};

static int
frame_once(ServerObject *server, PyObject *message, struct framed *framed)
{
    uint8_t *room;
    framed->message = message;
    if (tws_message_view(server->state, message, &framed->opcode,
                         &framed->payload)
        < 0) {
        return -1;
    }
    struct tws_frame_header header = {
        .opcode = framed->opcode,
        .fin = true,
        .length = framed->payload.length,
    };
    if (tws_buffer_reserve(&framed->bytes,
                           TWS_FRAME_HEADER_MAX + framed->payload.length,
                           &room)
        != TWS_OK) {
        PyErr_NoMemory();
        return -1;
    }
    size_t length = tws_frame_header_encode(&header, room);
    if (framed->payload.length > 0) {
        memcpy(room + length, framed->payload.data, framed->payload.length);
    }
    tws_buffer_commit(&framed->bytes, length + framed->payload.length);
    return 0;
}

static void
release_framed(struct framed *framed)
{
    tws_buffer_release(&framed->bytes);
    for (size_t i = 0; i < WINDOWS; i++) {
        tws_buffer_release(&framed->compressed[i]);
    }
}

static struct tws_span
span_of(const struct tws_buffer *buffer)
{
    return (struct tws_span){.data = (const char *)tws_buffer_data(buffer),
                             .length = tws_buffer_length(buffer)};
}

/* *compressed is what the client is sent, borrowed; NULL: the plain form.
 * Other threads may have had their turn when it returns. -1 with an
 * exception. */
static int
find_compressed(ServerObject *server, const struct tws_client *client,
                struct framed *framed, const struct tws_buffer **compressed)
{
    struct tws_error err;
    *compressed = NULL;
    if (!tws_client_compresses(client, framed->opcode, framed->payload.length,
                               (enum tws_compress)framed->compress)) {
        return 0;
    }
    unsigned bits = client->compression->terms.out.window_bits;
    struct tws_buffer *form = &framed->compressed[bits - TWS_WINDOW_BITS_MIN];
    if (tws_buffer_length(form) == 0
        && tws_served_out_pack(client, framed->opcode, framed->payload, form,
                               &err)
               != TWS_OK) {
        (void)tws_raise(server->state, &err);
        return -1;
    }
    if (tws_buffer_length(form) < tws_buffer_length(&framed->bytes)
        || framed->compress == TWS_COMPRESS_ALWAYS) {
        *compressed = form;
    }
    return 0;
}

/* A client that has hooks of its own, or extensions, is sent to by way of
 * them. */
static bool
has_own_way(const ConnectionObject *conn)
{
    return conn->send_hooks != NULL || conn->frames != NULL
           || (conn->sock != NULL
               && ((WebsocketObject *)conn->sock)->send_hooks != NULL);
}

/* In whichever form. The status is as of tws_client_send(). */
static enum tws_status
send_form(ServerObject *server, struct tws_client *client,
          const struct framed *framed, const struct tws_buffer *compressed,
          struct tws_error *err)
{
    enum tws_status status = TWS_AGAIN;
    size_t payload = framed->payload.length;
    PyObject *receipt = server->tells_sent ? Py_NewRef(framed->message) : NULL;
    if (compressed != NULL) {
        status = tws_client_send_shared(client, span_of(compressed), payload,
                                        receipt, err);
    }
    if (status == TWS_AGAIN) {
        status =
            tws_client_send_packed(client, span_of(&framed->bytes),
                                   TWS_STANDS_ALONE, 1, payload, receipt, err);
    }
    if (status != TWS_OK) {
        Py_XDECREF(receipt);
    }
    return status;
}

/* 1: queued; 0: skipped or closed; -1 with an exception. */
static int
send_to(ServerObject *server, ConnectionObject *conn, struct framed *framed,
        bool close_slow)
{
    struct tws_error err;
    const struct tws_buffer *compressed = NULL;
    if (framed->opcode == TWS_OPCODE_CLOSE) {
        /* Not mere bytes: nothing may follow them (RFC 6455 5.5.1). */
        CloseMessageObject *close = (CloseMessageObject *)framed->message;
        struct tws_span reason = {.data = framed->payload.data + 2,
                                  .length = framed->payload.length - 2};
        return tws_client_close(conn->client, close->code, reason,
                                TWS_ENDED_BY_US, &err)
               == TWS_OK;
    }
    if (atomic_load_explicit(&conn->client->congested, memory_order_relaxed)
        || atomic_load_explicit(&conn->client->crowded,
                                memory_order_relaxed)) {
        if (close_slow
            && tws_client_close(conn->client, TWS_CLOSE_POLICY,
                                TWS_SPAN("reads too slowly"),
                                TWS_ENDED_BY_LIMIT, &err)
                   == TWS_OK) {
            tws_server_count_slow(conn->client->server);
        }
        return 0;
    }
    enum tws_status status;
    if (has_own_way(conn)) {
        PyObject *message = tws_connection_outgoing(conn, framed->message);
        int result = message == NULL ? -1
                                     : tws_served_queue_message(
                                         conn, message,
                                         (enum tws_compress)framed->compress);
        Py_XDECREF(message);
        if (result == 0) {
            return 1;
        }
        if (PyErr_ExceptionMatches(server->state->SocketClosed)
            || PyErr_ExceptionMatches(PyExc_BlockingIOError)) {
            PyErr_Clear();
            return 0;
        }
        if (PyErr_ExceptionMatches(PyExc_Exception)) {
            /* One client's hook does not keep it from the others. */
            tws_server_handler_failed(server, (PyObject *)conn);
            return 0;
        }
        return -1;
    }
    if (find_compressed(server, conn->client, framed, &compressed) < 0) {
        return -1;
    }
    status = send_form(server, conn->client, framed, compressed, &err);
    if (status == TWS_NOMEM) {
        (void)tws_raise(server->state, &err);
        return -1;
    }
    return status == TWS_OK ? 1 : 0;
}

/* `exclude`: one Connection, or an iterable of them, as a set. */
static PyObject *
exclusion(ServerObject *server, PyObject *exclude)
{
    if (exclude == Py_None) {
        return PySet_New(NULL);
    }
    if (!PyObject_TypeCheck(exclude, server->state->connection_type)) {
        return PySet_New(exclude);
    }
    PyObject *set = PySet_New(NULL);
    if (set != NULL && PySet_Add(set, exclude) < 0) {
        Py_CLEAR(set);
    }
    return set;
}

/* `to`: None, one Connection, or an iterable of them, as a tuple. One is not
 * iterated, as that would wait for its messages. */
static PyObject *
selection(ServerObject *server, PyObject *to)
{
    if (to != Py_None) {
        return PyObject_TypeCheck(to, server->state->connection_type)
                   ? PyTuple_Pack(1, to)
                   : PySequence_Tuple(to);
    }
    PyObject *list = tws_server_clients(server);
    PyObject *tuple = list == NULL ? NULL : PySequence_Tuple(list);
    Py_XDECREF(list);
    return tuple;
}

static Py_ssize_t
send_to_all(ServerObject *server, PyObject *targets, PyObject *excluded,
            struct framed *framed, bool close_slow)
{
    Py_ssize_t queued = 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(targets); i++) {
        PyObject *target = PyTuple_GET_ITEM(targets, i);
        if (!PyObject_TypeCheck(target, server->state->connection_type)
            || ((ConnectionObject *)target)->server != (PyObject *)server) {
            PyErr_Format(PyExc_TypeError,
                         "broadcast to %R, expected clients of this server",
                         target);
            return -1;
        }
        ConnectionObject *conn = (ConnectionObject *)target;
        int skip = PySet_Contains(excluded, target);
        if (skip < 0) {
            return -1;
        }
        if (skip > 0 || conn->client == NULL) {
            continue;
        }
        int result = send_to(server, conn, framed, close_slow);
        if (result < 0) {
            return -1;
        }
        queued += result;
    }
    return queued;
}

const char tws_server_broadcast_doc[] =
    "broadcast($self, /, message, to=None, exclude=None, slow='skip', *,\n"
    "          compress=None)\n"
    "--\n"
    "\n"
    "Send one message to many clients, framed once for all. Never waits, but\n"
    "for the methods of hooks and extensions, which are called for each "
    "client.\n"
    "\n"
    "message: a Message, str or bytes-like, as for Connection.send(). to: a\n"
    "client of this server, or an iterable of them; None: all open ones.\n"
    "exclude: a client, or an iterable of them, to leave out. slow: what "
    "happens to a\n"
    "client whose send queue is above the high-water mark (max_queue): "
    "'skip'\n"
    "it or 'close' it with 1008. compress: as for Connection.send(); it is "
    "done\n"
    "once for all clients whose windows have the same size.\n"
    "\n"
    "Returns for how many clients the message was queued. Any thread may "
    "call.";

PyObject *
tws_server_broadcast(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"message", "to",       "exclude",
                            "slow",    "compress", NULL};
    ServerObject *server = (ServerObject *)self;
    PyObject *given;
    PyObject *to = Py_None;
    PyObject *exclude = Py_None;
    PyObject *wanted = NULL;
    const char *slow = "skip";
    enum tws_compress compress;
    PyObject *result = NULL;
    PyObject *targets = NULL;
    PyObject *excluded = NULL;
    struct framed framed = {.message = NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOs$O:broadcast", names,
                                     &given, &to, &exclude, &slow, &wanted)
        || tws_server_check_process(server) < 0
        || tws_connection_compress(wanted, &compress) < 0) {
        return NULL;
    }
    bool close_slow = strcmp(slow, "close") == 0;
    if (!close_slow && strcmp(slow, "skip") != 0) {
        PyErr_Format(PyExc_ValueError,
                     "slow is '%s', expected 'skip' or 'close'", slow);
        return NULL;
    }
    PyObject *message = tws_as_message(server->state, given);
    if (message == NULL) {
        return NULL;
    }
    framed.compress = (uint8_t)compress;
    if (frame_once(server, message, &framed) < 0) {
        goto done;
    }
    excluded = exclusion(server, exclude);
    if (excluded == NULL) {
        goto done;
    }
    targets = selection(server, to);
    if (targets == NULL) {
        goto done;
    }
    Py_ssize_t queued =
        send_to_all(server, targets, excluded, &framed, close_slow);
    if (queued >= 0) {
        result = PyLong_FromSsize_t(queued);
    }
done:
    Py_DECREF(message);
    Py_XDECREF(targets);
    Py_XDECREF(excluded);
    release_framed(&framed);
    return result;
}
