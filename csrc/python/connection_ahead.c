/* What was read ahead: its queue, and who takes from it. */
#include "python/connection_ahead.h"

#include "python/connection_methods.h"
#include "python/options.h"
#include "python/websocket_parts.h"

#include <stddef.h>

enum {
    MAX_QUEUE = 16,            /* messages, by default */
    OTHERS_MAX = 256,          /* pings and pongs kept for their handlers */
    SIZE_WHERE_NONE = 1 << 20, /* of a message, to bound the bytes */
};

#define SECOND ((uint64_t)1000 * 1000 * 1000)

static inline struct tws_ahead *
ahead_of(ConnectionObject *conn)
{
    return conn->blocking->ahead;
}

/* Options ---------------------------------------------------------------- */

static int
read_options(PyObject *args, struct tws_ahead *options)
{
    static const struct tws_size_range messages = {
        .least = 1, .most = PY_SSIZE_T_MAX, .none = "no reading ahead"};
    PyObject *interval;
    PyObject *timeout;
    PyObject *queue;
    options->ping_interval = 20 * SECOND;
    options->ping_timeout = 20 * SECOND;
    options->max_messages = MAX_QUEUE;
    if (!PyArg_ParseTuple(args, "OOO", &interval, &timeout, &queue)
        || tws_option_seconds(interval, "ping_interval", false,
                              &options->ping_interval)
               < 0
        || tws_option_seconds(timeout, "ping_timeout", false,
                              &options->ping_timeout)
               < 0
        || tws_option_size(queue, "max_queue", &messages,
                           &options->max_messages)
               < 0) {
        return -1;
    }
    if (options->max_messages == SIZE_MAX) {
        options->max_messages = 0;
    }
    return 0;
}

PyObject *
tws_ahead_check(PyObject *Py_UNUSED(module), PyObject *args)
{
    struct tws_ahead options;
    return read_options(args, &options) < 0 ? NULL : Py_NewRef(Py_None);
}

/* Life ------------------------------------------------------------------- */

