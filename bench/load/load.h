/* What the parts of the load generator share. See bench/README.md. */
#ifndef BENCH_LOAD_LOAD_H
#define BENCH_LOAD_LOAD_H

#include "histogram.h"
#include "wire.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <zlib.h>

#define SECOND UINT64_C(1000000000)

enum {
    SERVER_PROCESSES = 64,
    CONTROL_MAX = 125, /* RFC 6455 section 5.5 */
    HEADER_MAX = 14,
    STAMP_MAX = 12, /* 8 digits of the message, 4 of the connection */
    OPCODE_CONTINUATION = 0,
    OPCODE_TEXT = 1,
    OPCODE_BINARY = 2,
    OPCODE_CLOSE = 8,
    OPCODE_PING = 9,
    OPCODE_PONG = 10,
    FIN = 0x80,
    RSV1 = 0x40,
};

enum mode {
    MODE_ECHO,   /* keeps messages in flight, or sends at a fixed rate */
    MODE_FANOUT, /* one sends, all receive */
    MODE_CHURN,  /* connects and closes, again and again */
    MODE_HOLD,   /* connects, some echoes, then silence until told */
};

enum content {
    CONTENT_TEXT,   /* ASCII letters */
    CONTENT_BINARY, /* noise */
    CONTENT_UTF8,   /* characters of 1 to 4 bytes */
    CONTENT_JSON,   /* records as an API has them */
};

/* What is asked for. */
struct plan {
    enum mode mode;
    enum content content;
    struct sockaddr_in address;
    unsigned connections;
    unsigned depth; /* messages in flight on a connection, at most */
    size_t size;    /* bytes of a message */
    unsigned each;  /* MODE_HOLD: echoes of a connection before silence */
    double rate;    /* messages a second of all; 0: as many as come back */
    double seconds;
    double warmup;
    bool tls;
    bool resume; /* TLS sessions are taken up again */
    bool compress;
    pid_t processes[SERVER_PROCESSES]; /* of the server */
    unsigned process_count;
};

/* One content of messages, and the frame it travels in. */
struct variant {
    uint8_t *payload; /* plan.size bytes */
    uint8_t *frame;
    size_t frame_size;
    size_t prefix_size; /* of its header and masking key */
};

/* What has come of the frame and the message that a connection is in. */
struct incoming {
    uint8_t head[HEADER_MAX];
    uint8_t head_length;
    uint8_t control_length;
    bool in_payload;
    bool in_message;
    bool deflated;
    bool differs;
    uint64_t left;     /* bytes of the frame's payload */
    size_t compared;   /* bytes of the message */
    z_stream *inflate; /* NULL until it is needed */
    uint8_t control[CONTROL_MAX];
};

enum stage {
    STAGE_NONE,
    STAGE_CONNECTING,
    STAGE_SECURING, /* TLS */
    STAGE_ASKING,   /* the opening handshake */
    STAGE_OPEN,
};

struct peer {
    struct wire wire;
    enum stage stage;
    uint32_t id;
    uint32_t sent;     /* messages; the number of the next one */
    uint32_t received; /* the number of the next echo */
    uint32_t owed;     /* messages that may be sent now */
    bool wants_room;   /* EPOLLOUT is on */
    bool close_sent;
    uint64_t began;   /* when it began to connect */
    uint64_t *put_at; /* when messages in flight were put; plan.depth */
    uint8_t *out;
    size_t out_start;
    size_t out_length;
    struct incoming in;
};

/* The counts of a run. */
struct counts {
    uint64_t messages; /* that came back as they should */
    uint64_t deflated; /* of these */
    uint64_t handshakes;
    uint64_t resumed; /* of these */
    uint64_t errors;
};

struct load {
    struct plan plan;
    struct counts counts;
    struct histogram latency; /* ns; of messages, or of handshakes */
    struct wire_setup wires;
    struct peer *peers;
    struct variant *variants;
    unsigned variant_count;
    uint8_t opcode; /* of the messages */
    size_t out_size;
    int epoll;
    unsigned begun;       /* peers that were told to connect once */
    unsigned open;        /* peers that are open */
    unsigned alive;       /* peers that have a socket */
    uint64_t outstanding; /* messages on their way, or owed */
    unsigned missing;     /* MODE_FANOUT: deliveries of this message */
    uint64_t issued;      /* at a fixed rate: messages so far */
    uint64_t start;       /* the first message's time */
    uint64_t now;         /* read before a socket is */
    bool started;
    bool measuring;
    bool stopping;
    bool released; /* MODE_HOLD: told to go on */
};

/* base.c: what ends the program, clocks, memory */
_Noreturn void load_die(const char *what);
_Noreturn void load_fail(const char *format, ...)
    __attribute__((format(printf, 1, 2)));
uint64_t load_clock(clockid_t clock);
void *load_allocate(size_t count, size_t size);
double load_server_cpu(const struct plan *plan); /* seconds; -1: unknown */
/* Counts an error, and tells the first ones. */
void load_fault(struct load *load, const struct peer *peer, const char *format,
                ...) __attribute__((format(printf, 3, 4)));

/* content.c: messages, made in advance */
void content_make(struct load *load);
void content_release(struct load *load);
const struct variant *content_variant(const struct load *load,
                                      const struct peer *peer,
                                      uint32_t number);
/* The digits by which messages that share a variant differ. */
size_t content_stamp(const struct load *load, const struct peer *peer,
                     uint32_t number, uint8_t stamp[static STAMP_MAX]);
void content_put(struct load *load, struct peer *peer);
/* False where there is no room for it. */
bool content_put_control(struct load *load, struct peer *peer, uint8_t opcode,
                         const uint8_t *payload, size_t length);

/* reading.c: frames are compared as they come, piece by piece */
bool reading_take(struct load *load, struct peer *peer, const uint8_t *data,
                  size_t length); /* false: the connection is over */
void reading_forget(struct incoming *in);

/* peer.c: a connection from its beginning to its end */
void peer_begin(struct load *load, struct peer *peer);
void peer_ready(struct load *load, struct peer *peer, uint32_t events);
void peer_push(struct load *load, struct peer *peer);
void peer_close(struct load *load, struct peer *peer);
void peer_drop(struct load *load, struct peer *peer);

/* opening.c: the opening handshake of RFC 6455 section 4.1 */
void opening_ask(struct load *load, struct peer *peer);
/* Bytes of the answer, 0: more to come, -1: it was refused. */
ptrdiff_t opening_check(struct load *load, struct peer *peer,
                        const uint8_t *data, size_t length);

/* modes.c: what a mode does when something has happened */
void modes_start(struct load *load);
void modes_issue(struct load *load); /* what is due at a fixed rate */
void modes_opened(struct load *load, struct peer *peer);
void modes_arrived(struct load *load, struct peer *peer);
void modes_gone(struct load *load, struct peer *peer);

/* options.c */
void options_parse(int argc, char **argv, struct plan *plan);

#endif
