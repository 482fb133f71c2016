/* The nonces of a DigestAuth, where all that need them find the same: threads,
 * and the workers that are forked after it was made, so that one of them takes
 * the nonce that another has handed out, and none takes it twice. */
#ifndef TWS_PYTHON_AUTH_NONCES_H
#define TWS_PYTHON_AUTH_NONCES_H

#include "python/state.h"

#include "protocol/digest_nonces.h"

struct tws_auth_nonces;

/* With a fresh secret. NULL with an exception. */
struct tws_auth_nonces *tws_auth_nonces_new(struct tws_state *state,
                                            uint64_t lifetime_ns);
/* NULL is allowed. Other processes keep theirs. */
void tws_auth_nonces_free(struct tws_auth_nonces *nonces);

/* As tws_nonces_make() and tws_nonces_use(), at this moment. Any thread. -1
 * with an exception. */
int tws_auth_nonces_make(struct tws_state *state,
                         const struct tws_auth_nonces *nonces,
                         char out[TWS_NONCE_LENGTH]);
int tws_auth_nonces_use(struct tws_state *state,
                        struct tws_auth_nonces *nonces, struct tws_span nonce,
                        uint32_t count, enum tws_nonce_state *found);

#endif /* TWS_PYTHON_AUTH_NONCES_H */
