/* For assembler.c and message_stream.c: the payloads of compressed frames,
 * inflated into the unfinished message as they arrive, so that no more than a
 * message's limit is ever there of what may be a thousand times what came. */
#ifndef TWS_PROTOCOL_INFLATING_H
#define TWS_PROTOCOL_INFLATING_H

#include "protocol/assembler.h"

/* How many compressed bytes a message of `limit` may have: blocks without
 * content could go on for ever. What can't be compressed grows a little, and a
 * sender may flush where it likes. */
uint64_t tws_inflating_allowance(uint64_t limit);

/* A data frame's header that may have RSV1 or continues a compressed message:
 * tells whether the frame is compressed (assembler->compressed). TWS_PROTOCOL:
 * 1002 where the bit may not stand there (RFC 7692 §6.1), 1009 where more
 * compressed bytes are announced than the message may have. */
enum tws_status tws_inflating_start(struct tws_assembler *assembler,
                                    const struct tws_message_limits *limits,
                                    const struct tws_frame_header *header,
                                    struct tws_error *err);

/* A piece of a compressed frame of a message that is kept whole: TWS_NOMEM,
 * or TWS_PROTOCOL with 1007 for what is not deflated data or not UTF-8, 1009
 * once there is a byte more than `limit`. After a failure the connection is
 * of no use. */
enum tws_status tws_inflating_take(struct tws_assembler *assembler,
                                   uint64_t limit,
                                   const struct tws_piece *piece,
                                   struct tws_error *err);

/* The same of a message in chunks (see message_stream.h), or one that is
 * skipped. TWS_AGAIN: there is a whole chunk; the rest of the piece was copied
 * (assembler->waiting) and goes on with tws_inflating_go_on(). */
enum tws_status tws_inflating_take_some(struct tws_assembler *assembler,
                                        const struct tws_piece *piece,
                                        struct tws_error *err);
enum tws_status tws_inflating_go_on(struct tws_assembler *assembler,
                                    struct tws_error *err);

#endif /* TWS_PROTOCOL_INFLATING_H */
