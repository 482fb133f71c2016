/* Opening handshakes of a listening socket, side by side: a peer that is
 * slow, silent or wrong keeps nobody waiting. Never blocks but in
 * tws_acceptor_wait(). Not thread-safe. */
#ifndef TWS_NET_ACCEPTOR_H
#define TWS_NET_ACCEPTOR_H

#include "net/opening.h"
#include "net/socket.h"
#include "net/tls.h"

struct tws_acceptor;

struct tws_acceptor_options {
    struct tws_http_limits http;
    struct tws_handshake_policy policy;  /* spans borrowed for its life */
    const struct tws_http_field *fields; /* of each 101; borrowed for its
                                          * life */
    size_t field_count;
    uint64_t open_timeout;  /* nanoseconds for a whole handshake; UINT64_MAX:
                             * no limit */
    uint64_t close_timeout; /* nanoseconds to linger after a refusal */
    size_t half_open_max;   /* the oldest goes where more come; at least 1 */
    struct tws_tls_context *tls; /* retained; NULL: plain */
    /* Puts another descriptor in the place of a new connection's, for which
     * it takes over; -1: the connection is to go. NULL: it stays. */
    int (*replace)(void *context, int fd);
    /* A peer that was accepted has vanished: `user` comes back. May be NULL
     * where none is ever given. */
    void (*discard)(void *context, void *user);
    void *context;
    bool asks; /* the owner decides on upgrades */
};

enum tws_acceptor_event {
    TWS_ACCEPTOR_IDLE,      /* nothing to do but to wait */
    TWS_ACCEPTOR_CONNECTED, /* *accepted is filled in; call again */
    TWS_ACCEPTOR_REFUSED,   /* *peer was sent away, *err says why; call
                             * again */
    TWS_ACCEPTOR_FAILED,    /* *err: the listener can't accept */
    TWS_ACCEPTOR_REQUEST,   /* *peer asks for an upgrade that the policy
                             * allows: decide, and call again. Only where
                             * options.asks */
};

/* A connection whose 101 is out. */
struct tws_accepted {
    struct tws_transport transport; /* owned by the caller, as all of it */
    struct tws_address peer;
    struct tws_buffer head; /* the request's head, which is well-formed and
                             * allowed by the policy */
    struct tws_buffer rest; /* what came behind it */
    struct tws_buffer note; /* these two: what tws_acceptor_accept() was given
                             */
    void *user;
};
/* But for the transport and `user`. */
void tws_accepted_release(struct tws_accepted *accepted);

/* Does not own `listener`, which is non-blocking. */
enum tws_status tws_acceptor_new(int listener,
                                 const struct tws_acceptor_options *options,
                                 struct tws_acceptor **acceptor,
                                 struct tws_error *err);
/* Closes what is half open. NULL is allowed. */
void tws_acceptor_free(struct tws_acceptor *acceptor);

/* Goes on with everything that is ready. `now` is of the monotonic clock. */
enum tws_acceptor_event tws_acceptor_advance(struct tws_acceptor *acceptor,
                                             uint64_t now,
                                             struct tws_accepted *accepted,
                                             struct tws_address *peer,
                                             struct tws_error *err);

/* After TWS_ACCEPTOR_REQUEST: the head to decide on, borrowed until then; it
 * is well-formed and allowed by the policy. */
struct tws_span tws_acceptor_request(const struct tws_acceptor *acceptor);
/* The decision: accept `request`, which was read of that head, or send a whole
 * HTTP answer and close. Of what is not decided, also as this failed, nothing
 * comes but its end, at the next call of advance; so of what is accepted too
 * late. `extensions` is for tws_opening_accept(). `note` is copied, and comes
 * out with the connection; so does `user` (NULL: none), which is the
 * acceptor's until then, unless this fails. TWS_NOMEM; TWS_REFUSED as of
 * tws_opening_accept(). */
enum tws_status
tws_acceptor_accept(struct tws_acceptor *acceptor,
                    const struct tws_handshake_request *request,
                    struct tws_span extensions, struct tws_span note,
                    void *user, struct tws_error *err);
enum tws_status tws_acceptor_answer(struct tws_acceptor *acceptor,
                                    struct tws_span answer,
                                    struct tws_error *err);
/* The same for who may never call advance again: what the kernel takes of the
 * answer goes out at once. */
enum tws_status tws_acceptor_answer_now(struct tws_acceptor *acceptor,
                                        uint64_t now, struct tws_span answer,
                                        struct tws_error *err);

/* Waits until something is ready, a half-open connection's time is over, or
 * `timeout_ns` is (UINT64_MAX: no limit). TWS_OK: call advance; TWS_AGAIN:
 * the time is over or a signal came. TWS_OS: EBADF where the listener is
 * closed or shut down. */
enum tws_status tws_acceptor_wait(struct tws_acceptor *acceptor, uint64_t now,
                                  uint64_t timeout_ns, struct tws_error *err);

/* Connections whose handshake is not finished, and lingering ones. */
size_t tws_acceptor_half_open(const struct tws_acceptor *acceptor);

#endif /* TWS_NET_ACCEPTOR_H */
