/* The client's way to an open connection: look-ups, TCP, a proxy, TLS, the
 * opening handshake (RFC 6455 §4.1). Never blocks; the owner waits for what
 * tws_dialing_wait() names and keeps the deadline. */
#ifndef TWS_NET_DIALING_H
#define TWS_NET_DIALING_H

#include "net/proxying.h"
#include "net/reaching.h"
#include "protocol/handshake_client.h"

enum {
    TWS_HOST_FIELD_MAX = TWS_HOST_MAX + 8, /* "[", "]", ":" and the port */
    TWS_DIALING_WAITS = TWS_RACING_WAITS,
    TWS_DIALING_STAGE = 160,
};

struct tws_dialing;

enum tws_dialing_step {
    TWS_DIALING_WAIT,      /* call again when tws_dialing_wait() is ready */
    TWS_DIALING_REACHED,   /* tws_dialing_fd() is connected, and the owner's
                            * from now on: to be called again at once. Only
                            * where the dialing has made the socket itself */
    TWS_DIALING_STREAM,    /* there is a stream to the server, through the
                            * proxy where there is one: to be called again
                            * at once, perhaps after tws_dialing_replace() */
    TWS_DIALING_CONNECTED, /* the answer is a good 101: see ..._answer() */
    TWS_DIALING_REFUSED,   /* *err says why; see ..._answer() and ..._body() */
    TWS_DIALING_FAILED,    /* no answer: *err says why */
};

/* What goes on, for the owner. */
enum tws_dialing_state {
    TWS_DIALING_RESOLVING,
    TWS_DIALING_CONNECTING,
    TWS_DIALING_SECURING,   /* TLS, with the proxy or with the server */
    TWS_DIALING_TUNNELLING, /* up to the body of the proxy's refusal */
    TWS_DIALING_ASKING,     /* writing the request */
    TWS_DIALING_ANSWERING,  /* reading the head of the answer */
    TWS_DIALING_REFUSING,   /* reading the body of the server's refusal */
};

/* Writes the request down. What `offer` points to is borrowed as long as the
 * dialing lives, but for its host, which only this call needs; its key is
 * drawn here. TWS_REFUSED where a part of the offer would break the request;
 * TWS_NOMEM; TWS_OS. */
enum tws_status tws_dialing_new(const struct tws_handshake_offer *offer,
                                const struct tws_http_limits *limits,
                                struct tws_dialing **dialing,
                                struct tws_error *err);
/* NULL is allowed. Closes no descriptor that is the owner's. */
void tws_dialing_free(struct tws_dialing *dialing);

/* Before it begins: encrypts the stream to the server. Retains the context;
 * `host` and `peer` are those of tws_tls_start(), copied. TWS_NOMEM. */
enum tws_status tws_dialing_secure(struct tws_dialing *dialing,
                                   struct tws_tls_context *context,
                                   const char *host, const char *peer,
                                   struct tws_error *err);

/* Where to begin: with a host, with the address of a Unix socket, or with the
 * request on a stream that is connected, of whose answer `initial` was read
 * before (copied; only where it is not encrypted).
 *
 * `fd` is the owner's and of options->family: addresses are tried in turn.
 * With AF_UNSPEC there is none (-1), addresses are tried side by side, and
 * TWS_DIALING_REACHED hands one out. `proxy` may be NULL; all is borrowed for
 * the call only.
 *
 * TWS_REFUSED: the proxy can't be asked for that; TWS_NOMEM; TWS_OS. */
enum tws_status tws_dialing_by_name(struct tws_dialing *dialing, int fd,
                                    const char *host, uint16_t port,
                                    const struct tws_proxy *proxy,
                                    const struct tws_reaching_options *options,
                                    struct tws_error *err);
void tws_dialing_by_address(struct tws_dialing *dialing, int fd,
                            const struct tws_address *address);
enum tws_status tws_dialing_connected(struct tws_dialing *dialing,
                                      const struct tws_transport *transport,
                                      struct tws_span initial,
                                      struct tws_error *err);

