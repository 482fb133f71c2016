/* The client's way to an open connection: addresses in turn, the TCP
 * connection, the request, the answer (RFC 6455 §4.1). Never blocks; the
 * owner waits for what tws_dialing_wait() names and keeps the deadline. */
#ifndef TWS_NET_DIALING_H
#define TWS_NET_DIALING_H

#include "net/resolve.h"
#include "net/transport.h"
#include "protocol/frame_reader.h"
#include "protocol/handshake_client.h"

enum {
    TWS_DIALING_BODY_MAX = 64 * 1024,      /* bytes kept of a refusal's body */
    TWS_HOST_FIELD_MAX = TWS_HOST_MAX + 8, /* "[", "]", ":" and the port */
};

struct tws_dialing;

enum tws_dialing_step {
    TWS_DIALING_WAIT,      /* call again when tws_dialing_wait() is ready */
    TWS_DIALING_CONNECTED, /* the answer is a good 101: see ..._answer() */
    TWS_DIALING_REFUSED,   /* *err says why; see ..._answer() and ..._body() */
    TWS_DIALING_FAILED,    /* no answer: *err says why */
};

/* What went before, for the owner's errors. */
enum tws_dialing_state {
    TWS_DIALING_RESOLVING,
    TWS_DIALING_CONNECTING,
    TWS_DIALING_ASKING,    /* writing the request */
    TWS_DIALING_ANSWERING, /* reading the head of the answer */
    TWS_DIALING_REFUSING,  /* reading the body of a refusal */
};

/* Writes the request down. What `offer` points to is borrowed as long as the
 * dialing lives, but for its host, which only this call needs; its key is
 * drawn here. TWS_REFUSED where a part of the offer would break the request;
 * TWS_NOMEM; TWS_OS. */
enum tws_status tws_dialing_new(const struct tws_handshake_offer *offer,
                                const struct tws_http_limits *limits,
                                struct tws_dialing **dialing,
                                struct tws_error *err);
/* NULL is allowed. Does not close the descriptor. */
void tws_dialing_free(struct tws_dialing *dialing);

/* Where to begin: with a look-up (moved here), with one address, or with the
 * request on a stream that is connected, of whose answer `initial` was read
 * before (copied). */
void tws_dialing_by_name(struct tws_dialing *dialing,
                         const struct tws_transport *transport,
                         struct tws_resolve *resolve);
void tws_dialing_by_address(struct tws_dialing *dialing,
                            const struct tws_transport *transport,
                            const struct tws_address *address);
enum tws_status tws_dialing_connected(struct tws_dialing *dialing,
                                      const struct tws_transport *transport,
                                      struct tws_span initial,
                                      struct tws_error *err);

/* Goes on as far as it gets. `now` and `deadline` are nanoseconds of the
 * monotonic clock: where several addresses are left, each gets its share of
 * the time. */
enum tws_dialing_step tws_dialing_advance(struct tws_dialing *dialing,
                                          uint64_t now, uint64_t deadline,
                                          struct tws_error *err);

/* What to wait for: a descriptor (-1: none), TWS_WAIT_* and until when
 * (UINT64_MAX: the owner's deadline) tws_dialing_advance() need not be
 * called. */
void tws_dialing_wait(const struct tws_dialing *dialing, int *fd,
                      unsigned *events, uint64_t *until);

enum tws_dialing_state tws_dialing_state(const struct tws_dialing *dialing);

/* The EAI_* code where the look-up was what failed, else 0. */
int tws_dialing_gai_error(const struct tws_dialing *dialing);

/* As TWS_DIALING_REFUSED where a refusal's head has come but its body has
 * not, and nobody wants to wait for it any longer. */
void tws_dialing_refusal(const struct tws_dialing *dialing,
                         struct tws_error *err);

/* The request and the answer; *head borrows from the dialing. */
enum tws_status tws_dialing_request(const struct tws_dialing *dialing,
                                    struct tws_http_head *head,
                                    struct tws_error *err);
enum tws_status tws_dialing_answer(const struct tws_dialing *dialing,
                                   struct tws_http_head *head,
                                   struct tws_error *err);
/* The agreed subprotocol (empty: none), the first bytes of a refusal's body,
 * and what came behind a 101. Borrowed from the dialing. */
struct tws_span tws_dialing_protocol(const struct tws_dialing *dialing);
struct tws_span tws_dialing_body(const struct tws_dialing *dialing);
struct tws_span tws_dialing_rest(const struct tws_dialing *dialing);

/* See tws_resolve_interrupt(); the one call that any thread may make. */
void tws_dialing_interrupt(struct tws_dialing *dialing);

/* Puts `host` into the form of a Host field: an IPv6 address in brackets and
 * without its zone, the port where it is not 80 (RFC 6455 §3). Returns the
 * length; `host` has at most TWS_HOST_MAX bytes. */
size_t tws_dialing_host_field(const char *host, uint16_t port,
                              char out[TWS_HOST_FIELD_MAX + 1]);

#endif /* TWS_NET_DIALING_H */
