/* What both sides of the opening handshake share (RFC 6455 §4). */
#ifndef TWS_PYTHON_WEBSOCKET_HANDSHAKE_H
#define TWS_PYTHON_WEBSOCKET_HANDSHAKE_H

#include "python/websocket_parts.h"

#include "protocol/http1.h"

/* Sets location, protocol and request from the head of a request that was
 * accepted. -1 with an exception. */
int tws_handshake_note_request(WebsocketObject *ws, struct tws_span head);

/* A str, or None where it is empty. */
PyObject *tws_handshake_protocol(struct tws_span protocol);

/* Raises HandshakeError with err->reason and err->http_status; `head` and
 * `body` of the answer may be NULL and empty. Always -1. */
int tws_handshake_raise(WebsocketObject *ws, const struct tws_error *err,
                        const struct tws_http_head *head,
                        struct tws_span body);

/* OSError: close() was called meanwhile. Always -1. */
int tws_handshake_raise_closed(void);

/* The deadline of a call that does or goes on with a handshake, bounded by
 * open_timeout, which runs from where it `begins`. */
struct tws_deadline tws_handshake_deadline(WebsocketObject *ws, bool begins);
/* The same for the end of a refused one, bounded by close_timeout. */
void tws_handshake_hurry(WebsocketObject *ws, struct tws_deadline *deadline);

/* Waits as a part of a handshake: 1: ready, or `until` has come; 0: the time
 * is over, nothing raised; -1 with an exception, BlockingIOError with
 * `sys_errno` on a non-blocking websocket among them. */
int tws_handshake_wait(WebsocketObject *ws, struct tws_wait *waits,
                       size_t count, const struct tws_deadline *deadline,
                       uint64_t until, int sys_errno);

/* The server wants to know who asks, and can be told: a result beside 0. */
enum { TWS_HANDSHAKE_CHALLENGED = 2 };

/* In websocket_dial.c: goes on with ws->dialing until it is connected (0), is
 * TWS_HANDSHAKE_CHALLENGED, or has failed: the websocket is closed then,
 * unless there was no connection yet, or the call is to be repeated. -1 with
 * an exception. */
int tws_handshake_dial(WebsocketObject *ws,
                       const struct tws_deadline *deadline);

/* In websocket_connect.c: the client's side on a stream that is connected,
 * with `host` (str or None) as the Host field. -1 with an exception. */
int tws_handshake_as_client(WebsocketObject *ws, PyObject *host,
                            struct tws_span initial);

/* Bytes that were read before can't be decrypted. -1 with ValueError. */
int tws_handshake_check_initial(const WebsocketObject *ws,
                                struct tws_span initial);

/* Frees what only a handshake needs. */
void tws_handshake_forget(WebsocketObject *ws);

#endif /* TWS_PYTHON_WEBSOCKET_HANDSHAKE_H */
