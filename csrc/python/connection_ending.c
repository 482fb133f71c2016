/* How a Connection over a websocket of its own ends, and what is known of
 * why. */
#include "python/connection_parts.h"

#include "python/connection_ahead.h"
#include "python/errors.h"
#include "python/message_type.h"
#include "loop/timers.h"

#include <limits.h>

enum {
    DRAIN_MAX = 1 << 20, /* bytes thrown away after the closing handshake */
};

static const char websocket_closed[] = "the websocket was closed";
static const char end_of_stream[] =
    "peer ended the connection without a Close frame";
static const char end_amid_frame[] =
    "peer ended the connection in the middle of a frame";
static const char end_for_answer[] =
    "peer ended the connection without an answer to our Close frame";

bool
tws_blocking_is_over(ConnectionObject *conn)
{
    pthread_mutex_lock(&conn->blocking->lock);
    bool over = conn->blocking->over;
    pthread_mutex_unlock(&conn->blocking->lock);
    return over;
}

/* With the lock held. */
static uint64_t
ping_age(const struct tws_blocking *blocking)
{
    uint64_t at = blocking->ping_at;
    if (blocking->ahead != NULL && blocking->ahead->ping_sent_at != 0) {
        at = at == 0 || blocking->ahead->ping_sent_at < at
                 ? blocking->ahead->ping_sent_at
                 : at;
    }
    return at == 0 ? UINT64_MAX : tws_clock_now() - at;
}

void
tws_blocking_read_ending(ConnectionObject *conn, struct tws_ending *ending)
{
    struct tws_blocking *blocking = conn->blocking;
    pthread_mutex_lock(&blocking->lock);
    *ending = blocking->ending;
    if (!blocking->over) {
        ending->ping_age = ping_age(blocking);
    }
    pthread_mutex_unlock(&blocking->lock);
}

void
tws_blocking_set_over(ConnectionObject *conn, enum tws_ended_by by,
                      uint16_t code, struct tws_span reason, int sys_errno)
{
    struct tws_blocking *blocking = conn->blocking;
    struct tws_ending *ending = &blocking->ending;
    pthread_mutex_lock(&blocking->lock);
    bool first = !blocking->over;
    if (first) {
        ending->by = (uint8_t)by;
        tws_ending_set_reason(ending, code, reason);
        ending->sys_errno = sys_errno;
        ending->ping_age = ping_age(blocking);
        blocking->over = true;
    }
    pthread_mutex_unlock(&blocking->lock);
    if (first) {
        PyThread_release_lock(blocking->done);
    }
}

/* Closing the stream ----------------------------------------------------- */

/* What waits to be written; the rest of a frame that another thread is
 * writing at this moment is not known. */
static uint64_t
count_unsent(WebsocketObject *ws)
{
    uint64_t count = 0;
    if (PyThread_acquire_lock(ws->write_lock, NOWAIT_LOCK) == 1) {
        count = tws_buffer_length(&ws->out);
        PyThread_release_lock(ws->write_lock);
    }
    pthread_mutex_lock(&ws->guard);
    count += tws_buffer_length(&ws->control);
    pthread_mutex_unlock(&ws->guard);
    return count;
}

/* 0; -1 with an exception that is no Exception. */
static int
tell_log(ConnectionObject *conn)
{
    struct tws_ending ending;
    PyObject *result = NULL;
    tws_blocking_read_ending(conn, &ending);
    PyObject *message = tws_close_message_of_ending(conn->state, &ending);
    if (message != NULL) {
        result = PyObject_CallFunctionObjArgs(conn->state->log_ended,
                                              (PyObject *)conn, message, NULL);
        Py_DECREF(message);
    }
    if (result == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            return -1;
        }
        PyErr_WriteUnraisable((PyObject *)conn);
    }
    Py_XDECREF(result);
    return 0;
}

int
tws_blocking_close_stream(ConnectionObject *conn)
{
    struct tws_blocking *blocking = conn->blocking;
    WebsocketObject *ws = websocket_of(conn);
    PyObject *pending = PyErr_GetRaisedException();
    bool open = ws->phase != TWS_PHASE_CLOSED;
    uint64_t unsent = open ? count_unsent(ws) : 0;
    pthread_mutex_lock(&blocking->lock);
    bool first = blocking->over && !blocking->told;
    if (first) {
        blocking->told = true;
        blocking->ending.unsent = unsent;
    }
    pthread_mutex_unlock(&blocking->lock);
    tws_websocket_close(ws);
    if (first && tell_log(conn) < 0) {
        Py_XDECREF(pending);
        return -1;
    }
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
    return 0;
}

