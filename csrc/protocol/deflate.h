/* Raw DEFLATE (RFC 1951) in the form in which WebSocket extensions use it:
 * what is compressed at a time ends at a byte, and the 4 bytes 00 00 ff ff
 * at its end are left out (RFC 7692 §7.2). By zlib, which allocates; nothing
 * here is thread-safe. */
#ifndef TWS_PROTOCOL_DEFLATE_H
#define TWS_PROTOCOL_DEFLATE_H

#include "protocol/buffer.h"
#include "protocol/frame_reader.h"

enum {
    TWS_WINDOW_BITS_MIN = 8, /* RFC 7692 §7.1.2.1 */
    TWS_WINDOW_BITS_MAX = 15,
};

/* How much memory a deflater takes, and how hard it tries. */
struct tws_deflate_settings {
    uint8_t window_bits; /* 8 to 15: it refers back 2^window_bits bytes */
    uint8_t mem_level;   /* 1 to 9, of zlib */
    int8_t level;        /* 0 to 9; -1: zlib's default */
};

/* What was said last, as far as new messages may refer to it: all that must be
 * kept of a context between two messages. Zeroed: nothing. */
struct tws_history {
    uint8_t *bytes; /* owned; NULL: none */
    size_t length;
};

void tws_history_release(struct tws_history *history); /* it is empty then */

struct tws_deflater;

/* NULL where there is no memory. */
struct tws_deflater *
tws_deflater_new(const struct tws_deflate_settings *settings);
void tws_deflater_free(struct tws_deflater *deflater); /* or NULL */
/* What it was made with. */
const struct tws_deflate_settings *
tws_deflater_settings(const struct tws_deflater *deflater);

/* Forgets what it has compressed: what follows does not refer to it. */
void tws_deflater_reset(struct tws_deflater *deflater);

/* Between two messages: puts a copy of the window in place of what the history
 * was. TWS_NOMEM: nothing has changed. */
enum tws_status tws_deflater_save(struct tws_deflater *deflater,
                                  struct tws_history *history);
/* A new one, or one that was reset, goes on where the other has been saved. */
void tws_deflater_restore(struct tws_deflater *deflater,
                          const struct tws_history *history);

/* Appends the compressed form of `data` to `out`, whole bytes, so that a
 * peer can inflate all of it. `end`: nothing follows in the message (or
 * frame), the last 4 bytes are left out. Where this fails `out` is as
 * before, and the deflater must be reset. */
enum tws_status tws_deflater_add(struct tws_deflater *deflater,
                                 struct tws_span data, bool end,
                                 struct tws_buffer *out,
                                 struct tws_error *err);

struct tws_inflater;

/* `window_bits`: what the peer's deflater has, or more. NULL where there is no
 * memory. */
struct tws_inflater *tws_inflater_new(unsigned window_bits);
void tws_inflater_free(struct tws_inflater *inflater); /* or NULL */
unsigned tws_inflater_window_bits(const struct tws_inflater *inflater);

/* Forgets the window, and an unfinished message. */
void tws_inflater_reset(struct tws_inflater *inflater);

/* As those of a deflater. */
enum tws_status tws_inflater_save(struct tws_inflater *inflater,
                                  struct tws_history *history);
/* TWS_NOMEM: it must be reset. */
enum tws_status tws_inflater_restore(struct tws_inflater *inflater,
                                     const struct tws_history *history);

/* Inflates into `room`, and steps `input` forward, until either is used up.
 * Where *got is `size` there may be more, even without input: call again.
 * TWS_PROTOCOL with 1007 for what is not deflated data: the inflater is of no
 * use then, but to be reset. */
enum tws_status tws_inflater_read(struct tws_inflater *inflater,
                                  struct tws_input *input, uint8_t *room,
                                  size_t size, size_t *got,
                                  struct tws_error *err);

/* Once the input of a message (or frame) is used up: inflates what is left of
 * it, and the 4 bytes that were left out. TWS_AGAIN: *got is `size`, there may
 * be more, call again. TWS_OK: that was all; without any input it is an empty
 * message. TWS_PROTOCOL with 1007 where the data ends inside of a block. */
enum tws_status tws_inflater_end(struct tws_inflater *inflater, uint8_t *room,
                                 size_t size, size_t *got,
                                 struct tws_error *err);

#endif /* TWS_PROTOCOL_DEFLATE_H */
