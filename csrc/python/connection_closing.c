/* The closing handshake on a Connection whose calling threads read its
 * websocket. */
#include "python/connection_parts.h"

/* Reads and discards until the peer's Close has come, or the end. 0, or -1
 * with an exception. */
static int
await_close(ConnectionObject *conn, const struct tws_deadline *deadline)
{
    struct tws_incoming in;
    while (!tws_blocking_is_over(conn)) {
        if (tws_blocking_take(conn, deadline, NULL, &in) < 0) {
            return -1;
        }
        if (in.type != TWS_EVENT_CLOSE) {
            Py_DECREF(in.object); /* arrived before our Close was sent */
        }
    }
    return 0;
}

/* Another thread is in recv(): it will meet the peer's Close. Or this one is,
 * further up: it goes on once the peer has said something. */
static int
await_reader(ConnectionObject *conn, const struct tws_deadline *deadline)
{
    PyErr_Clear();
    if (tws_blocking_is_reading(conn)) {
        unsigned ready;
        return tws_wait_for(websocket_of(conn)->transport.fd, TWS_WAIT_READ,
                            deadline, "close", &ready);
    }
    if (tws_lock_wait(conn->blocking->done, deadline, "close") < 0) {
        return -1;
    }
    PyThread_release_lock(conn->blocking->done);
    return 0;
}

/* The keeper may have met the end, and be lingering. */
static int
close_over(ConnectionObject *conn, const struct tws_deadline *deadline)
{
    if (tws_ahead_settle(conn, deadline, "close()") < 0) {
        if (!PyErr_ExceptionMatches(PyExc_TimeoutError)) {
            return -1;
        }
        PyErr_Clear();
    }
    tws_ahead_discard(conn);
    return conn->blocking->ahead != NULL
                   && websocket_of(conn)->phase != TWS_PHASE_CLOSED
               ? tws_blocking_linger_and_close(conn, deadline)
               : tws_blocking_close_stream(conn);
}

static int
do_close(ConnectionObject *conn, uint16_t code, struct tws_span reason,
         const struct tws_deadline *deadline)
{
    struct tws_state *state = conn->state;
    int result = 0;
    if (tws_blocking_is_over(conn)) {
        return close_over(conn, deadline);
    }
    if (tws_blocking_send_close(conn, code, reason) == 0) {
        tws_ahead_discard(conn);
        result = await_close(conn, deadline);
    }
    else {
        result = -1;
    }
    if (result < 0 && PyErr_ExceptionMatches(state->ConcurrencyError)) {
        result = await_reader(conn, deadline);
    }
    if (result < 0
        && (PyErr_ExceptionMatches(PyExc_OSError)
            || PyErr_ExceptionMatches(state->WebSocketError))) {
        /* Not answered in time, or gone: closed all the same. */
        struct tws_ending known;
        PyErr_Clear();
        tws_blocking_read_ending(conn, &known);
        tws_blocking_set_over(
            conn, TWS_ENDED_BY_US, TWS_CLOSE_ABNORMAL,
            known.sent_code != 0
                ? TWS_SPAN("peer did not answer our Close frame in time")
                : TWS_SPAN("our Close frame could not be sent"),
            0);
        result = tws_blocking_close_stream(conn);
    }
    return result;
}

int
tws_blocking_close(ConnectionObject *conn, uint16_t code,
                   struct tws_span reason, const struct tws_deadline *deadline)
{
    /* The Close frame would stay behind the frame that is being made. */
    if (tws_websocket_check_maker(websocket_of(conn), "close()") < 0) {
        return -1;
    }
    tws_ahead_enter(conn);
    int result = do_close(conn, code, reason, deadline);
    tws_ahead_leave(conn);
    return result;
}
