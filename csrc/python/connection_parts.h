/* What connection_blocking.c (sending), connection_receive.c,
 * connection_closing.c and connection_ending.c share: the Connection over a
 * websocket of its own. */
#ifndef TWS_PYTHON_CONNECTION_PARTS_H
#define TWS_PYTHON_CONNECTION_PARTS_H

#include "python/connection_type.h"

static inline WebsocketObject *
websocket_of(ConnectionObject *conn)
{
    return (WebsocketObject *)conn->sock;
}

/* What the stream brought. */
struct tws_incoming {
    enum tws_event_type type;
    PyObject *object; /* owned: Message, bytes of a ping or pong, or NULL */
    size_t length;    /* bytes of its payload */
};

/* connection_ending.c --------------------------------------------------- */

bool tws_blocking_is_over(ConnectionObject *conn);

/* What is known so far of how the connection ended, or would end now. */
void tws_blocking_read_ending(ConnectionObject *conn,
                              struct tws_ending *ending);

/* Notes how the connection ended; the first to do so wins. The stream is
 * still to be closed. */
void tws_blocking_set_over(ConnectionObject *conn, enum tws_ended_by by,
                           uint16_t code, struct tws_span reason,
                           int sys_errno);

/* Closes the stream; the first time that the connection is over, notes what
 * was left unsent and tells the log. Keeps a pending exception; -1 with what
 * is no Exception from a handler of the log. */
int tws_blocking_close_stream(ConnectionObject *conn);

/* Tells the peer that nothing more comes, unless that is first for the peer
 * to do: after a closing handshake the server ends the TCP connection, and
 * the client waits for it (RFC 6455 §7.1.1). */
void tws_blocking_end_writing(ConnectionObject *conn);

/* Both Close frames have passed, or ours is the last word: lets the peer
 * read what was sent, waits for its end of the stream, and closes. A reset
 * must not overtake our Close frame. Keeps a pending exception; -1 where a
 * signal handler raised. */
int tws_blocking_linger_and_close(ConnectionObject *conn,
                                  const struct tws_deadline *deadline);

/* The stream has ended without a Close frame, or with an error: notes that
 * the connection is over, for `reason` (empty: it has ended) unless more is
 * known, and closes. No exception may be pending. -1 as
 * tws_blocking_close_stream(). */
int tws_blocking_lose(ConnectionObject *conn, int sys_errno,
                      struct tws_span reason);

/* Where the pending exception is an OSError for the only reason that the
 * websocket was closed, by whomever: notes that the connection is over, puts
 * SocketClosed in its place and returns true. */
bool tws_blocking_judge_closed(ConnectionObject *conn);

/* The pending exception is the OSError that ended the stream: notes it and
 * closes. SocketClosed then tells all that is known; others stay. */
void tws_blocking_judge_reading(ConnectionObject *conn);

/* The pending exception is of a send() that failed: SocketClosed then tells
 * all that is known; others stay. The end is left to recv(), as the peer may
 * have sent something before. */
void tws_blocking_judge_writing(ConnectionObject *conn);

/* connection_blocking.c -------------------------------------------------- */

/* True while messages may be sent; else SocketClosed. */
bool tws_blocking_may_send(ConnectionObject *conn);

/* After close_timeout from now. */
struct tws_deadline tws_blocking_close_deadline(ConnectionObject *conn);

/* Sends our Close frame, unless it is out already. -1 with an exception. */
int tws_blocking_send_close(ConnectionObject *conn, uint16_t code,
                            struct tws_span reason);

/* connection_receive.c --------------------------------------------------- */

/* True where the next frame is read in pieces. By way of frames otherwise:
 * for hooks, extensions, and for what websocket.recv() has left. A frame is
 * finished the way it was begun, or its beginning would be lost. */
bool tws_blocking_reads_pieces(ConnectionObject *conn);

/* With the right to read: the next event, which
 * has been answered. 1: *in is set; 2: the stream has ended; -1 with an
 * exception, which tws_blocking_judge_failure() is for. */
int tws_blocking_read_event(ConnectionObject *conn,
                            const struct tws_deadline *deadline,
                            struct tws_incoming *in);

/* The peer broke a rule, or memory is short: tells it, ends, and raises.
 * Always -1. The stream is still to be closed. */
int tws_blocking_fail(ConnectionObject *conn, const struct tws_error *err);

/* The next event, what was read ahead first; 1, or -1 with an exception. A
 * CLOSE has been answered then, and the socket closed. */
int tws_blocking_take(ConnectionObject *conn,
                      const struct tws_deadline *deadline,
                      struct tws_chunks *chunks, struct tws_incoming *in);

/* True in what runs inside of this thread's own recv(): a hook, a signal
 * handler or a __del__. Waiting for the reader would be for ourselves. */
static inline bool
tws_blocking_is_reading(ConnectionObject *conn)
{
    WebsocketObject *ws = websocket_of(conn);
    return atomic_load(&ws->reading)
           && atomic_load(&ws->reading_thread) == PyThread_get_thread_ident();
}

/* What an exception of reading means for the connection. It stays pending,
 * or SocketClosed takes its place. */
void tws_blocking_judge_failure(ConnectionObject *conn);

/* connection_ahead.c ----------------------------------------------------- */

/* The oldest event that was read ahead, if any. 1: *in is set; 0: there is
 * none; -1 with the exception that stands in its place. Whoever reads the
 * stream takes these first, and looks again with the right to read: only who
 * has that puts more there. */
int tws_ahead_take(ConnectionObject *conn, struct tws_incoming *in);
bool tws_ahead_any(ConnectionObject *conn);
/* Throws all of them away: our Close frame is out. */
void tws_ahead_discard(ConnectionObject *conn);

/* tws_websocket_begin_read(), where the keeper may be reading at this
 * instant: waits for that. 0: the right is there; 1: the keeper has read
 * something, or met the end; -1 with an exception. `what` names the call. */
int tws_ahead_begin_read(ConnectionObject *conn,
                         const struct tws_deadline *deadline,
                         const char *what);

/* Waits while the keeper is reading: what it has met is in the queue then. */
int tws_ahead_settle(ConnectionObject *conn,
                     const struct tws_deadline *deadline, const char *what);

/* Around each call of the program that reads, so that the keeper knows. The
 * second keeps a pending exception. */
void tws_ahead_enter(ConnectionObject *conn);
void tws_ahead_leave(ConnectionObject *conn);

/* After a call that sends: what it could not write, and owns, is written on
 * while the program does something else. */
void tws_ahead_note_sent(ConnectionObject *conn);

/* The Connection is going: it is not looked after any more. */
void tws_ahead_end(ConnectionObject *conn);

/* What is in the queue, for the garbage collector. */
int tws_ahead_traverse(ConnectionObject *conn, visitproc visit, void *arg);

#endif /* TWS_PYTHON_CONNECTION_PARTS_H */
