/* What the websocket view of a server's client (TWS_PHASE_SERVED) hands on:
 * the engine owns the stream. */
#ifndef TWS_PYTHON_SERVED_H
#define TWS_PYTHON_SERVED_H

#include "python/websocket_type.h"

#include "net/tls.h"

/* websocket.send(*frames), after the send hooks: queues the frames one behind
 * the other. `sending` counts where there are data frames among them. -1 with
 * an exception. */
int tws_served_send(WebsocketObject *ws, PyObject *const *frames,
                    Py_ssize_t count, const struct tws_sending *sending);

/* 0, also where the websocket is no client's; -1 with RuntimeError in a forked
 * child: it is the parent's. */
int tws_served_check_process(const WebsocketObject *ws);

/* The client has ended, and nothing is left to hand on. Without its reference
 * to the Connection, which refers to it, both are gone as soon as the program
 * forgets them. */
void tws_served_part(WebsocketObject *ws);

/* websocket.close(): ends the client without a closing handshake. */
void tws_served_break_off(WebsocketObject *ws);

/* See engine/client.h. */
bool tws_served_tls_info(WebsocketObject *ws, struct tws_tls_info *info);
enum tws_status tws_served_peer_certificate(WebsocketObject *ws, uint8_t **der,
                                            size_t *length,
                                            struct tws_error *err);

#endif /* TWS_PYTHON_SERVED_H */
