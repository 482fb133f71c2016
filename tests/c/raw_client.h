/* The raw end of a connection in the tests of the engine: writes its frames
 * by hand, and reads what a server sends. */
#ifndef TWS_TESTS_RAW_CLIENT_H
#define TWS_TESTS_RAW_CLIENT_H

#include "protocol/base.h"
#include "protocol/frame.h"

#include "harness.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

static inline void
must(bool good, const char *what)
{
    if (!good) {
        perror(what);
        exit(1); /* no test can go on */
    }
}

#define UPGRADE_REQUEST                                                       \
    "GET /chat HTTP/1.1\r\n"                                                  \
    "Host: localhost\r\n"                                                     \
    "Upgrade: websocket\r\n"                                                  \
    "Connection: Upgrade\r\n"                                                 \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"                         \
    "Sec-WebSocket-Version: 13\r\n"                                           \
    "\r\n"

/* Closes with a reset instead of an end. */
static inline void
reset_fd(int fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    CHECK_INT(close(fd), 0);
}

/* False where the peer does not take it. */
static inline bool
offer(int fd, const void *data, size_t length)
{
    const uint8_t *at = data;
    while (length > 0) {
        ssize_t n = send(fd, at, length, MSG_NOSIGNAL);
        if (n < 0) {
            return false;
        }
        at += n;
        length -= (size_t)n;
    }
    return true;
}

static inline void
give(int fd, const void *data, size_t length)
{
    CHECK(offer(fd, data, length));
}

static inline bool
take_bytes(int fd, void *data, size_t length)
{
    uint8_t *at = data;
    while (length > 0) {
        ssize_t n = recv(fd, at, length, 0);
        if (n <= 0) {
            return false;
        }
        at += n;
        length -= (size_t)n;
    }
    return true;
}

/* Reads away what comes; true where it ends with the end of the stream and
 * not with a reset or a time-out. */
static inline bool
read_to_end(int fd)
{
    char bytes[4096];
    ssize_t n;
    do {
        n = recv(fd, bytes, sizeof(bytes), 0);
    } while (n > 0);
    return n == 0;
}

/* Reads a head up to its empty line and not a byte further. */
static inline bool
take_head(int fd, char *head, size_t size)
{
    size_t length = 0;
    while (length + 1 < size && take_bytes(fd, head + length, 1)) {
        length++;
        head[length] = '\0';
        if (length >= 4 && memcmp(head + length - 4, "\r\n\r\n", 4) == 0) {
            return true;
        }
    }
    return false;
}

static inline void
expect_101(int fd)
{
    char head[1024];
    CHECK(take_head(fd, head, sizeof(head)));
    CHECK(strncmp(head, "HTTP/1.1 101 ", 13) == 0);
    CHECK(strstr(head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") != NULL);
}

enum {
    TEXT = TWS_FIN | TWS_OPCODE_TEXT,
    BINARY = TWS_FIN | TWS_OPCODE_BINARY,
    CLOSE = TWS_FIN | TWS_OPCODE_CLOSE,
    PING = TWS_FIN | TWS_OPCODE_PING,
    PONG = TWS_FIN | TWS_OPCODE_PONG,
    WIRE_HEADER_MAX = 14,
};

/* Writes a masked frame with this first byte into `out` (room for the payload
 * and WIRE_HEADER_MAX bytes) and returns its length. */
static inline size_t
write_frame(uint8_t *out, unsigned first, const void *payload, size_t length)
{
    static const uint8_t key[4] = {0x37, 0xfa, 0x21, 0x3d};
    size_t at = 0;
    out[at++] = (uint8_t)first;
    if (length < 126) {
        out[at++] = (uint8_t)(0x80 | length);
    }
    else if (length < 65536) {
        out[at++] = 0x80 | 126;
        out[at++] = (uint8_t)(length >> 8);
        out[at++] = (uint8_t)length;
    }
    else {
        out[at++] = 0x80 | 127;
        for (int shift = 56; shift >= 0; shift -= 8) {
            out[at++] = (uint8_t)((uint64_t)length >> shift);
        }
    }
    memcpy(out + at, key, sizeof(key));
    at += sizeof(key);
    for (size_t i = 0; i < length; i++) {
        out[at++] = ((const uint8_t *)payload)[i] ^ key[i % 4];
    }
    return at;
}

static inline void
put_frame(int fd, unsigned first, const void *payload, size_t length)
{
    uint8_t *bytes = malloc(length + WIRE_HEADER_MAX);
    must(bytes != NULL, "malloc");
    give(fd, bytes, write_frame(bytes, first, payload, length));
    free(bytes);
}

static inline void
put_text(int fd, const char *text)
{
    put_frame(fd, TEXT, text, strlen(text));
}

static inline void
put_close(int fd, unsigned code)
{
    uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    put_frame(fd, CLOSE, payload, code == 0 ? 0 : 2);
}

/* Reads one frame of a server; `data` (NUL-ended) is to be freed. */
struct wire_frame {
    uint8_t first;
    size_t length;
    uint8_t *data;
};

/* Where nothing comes any more each further wait takes its full time. */
static inline void
not_too_many(void)
{
    if (harness_failures > 20) {
        fprintf(stderr, "too many failures\n");
        exit(1);
    }
}

static inline bool
take_frame(int fd, struct wire_frame *frame)
{
    uint8_t header[10];
    not_too_many();
    *frame = (struct wire_frame){0};
    if (!take_bytes(fd, header, 2)) {
        return false;
    }
    frame->first = header[0];
    uint64_t length = header[1];
    CHECK((length & 0x80) == 0); /* a server does not mask */
    if (length == 126) {
        if (!take_bytes(fd, header, 2)) {
            return false;
        }
        length = tws_load_be16(header);
    }
    else if (length == 127) {
        if (!take_bytes(fd, header, 8)) {
            return false;
        }
        length = tws_load_be64(header);
    }
    must(length < (uint64_t)1 << 30, "length of a frame");
    frame->length = (size_t)length;
    frame->data = malloc(frame->length + 1);
    must(frame->data != NULL, "malloc");
    frame->data[frame->length] = '\0';
    if (!take_bytes(fd, frame->data, frame->length)) {
        free(frame->data);
        frame->data = NULL;
        return false;
    }
    return true;
}

static inline void
expect_frame(int fd, unsigned first, const void *payload, size_t length)
{
    struct wire_frame frame;
    bool got = take_frame(fd, &frame);
    CHECK(got);
    if (got) {
        CHECK_INT(frame.first, first);
        CHECK_INT(frame.length, length);
        CHECK(frame.length == length
              && (length == 0 || memcmp(frame.data, payload, length) == 0));
    }
    free(frame.data);
}

static inline void
expect_text(int fd, const char *text)
{
    expect_frame(fd, TEXT, text, strlen(text));
}

/* The next frame is a Close with this code; 1005: without one. */
static inline void
expect_close(int fd, unsigned code)
{
    struct wire_frame frame;
    bool got = take_frame(fd, &frame);
    CHECK(got);
    if (got) {
        CHECK_INT(frame.first, CLOSE);
        CHECK_INT(frame.length >= 2 ? tws_load_be16(frame.data) : 1005, code);
    }
    free(frame.data);
}

/* The closing handshake, begun here. */
static inline void
close_politely(int fd)
{
    put_close(fd, 1000);
    expect_close(fd, 1000);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
}

#endif /* TWS_TESTS_RAW_CLIENT_H */