/* Goes on as far as it gets. `now` and `deadline` are nanoseconds of the
 * monotonic clock: where several addresses are left for one descriptor, each
 * gets its share of the time. A reason of TWS_OS or TWS_TLS is to be read
 * behind what tws_dialing_stage() says, and TWS_OS says it in words. */
enum tws_dialing_step tws_dialing_advance(struct tws_dialing *dialing,
                                          uint64_t now, uint64_t deadline,
                                          struct tws_error *err);

/* What to wait for, and until when (UINT64_MAX: the owner's deadline)
 * tws_dialing_advance() need not be called. Returns how many there are. */
size_t tws_dialing_wait(const struct tws_dialing *dialing,
                        struct tws_wait waits[TWS_DIALING_WAITS],
                        uint64_t *until);

/* The descriptor of the stream; -1: there is none yet. */
int tws_dialing_fd(const struct tws_dialing *dialing);

/* At TWS_DIALING_STREAM, where no proxy is reached by TLS: goes on over
 * another descriptor of the owner's, which carries in plain text what goes
 * through the first one encrypted. */
void tws_dialing_replace(struct tws_dialing *dialing, int fd);

/* At TWS_DIALING_CONNECTED: moves the transport to the owner. */
void tws_dialing_transport(struct tws_dialing *dialing,
                           struct tws_transport *transport);

enum tws_dialing_state tws_dialing_state(const struct tws_dialing *dialing);

/* What goes on and with whom, for an error or a timeout: "connect to
 * example.org:443", "TLS handshake with proxy.example:3128". */
void tws_dialing_stage(const struct tws_dialing *dialing,
                       char text[TWS_DIALING_STAGE]);

/* True where it is a proxy that is talked to: what it answers is not the
 * server's word. */
bool tws_dialing_is_proxying(const struct tws_dialing *dialing);

/* The EAI_* code where a look-up was what failed, else 0. */
int tws_dialing_gai_error(const struct tws_dialing *dialing);

/* True where a refusal's head has come: *err is as TWS_DIALING_REFUSED has
 * it, for an owner that does not want to wait for the body any longer. */
bool tws_dialing_refusal(const struct tws_dialing *dialing,
                         struct tws_error *err);

/* The request; the answer of the server, or that of the proxy which refuses.
 * *head borrows from the dialing. TWS_EOF: there was no answer. */
enum tws_status tws_dialing_request(const struct tws_dialing *dialing,
                                    struct tws_http_head *head,
                                    struct tws_error *err);
enum tws_status tws_dialing_answer(const struct tws_dialing *dialing,
                                   struct tws_http_head *head,
                                   struct tws_error *err);
/* The agreed subprotocol and the value of Sec-WebSocket-Extensions (empty:
 * none), the first bytes of a refusal's body, and what came behind a 101.
 * Borrowed from the dialing. */
struct tws_span tws_dialing_protocol(const struct tws_dialing *dialing);
struct tws_span tws_dialing_extensions(const struct tws_dialing *dialing);
struct tws_span tws_dialing_body(const struct tws_dialing *dialing);
struct tws_span tws_dialing_rest(const struct tws_dialing *dialing);

/* Ends the owner's wait, now or when it next begins, unless it is for a
 * descriptor of the owner's. The one call that any thread may make, once it
 * was said where to begin, and as long as tws_dialing_free() has not. */
void tws_dialing_interrupt(struct tws_dialing *dialing);

/* Puts `host` into the form of a Host field: an IPv6 address in brackets and
 * without its zone, the port where it is not 80, or 443 with TLS (RFC 6455
 * §3). Returns the length; `host` has at most TWS_HOST_MAX bytes. */
size_t tws_dialing_host_field(const char *host, uint16_t port, bool secure,
                              char out[TWS_HOST_FIELD_MAX + 1]);

#endif /* TWS_NET_DIALING_H */
