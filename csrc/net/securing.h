/* One layer of TLS that a client puts over a stream, with what it needs for
 * that until then. */
#ifndef TWS_NET_SECURING_H
#define TWS_NET_SECURING_H

#include "net/tls.h"

/* A zeroed struct is no layer. */
struct tws_securing {
    struct tws_tls_context *context; /* retained; NULL: no layer */
    char *host;                      /* owned; see tws_tls_start() */
    char *peer;                      /* owned, or NULL */
    bool begun;
};

/* Retains the context, copies the rest; `peer` may be NULL. TWS_NOMEM. */
enum tws_status tws_securing_init(struct tws_securing *securing,
                                  struct tws_tls_context *context,
                                  const char *host, const char *peer,
                                  struct tws_error *err);
void tws_securing_release(struct tws_securing *securing);

/* Goes on as far as it gets. TWS_OK: secured, or there is no layer. TWS_AGAIN:
 * call again when the descriptor is ready for *events. TWS_TLS also where the
 * peer ends in the middle. TWS_OS, TWS_NOMEM. */
enum tws_status tws_securing_advance(struct tws_securing *securing,
                                     struct tws_transport *transport,
                                     unsigned *events, struct tws_error *err);

#endif /* TWS_NET_SECURING_H */
