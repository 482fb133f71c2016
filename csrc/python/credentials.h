/* The user name and password of a client: auth=('user', 'password'). */
#ifndef TWS_PYTHON_CREDENTIALS_H
#define TWS_PYTHON_CREDENTIALS_H

#include "python/state.h"

#include "protocol/auth_client.h"
#include "protocol/http1.h"

/* Reads the option `auth` (NULL: it was not given). Of a pair of str *user and
 * *password are set, new references: in Unicode's form NFC, without control
 * characters, the user name without a colon. What a server asks with is left
 * to its owner, as it may be a part of a reference cycle. -1 with TypeError or
 * ValueError, which never show a password. */
int tws_credentials_read(struct tws_state *state, PyObject *auth,
                         PyObject **user, PyObject **password);

/* Appends what answers a refusal: to a 401 the value of an Authorization
 * field, to a 407 that of Proxy-Authorization, for the same request on another
 * connection. `client` tells user, password (both as they were read), method
 * and target; the rest is made here. *stale: the refusal was of an answer
 * before, whose nonce was too old and nothing else wrong, so that one more is
 * worth sending. 1; 0 where there is no challenge that can be answered, or
 * another status, with why in *err; -1 with an exception. */
int tws_credentials_answer(struct tws_state *state,
                           const struct tws_http_head *refusal,
                           const struct tws_auth_client *client, bool *stale,
                           struct tws_buffer *out, struct tws_error *err);

#endif /* TWS_PYTHON_CREDENTIALS_H */
