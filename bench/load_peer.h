/* The load generator's connections: a WebSocket client (RFC 6455) for echoes
 * only, which sends, reads back and checks. */
#ifndef BENCH_LOAD_PEER_H
#define BENCH_LOAD_PEER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define SECOND ((uint64_t)1000 * 1000 * 1000)

enum { OPCODE_TEXT = 1, OPCODE_BINARY = 2, HEADER_MAX = 10 };

struct plan {
    struct sockaddr_in address;
    unsigned connections;
    unsigned depth; /* messages in flight on each connection */
    size_t size;    /* bytes in a message */
    uint8_t opcode;
    double seconds;
    double warmup;
    long pid; /* whose processor time is measured, or 0 */
};

struct peer {
    int fd; /* -1: over */
    uint32_t id;
    uint32_t sent; /* messages written into `out` */
    uint32_t received;
    unsigned owed; /* messages to send as soon as `out` is empty */
    bool blocked;  /* the poller looks for room to write */
    bool close_sent;
    uint8_t *in;
    size_t in_length;
    uint8_t *out;
    size_t out_start;
    size_t out_length;
};

struct load {
    struct plan plan;
    struct peer *peers;
    unsigned open;        /* peers that are not over */
    uint64_t outstanding; /* messages owed or in flight */
    bool stopping;        /* an echo is not followed by a new message */
    int epoll;
    uint8_t *payload; /* of each message, but for its stamp */
    uint8_t *frame;   /* the same masked, behind its header and key */
    size_t frame_size;
    size_t prefix_size; /* the header and key of a frame we send */
    uint8_t echo_header[HEADER_MAX];
    size_t echo_header_size;
    size_t in_size;
    size_t out_size;
    uint64_t messages; /* echoes that were right */
    uint64_t errors;
};

/* Ends the program with the error of the last system call. */
_Noreturn void load_die(const char *what);

/* Memory of zeros; ends the program where there is none. */
void *load_allocate(size_t count, size_t size);

uint64_t load_clock(clockid_t clock);

/* Makes the frame that all messages are made of, as the plan says. */
void load_prepare(struct load *load);

/* Connects everybody and does the opening handshakes. */
void load_open(struct load *load);

/* Puts `depth` messages in flight on every connection. */
void load_start(struct load *load);

/* Reads from a connection that is readable, checks what came, and answers
 * each echo with a new message unless the load is stopping. */
void load_pull(struct load *load, struct peer *peer);

/* Sends what the connection owes, as far as the kernel takes it. */
void load_push(struct load *load, struct peer *peer);

/* Sends a Close frame on every connection. */
void load_close(struct load *load);

/* Frees everything that the functions above allocated. */
void load_release(struct load *load);

#endif
