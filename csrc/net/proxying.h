/* A client's way through a proxy: TLS with it, where it is reached so, and
 * the tunnel to the server. Never blocks. */
#ifndef TWS_NET_PROXYING_H
#define TWS_NET_PROXYING_H

#include "net/resolve.h"
#include "net/securing.h"
#include "net/tunnel.h"

enum tws_proxy_kind {
    TWS_PROXY_HTTP,    /* CONNECT */
    TWS_PROXY_HTTPS,   /* the same, over TLS */
    TWS_PROXY_SOCKS5,  /* the server's name is looked up here */
    TWS_PROXY_SOCKS5H, /* ... by the proxy */
};

struct tws_proxy {
    enum tws_proxy_kind kind;
    const char *host;
    uint16_t port;
    const char *username;            /* NULL: no credentials */
    const char *password;            /* NULL: an empty one */
    struct tws_tls_context *context; /* of HTTPS */
    const char *user_agent;          /* for HTTP; NULL: none is told */
};

/* A zeroed struct is no proxy: everything succeeds at once. */
struct tws_proxying {
    struct tws_tunnel *tunnel; /* owned; NULL: no proxy */
    struct tws_securing securing;
    bool secured;

    /* SOCKS5: the look-up of the server, and what the tunnel is made of once
     * more, with the address; owned, NULL where none is needed. */
    struct tws_resolve *resolve;
    bool resolved;
    int gai_error;
    uint16_t port;
    char *username;
    char *password; /* wiped */
};

/* To the server `host`, `port`. Copies, retains the context. TWS_REFUSED where
 * the proxy can't be asked for that; TWS_NOMEM; TWS_OS. */
enum tws_status tws_proxying_init(struct tws_proxying *proxying,
                                  const struct tws_proxy *proxy,
                                  const char *host, uint16_t port,
                                  struct tws_error *err);
void tws_proxying_release(struct tws_proxying *proxying);

/* Before the proxy is connected to: looks up the server, where that is to be
 * done here. TWS_OK; TWS_AGAIN: call again when tws_proxying_fd() is readable;
 * TWS_REFUSED with gai_error set; TWS_OS; TWS_NOMEM. */
enum tws_status tws_proxying_look_up(struct tws_proxying *proxying,
                                     struct tws_error *err);
int tws_proxying_fd(const struct tws_proxying *proxying);
/* Makes that descriptor readable. Any thread. */
void tws_proxying_interrupt(const struct tws_proxying *proxying);

/* On the stream to the proxy. TWS_OK: what goes over the transport now goes to
 * the server. TWS_AGAIN: call again when the descriptor is ready for *events.
 * TWS_REFUSED: by the proxy, see tws_tunnel_refusal(); TWS_TLS, TWS_OS,
 * TWS_NOMEM. */
enum tws_status tws_proxying_advance(struct tws_proxying *proxying,
                                     struct tws_transport *transport,
                                     unsigned *events, struct tws_error *err);

#endif /* TWS_NET_PROXYING_H */
