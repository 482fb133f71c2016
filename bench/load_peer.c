#include "load_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* The sample nonce of RFC 6455 section 1.3, and the answer it asks for. */
#define NONCE "dGhlIHNhbXBsZSBub25jZQ=="
#define ANSWER "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"

#define CONNECT_TIME (5 * SECOND) /* a new server may not listen yet */

enum {
    OPCODE_CLOSE = 8,
    OPCODE_PING = 9,
    OPCODE_PONG = 10,
    FIN = 0x80,
    MASK = 0x80,
    KEY_SIZE = 4,
    STAMP_MAX = 12,     /* 8 digits of the message, 4 of the connection */
    BLOCK = 64 * 1024,  /* read and written at once, about */
    CONTROL_ROOM = 256, /* for control frames among the data */
    ERRORS_SHOWN = 5,
};

/* Any key but zero makes the server unmask. */
static const uint8_t key[KEY_SIZE] = {0x37, 0xfa, 0x21, 0x3d};

void
load_die(const char *what)
{
    perror(what);
    exit(2);
}

uint64_t
load_clock(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) != 0) {
        load_die("clock_gettime");
    }
    return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

void *
load_allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL) {
        load_die("calloc");
    }
    return memory;
}

static void
fault(struct load *load, const struct peer *peer, const char *format, ...)
{
    if (load->errors++ >= ERRORS_SHOWN) {
        return;
    }
    va_list args;
    va_start(args, format);
    fprintf(stderr, "connection %" PRIu32 ": ", peer->id);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

static void
drop(struct load *load, struct peer *peer)
{
    close(peer->fd);
    peer->fd = -1;
    load->open--;
    load->outstanding -= peer->sent - peer->received + peer->owed;
}

/* Messages ------------------------------------------------------------- */

/* Tells messages of all connections apart, the latest ones even by the first
 * byte. Returns its length. */
static size_t
make_stamp(const struct load *load, const struct peer *peer, uint32_t number,
           uint8_t *stamp)
{
    static const char digits[] = "0123456789abcdef";
    uint64_t value = (uint64_t)peer->id << 32 | number;
    size_t length = load->plan.size;
    if (length > STAMP_MAX) {
        length = STAMP_MAX;
    }
    for (size_t i = 0; i < length; i++) {
        stamp[i] = (uint8_t)digits[value & 0xf];
        value >>= 4;
    }
    return length;
}

/* RFC 6455 section 5.2, without a key; minimal lengths. */
static size_t
make_header(uint8_t opcode, uint64_t length, uint8_t *header)
{
    unsigned bytes = length < 126 ? 0 : length <= 0xffff ? 2 : 8;
    header[0] = (uint8_t)(FIN | opcode);
    header[1] = (uint8_t)(bytes == 0 ? length : bytes == 2 ? 126 : 127);
    for (unsigned i = 0; i < bytes; i++) {
        header[2 + i] = (uint8_t)(length >> (8 * (bytes - 1 - i)));
    }
    return 2 + bytes;
}

void
load_prepare(struct load *load)
{
    const struct plan *plan = &load->plan;
    load->payload = load_allocate(plan->size + 1, 1);
    for (size_t i = 0; i < plan->size; i++) {
        load->payload[i] =
            (uint8_t)(plan->opcode == OPCODE_TEXT ? 'a' + i % 26 : i * 7);
    }
    load->echo_header_size =
        make_header(plan->opcode, plan->size, load->echo_header);
    load->prefix_size = load->echo_header_size + KEY_SIZE;
    load->frame_size = load->prefix_size + plan->size;
    load->frame = load_allocate(load->frame_size, 1);
    memcpy(load->frame, load->echo_header, load->echo_header_size);
    load->frame[1] |= MASK;
    memcpy(load->frame + load->echo_header_size, key, KEY_SIZE);
    for (size_t i = 0; i < plan->size; i++) {
        load->frame[load->prefix_size + i] =
            load->payload[i] ^ key[i % KEY_SIZE];
    }
    load->in_size = load->frame_size + BLOCK;
    size_t frames = BLOCK / load->frame_size + 1;
    if (frames > plan->depth) {
        frames = plan->depth;
    }
    load->out_size = frames * load->frame_size + CONTROL_ROOM;
}

static void
put_message(struct load *load, struct peer *peer)
{
    uint8_t *at = peer->out + peer->out_length;
    uint8_t stamp[STAMP_MAX];
    size_t length = make_stamp(load, peer, peer->sent, stamp);
    memcpy(at, load->frame, load->frame_size);
    for (size_t i = 0; i < length; i++) {
        at[load->prefix_size + i] = stamp[i] ^ key[i % KEY_SIZE];
    }
    peer->out_length += load->frame_size;
    peer->sent++;
    peer->owed--;
}

static bool
is_echo(const struct load *load, const struct peer *peer,
        const uint8_t *payload)
{
    uint8_t stamp[STAMP_MAX];
    size_t length = make_stamp(load, peer, peer->received, stamp);
    return memcmp(payload, stamp, length) == 0
           && memcmp(payload + length, load->payload + length,
                     load->plan.size - length)
                  == 0;
}

/* Writing --------------------------------------------------------------- */

static void
look_for_room(struct load *load, struct peer *peer, bool blocked)
{
    struct epoll_event event = {.data.ptr = peer, .events = EPOLLIN};
    if (blocked == peer->blocked) {
        return;
    }
    if (blocked) {
        event.events |= EPOLLOUT;
    }
    if (epoll_ctl(load->epoll, EPOLL_CTL_MOD, peer->fd, &event) != 0) {
        load_die("epoll_ctl");
    }
    peer->blocked = blocked;
}

/* Sends what is owed, as far as the kernel takes it. */
void
load_push(struct load *load, struct peer *peer)
{
    for (;;) {
        if (peer->out_start == peer->out_length) {
            peer->out_start = peer->out_length = 0;
        }
        while (peer->owed > 0
               && peer->out_length + load->frame_size + CONTROL_ROOM
                      <= load->out_size) {
            put_message(load, peer);
        }
        if (peer->out_length == 0) {
            look_for_room(load, peer, false);
            return;
        }
        ssize_t written =
            send(peer->fd, peer->out + peer->out_start,
                 peer->out_length - peer->out_start, MSG_NOSIGNAL);
        if (written < 0) {
            if (errno == EAGAIN) {
                look_for_room(load, peer, true);
                return;
            }
            fault(load, peer, "send: %s", strerror(errno));
            drop(load, peer);
            return;
        }
        peer->out_start += (size_t)written;
    }
}

/* A control frame of up to 125 bytes; false where no room is left for it. */
static bool
put_control(struct load *load, struct peer *peer, uint8_t opcode,
            const uint8_t *payload, size_t length)
{
    if (peer->out_length + 2 + KEY_SIZE + length > load->out_size) {
        return false;
    }
    uint8_t *at = peer->out + peer->out_length;
    at[0] = (uint8_t)(FIN | opcode);
    at[1] = (uint8_t)(MASK | length);
    memcpy(at + 2, key, KEY_SIZE);
    for (size_t i = 0; i < length; i++) {
        at[2 + KEY_SIZE + i] = payload[i] ^ key[i % KEY_SIZE];
    }
    peer->out_length += 2 + KEY_SIZE + length;
    return true;
}

/* Reading --------------------------------------------------------------- */

/* What is not the start of an echo: a control frame, or wrong. Returns how
 * many bytes it took, 0 for more to come, or -1 when the connection is over.
 */
static ssize_t
take_other(struct load *load, struct peer *peer, const uint8_t *data,
           size_t length)
{
    unsigned opcode = data[0] & 0x0f;
    bool control = (data[0] & 0x70) == 0 && (data[0] & FIN) != 0
                   && data[1] <= 125
                   && (opcode == OPCODE_CLOSE || opcode == OPCODE_PING
                       || opcode == OPCODE_PONG);
    if (!control) {
        fault(load, peer,
              "got a frame that starts %02x %02x, expected the echo: %02x "
              "%02x",
              data[0], data[1], load->echo_header[0], load->echo_header[1]);
        return -1;
    }
    size_t whole = 2 + (size_t)data[1];
    if (length < whole) {
        return 0;
    }
    if (opcode == OPCODE_CLOSE) {
        if (!peer->close_sent) {
            fault(load, peer, "closed by the server with code %d",
                  data[1] < 2 ? 1005 : data[2] << 8 | data[3]);
        }
        return -1;
    }
    if (opcode == OPCODE_PING
        && !put_control(load, peer, OPCODE_PONG, data + 2, data[1])) {
        fault(load, peer, "too many pings to answer");
        return -1;
    }
    return (ssize_t)whole;
}

/* Checks the frames in `in`. False when the connection is over. */
static bool
take_frames(struct load *load, struct peer *peer)
{
    const uint8_t *data = peer->in;
    size_t left = peer->in_length;
    size_t header = load->echo_header_size;
    size_t whole = header + load->plan.size;
    ssize_t taken = 1;
    while (left >= 2 && taken > 0) {
        if (memcmp(data, load->echo_header, 2) != 0) {
            taken = take_other(load, peer, data, left);
        }
        else if (left < whole) {
            taken = 0;
        }
        else if (peer->sent == peer->received
                 || memcmp(data, load->echo_header, header) != 0) {
            fault(load, peer, "got a message that was not sent");
            taken = -1;
        }
        else {
            if (is_echo(load, peer, data + header)) {
                load->messages++;
            }
            else {
                fault(load, peer, "echo %" PRIu32 " differs", peer->received);
            }
            peer->received++;
            if (load->stopping) {
                load->outstanding--;
            }
            else {
                peer->owed++;
            }
            taken = (ssize_t)whole;
        }
        if (taken > 0) {
            data += taken;
            left -= (size_t)taken;
        }
    }
    if (data != peer->in) {
        memmove(peer->in, data, left);
    }
    peer->in_length = left;
    return taken >= 0;
}

void
load_pull(struct load *load, struct peer *peer)
{
    ssize_t got = recv(peer->fd, peer->in + peer->in_length,
                       load->in_size - peer->in_length, 0);
    if (got < 0 && errno == EAGAIN) {
        return;
    }
    if (got <= 0) {
        fault(load, peer, "%s",
              got == 0 ? "ended without a Close frame" : strerror(errno));
        drop(load, peer);
        return;
    }
    peer->in_length += (size_t)got;
    if (!take_frames(load, peer)) {
        drop(load, peer);
        return;
    }
    if (!peer->blocked) {
        load_push(load, peer);
    }
}

/* Opening and closing ---------------------------------------------------- */

static int
dial(const struct plan *plan)
{
    static const struct timeval patience = {.tv_sec = 10};
    static const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    uint64_t deadline = load_clock(CLOCK_MONOTONIC) + CONNECT_TIME;
    const int on = 1;
    for (;;) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0) {
            load_die("socket");
        }
        if (connect(fd, (const struct sockaddr *)&plan->address,
                    sizeof(plan->address))
            == 0) {
            if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0
                || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience,
                              sizeof(patience))
                       != 0) {
                load_die("setsockopt");
            }
            return fd;
        }
        if (errno != ECONNREFUSED || load_clock(CLOCK_MONOTONIC) > deadline) {
            load_die("connect");
        }
        close(fd);
        nanosleep(&pause, NULL);
    }
}

