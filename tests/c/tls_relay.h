/* Two ends of TLS that do not see each other: the test carries what they
 * write, as much of it at a time as it likes, or damages it. */
#ifndef TWS_TESTS_TLS_RELAY_H
#define TWS_TESTS_TLS_RELAY_H

#include "tls_fixture.h"

static struct tls_pair pair;
static int to_client; /* the other ends of their sockets; -1: closed */
static int to_server;

static inline void
relay_open(struct tws_tls_context *client, struct tws_tls_context *server,
           const char *host)
{
    int fds[2];
    struct tws_error err;
    pair = (struct tls_pair){0};
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    tws_transport_plain(&pair.client.transport, fds[0]);
    to_client = fds[1];
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    tws_transport_plain(&pair.server.transport, fds[0]);
    to_server = fds[1];
    pair.client.status = pair.server.status = TWS_AGAIN;
    MUST(tws_tls_start(&pair.client.transport, client, host, NULL, &err)
         == TWS_OK);
    MUST(tws_tls_start(&pair.server.transport, server, NULL, NULL, &err)
         == TWS_OK);
}

/* Carries at most that much; how much it was. */
static inline size_t
relay(int from, int to, size_t most)
{
    char data[65536];
    ssize_t n = read(from, data, most < sizeof(data) ? most : sizeof(data));
    if (n <= 0) {
        return 0;
    }
    MUST(write(to, data, (size_t)n) == n);
    return (size_t)n;
}

static inline size_t
relay_both(size_t most)
{
    return relay(to_client, to_server, most)
           + relay(to_server, to_client, most);
}

/* In order: what was not read would make a reset of the end. */
static inline void
relay_cut(int *fd)
{
    char data[4096];
    if (*fd >= 0) {
        while (read(*fd, data, sizeof(data)) > 0) {
        }
        close(*fd);
    }
    *fd = -1;
}

static inline void
relay_close(void)
{
    close_pair(&pair);
    relay_cut(&to_client);
    relay_cut(&to_server);
}

/* The handshake in steps of at most that many bytes, until `total` went each
 * way or both are done. */
static inline void
relay_shake(size_t step, size_t total)
{
    size_t up = 0;
    size_t down = 0;
    for (int quiet = 0; quiet < 3; quiet++) {
        secure_end(&pair.client);
        secure_end(&pair.server);
        size_t left = total - up < step ? total - up : step;
        size_t n = left == 0 ? 0 : relay(to_client, to_server, left);
        up += n;
        /* A client that is done reads no more: crumbs would fill its socket.
         */
        left = pair.client.status == TWS_OK || total - down < step
                   ? total - down
                   : step;
        size_t m = left == 0 ? 0 : relay(to_server, to_client, left);
        down += m;
        quiet = n + m > 0 ? 0 : quiet;
    }
}

#endif /* TWS_TESTS_TLS_RELAY_H */
