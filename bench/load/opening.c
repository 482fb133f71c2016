#include "load.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The sample nonce of RFC 6455 section 1.3, and the answer it asks for. */
#define NONCE "dGhlIHNhbXBsZSBub25jZQ=="
#define ANSWER "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
#define OFFER                                                                 \
    "Sec-WebSocket-Extensions: permessage-deflate; "                          \
    "server_max_window_bits=12; client_max_window_bits\r\n"

enum {
    ANSWER_MAX = 4096,
    WINDOW_LEAST = 12, /* that of content.c */
};

void
opening_ask(struct load *load, struct peer *peer)
{
    const struct plan *plan = &load->plan;
    int length =
        snprintf((char *)peer->out, load->out_size,
                 "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
                 "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Key: " NONCE "\r\n"
                 "Sec-WebSocket-Version: 13\r\n%s\r\n",
                 ntohs(plan->address.sin_port), plan->compress ? OFFER : "");
    if (length < 0 || (size_t)length >= load->out_size) {
        load_fail("no room for the request");
    }
    peer->out_length = (size_t)length;
}

/* What the answer says of extensions must be what was asked for. */
static bool
has_extensions(const struct plan *plan, const char *text)
{
    const char *line = strcasestr(text, "\r\nsec-websocket-extensions:");
    if (!plan->compress || line == NULL) {
        return plan->compress == (line != NULL);
    }
    if (strcasestr(line, "permessage-deflate") == NULL) {
        return false;
    }
    const char *bits = strcasestr(line, "client_max_window_bits=");
    return bits == NULL || atoi(strchr(bits, '=') + 1) >= WINDOW_LEAST;
}

ptrdiff_t
opening_check(struct load *load, struct peer *peer, const uint8_t *data,
              size_t length)
{
    char text[ANSWER_MAX + 1];
    const uint8_t *end = memmem(data, length, "\r\n\r\n", 4);
    if (end == NULL && length < ANSWER_MAX) {
        return 0;
    }
    size_t size = end == NULL ? length : (size_t)(end - data) + 4;
    if (size > ANSWER_MAX) {
        size = ANSWER_MAX;
    }
    memcpy(text, data, size);
    text[size] = '\0';
    if (end == NULL || strncmp(text, "HTTP/1.1 101 ", 13) != 0
        || strcasestr(text, ANSWER) == NULL
        || !has_extensions(&load->plan, text)) {
        load_fault(load, peer, "the opening handshake failed: %.500s", text);
        return -1;
    }
    return (ptrdiff_t)size;
}
