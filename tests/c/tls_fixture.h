/* Two ends of TLS over a socket pair, moved on by turns. */
#ifndef TWS_TESTS_TLS_FIXTURE_H
#define TWS_TESTS_TLS_FIXTURE_H

#include "certificates.h"
#include "net/tls.h"
#include "net/tls_parts.h"

#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>

struct tls_end {
    struct tws_transport transport;
    enum tws_status status; /* of the handshake */
    unsigned events;
    struct tws_error err;
};

struct tls_pair {
    struct tls_end client;
    struct tls_end server;
};

static const char *server_file; /* a.test, b.test, *.wild.test, 127.0.0.1 */
static const char *trust_file;  /* what the clients trust */

static inline void
fixture_begin(void)
{
    certificates_begin();
    server_file = certificate_file(
        &(struct recipe){
            .common_name = "server",
            .names = "DNS:a.test,DNS:b.test,DNS:*.wild.test,IP:127.0.0.1,"
                     "IP:::1"},
        &authority);
    trust_file = authority_file(&authority);
}

static inline struct tws_tls_context *
new_context(const struct tws_tls_options *options,
            struct tws_tls_context *previous)
{
    struct tws_tls_context *context = NULL;
    struct tws_error err = {0};
    if (tws_tls_context_new(options, previous, &context, &err) != TWS_OK) {
        fprintf(stderr, "no context: %s\n", err.reason);
        abort();
    }
    return context;
}

static inline struct tws_tls_context *
server_context_of(const char *file)
{
    return new_context(
        &(struct tws_tls_options){
            .role = TWS_SERVER,
            .identities = &(struct tws_tls_identity){.certfile = file},
            .identity_count = 1},
        NULL);
}

static inline struct tws_tls_context *
client_context(void)
{
    return new_context(&(struct tws_tls_options){.role = TWS_CLIENT,
                                                 .verify = true,
                                                 .cafile = trust_file},
                       NULL);
}

/* No public option: a peer of the newest version is never refused. */
static inline void
limit_version(struct tws_tls_context *context, int version)
{
    for (size_t i = 0; i < context->site_count; i++) {
        SSL_CTX_set_max_proto_version(context->sites[i].ssl_context, version);
    }
}

static inline void
open_plain(struct tls_pair *pair)
{
    int fds[2];
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
    *pair = (struct tls_pair){0};
    tws_transport_plain(&pair->client.transport, fds[0]);
    tws_transport_plain(&pair->server.transport, fds[1]);
    pair->client.status = pair->server.status = TWS_AGAIN;
}

/* The contexts stay the caller's. */
static inline void
open_pair(struct tls_pair *pair, struct tws_tls_context *client,
          struct tws_tls_context *server, const char *host, const char *peer)
{
    struct tws_error err;
    open_plain(pair);
    MUST(tws_tls_start(&pair->client.transport, client, host, peer, &err)
         == TWS_OK);
    MUST(tws_tls_start(&pair->server.transport, server, NULL, NULL, &err)
         == TWS_OK);
}

static inline void
close_end(struct tls_end *end)
{
    int fd = end->transport.fd;
    tws_transport_release(&end->transport);
    if (fd >= 0) {
        close(fd);
    }
}

static inline void
close_pair(struct tls_pair *pair)
{
    close_end(&pair->client);
    close_end(&pair->server);
}

static inline void
secure_end(struct tls_end *end)
{
    if (end->status == TWS_AGAIN) {
        end->status = tws_secure(&end->transport, &end->events, &end->err);
        CHECK_INT(ERR_peek_error(), 0); /* nothing is left to others */
    }
}

/* Until both are done, in either way. */
static inline void
shake(struct tls_pair *pair)
{
    for (int i = 0; i < 10000
                    && (pair->client.status == TWS_AGAIN
                        || pair->server.status == TWS_AGAIN);
         i++) {
        secure_end(&pair->client);
        secure_end(&pair->server);
    }
}

static inline void
shake_well(struct tls_pair *pair)
{
    shake(pair);
    if (pair->client.status != TWS_OK || pair->server.status != TWS_OK) {
        fprintf(stderr, "handshake: client %d %s, server %d %s\n",
                pair->client.status, pair->client.err.reason,
                pair->server.status, pair->server.err.reason);
        abort();
    }
}

static inline struct tws_tls_info
info_of(struct tls_end *end)
{
    struct tws_tls_info info;
    tws_tls_read_info(end->transport.tls, &info);
    return info;
}

static inline void
wait_for(int fd, short events)
{
    struct pollfd watched = {.fd = fd, .events = events};
    MUST(poll(&watched, 1, 20000) == 1);
}

/* Writes all, however long that takes; the other end must read meanwhile. */
static inline enum tws_status
write_all(struct tls_end *end, const void *data, size_t length)
{
    const uint8_t *next = data;
    while (length > 0) {
        size_t written = 0;
        enum tws_status status =
            tws_write(&end->transport, next, length, &written, &end->err);
        if (status == TWS_AGAIN) {
            wait_for(end->transport.fd, POLLOUT);
        }
        else if (status != TWS_OK) {
            return status;
        }
        next += written;
        length -= written;
    }
    return TWS_OK;
}

/* Reads that much, waiting where nothing is pending. */
static inline enum tws_status
read_all_of(struct tls_end *end, void *data, size_t length)
{
    uint8_t *next = data;
    while (length > 0) {
        size_t got = 0;
        enum tws_status status =
            tws_read(&end->transport, next, length, &got, &end->err);
        if (status == TWS_AGAIN) {
            if (!tws_pending(&end->transport)) {
                wait_for(end->transport.fd, POLLIN);
            }
        }
        else if (status != TWS_OK) {
            return status;
        }
        next += got;
        length -= got;
    }
    return TWS_OK;
}

/* What was written at one end arrives at the other. */
static inline void
check_echo(struct tls_pair *pair)
{
    char data[8] = "";
    CHECK_INT(write_all(&pair->client, "question", 8), TWS_OK);
    CHECK_INT(read_all_of(&pair->server, data, 8), TWS_OK);
    CHECK_BYTES(data, 8, "question");
    CHECK_INT(write_all(&pair->server, "answered", 8), TWS_OK);
    CHECK_INT(read_all_of(&pair->client, data, 8), TWS_OK);
    CHECK_BYTES(data, 8, "answered");
}

#endif /* TWS_TESTS_TLS_FIXTURE_H */
