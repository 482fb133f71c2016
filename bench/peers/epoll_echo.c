/* The limit: a WebSocket echo server of one epoll loop and nothing else. No
 * UTF-8 check, no time limits, no statistics, no fragments; of a peer it
 * believes everything. Shares no code with twspy.
 *
 * usage: epoll_echo [--fanout]
 *
 * Prints its port. An echo is unmasked into the place where it was received,
 * and all echoes of one recv() leave in one send(). With --fanout a message
 * goes to all clients. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SCRATCH = 512 * 1024,
    EVENTS = 1024,
    HEAD = 8192, /* of a request at most */
    MASKED = 0x80,
    CLOSE = 8,
    PING = 9,
    PONG = 10,
};

/* A byte range on the heap. */
struct bytes {
    uint8_t *data;
    size_t length;
    size_t capacity;
};

struct client {
    int fd;
    bool open;        /* the handshake is done */
    bool ending;      /* it sent a Close frame */
    bool writing;     /* EPOLLOUT is on */
    size_t index;     /* in `clients` */
    struct bytes in;  /* the beginning of a frame, or of a request */
    struct bytes out; /* what the socket did not take */
};

static uint8_t scratch[SCRATCH];
static struct client **clients;
static size_t client_count;
static int epoll_fd;
static bool fanout;

static void
die(const char *what)
{
    perror(what);
    exit(1);
}

static void
reserve(struct bytes *bytes, size_t capacity)
{
    if (bytes->capacity >= capacity) {
        return;
    }
    bytes->data = realloc(bytes->data, capacity);
    if (bytes->data == NULL) {
        die("realloc");
    }
    bytes->capacity = capacity;
}

static void
append(struct bytes *bytes, const uint8_t *data, size_t length)
{
    reserve(bytes, bytes->length + length);
    memcpy(bytes->data + bytes->length, data, length);
    bytes->length += length;
}

static void
forget(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}

static void
drop(struct client *client)
{
    clients[client->index] = clients[--client_count];
    clients[client->index]->index = client->index;
    close(client->fd);
    forget(&client->in);
    forget(&client->out);
    free(client);
}

static void
watch_writing(struct client *client, bool on)
{
    struct epoll_event event = {.events = EPOLLIN | (on ? EPOLLOUT : 0),
                                .data.ptr = client};
    if (client->writing != on
        && epoll_ctl(epoll_fd, EPOLL_CTL_MOD, client->fd, &event) != 0) {
        die("epoll_ctl");
    }
    client->writing = on;
}

/* False where the connection has failed. */
static bool
send_bytes(struct client *client, const uint8_t *data, size_t length)
{
    if (client->out.length == 0) {
        ssize_t sent = send(client->fd, data, length, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) {
            return false;
        }
        size_t done = sent < 0 ? 0 : (size_t)sent;
        data += done;
        length -= done;
    }
    if (length > 0) {
        append(&client->out, data, length);
        watch_writing(client, true);
    }
    return true;
}

static bool
send_rest(struct client *client)
{
    ssize_t sent =
        send(client->fd, client->out.data, client->out.length, MSG_NOSIGNAL);
    if (sent < 0) {
        return errno == EAGAIN;
    }
    client->out.length -= (size_t)sent;
    memmove(client->out.data, client->out.data + sent, client->out.length);
    if (client->out.length == 0) {
        forget(&client->out);
        watch_writing(client, false);
    }
    return true;
}

/* ------------------------------------------------------------ handshake */

static void
accept_key(const char *key, size_t length, char answer[static 32])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t text[64 + sizeof(guid)];
    uint8_t digest[SHA_DIGEST_LENGTH];
    length = length < 64 ? length : 64;
    memcpy(text, key, length);
    memcpy(text + length, guid, sizeof(guid) - 1);
    SHA1(text, length + sizeof(guid) - 1, digest);
    EVP_EncodeBlock((uint8_t *)answer, digest, sizeof(digest));
}

/* The bytes of the head; 0: it is not whole, or wrong. */
static size_t
shake(struct client *client, uint8_t *data, size_t length)
{
    char answer[32];
    char response[256];
    uint8_t *end = memmem(data, length, "\r\n\r\n", 4);
    if (end == NULL) {
        return 0;
    }
    *end = '\0';
    char *key = strcasestr((char *)data, "\r\nSec-WebSocket-Key:");
    if (key == NULL) {
        return 0;
    }
    key += strlen("\r\nSec-WebSocket-Key:");
    key += strspn(key, " ");
    accept_key(key, strcspn(key, " \r"), answer);
    int size = snprintf(response, sizeof(response),
                        "HTTP/1.1 101 Switching Protocols\r\n"
                        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Accept: %s\r\n\r\n",
                        answer);
    client->open = send_bytes(client, (uint8_t *)response, (size_t)size);
    return (size_t)(end - data) + 4;
}

/* --------------------------------------------------------------- frames */

/* The header's bytes; 0: not all are there. */
static size_t
read_header(const uint8_t *data, size_t length, size_t *payload)
{
    if (length < 2) {
        return 0;
    }
    size_t size = data[1] & 0x7f;
    size_t header = 2 + (size == 126 ? 2 : size == 127 ? 8 : 0) + 4;
    if (length < header) {
        return 0;
    }
    if (size >= 126) {
        size_t bytes = size == 126 ? 2 : 8;
        size = 0;
        for (size_t i = 0; i < bytes; i++) {
            size = size << 8 | data[2 + i];
        }
    }
    *payload = size;
    return header;
}