void
tws_blocking_end_writing(ConnectionObject *conn)
{
    WebsocketObject *ws = websocket_of(conn);
    pthread_mutex_lock(&conn->blocking->lock);
    bool finished = tws_session_finished(&conn->blocking->session);
    pthread_mutex_unlock(&conn->blocking->lock);
    if (ws->role == TWS_SERVER || !finished) {
        tws_websocket_end_writing(ws);
    }
}

int
tws_blocking_linger_and_close(ConnectionObject *conn,
                              const struct tws_deadline *deadline)
{
    WebsocketObject *ws = websocket_of(conn);
    PyObject *pending = PyErr_GetRaisedException();
    size_t drained = 0;
    if (tws_websocket_begin_read(ws) == 0) {
        tws_blocking_end_writing(conn);
        int more = 1;
        while (more > 0 && drained < DRAIN_MAX) {
            size_t got;
            tws_buffer_release(&ws->in);
            more = tws_websocket_fill(ws, NULL, 0, deadline, &got);
            drained += more > 0 ? got : 0;
        }
        if (more < 0 && PyErr_ExceptionMatches(PyExc_OSError)) {
            PyErr_Clear(); /* its time is over, or it was reset */
        }
        tws_websocket_end_read(ws);
    }
    else {
        PyErr_Clear(); /* the thread that reads meets the end itself */
    }
    if (tws_blocking_close_stream(conn) < 0 || PyErr_Occurred() != NULL) {
        Py_XDECREF(pending);
        return -1;
    }
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
    return 0;
}

int
tws_blocking_lose(ConnectionObject *conn, int sys_errno,
                  struct tws_span reason)
{
    const WebsocketObject *ws = websocket_of(conn);
    struct tws_ending known;
    enum tws_ended_by by = TWS_ENDED_BY_NETWORK;
    tws_blocking_read_ending(conn, &known);
    if (reason.length == 0) {
        reason = known.sent_code != 0 ? TWS_SPAN(end_for_answer)
                 : ws->reader.in_payload || ws->reader.partial_length > 0
                     ? TWS_SPAN(end_amid_frame)
                     : TWS_SPAN(end_of_stream);
    }
    if (ws->phase == TWS_PHASE_CLOSED) {
        by = TWS_ENDED_BY_US;
        sys_errno = 0;
        reason = TWS_SPAN(websocket_closed);
    }
    else if (known.sys_errno != 0) {
        /* Writing had failed before, with an error that is told once. */
        sys_errno = known.sys_errno;
        reason = (struct tws_span){.data = known.reason,
                                   .length = known.reason_length};
    }
    else if (known.sent_code != 0) {
        by = TWS_ENDED_BY_US;
    }
    tws_blocking_set_over(conn, by, TWS_CLOSE_ABNORMAL, reason, sys_errno);
    return tws_blocking_close_stream(conn);
}

/* A stream that failed --------------------------------------------------- */

/* What an exception says of it. */
struct failure {
    PyObject *error; /* strong; the exception */
    PyObject *cause; /* strong; the OSError behind it or itself, or NULL */
    PyObject *text;  /* strong, or NULL */
    struct tws_span reason; /* borrowed from `text`; may be empty */
    int sys_errno;
};

static PyObject *
text_of_cause(PyObject *cause)
{
    PyObject *text = PyObject_GetAttrString(cause, "strerror");
    if (text != NULL && !PyUnicode_Check(text)) {
        Py_SETREF(text, PyObject_Str(cause));
    }
    return text;
}

/* Takes the pending exception, an OSError. SocketClosed of the websocket has
 * the OSError as its cause, or says itself what is known, if anything. */
static void
take_failure(ConnectionObject *conn, struct failure *failure)
{
    PyObject *number = NULL;
    long value = 0;
    Py_ssize_t length = 0;
    const char *data = NULL;
    PyObject *error = PyErr_GetRaisedException();
    bool closed =
        PyErr_GivenExceptionMatches(error, conn->state->SocketClosed);
    PyObject *cause = closed ? PyException_GetCause(error) : Py_NewRef(error);
    PyObject *text = cause == NULL ? PyObject_GetAttrString(error, "detail")
                                   : text_of_cause(cause);
    if (cause != NULL) {
        number = PyObject_GetAttrString(cause, "errno");
    }
    if (number != NULL && PyLong_Check(number)) {
        value = PyLong_AsLong(number);
    }
    if (text != NULL && PyUnicode_Check(text)) {
        data = PyUnicode_AsUTF8AndSize(text, &length);
    }
    PyErr_Clear(); /* a subclass with odd attributes: the rest will do */
    Py_XDECREF(number);
    *failure = (struct failure){
        .error = error,
        .cause = cause,
        .text = text,
        .reason = {.data = data, .length = (size_t)length},
        .sys_errno = value > 0 && value <= INT_MAX ? (int)value : 0,
    };
}

