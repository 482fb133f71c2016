/* Challenges and credentials of HTTP authentication (RFC 9110 §11): what is
 * in WWW-Authenticate, Proxy-Authenticate and Authorization fields. Read in
 * place and strictly; allocates nothing and takes time linear in the value's
 * length. Reasons never quote a value, which may be a secret. */
#ifndef TWS_PROTOCOL_HTTP_AUTH_H
#define TWS_PROTOCOL_HTTP_AUTH_H

#include "protocol/http1.h"

enum {
    TWS_AUTH_PARAMS_MAX = 24, /* of one challenge; Digest knows 12 */
};

/* auth-param = token BWS "=" BWS ( token / quoted-string ). The value of a
 * quoted string comes without its quotes; where it held backslashes,
 * `quoted_pairs` is true and tws_auth_unquote() removes them. */
struct tws_auth_param {
    struct tws_span name;
    struct tws_span value;
    bool quoted_pairs;
};

/* A challenge, or credentials: they look the same. Has a token68, or
 * parameters, or neither. */
struct tws_auth {
    struct tws_span scheme;  /* a token; compares without case */
    struct tws_span token68; /* empty: none */
    size_t param_count;
    struct tws_auth_param params[TWS_AUTH_PARAMS_MAX];
};

/* Walks the challenges of one field value, which may be several. Set `rest`
 * to the value. Spans are borrowed from it. TWS_OK; TWS_EOF at the end; or
 * TWS_REFUSED (http_status 400) where the grammar is broken, a parameter comes
 * twice (RFC 9110 §11.2), or there are more than TWS_AUTH_PARAMS_MAX: the
 * walker stays there, and what *auth holds is unspecified. */
struct tws_auth_walker {
    struct tws_span rest;
};
enum tws_status tws_auth_next(struct tws_auth_walker *walker,
                              struct tws_auth *auth, struct tws_error *err);

/* The credentials that are the whole of `value`. TWS_OK or TWS_REFUSED with
 * http_status 400 as above. */
enum tws_status tws_auth_parse(struct tws_span value, struct tws_auth *auth,
                               struct tws_error *err);

/* NULL where there is none; names compare without case. */
const struct tws_auth_param *tws_auth_find(const struct tws_auth *auth,
                                           struct tws_span name);

/* Copies the value without the backslashes of quoted pairs into `out` (room
 * for value.length bytes) and returns the length. */
size_t tws_auth_unquote(const struct tws_auth_param *param, char *out);

/* Whether the value, unquoted, is `text`; the second compares without
 * case. Not for secrets. */
bool tws_auth_value_is(const struct tws_auth_param *param,
                       struct tws_span text);
bool tws_auth_value_is_nocase(const struct tws_auth_param *param,
                              struct tws_span text);

/* True where a user name or a password can be sent: UTF-8 without control
 * characters (RFC 7617 §2, RFC 7616 §4). */
bool tws_auth_is_text(struct tws_span text);

/* True where a server may call its realm so: printable ASCII without quotes
 * and backslashes, which clients do not agree how to hash. May be empty. */
bool tws_auth_is_realm(struct tws_span text);

/* Appends all parts, or none: TWS_NOMEM. */
enum tws_status tws_auth_append(struct tws_buffer *out,
                                const struct tws_span *parts, size_t count,
                                struct tws_error *err);

#endif /* TWS_PROTOCOL_HTTP_AUTH_H */
