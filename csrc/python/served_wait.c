#include "python/served_wait.h"

#include "engine/keepalive.h"

#include "python/errors.h"
#include "python/received_text.h"
#include "python/server_type.h"
#include "loop/timers.h"

/* Where no thread is left to drive the loop, a waiting one looks after its
 * client itself now and then. */
#define UNATTENDED_SLICE ((uint64_t)50 * 1000 * 1000)

/* The earlier of the deadline and the end of a slice. */
static struct tws_deadline
slice_of(const struct tws_deadline *deadline, bool *last)
{
    struct tws_deadline slice = tws_deadline_after(UNATTENDED_SLICE);
    *last = deadline->immediate || deadline->at <= slice.at;
    return *last ? *deadline : slice;
}

int
tws_served_await_bytes(ConnectionObject *conn,
                       const struct tws_deadline *deadline, const char *what)
{
    struct tws_client *client = conn->client;
    struct tws_worker *worker = client->worker;
    struct tws_silence silence = {0};
    if (tws_pending(&client->transport)) {
        /* Taken from the descriptor before, which may stay silent. */
        worker->drained = false;
        worker->reads = 0;
        return 0;
    }
    for (;;) {
        unsigned ready;
        bool last = true;
        struct tws_deadline until = *deadline;
        unsigned events = TWS_WAIT_READ;
        bool attended = tws_server_before_wait(client->server);
        tws_client_flush(client);
        if (!attended) {
            until = slice_of(deadline, &last);
            if (tws_client_queued(client) > 0) {
                events |= TWS_WAIT_WRITE;
            }
        }
        uint64_t look = tws_keepalive_wait(client, &silence);
        if (!until.immediate && look < until.at) {
            until.at = look;
            last = false;
        }
        int result =
            tws_wait_quietly(client->transport.fd, events, &until, &ready);
        if (result < 0) {
            return -1;
        }
        if (result == 0 && last) {
            return tws_raise_time_over(deadline, what);
        }
        if (result == 0 && !attended && tws_server_stopping(client->server)) {
            /* Nobody is left who would tell the peer. */
            (void)tws_raise_closed(conn->state, TWS_CLOSE_GOING_AWAY,
                                   TWS_SPAN("server is stopping"));
            return -1;
        }
        if (result > 0 && (ready & ~(unsigned)TWS_WAIT_WRITE) != 0) {
            worker->drained = false;
            worker->reads = 0;
            return 0;
        }
    }
}

/* Waiting for another thread ---------------------------------------------- */

struct lock_waiter {
    struct tws_waiter waiter; /* first */
    PyThread_type_lock lock;  /* held until it is woken */
};

static void
wake(struct tws_waiter *waiter)
{
    PyThread_release_lock(((struct lock_waiter *)waiter)->lock);
}

/* Waits once. 1: look again; 0: the time is over; -1 with an exception. */
static int
await_once(ConnectionObject *conn, struct lock_waiter *waiter,
           const struct tws_deadline *deadline)
{
    bool last = true;
    struct tws_deadline until = *deadline;
    if (!tws_server_before_wait_loops((ServerObject *)conn->server,
                                      conn->client->server)) {
        until = slice_of(deadline, &last);
    }
    tws_client_flush(conn->client);
    int result = tws_lock_wait_quietly(waiter->lock, &until);
    return result == 0 && !last ? 1 : result;
}

