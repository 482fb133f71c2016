/* A client's opening handshake on a stream that stands: the request, the
 * answer, and the body of an answer that refuses (RFC 6455 §4.1). Never
 * blocks; the owner waits for the descriptor and keeps the deadline. */
#ifndef TWS_NET_ASKING_H
#define TWS_NET_ASKING_H

#include "net/transport.h"
#include "protocol/handshake_client.h"
#include "protocol/http_body.h"

enum {
    TWS_ASKING_BODY_MAX = 64 * 1024, /* bytes kept of a refusal's body */
    TWS_ASKING_INTERIM_MAX = 32,     /* answers before the answer */
};

enum tws_asking_state {
    TWS_ASKING_WRITING,  /* the request */
    TWS_ASKING_READING,  /* the head of the answer */
    TWS_ASKING_REFUSING, /* the answer refuses: reading its body */
};

struct tws_asking {
    struct tws_handshake_offer offer;
    struct tws_http_limits limits;
    uint8_t state;             /* enum tws_asking_state */
    struct tws_buffer request; /* never consumed */
    size_t written;            /* of it */
    struct tws_buffer in;      /* the answer, from its head on */
    struct tws_http_scanner scanner;
    size_t head_length;       /* of the answer; 0: not known yet */
    unsigned interim;         /* answers of 1xx so far */
    struct tws_span protocol; /* these two are of a good answer */
    struct tws_span extensions;
    struct tws_http_body body; /* of a refusal, as it arrives */
    struct tws_buffer content; /* of that body */
    struct tws_error refusal;
};

/* Writes the request down. What `offer` points to is borrowed until the
 * release, but for its host, which only this call needs; its key is drawn
 * here. TWS_REFUSED where a part of the offer would break the request;
 * TWS_NOMEM; TWS_OS. Only to be released where it fails, too. */
enum tws_status tws_asking_init(struct tws_asking *asking,
                                const struct tws_handshake_offer *offer,
                                const struct tws_http_limits *limits,
                                struct tws_error *err);
void tws_asking_release(struct tws_asking *asking);

/* Bytes of the answer that somebody has read before; copied. */
enum tws_status tws_asking_add(struct tws_asking *asking,
                               struct tws_span initial, struct tws_error *err);

/* Goes on as far as it gets. TWS_OK: a good 101 has come. TWS_AGAIN: call
 * again when the descriptor is ready for *events; nothing pends in the
 * transport then. TWS_REFUSED: an answer of the server, see
 * tws_asking_refusal(), or what is none. TWS_OS, TWS_TLS, TWS_NOMEM. */
enum tws_status tws_asking_advance(struct tws_asking *asking,
                                   struct tws_transport *transport,
                                   unsigned *events, struct tws_error *err);

/* True where a refusal's head has come. Where nobody wants to wait for its
 * body any longer: *err is what TWS_REFUSED would have. */
bool tws_asking_refusal(const struct tws_asking *asking,
                        struct tws_error *err);

/* The request and the answer; *head borrows until the release. */
enum tws_status tws_asking_request(const struct tws_asking *asking,
                                   struct tws_http_head *head,
                                   struct tws_error *err);
enum tws_status tws_asking_answer(const struct tws_asking *asking,
                                  struct tws_http_head *head,
                                  struct tws_error *err);

/* The first bytes of a refusal's body, and what came behind a 101; borrowed
 * until the release. */
struct tws_span tws_asking_body(const struct tws_asking *asking);
struct tws_span tws_asking_rest(const struct tws_asking *asking);

#endif /* TWS_NET_ASKING_H */
