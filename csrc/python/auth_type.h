/* The C half of BasicAuth and DigestAuth: looks at the credentials of requests
 * for a server, and asks the program about them. Shared by any number of
 * servers and listening websockets, and by their threads. */
#ifndef TWS_PYTHON_AUTH_TYPE_H
#define TWS_PYTHON_AUTH_TYPE_H

#include "python/state.h"

#include "protocol/buffer.h"
#include "protocol/digest_auth.h"

struct tws_auth_nonces;

typedef struct {
    PyObject_HEAD
    struct tws_state *state; /* borrowed */
    PyObject *callback; /* strong; check or password_of; NULL: __init__() was
                         * not called */
    PyObject *realm;    /* strong; str */
    struct tws_span realm_span;     /* borrowed from it */
    struct tws_auth_nonces *nonces; /* owned; NULL: Basic */
    size_t algorithm_count;         /* of Digest */
    enum tws_digest_algorithm algorithms[TWS_DIGEST_ALGORITHMS];
} AuthObject;

extern PyType_Spec tws_auth_spec;

/* auth_judge.c ---------------------------------------------------------- */

/* What a request says. */
struct tws_auth_request {
    struct tws_span method;
    struct tws_span target;
    struct tws_span credentials; /* of its Authorization field */
    size_t count;                /* how many of those it has */
};
/* Of a request's head. */
struct tws_auth_request tws_auth_request_of(const struct tws_http_head *head);

struct tws_verdict {
    PyObject *username;       /* strong; str; NULL: refused */
    bool stale;               /* all was right but the nonce */
    struct tws_error refusal; /* http_status 400 or 401, and why */
};

/* 0 with the verdict; -1 with an exception, which the program's check or
 * password_of has raised. May take as long as those. */
int tws_auth_judge(AuthObject *auth, const struct tws_auth_request *request,
                   struct tws_verdict *verdict);

/* Appends a whole HTTP answer to who was refused, with fresh challenges where
 * the status is 401. -1 with an exception. */
int tws_auth_write_refusal(AuthObject *auth, const struct tws_verdict *verdict,
                           struct tws_buffer *out);

/* The values of the WWW-Authenticate fields that ask for credentials, as many
 * as the result says; the caller releases all the buffers. -1 with an
 * exception. */
int tws_auth_challenges(AuthObject *auth, bool stale,
                        struct tws_buffer out[TWS_DIGEST_ALGORITHMS]);

#endif /* TWS_PYTHON_AUTH_TYPE_H */
