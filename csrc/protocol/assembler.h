/* From frames to messages (RFC 6455 §5.4): joins fragments, lets control
 * frames pass between them, enforces the limits and checks UTF-8 as the
 * bytes arrive. */
#ifndef TWS_PROTOCOL_ASSEMBLER_H
#define TWS_PROTOCOL_ASSEMBLER_H

#include "protocol/buffer.h"
#include "protocol/compression.h"
#include "protocol/frame_reader.h"
#include "protocol/utf8.h"

struct tws_message_limits {
    uint64_t size;      /* bytes in a message; UINT64_MAX: none */
    uint32_t fragments; /* frames in a message */
};

#define TWS_MESSAGE_LIMITS_DEFAULT                                            \
    ((struct tws_message_limits){.size = 1 << 20, .fragments = 1 << 17})

enum tws_event_type {
    TWS_EVENT_TEXT,
    TWS_EVENT_BINARY,
    TWS_EVENT_CHUNK, /* only where message_stream.h was asked for it */
    TWS_EVENT_FRAME, /* only of frame_collector.h */
    TWS_EVENT_CLOSE,
    TWS_EVENT_PING,
    TWS_EVENT_PONG,
};

struct tws_event {
    enum tws_event_type type;
    const uint8_t *data; /* whole payload, unmasked (but see `masked`); text
                          * is valid UTF-8. Borrowed from the input or the
                          * assembler, until the next call with either. May
                          * be NULL where there are no bytes. */
    size_t length;
    bool masked;            /* binary, where tws_assembler.leaves_masked: the
                             * bytes are as they came, and the 4 before them
                             * are the masking key */
    bool ascii;             /* text: every byte is below 0x80 */
    bool text;              /* chunk: of a text message */
    uint8_t first_byte;     /* frame: FIN, reserved bits and opcode as on the
                             * wire (frame.h) */
    uint16_t code;          /* close: 1005 where there was none */
    struct tws_span reason; /* close: within `data` */
};

struct tws_assembler {
    struct tws_buffer message; /* of the unfinished message; of a chunked one
                                * what was not handed out yet */
    struct tws_buffer control; /* of the unfinished control frame */
    uint32_t fragments;        /* frames of the message so far */
    struct tws_utf8 utf8;
    uint8_t opcode;     /* of the unfinished message, 0 for none */
    bool ascii;         /* so far */
    bool handed_out;    /* an event borrows `message` or `control` */
    bool leaves_masked; /* whoever takes the events copies binary messages
                         * anyway, and unmasks them as it does */

    /* Of inflating.h. */
    bool compressed; /* the unfinished frame, or the unfinished message where
                      * compression is per message */

    /* Of message_stream.h. */
    bool chunked;    /* the unfinished message, or where there is none or its
                      * rest is skipped the next one, comes in chunks */
    bool skipping;   /* the rest of the unfinished message is thrown away */
    bool ended;      /* it has come to its end, and stays till that is told */
    uint32_t stream; /* counts those begun */
    uint64_t limit;  /* bytes that a chunked message may have */
    uint64_t room;   /* of those, what it may still get */

    /* Of inflating.h. */
    struct tws_compression *compression; /* borrowed; NULL: none was agreed */
    uint64_t compressed_length; /* of the message, as far as announced */
    struct tws_buffer packed;   /* of a piece of a chunked message: what is to
                                 * be inflated when its chunks are consumed */
    bool waiting;               /* there may be something of such a piece */
    bool waiting_ends; /* with it ends what was compressed at a time */
    bool waiting_fin;  /* and the message */
};

/* A zeroed struct is ready for use; `compression` and `leaves_masked` may be
 * set then. Gives all memory back. */
void tws_assembler_release(struct tws_assembler *assembler);

/* Takes the next piece. TWS_OK: *event is complete. TWS_AGAIN: nothing to
 * tell yet. TWS_NOMEM, or TWS_PROTOCOL with the close code: 1002 for a
 * continuation without start, a start within a message or a bad Close, 1007
 * for text that is not UTF-8 (at its first impossible byte), 1009 for a
 * message that is or will be over the limit (by the header alone), 1008 for
 * too many fragments. Where compression was agreed (RFC 7692), also 1002 for
 * RSV1 in the wrong place and 1007 for what can't be inflated; 1009 counts
 * inflated bytes as they come to be, and no more of them are made. */
enum tws_status tws_assembler_take(struct tws_assembler *assembler,
                                   const struct tws_message_limits *limits,
                                   const struct tws_piece *piece,
                                   struct tws_event *event,
                                   struct tws_error *err);

/* tws_frame_reader_next() and tws_assembler_take() until there is an event
 * (TWS_OK), the input is used up (TWS_AGAIN) or the stream is broken. Memory
 * of an event handed out before is given back. */
enum tws_status tws_receive(struct tws_frame_reader *reader,
                            struct tws_assembler *assembler,
                            const struct tws_message_limits *limits,
                            struct tws_input *input, struct tws_event *event,
                            struct tws_error *err);

/* Where the input is used up in the middle of a large data frame, the next
 * bytes can be read straight into the message. True: *room and *size say
 * where and how many at most; put n of them there and call
 * tws_receive_direct() with n. The room is never larger than what already
 * arrived or 64 KiB, whatever the header claims. */
bool tws_receive_room(const struct tws_frame_reader *reader,
                      struct tws_assembler *assembler, uint8_t **room,
                      size_t *size);
enum tws_status tws_receive_direct(struct tws_frame_reader *reader,
                                   struct tws_assembler *assembler,
                                   const struct tws_message_limits *limits,
                                   uint8_t *room, size_t length,
                                   struct tws_event *event,
                                   struct tws_error *err);

/* True where the next call has much to inflate: hundreds of microseconds. */
bool tws_receive_is_heavy(const struct tws_frame_reader *reader,
                          const struct tws_assembler *assembler,
                          const struct tws_input *input);
/* True where what comes next is, or may be, inflated only to be thrown away:
 * no limit says how much that makes. */
bool tws_receive_inflates_in_vain(const struct tws_assembler *assembler);

/* For message_stream.c and inflating.c
 * --------------------------------------------------- */

/* Gives back what an event borrowed. */
void tws_assembler_settle(struct tws_assembler *assembler);

/* Nothing is unfinished, handed out or kept: it could be a new one, but for
 * the number of the last stream. */
bool tws_assembler_is_at_rest(const struct tws_assembler *assembler);

/* Of the unfinished message, where it is text: its next bytes, unmasked
 * (`ascii`: they are known to be), and that it may end here. TWS_PROTOCOL with
 * 1007 otherwise. */
enum tws_status tws_assembler_check_text(struct tws_assembler *assembler,
                                         const uint8_t *data, size_t length,
                                         bool ascii, struct tws_error *err);
enum tws_status tws_assembler_check_end(const struct tws_assembler *assembler,
                                        struct tws_error *err);

#endif /* TWS_PROTOCOL_ASSEMBLER_H */
