/* What connection_blocking.c (its end, sending) and connection_receive.c
 * share: the Connection over a websocket of its own. */
#ifndef TWS_PYTHON_CONNECTION_PARTS_H
#define TWS_PYTHON_CONNECTION_PARTS_H

#include "python/connection_type.h"

static inline WebsocketObject *
websocket_of(ConnectionObject *conn)
{
    return (WebsocketObject *)conn->sock;
}

bool tws_blocking_is_over(ConnectionObject *conn);

/* Notes how the connection ended; the first to do so wins. Keeps a pending
 * exception; -1 with another one. */
int tws_blocking_set_over(ConnectionObject *conn, uint16_t code,
                          struct tws_span reason);

/* Where the pending exception is an OSError for the only reason that the
 * websocket was closed, by whomever: notes that the connection is over, puts
 * SocketClosed in its place and returns true. */
bool tws_blocking_judge_closed(ConnectionObject *conn);

/* Both Close frames have passed, or ours is the last word: lets the peer
 * read what was sent, waits for its end of the stream, and closes. A reset
 * must not overtake our Close frame (RFC 6455 7.1.1). Keeps a pending
 * exception; -1 where a signal handler raised. */
int tws_blocking_linger_and_close(ConnectionObject *conn,
                                  const struct tws_deadline *deadline);

/* After close_timeout from now. */
struct tws_deadline tws_blocking_close_deadline(ConnectionObject *conn);

/* Sends our Close frame, unless it is out already. -1 with an exception. */
int tws_blocking_send_close(ConnectionObject *conn, uint16_t code,
                            struct tws_span reason);

#endif /* TWS_PYTHON_CONNECTION_PARTS_H */
