#include "net/proxying.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

static enum tws_status
make_tunnel(struct tws_proxying *proxying, enum tws_tunnel_kind kind,
            const char *host, const struct tws_address *address,
            const char *user_agent, struct tws_error *err)
{
    struct tws_tunnel_options options = {
        .kind = kind,
        .host = host,
        .port = proxying->port,
        .address = address,
        .username = proxying->username,
        .password = proxying->password,
        .user_agent = user_agent,
    };
    struct tws_tunnel *made = NULL;
    enum tws_status status = tws_tunnel_new(&options, &made, err);
    if (status == TWS_OK) {
        tws_tunnel_free(proxying->tunnel);
        proxying->tunnel = made;
    }
    return status;
}

static enum tws_status
copy_credentials(struct tws_proxying *proxying, const struct tws_proxy *proxy,
                 struct tws_error *err)
{
    if (proxy->username == NULL) {
        return TWS_OK;
    }
    proxying->username = strdup(proxy->username);
    proxying->password =
        strdup(proxy->password == NULL ? "" : proxy->password);
    return proxying->username == NULL || proxying->password == NULL
               ? tws_error_nomem(err)
               : TWS_OK;
}

static void
forget_credentials(struct tws_proxying *proxying)
{
    if (proxying->password != NULL) {
        OPENSSL_cleanse(proxying->password, strlen(proxying->password));
    }
    free(proxying->username);
    free(proxying->password);
    proxying->username = NULL;
    proxying->password = NULL;
}

enum tws_status
tws_proxying_init(struct tws_proxying *proxying, const struct tws_proxy *proxy,
                  const char *host, uint16_t port, struct tws_error *err)
{
    bool socks =
        proxy->kind == TWS_PROXY_SOCKS5 || proxy->kind == TWS_PROXY_SOCKS5H;
    *proxying = (struct tws_proxying){.port = port};
    enum tws_status status = copy_credentials(proxying, proxy, err);
    if (status == TWS_OK) {
        /* Also where it is made anew with an address: what can't be asked
         * for is found out before anybody is asked. */
        status =
            make_tunnel(proxying, socks ? TWS_TUNNEL_SOCKS5 : TWS_TUNNEL_HTTP,
                        host, NULL, proxy->user_agent, err);
    }
    if (status == TWS_OK && proxy->kind == TWS_PROXY_HTTPS) {
        char peer[TWS_HOST_MAX + 8];
        (void)snprintf(peer, sizeof(peer), "%s:%u", proxy->host,
                       (unsigned)proxy->port);
        status = tws_securing_init(&proxying->securing, proxy->context,
                                   proxy->host, peer, err);
    }
    if (status == TWS_OK && proxy->kind == TWS_PROXY_SOCKS5) {
        status =
            tws_resolve_begin(host, port, AF_UNSPEC, &proxying->resolve, err);
    }
    if (status != TWS_OK) {
        tws_proxying_release(proxying);
    }
    else if (proxying->resolve == NULL) {
        forget_credentials(proxying);
    }
    return status;
}

void
tws_proxying_release(struct tws_proxying *proxying)
{
    tws_tunnel_free(proxying->tunnel);
    tws_securing_release(&proxying->securing);
    tws_resolve_free(proxying->resolve);
    forget_credentials(proxying);
    *proxying = (struct tws_proxying){.tunnel = NULL};
}

/* The address that the system prefers (RFC 6724): whether the proxy reaches
 * it, only the proxy could say. */
enum tws_status
tws_proxying_look_up(struct tws_proxying *proxying, struct tws_error *err)
{
    struct tws_address address;
    if (proxying->resolve == NULL || proxying->resolved) {
        return TWS_OK;
    }
    enum tws_status status = tws_resolve_next(proxying->resolve, &address,
                                              &proxying->gai_error, err);
    if (status == TWS_EOF) {
        return tws_error_os(err, EADDRNOTAVAIL, "getaddrinfo");
    }
    if (status == TWS_OK) {
        status = make_tunnel(proxying, TWS_TUNNEL_SOCKS5, NULL, &address, NULL,
                             err);
        proxying->resolved = status == TWS_OK;
        forget_credentials(proxying);
    }
    return status;
}

int
tws_proxying_fd(const struct tws_proxying *proxying)
{
    return proxying->resolve == NULL ? -1 : tws_resolve_fd(proxying->resolve);
}

void
tws_proxying_interrupt(const struct tws_proxying *proxying)
{
    if (proxying->resolve != NULL) {
        tws_resolve_interrupt(proxying->resolve);
    }
}

enum tws_status
tws_proxying_advance(struct tws_proxying *proxying,
                     struct tws_transport *transport, unsigned *events,
                     struct tws_error *err)
{
    enum tws_status status = TWS_OK;
    if (proxying->tunnel == NULL) {
        return TWS_OK;
    }
    if (!proxying->secured) {
        status =
            tws_securing_advance(&proxying->securing, transport, events, err);
        proxying->secured = status == TWS_OK;
    }
    if (status == TWS_OK) {
        status = tws_tunnel_advance(proxying->tunnel, transport, events, err);
    }
    return status == TWS_EOF
               ? tws_error_refused(err, 0,
                                   "proxy closed the connection before its "
                                   "answer was complete")
               : status;
}
