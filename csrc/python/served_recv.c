/* recv() inside a handler: the worker that calls it reads on. */
#include "python/connection_type.h"

#include "python/errors.h"
#include "python/received_text.h"
#include "python/served_frames.h"
#include "python/served_wait.h"
#include "python/server_type.h"
#include "protocol/message_stream.h"

static PyObject *
raise_ending(ConnectionObject *conn, const struct tws_ending *ending)
{
    if (ending->by != TWS_ENDED_BY_LIMIT
        || ending->code == TWS_CLOSE_GOING_AWAY /* it was idle */
        || ending->code == TWS_CLOSE_ABNORMAL) {
        return tws_raise_closed_ending(conn->state, ending);
    }
    struct tws_error err;
    (void)tws_error_protocol(&err, ending->code, "%s", ending->reason);
    return tws_raise(conn->state, &err);
}

/* 0, or -1 with ConcurrencyError outside of the client's own handlers, and
 * SocketClosed after its end. */
static int
check_served_here(ConnectionObject *conn)
{
    if (tws_server_check_process((const ServerObject *)conn->server) < 0) {
        return -1;
    }
    if (tws_client_is_served_here(conn->client)) {
        return 0;
    }
    if (conn->close_message != NULL) {
        return tws_served_raise_closed(conn);
    }
    PyErr_SetString(conn->state->ConcurrencyError,
                    "the server receives for this client: recv() works only "
                    "inside one of this client's own handlers");
    return -1;
}

/* Calls the handler of a ping or pong. */
static int
call_handler(ConnectionObject *conn, const struct tws_event *event)
{
    PyObject *payload = PyBytes_FromStringAndSize((const char *)event->data,
                                                  (Py_ssize_t)event->length);
    if (payload == NULL) {
        return -1;
    }
    tws_server_call((ServerObject *)conn->server,
                    event->type == TWS_EVENT_PING ? conn->state->str_onping
                                                  : conn->state->str_onpong,
                    (PyObject *)conn, payload);
    Py_DECREF(payload);
    return 0;
}

/* Whole messages, or chunks of one, are wanted. */
static int
turn_to(ConnectionObject *conn, struct tws_chunks *chunks)
{
    struct tws_assembler *assembler = tws_served_assembler(conn);
    struct tws_error err;
    if (chunks == NULL) {
        tws_message_stream_discard(assembler);
        return 0;
    }
    if (chunks->stream == 0) {
        if (tws_message_stream_begin(assembler, chunks->limit, &err)
            != TWS_OK) {
            tws_client_fail(conn->client->worker, conn->client, &err);
            return 0; /* tws_client_next() tells */
        }
        chunks->stream = assembler->stream;
    }
    return tws_chunks_check(assembler, chunks);
}

/* Fragments without payload, what is skipped, or pings may come without end:
 * there is always something to be read, but nothing for the program. */
static int
check_time(ConnectionObject *conn, const struct tws_deadline *deadline,
           bool heard)
{
    const struct tws_assembler *assembler = tws_served_assembler(conn);
    if ((heard || assembler->chunked || assembler->skipping)
        && !deadline->immediate && tws_deadline_is_over(deadline)) {
        return tws_raise_time_over(deadline, "recv");
    }
    return 0;
}

PyObject *
tws_served_next(ConnectionObject *conn, const struct tws_deadline *deadline,
                struct tws_chunks *chunks)
{
    if (check_served_here(conn) < 0) {
        return NULL;
    }
    struct tws_worker *worker = conn->client->worker;
    /* Where it was received others will lie. */
    tws_received_text_forget(conn->state);
    bool heard = false; /* something that is nothing for the program */
    for (;;) {
        struct tws_event event;
        PyObject *object;
        bool ignored;
        if (turn_to(conn, chunks) < 0) {
            return NULL;
        }
        if (TWS_UNLIKELY(conn->frames != NULL)) {
            int found = tws_served_frames_chunk(conn, &object);
            if (found != 0) {
                return found < 0 ? NULL : object;
            }
        }
        switch (tws_client_next(worker, conn->client, &event)) {
        case TWS_OK:
            if (event.type <= TWS_EVENT_BINARY) {
                return tws_connection_message(conn->state, &event);
            }
            if (event.type == TWS_EVENT_CHUNK) {
                return tws_connection_chunk(tws_served_assembler(conn),
                                            &event);
            }
            if (event.type == TWS_EVENT_FRAME) {
                int found =
                    tws_served_frames_take(conn, &event, &object, &ignored);
                if (found != 0) {
                    return found < 0 ? NULL : object;
                }
                heard = true;
                break;
            }
            heard = true;
            if (call_handler(conn, &event) < 0) {
                return NULL;
            }
            /* A peer that pings and does not read: its pongs would pile up. */
            if (TWS_UNLIKELY(conn->client->congested)
                && tws_served_await_room(
                       conn, deadline->at == UINT64_MAX ? NULL : deadline)
                       < 0) {
                return NULL;
            }
            break;
        case TWS_AGAIN:
            if (check_time(conn, deadline, heard) < 0
                || tws_served_await_bytes(conn, deadline, "recv") < 0) {
                return NULL;
            }
            break;
        default:
            return raise_ending(conn, &worker->ending);
        }
    }
}

PyObject *
tws_served_recv(ConnectionObject *conn, const struct tws_deadline *deadline)
{
    return tws_connection_incoming(conn,
                                   tws_served_next(conn, deadline, NULL));
}