/* The opening handshake of RFC 6455 section 4.1. The server has nothing to
 * say behind its answer, as we have sent nothing yet. */
static void
shake_hands(const struct plan *plan, int fd)
{
    char text[4096];
    int length = snprintf(text, sizeof(text),
                          "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
                          "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: " NONCE "\r\n"
                          "Sec-WebSocket-Version: 13\r\n\r\n",
                          ntohs(plan->address.sin_port));
    if (send(fd, text, (size_t)length, MSG_NOSIGNAL) != length) {
        load_die("send (handshake)");
    }
    size_t have = 0;
    char *end = NULL;
    while (end == NULL) {
        ssize_t got = recv(fd, text + have, sizeof(text) - 1 - have, 0);
        if (got <= 0) {
            load_die("recv (handshake)");
        }
        have += (size_t)got;
        text[have] = '\0';
        end = strstr(text, "\r\n\r\n");
    }
    if (strncmp(text, "HTTP/1.1 101 ", 13) != 0
        || strcasestr(text, ANSWER) == NULL
        || strcasestr(text, "\r\nsec-websocket-extensions:") != NULL
        || end + 4 != text + have) {
        fprintf(stderr, "the opening handshake failed: %s\n", text);
        exit(2);
    }
}

void
load_open(struct load *load)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files); /* socket() tells */
    }
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (load->epoll < 0) {
        load_die("epoll_create1");
    }
    load->peers = load_allocate(load->plan.connections, sizeof(*load->peers));
    for (unsigned i = 0; i < load->plan.connections; i++) {
        struct peer *peer = &load->peers[i];
        struct epoll_event event = {.data.ptr = peer, .events = EPOLLIN};
        peer->id = i;
        peer->fd = dial(&load->plan);
        shake_hands(&load->plan, peer->fd);
        peer->in = load_allocate(load->in_size, 1);
        peer->out = load_allocate(load->out_size, 1);
        if (fcntl(peer->fd, F_SETFL, O_NONBLOCK) != 0
            || epoll_ctl(load->epoll, EPOLL_CTL_ADD, peer->fd, &event) != 0) {
            load_die("epoll_ctl");
        }
        load->open++;
    }
}

void
load_start(struct load *load)
{
    for (unsigned i = 0; i < load->plan.connections; i++) {
        load->peers[i].owed = load->plan.depth;
        load->outstanding += load->plan.depth;
        load_push(load, &load->peers[i]);
    }
}

void
load_close(struct load *load)
{
    static const uint8_t normal[] = {1000 >> 8, 1000 & 0xff};
    for (unsigned i = 0; i < load->plan.connections; i++) {
        struct peer *peer = &load->peers[i];
        if (peer->fd < 0) {
            continue;
        }
        peer->close_sent =
            put_control(load, peer, OPCODE_CLOSE, normal, sizeof(normal));
        if (!peer->blocked) {
            load_push(load, peer);
        }
    }
}
void
load_release(struct load *load)
{
    for (unsigned i = 0; i < load->plan.connections; i++) {
        if (load->peers[i].fd >= 0) {
            close(load->peers[i].fd);
        }
        free(load->peers[i].in);
        free(load->peers[i].out);
    }
    close(load->epoll);
    free(load->peers);
    free(load->payload);
    free(load->frame);
}
