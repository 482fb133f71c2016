/* Whole frames, for extensions that look at each of them before anybody joins
 * messages (RFC 6455 §9): collects what arrives in pieces, and joins the
 * fragments of a message for those that want it whole. */
#ifndef TWS_PROTOCOL_FRAME_COLLECTOR_H
#define TWS_PROTOCOL_FRAME_COLLECTOR_H

#include "protocol/assembler.h"

/* A frame may have more bytes than a message, as an extension may take away
 * some: a quarter more, and a little for those that are small. */
uint64_t tws_frame_size_limit(uint64_t message_size);

/* A zeroed struct is ready for use. */
struct tws_frame_collector {
    struct tws_buffer payload; /* of the unfinished frame */
    bool handed_out;           /* an event borrows it */
};
void tws_frame_collector_release(struct tws_frame_collector *collector);

/* As tws_receive(), but with a TWS_EVENT_FRAME for each frame that is no
 * Close, ping or pong; `assembler` is for these alone. What an event borrows
 * is given back by the next call, or by the second one. TWS_PROTOCOL with 1009
 * for a frame that is over the limit, by its header alone. */
enum tws_status tws_frame_collector_receive(
    struct tws_frame_reader *reader, struct tws_frame_collector *collector,
    struct tws_assembler *assembler, const struct tws_message_limits *limits,
    struct tws_input *input, struct tws_event *event, struct tws_error *err);
void tws_frame_collector_settle(struct tws_frame_collector *collector);

/* Joins the fragments of a message. A zeroed struct is ready for use. */
struct tws_frame_joiner {
    struct tws_buffer payload; /* of the fragments so far */
    uint32_t fragments;        /* 0: there is no unfinished message */
    uint8_t first_byte;        /* of the message: FIN, and of its first frame
                                * the reserved bits and the opcode */
};
void tws_frame_joiner_release(struct tws_frame_joiner *joiner);

/* True where the frame is a whole message, and nothing is to be joined. */
static inline bool
tws_frame_joiner_passes(const struct tws_frame_joiner *joiner,
                        uint8_t first_byte)
{
    return joiner->fragments == 0 && (first_byte & TWS_FIN) != 0
           && (first_byte & 0x0f) != TWS_OPCODE_CONTINUATION;
}

/* Takes a data frame that does not pass. TWS_OK: the message is whole:
 * joiner->payload and joiner->first_byte, which are to be released.
 * TWS_AGAIN: there is more of it to come. TWS_NOMEM. TWS_PROTOCOL: 1002 for a
 * continuation without a beginning, a beginning within a message, or a
 * continuation with reserved bits, which belong to the message's first frame
 * (RFC 7692 §6.1); 1009 and 1008 for what is over the limits. */
enum tws_status tws_frame_joiner_take(struct tws_frame_joiner *joiner,
                                      const struct tws_message_limits *limits,
                                      uint8_t first_byte, struct tws_span data,
                                      struct tws_error *err);

#endif /* TWS_PROTOCOL_FRAME_COLLECTOR_H */
