#include "net/securing.h"

#include <stdlib.h>

enum tws_status
tws_securing_init(struct tws_securing *securing,
                  struct tws_tls_context *context, const char *host,
                  const char *peer, struct tws_error *err)
{
    *securing = (struct tws_securing){
        .context = tws_tls_context_retain(context),
        .host = strdup(host),
        .peer = peer == NULL ? NULL : strdup(peer),
    };
    if (securing->host == NULL || (peer != NULL && securing->peer == NULL)) {
        tws_securing_release(securing);
        return tws_error_nomem(err);
    }
    return TWS_OK;
}

void
tws_securing_release(struct tws_securing *securing)
{
    tws_tls_context_release(securing->context);
    free(securing->host);
    free(securing->peer);
    *securing = (struct tws_securing){.context = NULL};
}

enum tws_status
tws_securing_advance(struct tws_securing *securing,
                     struct tws_transport *transport, unsigned *events,
                     struct tws_error *err)
{
    if (securing->context == NULL) {
        return TWS_OK;
    }
    if (!securing->begun) {
        enum tws_status status = tws_tls_start(
            transport, securing->context, securing->host, securing->peer, err);
        if (status != TWS_OK) {
            return status;
        }
        securing->begun = true;
    }
    enum tws_status status = tws_secure(transport, events, err);
    return status == TWS_EOF
               ? tws_error_tls(err, "the peer closed the connection in the "
                                    "middle of the handshake")
               : status;
}
