/* What the parts of a client share: client.c its life, client_write.c what
 * goes out, client_read.c what comes in. */
#ifndef TWS_ENGINE_CLIENT_PARTS_H
#define TWS_ENGINE_CLIENT_PARTS_H

#include "engine/client.h"
#include "engine/server.h"

/* client.c: nothing more can be sent. Whoever reads next finds the end of the
 * stream, and so the driver learns of it. The first cause counts. */
void tws_client_break_off_lock_held(struct tws_client *client,
                                    enum tws_ended_by by, int sys_errno,
                                    const char *cause);

/* Nothing can be sent any more, and the handler that has the client for itself
 * would not hear of it: the client's end is told once that has returned. */
bool tws_client_is_lost_lock_held(const struct tws_client *client);
/* Asks the poller for what the client needs now. */
void tws_client_update_interest_lock_held(struct tws_client *client);
/* Of tws_client_await(). */
void tws_client_wake_waiters_lock_held(struct tws_client *client);

/* What is to be sent: one message, or frames that are packed already. */
struct tws_outgoing {
    struct tws_span bytes;
    bool packed;       /* they are frames, else a payload */
    bool waits;        /* where a message is being sent in pieces */
    uint8_t opcode;    /* of a payload */
    uint8_t rsv;       /* and its first frame's reserved bits */
    size_t fragment;   /* bytes in a frame; 0: one frame */
    unsigned messages; /* to be counted */
    size_t payload;    /* as the program knows it */
};

/* client_write.c */
/* As tws_client_send(). */
enum tws_status tws_client_send_outgoing(struct tws_client *client,
                                         const struct tws_outgoing *outgoing,
                                         void *receipt, struct tws_error *err);
void tws_client_flush_lock_held(struct tws_client *client);
/* Sends parts that make up whole frames. */
enum tws_status tws_client_send_parts_lock_held(struct tws_client *client,
                                                struct iovec *parts, int count,
                                                struct tws_error *err);
/* In the counters of whoever serves it, or the server's. */
void tws_client_count_sent_lock_held(struct tws_client *client,
                                     unsigned messages, size_t bytes);
enum tws_status
tws_client_send_control_lock_held(struct tws_client *client,
                                  const struct tws_control *control,
                                  struct tws_error *err);
/* Our Close frame, where none was sent yet. */
enum tws_status tws_client_send_close_lock_held(struct tws_client *client,
                                                uint16_t code,
                                                struct tws_span reason,
                                                struct tws_error *err);

/* client_compress.c: of tws_client_send_message(). */
enum tws_status
tws_client_send_compressed(struct tws_client *client,
                           const struct tws_client_message *message,
                           struct tws_error *err);

/* client_stream.c: keeps a whole message, whose frames are packed or which is
 * cut into frames as tws_client_send() does. */
enum tws_status tws_client_keep_lock_held(struct tws_client *client,
                                          const struct tws_outgoing *outgoing,
                                          struct tws_error *err);
/* The end of what is kept now, until it is sent and tws_receipt.end known. */
uint64_t tws_client_kept_end_lock_held(const struct tws_client *client);

#endif /* TWS_ENGINE_CLIENT_PARTS_H */
