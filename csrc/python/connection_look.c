/* The keeper's looks: who reads, reading ahead of the program, and what is
 * left to do where a connection has ended meanwhile. */
#include "python/connection_ahead.h"

#include "python/websocket_parts.h"

enum {
    EVENTS_A_LOOK = 64,  /* others are to have their turn, too */
    DRAIN_MAX = 1 << 20, /* bytes, as when the program lingers */
};

static inline struct tws_ahead *
ahead_of(ConnectionObject *conn)
{
    return conn->blocking->ahead;
}

static uint64_t
earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Reading ---------------------------------------------------------------- */

enum outcome {
    GO_ON,     /* there may be more at once */
    ALL_READ,  /* to be waited for */
    STOPPED,   /* until the program has taken something */
    TAKEN,     /* the program reads */
    CONN_OVER, /* the stream may be open still */
};

/* Hooks on frames are the program's, and run in its threads. A program that
 * waits by itself must find what has come in the socket. Of a message in
 * chunks no more than one is to be in memory. */
static bool
may_read_ahead(ConnectionObject *conn)
{
    const WebsocketObject *ws = websocket_of(conn);
    return ahead_of(conn)->max_messages > 0 && ws->recv_hooks == NULL
           && ws->timeout != 0 && !conn->blocking->assembler.chunked
           && (tws_blocking_reads_pieces(conn)
               || (ws->chain != NULL && ws->kept == NULL));
}

/* What was raised, here, is the program's to catch, in its place. */
static enum outcome
put_failure(ConnectionObject *conn, struct tws_ahead_event *event)
{
    event->failed = true;
    event->in.object = PyErr_GetRaisedException();
    tws_ahead_put(conn, event);
    return tws_blocking_is_over(conn) ? CONN_OVER : STOPPED;
}

/* With the right to read. */
static enum outcome
read_one(ConnectionObject *conn)
{
    static const struct tws_deadline now = {.immediate = true};
    struct tws_ahead_event *event = PyMem_Calloc(1, sizeof(*event));
    if (event == NULL) {
        return STOPPED;
    }
    int result = tws_blocking_read_event(conn, &now, &event->in);
    if (result == 1 && event->in.type != TWS_EVENT_CLOSE) {
        tws_ahead_put(conn, event);
        return GO_ON;
    }
    if (result == 2) {
        result = tws_blocking_lose(conn, 0, TWS_SPAN(""));
    }
    else if (result < 0 && !tws_blocking_is_over(conn)
             && PyErr_ExceptionMatches(PyExc_BlockingIOError)) {
        PyErr_Clear();
        PyMem_Free(event);
        return ALL_READ;
    }
    else if (result < 0) {
        tws_blocking_judge_failure(conn);
    }
    if (result < 0) {
        return put_failure(conn, event);
    }
    PyMem_Free(event);
    return CONN_OVER;
}

/* Takes the right to read; false where the program has it, or is about to. */
static bool
begin(ConnectionObject *conn)
{
    struct tws_ahead *ahead = ahead_of(conn);
    if (PyThread_acquire_lock(ahead->busy, NOWAIT_LOCK) != 1) {
        return false;
    }
    ahead->reads = tws_websocket_begin_read(websocket_of(conn)) == 0;
    if (!ahead->reads) {
        PyErr_Clear();
        PyThread_release_lock(ahead->busy);
    }
    return ahead->reads;
}

static void
end(ConnectionObject *conn)
{
    struct tws_ahead *ahead = ahead_of(conn);
    ahead->reads = false;
    tws_websocket_end_read(websocket_of(conn));
    PyThread_release_lock(ahead->busy);
}

static enum outcome
read_ahead(ConnectionObject *conn)
{
    enum outcome outcome = GO_ON;
    if (!begin(conn)) {
        return TAKEN;
    }
    for (int i = 0; outcome == GO_ON && i < EVENTS_A_LOOK; i++) {
        outcome = tws_ahead_is_full(conn) ? STOPPED : read_one(conn);
    }
    if (outcome == ALL_READ && tws_pending(&websocket_of(conn)->transport)) {
        outcome = GO_ON; /* the descriptor does not tell of it */
    }
    end(conn);
    return outcome;
}

/* Lingering -------------------------------------------------------------- */

/* Throws away what has come; false at the end of the stream, or enough. */
static bool
drain(ConnectionObject *conn)
{
    static const struct tws_deadline now = {.immediate = true};
    struct tws_ahead *ahead = ahead_of(conn);
    WebsocketObject *ws = websocket_of(conn);
    int more = 1;
    if (!begin(conn)) {
        return true; /* the program lingers itself */
    }
    while (more > 0 && ahead->drained < DRAIN_MAX) {
        size_t got;
        tws_buffer_release(&ws->in);
        more = tws_websocket_fill(ws, NULL, 0, &now, &got);
        ahead->drained += more > 0 ? got : 0;
    }
    bool goes_on = more < 0 && PyErr_ExceptionMatches(PyExc_BlockingIOError);
    PyErr_Clear();
    end(conn);
    return goes_on;
}