/* 1: it is so; 0: the time is over; -1 with an exception. */
static int
await_client(ConnectionObject *conn, enum tws_await what,
             const struct tws_deadline *deadline)
{
    struct lock_waiter waiter = {.waiter = {.wake = wake}};
    int result = 1;
    waiter.lock = PyThread_allocate_lock();
    if (waiter.lock == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    (void)PyThread_acquire_lock(waiter.lock, NOWAIT_LOCK);
    while (result > 0
           && tws_client_await(conn->client, what, &waiter.waiter)) {
        result = await_once(conn, &waiter, deadline);
        tws_client_forget(conn->client, &waiter.waiter);
        /* Woken or not, it is held when the next round begins. */
        (void)PyThread_acquire_lock(waiter.lock, NOWAIT_LOCK);
    }
    PyThread_release_lock(waiter.lock);
    PyThread_free_lock(waiter.lock);
    return result;
}

int
tws_served_await_room(ConnectionObject *conn,
                      const struct tws_deadline *deadline)
{
    ServerObject *server = (ServerObject *)conn->server;
    struct tws_deadline patience;
    bool drops = deadline == NULL;
    if (drops) {
        patience = tws_deadline_after(server->limits.send_timeout);
        deadline = &patience;
    }
    int result = await_client(conn, TWS_AWAIT_ROOM, deadline);
    if (result != 0) {
        return result < 0 ? -1 : 0;
    }
    if (!drops) {
        return tws_raise_time_over(deadline, "send");
    }
    tws_server_count_slow(conn->client->server);
    tws_client_break_off(conn->client, TWS_ENDED_BY_LIMIT,
                         "did not read what it was sent within send_timeout");
    return 0; /* and send() raises SocketClosed, which says so */
}

int
tws_served_check_stream(ConnectionObject *conn)
{
    if (atomic_load(&conn->stream_thread) != PyThread_get_thread_ident()) {
        return 0;
    }
    PyErr_SetString(conn->state->ConcurrencyError,
                    "this thread is sending a message to the client in "
                    "pieces: leave the block of send_stream() first");
    return -1;
}

int
tws_served_await_stream(ConnectionObject *conn,
                        const struct tws_deadline *deadline)
{
    struct tws_deadline patience = tws_deadline_after(
        ((ServerObject *)conn->server)->limits.send_timeout);
    if (tws_served_check_stream(conn) < 0) {
        return -1;
    }
    if (deadline == NULL) {
        deadline = &patience;
    }
    int result = await_client(conn, TWS_AWAIT_STREAM, deadline);
    if (result == 0) {
        return tws_raise_time_over(deadline, "send");
    }
    return result < 0 ? -1 : 0;
}

/* Closing ------------------------------------------------------------------
 */

/* In the client's own handler: reads on, and throws away, until the peer's
 * Close has come. 1, 0 or -1 as above. */
static int
read_until_over(ConnectionObject *conn, const struct tws_deadline *deadline)
{
    struct tws_worker *worker = conn->client->worker;
    struct tws_event event;
    enum tws_status status;
    /* Where it was received others will lie. */
    tws_received_text_forget(conn->state);
    bool waited = false;
    while ((status = tws_client_next(worker, conn->client, &event))
           != TWS_EOF) {
        if (status != TWS_AGAIN) {
            continue;
        }
        if (waited && tws_deadline_is_over(deadline)) {
            return 0; /* what there is to be read has no end */
        }
        waited = true;
        if (tws_served_await_bytes(conn, deadline, "close") < 0) {
            if (!PyErr_ExceptionMatches(PyExc_TimeoutError)
                && !PyErr_ExceptionMatches(PyExc_BlockingIOError)
                && !PyErr_ExceptionMatches(conn->state->SocketClosed)) {
                return -1;
            }
            PyErr_Clear();
            return 0;
        }
    }
    return 1;
}

int
tws_served_close(ConnectionObject *conn, uint16_t code, struct tws_span reason,
                 const struct tws_deadline *deadline)
{
    struct tws_client *client = conn->client;
    struct tws_error err;
    if (tws_server_check_process((const ServerObject *)conn->server) < 0) {
        return -1;
    }
    enum tws_status status =
        tws_client_close(client, code, reason, TWS_ENDED_BY_US, &err);
    if (status != TWS_OK && status != TWS_EOF) {
        (void)tws_raise(conn->state, &err);
        return -1;
    }
    int result = tws_client_is_served_here(client)
                     ? read_until_over(conn, deadline)
                     : await_client(conn, TWS_AWAIT_OVER, deadline);
    if (result == 0) {
        tws_client_break_off(client, TWS_ENDED_BY_US,
                             "peer did not answer our Close frame in time");
    }
    return result < 0 ? -1 : 0;
}