static struct tws_ahead *
ahead_new(ConnectionObject *conn, PyObject *args)
{
    const uint8_t *key;
    WebsocketObject *ws = websocket_of(conn);
    struct tws_ahead *ahead = PyMem_Calloc(1, sizeof(*ahead));
    if (ahead == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    ahead->busy = PyThread_allocate_lock();
    if (ahead->busy == NULL) {
        PyMem_Free(ahead);
        PyErr_NoMemory();
        return NULL;
    }
    if (tws_kept_init(&ahead->kept, conn->state, (PyObject *)conn) < 0
        || read_options(args, ahead) < 0
        || tws_websocket_draw_key(ws, ahead->tag, &key) < 0) {
        tws_kept_release(&ahead->kept);
        return NULL;
    }
    ahead->heard_at = tws_clock_now();
    ahead->pinged_at = ahead->heard_at;
    return ahead;
}

void
tws_ahead_free(struct tws_kept *kept)
{
    struct tws_ahead *ahead = (struct tws_ahead *)kept;
    PyThread_free_lock(ahead->busy);
    PyMem_Free(ahead);
}

static void
set_ahead(ConnectionObject *conn, struct tws_ahead *ahead)
{
    WebsocketObject *ws = websocket_of(conn);
    pthread_mutex_lock(&ws->guard);
    ws->ahead = ahead;
    pthread_mutex_unlock(&ws->guard);
    atomic_store(&ws->read_ahead, ahead != NULL && ahead->max_messages > 0);
}

const char tws_ahead_keep_doc[] =
    PyDoc_STR("_keep($self, ping_interval, ping_timeout, max_queue, /)\n--\n\n"
              "Keep the connection alive: twspy.connect(), which see.");

PyObject *
tws_ahead_keep(PyObject *self, PyObject *args)
{
    ConnectionObject *conn = (ConnectionObject *)self;
    PyObject *module = PyType_GetModuleByDef(Py_TYPE(self), &tws_module_def);
    if (module == NULL || !tws_connection_ready(conn)) {
        return NULL;
    }
    if (conn->blocking == NULL || conn->blocking->ahead != NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        conn->blocking == NULL
                            ? "the server keeps this connection"
                            : "the connection is kept already");
        return NULL;
    }
    struct tws_ahead *ahead = ahead_new(conn, args);
    if (ahead == NULL) {
        return NULL;
    }
    if (ahead->max_messages == 0 && ahead->ping_interval == UINT64_MAX) {
        tws_kept_release(&ahead->kept);
        return Py_NewRef(Py_None);
    }
    conn->blocking->ahead = ahead;
    set_ahead(conn, ahead);
    uint64_t first = ahead->ping_interval < TWS_AHEAD_TICK
                         ? ahead->ping_interval
                         : TWS_AHEAD_TICK;
    int result = tws_keeper_add(&ahead->kept, module, tws_clock_now() + first);
    if (result <= 0) {
        tws_ahead_end(conn);
    }
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

static void
free_events(struct tws_ahead_event *event)
{
    while (event != NULL) {
        struct tws_ahead_event *next = event->next;
        Py_XDECREF(event->in.object);
        PyMem_Free(event);
        event = next;
    }
}

void
tws_ahead_discard(ConnectionObject *conn)
{
    struct tws_ahead *ahead = ahead_of(conn);
    if (ahead == NULL) {
        return;
    }
    PyObject *pending = PyErr_GetRaisedException();
    pthread_mutex_lock(&conn->blocking->lock);
    struct tws_ahead_event *first = ahead->first;
    ahead->first = ahead->last = NULL;
    ahead->messages = ahead->others = ahead->bytes = 0;
    atomic_store(&ahead->any, false);
    pthread_mutex_unlock(&conn->blocking->lock);
    free_events(first);
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

void
tws_ahead_end(ConnectionObject *conn)
{
    if (conn->blocking == NULL || ahead_of(conn) == NULL) {
        return;
    }
    struct tws_ahead *ahead = ahead_of(conn);
    if (conn->sock != NULL) {
        set_ahead(conn, NULL);
    }
    tws_keeper_remove(&ahead->kept);
    tws_ahead_discard(conn);
    conn->blocking->ahead = NULL;
    tws_kept_release(&ahead->kept);
}

/* Whatever the parent's keeper was at: what it held is given back here. */
void
tws_ahead_forget(struct tws_kept *kept)
{
    PyObject *owner = NULL;
    struct tws_ahead *ahead = (struct tws_ahead *)kept;
    (void)PyThread_acquire_lock(ahead->busy, NOWAIT_LOCK);
    if (ahead->looks && PyWeakref_GetRef(kept->owner, &owner) > 0) {
        WebsocketObject *ws = websocket_of((ConnectionObject *)owner);
        if (ahead->reads) {
            tws_websocket_end_read(ws);
        }
        tws_websocket_leave(ws);
        Py_DECREF(owner);
    }
    ahead->looks = ahead->reads = false;
    PyThread_release_lock(ahead->busy);
}

int
tws_ahead_traverse(ConnectionObject *conn, visitproc visit, void *arg)
{
    if (conn->blocking != NULL && ahead_of(conn) != NULL) {
        const struct tws_ahead_event *event = ahead_of(conn)->first;
        for (; event != NULL; event = event->next) {
            Py_VISIT(event->in.object);
        }
    }
    return 0;
}

void
tws_ahead_release_descriptor(WebsocketObject *ws)
{
    pthread_mutex_lock(&ws->guard);
    struct tws_ahead *ahead = ws->ahead;
    if (ahead != NULL) {
        tws_kept_retain(&ahead->kept);
    }
    pthread_mutex_unlock(&ws->guard);
    if (ahead != NULL) {
        tws_keeper_remove(&ahead->kept);
        tws_kept_release(&ahead->kept);
    }
}

bool
tws_ahead_holds(const WebsocketObject *ws)
{
    return ws->ahead != NULL && atomic_load(&ws->ahead->any);
}

/* The queue -------------------------------------------------------------- */

bool
tws_ahead_any(ConnectionObject *conn)
{
    const struct tws_ahead *ahead = ahead_of(conn);
    return ahead != NULL && atomic_load(&ahead->any);
}

int
tws_ahead_take(ConnectionObject *conn, struct tws_incoming *in)
{
    struct tws_ahead *ahead = ahead_of(conn);
    if (!tws_ahead_any(conn)) {
        return 0;
    }
    pthread_mutex_lock(&conn->blocking->lock);
    struct tws_ahead_event *event = ahead->first;
    if (event != NULL) {
        ahead->first = event->next;
        if (ahead->first == NULL) {
            ahead->last = NULL;
            atomic_store(&ahead->any, false);
        }
        if (event->in.type <= TWS_EVENT_BINARY && !event->failed) {
            ahead->messages--;
            ahead->bytes -= event->in.length;
        }
        else {
            ahead->others--;
        }
    }
    pthread_mutex_unlock(&conn->blocking->lock);
    if (event == NULL) {
        return 0;
    }
    bool failed = event->failed;
    *in = event->in;
    PyMem_Free(event);
    if (failed) {
        PyErr_SetRaisedException(in->object);
        in->object = NULL;
        return -1;
    }
    return 1;
}

void
tws_ahead_put(ConnectionObject *conn, struct tws_ahead_event *event)
{
    struct tws_ahead *ahead = ahead_of(conn);
    bool message = !event->failed && event->in.type <= TWS_EVENT_BINARY;
    event->next = NULL;
    pthread_mutex_lock(&conn->blocking->lock);
    bool room = message || event->failed || ahead->others < OTHERS_MAX;
    if (room) {
        if (ahead->last != NULL) {
            ahead->last->next = event;
        }
        else {
            ahead->first = event;
        }
        ahead->last = event;
        ahead->messages += message;
        ahead->others += !message;
        ahead->bytes += message ? event->in.length : 0;
        atomic_store(&ahead->any, true);
    }
    pthread_mutex_unlock(&conn->blocking->lock);
    if (!room) {
        free_events(event);
    }
}

bool
tws_ahead_is_full(ConnectionObject *conn)
{
    const struct tws_ahead *ahead = ahead_of(conn);
    uint64_t size = websocket_of(conn)->options->message.size;
    if (size == UINT64_MAX) {
        size = SIZE_WHERE_NONE;
    }
    pthread_mutex_lock(&conn->blocking->lock);
    bool full = ahead->messages >= ahead->max_messages
                || (ahead->messages > 0 && size > 0
                    && ahead->bytes / size >= ahead->max_messages)
                || (ahead->last != NULL && ahead->last->failed);
    pthread_mutex_unlock(&conn->blocking->lock);
    return full;
}

/* The program ------------------------------------------------------------ */

void
tws_ahead_enter(ConnectionObject *conn)
{
    struct tws_ahead *ahead = ahead_of(conn);
    if (ahead != NULL) {
        /* Two threads at once may count as one: either way it has changed. */
        unsigned calls =
            atomic_load_explicit(&ahead->calls, memory_order_relaxed);
        atomic_store_explicit(&ahead->calls, calls + 1, memory_order_relaxed);
    }
}

void
tws_ahead_note_sent(ConnectionObject *conn)
{
    struct tws_ahead *ahead = ahead_of(conn);
    if (ahead != NULL && TWS_UNLIKELY(atomic_load(&websocket_of(conn)->unsent))
        && !atomic_load(&websocket_of(conn)->reading)) {
        tws_keeper_call(&ahead->kept, tws_clock_now());
    }
}

void
tws_ahead_leave(ConnectionObject *conn)
{
    struct tws_ahead *ahead = ahead_of(conn);
    if (ahead != NULL && TWS_UNLIKELY(atomic_load(&ahead->call_wanted))
        && atomic_exchange(&ahead->call_wanted, false)) {
        tws_keeper_call(&ahead->kept, tws_clock_now() + TWS_AHEAD_TICK);
    }
}

/* In what runs inside of this thread's own reading: to wait for that would be
 * for ourselves. */
static bool
is_own(WebsocketObject *ws)
{
    return atomic_load(&ws->reading)
           && atomic_load(&ws->reading_thread) == PyThread_get_thread_ident();
}

int
tws_ahead_begin_read(ConnectionObject *conn,
                     const struct tws_deadline *deadline, const char *what)
{
    struct tws_ahead *ahead = ahead_of(conn);
    WebsocketObject *ws = websocket_of(conn);
    int result = tws_websocket_begin_read(ws);
    if (TWS_LIKELY(result == 0) || ahead == NULL
        || !PyErr_ExceptionMatches(conn->state->ConcurrencyError)
        || is_own(ws)) {
        return result;
    }
    PyErr_Clear();
    if (tws_lock_wait(ahead->busy, deadline, what) < 0) {
        return -1;
    }
    result = 1;
    if (!tws_ahead_any(conn) && !tws_blocking_is_over(conn)) {
        result = tws_websocket_begin_read(ws);
    }
    PyThread_release_lock(ahead->busy);
    return result;
}

int
tws_ahead_settle(ConnectionObject *conn, const struct tws_deadline *deadline,
                 const char *what)
{
    struct tws_ahead *ahead = ahead_of(conn);
    if (ahead == NULL || is_own(websocket_of(conn))) {
        return 0;
    }
    if (tws_lock_wait(ahead->busy, deadline, what) < 0) {
        return -1;
    }
    PyThread_release_lock(ahead->busy);
    return 0;
}
