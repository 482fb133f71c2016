/* A connection whose opening handshake a server has not finished: does the
 * TLS handshake where it is encrypted, reads the request's head, has the owner
 * decide, writes the answer, and where that is a refusal makes sure that it
 * arrives (RFC 6455 §4.2). Never blocks; the owner waits for the descriptor
 * and keeps the deadline. */
#ifndef TWS_NET_OPENING_H
#define TWS_NET_OPENING_H

#include "net/transport.h"
#include "protocol/buffer.h"
#include "protocol/frame_reader.h"
#include "protocol/handshake_server.h"
#include "protocol/http1.h"

enum tws_opening_state {
    TWS_OPENING_SECURING,  /* the TLS handshake */
    TWS_OPENING_READING,   /* the request's head */
    TWS_OPENING_DECIDING,  /* the owner is to accept or refuse */
    TWS_OPENING_ANSWERING, /* writing the answer */
    TWS_OPENING_LINGERING, /* refused: reading until the peer has it */
};

struct tws_opening {
    struct tws_transport transport;
    struct tws_buffer in;  /* head so far, where it came in parts */
    struct tws_buffer out; /* answer not written yet */
    struct tws_http_scanner scanner;
    struct tws_input rest; /* what came behind the head; in `in` or the
                            * caller's scratch */
    size_t lingered;       /* bytes read and thrown away */
    uint8_t state;         /* enum tws_opening_state */
    bool accepted;
};

enum tws_opening_step {
    TWS_STEP_READ,      /* call again when the descriptor is readable */
    TWS_STEP_WRITE,     /* ... when it is writable */
    TWS_STEP_REQUEST,   /* *head has the request: accept or refuse it, then
                         * call again */
    TWS_STEP_CONNECTED, /* the 101 is out; opening->rest is what the peer
                         * already sent behind its request */
    TWS_STEP_GONE,      /* over: close the descriptor. *err says why where
                         * the peer broke off or a call failed */
};

/* The transport moves here; its owner takes it back when the opening is over,
 * and releases it. `initial` bytes were read by somebody before; copied. */
enum tws_status tws_opening_init(struct tws_opening *opening,
                                 const struct tws_transport *transport,
                                 struct tws_span initial,
                                 struct tws_error *err);
void tws_opening_release(struct tws_opening *opening);

/* Only the TLS handshake, as far as it gets: it computes much, and needs
 * nothing of the owner's. TWS_STEP_READ, TWS_STEP_WRITE or TWS_STEP_GONE;
 * with the state TWS_OPENING_READING or TWS_OPENING_ANSWERING it is done, and
 * tws_opening_advance() goes on at once. A peer that speaks plain HTTP is
 * told so; *err then has the 400. */
enum tws_opening_step tws_opening_secure(struct tws_opening *opening,
                                         struct tws_error *err);

/* Goes on as far as it gets. `scratch` is where bytes are read to; *head (of
 * TWS_STEP_REQUEST) and `rest` may borrow from it until the next call. A
 * head that breaks a rule is refused here, with its 4xx; *err then tells
 * what was wrong with it (err->status is TWS_OK as long as nothing was). */
enum tws_opening_step tws_opening_advance(struct tws_opening *opening,
                                          const struct tws_http_limits *limits,
                                          uint8_t *scratch,
                                          size_t scratch_size,
                                          struct tws_http_head *head,
                                          struct tws_error *err);

/* For an owner that does not decide before its scratch is used again: keeps
 * what came behind the head. *head is the owner's to keep. TWS_NOMEM. */
enum tws_status tws_opening_keep_rest(struct tws_opening *opening,
                                      struct tws_error *err);

/* The owner's decision. Accept writes the 101 with what `fields` holds in
 * addition (whole header lines, may be empty). Answer sends a whole HTTP
 * answer and then closes; refuse makes one from a status and a reason.
 * TWS_NOMEM, or of accept TWS_REFUSED (http_status 0) for a field that would
 * break the head: it is undecided still. */
enum tws_status tws_opening_accept(struct tws_opening *opening,
                                   const struct tws_handshake_request *request,
                                   struct tws_span extensions,
                                   const struct tws_http_field *fields,
                                   size_t field_count, struct tws_error *err);
enum tws_status tws_opening_answer(struct tws_opening *opening,
                                   struct tws_span answer,
                                   struct tws_error *err);
enum tws_status tws_opening_refuse(struct tws_opening *opening,
                                   uint16_t http_status, const char *reason,
                                   bool head_only, struct tws_error *err);

#endif /* TWS_NET_OPENING_H */
