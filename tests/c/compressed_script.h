/* Scripts whose messages are compressed. */
#ifndef TWS_TESTS_COMPRESSED_SCRIPT_H
#define TWS_TESTS_COMPRESSED_SCRIPT_H

#include "script.h"

/* What the two ends have agreed on, in every combination of these bits. */
enum { PER_FRAME = 1, TAKEOVER = 2, NARROW = 4, EVERY_TERMS = 8 };

static inline void
compressed_init(struct script *script, enum tws_role role, unsigned terms)
{
    script_init(script, role);
    script->compression = true;
    script->terms = (struct tws_compression_terms){
        .out = {.window_bits = 15, .mem_level = 8, .level = -1},
        .in_window_bits = (terms & NARROW) != 0 ? 9 : 15,
        .per_frame = (terms & PER_FRAME) != 0,
        .out_takeover = true,
        .in_takeover = (terms & TAKEOVER) != 0,
    };
    struct tws_deflate_settings settings = {
        .window_bits = script->terms.in_window_bits,
        .mem_level = 8,
        .level = -1,
    };
    script->deflater = tws_deflater_new(&settings);
    script_must(script->deflater != NULL);
}

/* Appends what the peer makes of it. */
static inline void
compressed_add(struct script *script, const char *data, size_t length,
               bool end, struct tws_buffer *out)
{
    struct tws_error err;
    struct tws_span span = {.data = data, .length = length};
    script_must(tws_deflater_add(script->deflater, span, end, out, &err)
                == TWS_OK);
    if (end && !script->terms.in_takeover) {
        tws_deflater_reset(script->deflater);
    }
}

/* One frame that was compressed by itself. */
static inline void
compressed_frame(struct script *script, unsigned first, const char *data,
                 size_t length)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    compressed_add(script, data, length, true, &out);
    script_frame(script, first | TWS_RSV1, tws_buffer_data(&out),
                 tws_buffer_length(&out));
    tws_buffer_release(&out);
}

/* The frames of a message: of each of them `chunk` bytes are compressed, or
 * have come of compressing; `ping` between them. */
static inline void
compressed_frames(struct script *script, unsigned opcode, const char *data,
                  size_t length, size_t chunk, const char *ping)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    bool per_frame = script->terms.per_frame;
    unsigned first = opcode | TWS_RSV1;
    size_t at = 0;
    bool fin;
    if (!per_frame) {
        /* With a flush in the middle, which is the sender's business. */
        compressed_add(script, data, length / 2, false, &out);
        compressed_add(script, data + length / 2, length - length / 2, true,
                       &out);
        data = (const char *)tws_buffer_data(&out);
        length = tws_buffer_length(&out);
    }
    do {
        size_t size = length - at < chunk ? length - at : chunk;
        fin = at + size == length;
        if (per_frame && at / chunk % 3 != 1) {
            compressed_frame(script, (first & 0x0f) | (fin ? END : MORE),
                             data + at, size);
        }
        else {
            unsigned bits = per_frame ? first & 0x0f : first;
            script_frame(script, bits | (fin ? END : MORE), data + at, size);
        }
        at += size;
        first = TWS_OPCODE_CONTINUATION;
        if (ping != NULL && !fin) {
            script_whole(script, TWS_OPCODE_PING, ping, strlen(ping));
        }
    } while (!fin);
    tws_buffer_release(&out);
}

static inline void
compressed_message(struct script *script, enum tws_opcode opcode,
                   size_t length, size_t chunk, bool ascii, const char *ping)
{
    char *text = script_new_text(length, ascii);
    if (opcode != TWS_OPCODE_TEXT && length > 1) {
        text[length / 2] = '\xff';
    }
    compressed_frames(script, opcode, text, length, chunk, ping);
    script_expect(
        script, opcode == TWS_OPCODE_TEXT ? TWS_EVENT_TEXT : TWS_EVENT_BINARY,
        text, length);
    free(text);
}

#endif /* TWS_TESTS_COMPRESSED_SCRIPT_H */