static void
drop_failure(struct failure *failure)
{
    Py_XDECREF(failure->error);
    Py_XDECREF(failure->cause);
    Py_XDECREF(failure->text);
}

/* The pending exception comes from `cause`, which may be NULL. */
static void
add_cause(PyObject *cause)
{
    if (cause != NULL) {
        PyObject *error = PyErr_GetRaisedException();
        PyException_SetCause(error, Py_NewRef(cause)); /* steals */
        PyErr_SetRaisedException(error);
    }
}

bool
tws_blocking_judge_closed(ConnectionObject *conn)
{
    struct tws_state *state = conn->state;
    if (websocket_of(conn)->phase != TWS_PHASE_CLOSED
        || !PyErr_ExceptionMatches(PyExc_OSError)
        || (PyErr_ExceptionMatches(state->WebSocketError)
            && !PyErr_ExceptionMatches(state->SocketClosed))) {
        return false;
    }
    PyErr_Clear();
    tws_blocking_set_over(conn, TWS_ENDED_BY_US, TWS_CLOSE_ABNORMAL,
                          TWS_SPAN(websocket_closed), 0);
    if (tws_blocking_close_stream(conn) == 0) {
        (void)tws_connection_raise_closed(conn);
    }
    return true;
}

void
tws_blocking_judge_reading(ConnectionObject *conn)
{
    struct failure failure;
    bool closed = PyErr_ExceptionMatches(conn->state->SocketClosed);
    take_failure(conn, &failure);
    if (failure.cause == NULL) {
        failure.reason.length = 0; /* the stream has ended, with no error */
    }
    else if (failure.reason.length == 0) {
        failure.reason = TWS_SPAN("reading failed");
    }
    if (tws_blocking_lose(conn, failure.sys_errno, failure.reason) < 0) {
        goto done;
    }
    if (closed) {
        (void)tws_connection_raise_closed(conn);
        add_cause(failure.cause);
    }
    else {
        PyErr_SetRaisedException(Py_NewRef(failure.error));
    }
done:
    drop_failure(&failure);
}

/* With the lock held, before the end: what is known of it, with what a send()
 * has met. */
static void
add_failure(struct tws_blocking *blocking, const struct failure *failure,
            struct tws_ending *ending)
{
    if (blocking->ending.sys_errno == 0 && failure->sys_errno != 0) {
        /* For the end, which recv() meets behind what came before. */
        blocking->ending.sys_errno = failure->sys_errno;
        tws_ending_set_reason(&blocking->ending, TWS_CLOSE_ABNORMAL,
                              failure->reason);
    }
    *ending = blocking->ending;
    ending->ping_age = ping_age(blocking);
    ending->by = TWS_ENDED_BY_NETWORK;
    if (ending->sys_errno == 0 && failure->reason.length > 0) {
        /* Nothing may follow our Close frame. */
        ending->by = TWS_ENDED_BY_US;
        tws_ending_set_reason(ending, TWS_CLOSE_ABNORMAL, failure->reason);
    }
    else if (ending->sys_errno == 0) {
        tws_ending_set_reason(ending, TWS_CLOSE_ABNORMAL,
                              TWS_SPAN("the peer is gone"));
    }
}

void
tws_blocking_judge_writing(ConnectionObject *conn)
{
    struct tws_blocking *blocking = conn->blocking;
    struct failure failure;
    struct tws_ending ending;
    if (tws_blocking_judge_closed(conn)
        || !PyErr_ExceptionMatches(conn->state->SocketClosed)) {
        return;
    }
    take_failure(conn, &failure);
    pthread_mutex_lock(&blocking->lock);
    if (blocking->over) {
        ending = blocking->ending;
    }
    else {
        add_failure(blocking, &failure, &ending);
    }
    pthread_mutex_unlock(&blocking->lock);
    (void)tws_raise_closed_ending(conn->state, &ending);
    add_cause(failure.cause);
    drop_failure(&failure);
}
