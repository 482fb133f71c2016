/* A message in chunks, as they arrive, for those that are larger than memory
 * should hold. What an assembler would join is handed out instead: tell it to
 * begin, go on calling tws_receive(), and TWS_EVENT_CHUNK events come in
 * place of a TWS_EVENT_TEXT or TWS_EVENT_BINARY. Order, UTF-8 and control
 * frames are looked after as ever (RFC 6455 §5.4, §8.1); the limits of whole
 * messages do not count. */
#ifndef TWS_PROTOCOL_MESSAGE_STREAM_H
#define TWS_PROTOCOL_MESSAGE_STREAM_H

#include "protocol/assembler.h"

enum { TWS_CHUNK_MAX = 64 * 1024 }; /* bytes in a chunk */

/* The next message comes in chunks; where one is unfinished, that one, with
 * what has come of it. What an event borrowed is given back. `limit`: bytes
 * in the whole message, UINT64_MAX for none. assembler->stream is a new number
 * then, which tells this stream from others. A stream that was not ended is
 * discarded first. TWS_PROTOCOL with 1009: more has come already. */
enum tws_status tws_message_stream_begin(struct tws_assembler *assembler,
                                         uint64_t limit,
                                         struct tws_error *err);

static inline bool
tws_message_stream_is(const struct tws_assembler *assembler, uint32_t number)
{
    return assembler->chunked && assembler->stream == number;
}

/* TWS_OPCODE_TEXT or TWS_OPCODE_BINARY once the message has begun, else 0. */
static inline uint8_t
tws_message_stream_opcode(const struct tws_assembler *assembler)
{
    return assembler->skipping ? 0 : assembler->opcode;
}

/* What can be handed out by now: true with a chunk of 1 to TWS_CHUNK_MAX
 * bytes, text cut between two characters, borrowed until the next call; or
 * with one of 0 bytes, which stands for the end of the message. It is handed
 * out again until it is consumed, or the end acknowledged. */
bool tws_message_stream_chunk(const struct tws_assembler *assembler,
                              struct tws_event *event);
void tws_message_stream_consume(struct tws_assembler *assembler,
                                size_t length);
void tws_message_stream_end(struct tws_assembler *assembler);

/* How much of the bytes at hand, whole characters where they are text, makes
 * the first chunk. */
size_t tws_message_stream_cut(const uint8_t *data, size_t length, bool text);

/* Nobody wants the rest: it is checked and thrown away as it comes, and what
 * follows is handed out whole again. Does nothing where no message comes in
 * chunks. */
void tws_message_stream_discard(struct tws_assembler *assembler);

/* For assembler.c: what can be handed out before more input is looked at,
 * where there is a chunk or something waits to be inflated. TWS_AGAIN: there
 * is nothing (more) of that. */
enum tws_status tws_message_stream_resume(struct tws_assembler *assembler,
                                          struct tws_event *event,
                                          struct tws_error *err);
/* For assembler.c: a piece of the message, whose frame may stand here. As
 * tws_assembler_take(). */
enum tws_status tws_message_stream_take(struct tws_assembler *assembler,
                                        const struct tws_piece *piece,
                                        struct tws_event *event,
                                        struct tws_error *err);

#endif /* TWS_PROTOCOL_MESSAGE_STREAM_H */
