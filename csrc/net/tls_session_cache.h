/* The sessions that a client may resume, the latest of each peer, in memory
 * and few. Any thread. */
#ifndef TWS_NET_TLS_SESSION_CACHE_H
#define TWS_NET_TLS_SESSION_CACHE_H

#include "protocol/base.h"

#include <openssl/ssl.h>
#include <pthread.h>

enum { TWS_TLS_SESSIONS = 64 };

struct tws_tls_session {
    char *key;            /* owned; NULL: the place is free */
    SSL_SESSION *session; /* a reference */
    uint64_t added;       /* in what order they came */
};

struct tws_tls_session_cache {
    pthread_mutex_t lock;             /* over all that follows */
    struct tws_tls_session *sessions; /* TWS_TLS_SESSIONS; owned, NULL until
                                       * there is one */
    uint64_t added;
};

/* False: out of memory. */
bool tws_tls_session_cache_init(struct tws_tls_session_cache *cache);
void tws_tls_session_cache_fini(struct tws_tls_session_cache *cache);

/* Takes the reference where it returns true; replaces what there is for that
 * key. The oldest one makes room. False: out of memory. */
bool tws_tls_session_cache_put(struct tws_tls_session_cache *cache,
                               const char *key, SSL_SESSION *session);
/* A session for the key that may still be resumed, as a reference; NULL: none.
 * One of TLS 1.3 is forgotten at the same time, as using it twice would let
 * an observer tell that both connections are by the same client (RFC 8446
 * appendix C.4). */
SSL_SESSION *tws_tls_session_cache_take(struct tws_tls_session_cache *cache,
                                        const char *key);
void tws_tls_session_cache_forget(struct tws_tls_session_cache *cache,
                                  const char *key);

#endif /* TWS_NET_TLS_SESSION_CACHE_H */
