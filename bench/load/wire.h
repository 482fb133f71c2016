/* A TCP connection, with TLS or without. Nothing of it blocks. */
#ifndef BENCH_LOAD_WIRE_H
#define BENCH_LOAD_WIRE_H

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In place of a number of bytes; the end of the stream is 0. */
enum {
    WIRE_AGAIN = -1,
    WIRE_FAILED = -2,
};

struct wire {
    int fd;               /* -1: none */
    SSL *ssl;             /* NULL: plain, or not begun */
    SSL_SESSION *session; /* to take up, owned; outlives the connection */
    bool wants_write;     /* what WIRE_AGAIN waits for */
};

/* What the wires of a run share. */
struct wire_setup {
    SSL_CTX *context; /* NULL: plain */
    bool resume;
};

/* False, with errno set, where OpenSSL fails. */
bool wire_setup_init(struct wire_setup *setup, bool tls, bool resume);
void wire_setup_release(struct wire_setup *setup);

/* Begins to connect, from one of many addresses of the loopback network:
 * each has but so many ports. False, with errno set, on failure. */
bool wire_dial(struct wire *wire, const struct sockaddr_in *to,
               uint32_t number);
/* The error that connecting ended with, or 0. */
int wire_error(const struct wire *wire);
/* The TLS handshake, step by step: 1 when it is done. */
int wire_secure(struct wire *wire, const struct wire_setup *setup);
ptrdiff_t wire_read(struct wire *wire, uint8_t *data, size_t size);
ptrdiff_t wire_write(struct wire *wire, const uint8_t *data, size_t size);
/* Whether there is more to read that epoll does not tell of. */
bool wire_pending(const struct wire *wire);
bool wire_resumed(const struct wire *wire);
void wire_close(struct wire *wire);

#endif
