/* Where a client is in what it sends: in a frame, in a message, and what was
 * read of it but not parsed. Between two messages there is nothing to know,
 * and so a client has one of these only while it is served, its worker's, or
 * while something of it is unfinished. That is most of the memory of a client
 * that is idle, and of what the processor's cache must hold for many. */
#ifndef TWS_ENGINE_RECEIVING_H
#define TWS_ENGINE_RECEIVING_H

#include "protocol/assembler.h"

struct tws_client;
struct tws_worker;

struct tws_receiving {
    struct tws_frame_reader reader;
    struct tws_assembler assembler; /* borrows the client's compression */
    struct tws_buffer unread; /* received but not parsed yet, while the send
                               * queue is too long */
};

/* What its handshake has agreed on holds for all that it receives. */
struct tws_receiving_rules {
    uint16_t opcodes; /* as tws_agreed has them */
    uint8_t rsv;
    bool leaves_masked; /* of the server's options */
    uint32_t stream;    /* the number of its last message in chunks */
};

/* One of its own, for a client that is not served yet: NULL without memory.
 */
struct tws_receiving *tws_receiving_new(const struct tws_client *client);
void tws_receiving_free(struct tws_receiving *receiving);

/* From here on the client has one: its own, or the worker's. */
void tws_receiving_lend(struct tws_worker *worker, struct tws_client *client);
/* It keeps what is unfinished; else it has none any more. False: there is no
 * memory for another one for the worker, and nothing has changed. */
bool tws_receiving_take_back(struct tws_worker *worker,
                             struct tws_client *client);
/* The client is over: what it has received is thrown away. */
void tws_receiving_end(struct tws_worker *worker, struct tws_client *client);

#endif /* TWS_ENGINE_RECEIVING_H */