/* As tws_blocking_linger_and_close(), without waiting. */
static uint64_t
linger(ConnectionObject *conn, uint64_t now)
{
    struct tws_ahead *ahead = ahead_of(conn);
    WebsocketObject *ws = websocket_of(conn);
    if (ahead->linger_until == 0) {
        tws_blocking_end_writing(conn);
        ahead->linger_until = tws_blocking_close_deadline(conn).at;
    }
    if (drain(conn) && now < ahead->linger_until
        && tws_keeper_watch(&ahead->kept, ws->transport.fd, TWS_READABLE)) {
        return ahead->linger_until;
    }
    if (tws_blocking_close_stream(conn) < 0) {
        PyErr_WriteUnraisable((PyObject *)conn);
    }
    return UINT64_MAX;
}

/* Looks ------------------------------------------------------------------ */

/* The keeper looks no more until one of the program's calls ends, or takes
 * something. False where that has just happened. */
static bool
want_call(ConnectionObject *conn, bool stopped)
{
    struct tws_ahead *ahead = ahead_of(conn);
    atomic_store(&ahead->call_wanted, true);
    bool still = stopped
                     ? tws_ahead_is_full(conn)
                     : atomic_load(&websocket_of(conn)->reading)
                           && atomic_load(&ahead->calls) == ahead->calls_seen;
    if (!still) {
        atomic_store(&ahead->call_wanted, false);
    }
    return still;
}

/* The program has received since the last look, or does so now. */
static uint64_t
leave_to_program(ConnectionObject *conn, uint64_t now, bool waits)
{
    uint64_t next = tws_ahead_keep_alive(conn, now, true);
    (void)tws_keeper_watch(&ahead_of(conn)->kept, -1, 0);
    return waits && want_call(conn, false)
               ? next
               : earlier(next, now + TWS_AHEAD_TICK);
}

static uint64_t
take_over(ConnectionObject *conn, uint64_t now)
{
    struct tws_ahead *ahead = ahead_of(conn);
    WebsocketObject *ws = websocket_of(conn);
    unsigned events = 0;
    enum outcome outcome = STOPPED;
    bool may = may_read_ahead(conn);
    if (may) {
        outcome = read_ahead(conn);
    }
    if (outcome == CONN_OVER) {
        return now;
    }
    uint64_t next = tws_ahead_keep_alive(conn, now, outcome != STOPPED);
    if (outcome == ALL_READ || outcome == GO_ON) {
        events = TWS_READABLE;
        next = outcome == GO_ON ? now : next;
    }
    else if (!may && ahead->max_messages > 0) {
        next = earlier(next, now + 4 * TWS_AHEAD_TICK); /* it may be again */
    }
    else if (outcome == TAKEN || (may && !want_call(conn, true))) {
        next = earlier(next, now + TWS_AHEAD_TICK);
    }
    if (atomic_load(&ws->unsent) && tws_websocket_write_on(ws)) {
        events |= TWS_WRITABLE;
    }
    if (!tws_keeper_watch(&ahead->kept, ws->transport.fd, events)) {
        next = earlier(next, now + TWS_AHEAD_TICK);
    }
    return next;
}

static uint64_t
look(ConnectionObject *conn)
{
    struct tws_ahead *ahead = ahead_of(conn);
    uint64_t now = tws_clock_now();
    unsigned calls = atomic_load(&ahead->calls);
    bool called = calls != ahead->calls_seen;
    ahead->calls_seen = calls;
    if (called || atomic_load(&websocket_of(conn)->reading)) {
        return leave_to_program(conn, now, !called);
    }
    if (tws_blocking_is_over(conn)) {
        return linger(conn, now);
    }
    return take_over(conn, now);
}

uint64_t
tws_ahead_look(PyObject *owner)
{
    ConnectionObject *conn = (ConnectionObject *)owner;
    struct tws_ahead *ahead = ahead_of(conn);
    WebsocketObject *ws = websocket_of(conn);
    if (ahead == NULL || ws == NULL) {
        return UINT64_MAX; /* being deleted */
    }
    if (tws_websocket_enter(ws) < 0) {
        PyErr_Clear();
        tws_keeper_remove(&ahead->kept); /* closed, if used still */
        return UINT64_MAX;
    }
    ahead->looks = true;
    uint64_t next = look(conn);
    ahead->looks = false;
    tws_websocket_leave(ws);
    return next;
}