static size_t
write_header(uint8_t *out, uint8_t first, size_t length)
{
    out[0] = first;
    if (length < 126) {
        out[1] = (uint8_t)length;
        return 2;
    }
    if (length < 65536) {
        out[1] = 126;
        out[2] = (uint8_t)(length >> 8);
        out[3] = (uint8_t)length;
        return 4;
    }
    out[1] = 127;
    for (int i = 0; i < 8; i++) {
        out[2 + i] = (uint8_t)(length >> (56 - 8 * i));
    }
    return 10;
}

/* `to` is not behind `from`. */
static void
unmask(uint8_t *to, const uint8_t *from, size_t length, const uint8_t *mask)
{
    uint32_t key32;
    memcpy(&key32, mask, 4);
    uint64_t key = (uint64_t)key32 << 32 | key32;
    size_t i = 0;
    for (; i + 8 <= length; i += 8) {
        uint64_t word;
        memcpy(&word, from + i, 8);
        word ^= key;
        memcpy(to + i, &word, 8);
    }
    for (; i < length; i++) {
        to[i] = from[i] ^ mask[i % 4];
    }
}

static void
send_to_all(const uint8_t *frame, size_t length)
{
    for (size_t i = 0; i < client_count; i++) {
        if (clients[i]->open && !send_bytes(clients[i], frame, length)) {
            shutdown(clients[i]->fd, SHUT_RDWR);
        }
    }
}

/* Turns the whole frames of data[0..length] into replies, in place.
 * *replied: their bytes. Returns the bytes that were used; *missing: what the
 * next frame needs in all, if that is known. */
static size_t
answer(struct client *client, uint8_t *data, size_t length, size_t *replied,
       size_t *missing)
{
    size_t used = 0;
    size_t out = 0;
    *missing = 0;
    while (used < length && !client->ending) {
        size_t payload = 0;
        size_t header = read_header(data + used, length - used, &payload);
        if (header == 0) {
            break;
        }
        if (length - used - header < payload) {
            *missing = header + payload;
            break;
        }
        uint8_t mask[4];
        uint8_t first = data[used];
        memcpy(mask, data + used + header - 4, 4);
        if ((first & 0x0f) == PING) {
            first = (uint8_t)((first & 0xf0) | PONG);
        }
        client->ending = (first & 0x0f) == CLOSE;
        size_t start = out;
        out += write_header(data + out, first, payload);
        unmask(data + out, data + used + header, payload, mask);
        out += payload;
        used += header + payload;
        if (fanout && (first & 0x0f) < CLOSE) {
            send_to_all(data + start, out - start);
            out = start;
        }
    }
    *replied = out;
    return used;
}

/* False where the connection is over. */
static bool
take(struct client *client, uint8_t *data, size_t length)
{
    size_t used = 0;
    size_t missing = 0;
    size_t replied = 0;
    if (!client->open) {
        used = shake(client, data, length);
        missing = HEAD;
        if (used == 0 && length >= HEAD) {
            return false;
        }
    }
    if (client->open) {
        uint8_t *frames = data + used;
        used += answer(client, frames, length - used, &replied, &missing);
        if (replied > 0 && !send_bytes(client, frames, replied)) {
            return false;
        }
        if (client->ending) {
            return false;
        }
    }
    if (used == length) {
        forget(&client->in);
    }
    else if (data == client->in.data) {
        memmove(data, data + used, length - used);
        client->in.length = length - used;
        reserve(&client->in, missing);
    }
    else {
        reserve(&client->in, missing);
        append(&client->in, data + used, length - used);
    }
    return true;
}

static bool
receive(struct client *client)
{
    uint8_t *data = scratch;
    size_t room = SCRATCH;
    size_t before = 0;
    if (client->in.data != NULL) {
        if (client->in.capacity - client->in.length < 16) {
            reserve(&client->in, 2 * client->in.capacity + 64);
        }
        data = client->in.data;
        before = client->in.length;
        room = client->in.capacity - before;
    }
    ssize_t got = recv(client->fd, data + before, room, 0);
    if (got <= 0) {
        return got < 0 && errno == EAGAIN;
    }
    client->in.length = client->in.data == NULL ? 0 : before + (size_t)got;
    return take(client, data, before + (size_t)got);
}

/* ----------------------------------------------------------------- loop */

static void
accept_clients(int listener)
{
    for (;;) {
        int on = 1;
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return;
        }
        struct client *client = calloc(1, sizeof(*client));
        struct client **grown =
            realloc(clients, (client_count + 1) * sizeof(*clients));
        if (client == NULL || grown == NULL) {
            die("malloc");
        }
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        clients = grown;
        client->fd = fd;
        client->index = client_count;
        clients[client_count++] = client;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
            die("epoll_ctl");
        }
    }
}

static int
listen_on_loopback(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0
        || listen(fd, 4096) != 0
        || getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        die("listen");
    }
    printf("%d\n", ntohs(address.sin_port));
    (void)fflush(stdout);
    return fd;
}

int
main(int argc, char **argv)
{
    static struct epoll_event events[EVENTS];
    struct rlimit files;
    fanout = argc > 1 && strcmp(argv[1], "--fanout") == 0;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on_loopback();
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_fd < 0
        || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event) != 0) {
        die("epoll");
    }
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS, -1);
        if (count < 0 && errno != EINTR) {
            die("epoll_wait");
        }
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (client == NULL) {
                accept_clients(listener);
                continue;
            }
            bool going =
                (events[i].events & EPOLLOUT) == 0 || send_rest(client);
            if (going && (events[i].events & ~(uint32_t)EPOLLOUT) != 0) {
                going = receive(client);
            }
            if (!going) {
                drop(client);
            }
        }
    }
}
