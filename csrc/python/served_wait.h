/* How a call on a server's client waits: without the GIL, and without holding
 * up other clients. */
#ifndef TWS_PYTHON_SERVED_WAIT_H
#define TWS_PYTHON_SERVED_WAIT_H

#include "python/connection_type.h"

/* Inside the client's own handler, until it has sent more. 0, or -1 with an
 * exception as of tws_wait_for(). */
int tws_served_await_bytes(ConnectionObject *conn,
                           const struct tws_deadline *deadline,
                           const char *what);

/* Until its send queue is below the low-water mark. NULL: as long as the
 * server's send_timeout allows, and then drops the client. 0, or -1 with
 * TimeoutError, or SocketClosed. */
int tws_served_await_room(ConnectionObject *conn,
                          const struct tws_deadline *deadline);

/* Until no message is being sent to it in pieces. NULL: as long as the
 * server's send_timeout allows. 0, or -1 with TimeoutError; ConcurrencyError
 * where this thread itself is sending that message. */
int tws_served_await_stream(ConnectionObject *conn,
                            const struct tws_deadline *deadline);
/* That ConcurrencyError alone: 0, or -1. */
int tws_served_check_stream(ConnectionObject *conn);

#endif /* TWS_PYTHON_SERVED_WAIT_H */
