/* A client's answer to a 401: auth=('user', 'password') of a websocket. */
#ifndef TWS_PYTHON_CHALLENGE_H
#define TWS_PYTHON_CHALLENGE_H

#include "python/options.h"

#include "protocol/buffer.h"
#include "protocol/http1.h"

/* Of one connect(), over all of its requests. All zero: nothing was asked. */
struct tws_challenge {
    struct tws_buffer answer; /* owned; value of the next request's
                               * Authorization field. Empty: none */
    uint8_t answered;         /* requests that had one */
};

/* Reads the head of a refusal. 1: challenge->answer is for another try of the
 * same request; 0: there is nothing to answer, or it was answered before and
 * the server wants none of it; -1 with an exception. */
int tws_challenge_take(struct tws_challenge *challenge,
                       const struct tws_options *options,
                       const struct tws_http_head *head,
                       struct tws_state *state);

/* Forgets all; the answer, which may be a password, is overwritten. */
void tws_challenge_release(struct tws_challenge *challenge);

#endif /* TWS_PYTHON_CHALLENGE_H */
