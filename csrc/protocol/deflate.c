#include "protocol/deflate.h"

#include "protocol/close_code.h"

#include <assert.h>
#include <stdlib.h>
#define ZLIB_CONST
#include <zlib.h>

/* What a sync flush ends with, and RFC 7692 §7.2.1 leaves out. */
static const uint8_t TAIL[4] = {0x00, 0x00, 0xff, 0xff};

enum {
    ROOM_MIN = 128,       /* beyond the 6 bytes that a flush needs */
    ROOM_MAX = 64 * 1024, /* asked for at a time */
    INPUT_MAX = 1 << 30,  /* zlib counts in 32 bits */
    AT_BLOCK_END = 128,   /* in data_type, see inflate() */
    UNUSED_BITS = 7,      /* in data_type: of the last byte */
    DEFLATE_BITS_MIN = 9, /* see tws_deflater_new() */
};

struct tws_deflater {
    z_stream zlib;
    struct tws_deflate_settings settings;
};

struct tws_inflater {
    z_stream zlib;
    unsigned window_bits;
    int place;         /* data_type after the last step that got anywhere */
    bool full;         /* the last room: there may be more, without input */
    bool ended;        /* by a block that is marked as the last */
    bool begun;        /* there was input since the end of a message */
    uint8_t tail_left; /* of TAIL, while a message ends; else 0 */
    bool ending;
};

/* Histories -------------------------------------------------------------- */

void
tws_history_release(struct tws_history *history)
{
    free(history->bytes);
    *history = (struct tws_history){0};
}

/* Room for just so many bytes; most often it is there already. */
static bool
resize(struct tws_history *history, uInt length)
{
    if (length == 0) {
        tws_history_release(history);
    }
    else if (length != history->length) {
        uint8_t *bytes = malloc(length);
        if (bytes == NULL) {
            return false;
        }
        free(history->bytes);
        *history = (struct tws_history){.bytes = bytes, .length = length};
    }
    return true;
}

/* Deflating -------------------------------------------------------------- */

struct tws_deflater *
tws_deflater_new(const struct tws_deflate_settings *settings)
{
    struct tws_deflater *deflater = calloc(1, sizeof(*deflater));
    int bits = settings->window_bits;
    if (deflater == NULL) {
        return NULL;
    }
    /* Raw deflate with a window of 256 bytes is refused by zlib, or changed
     * without a word. With 512 bytes it refers back 512 - 262 = 250 bytes at
     * most (MAX_DIST in its deflate.h): that is good for a peer with 256. */
    if (bits < DEFLATE_BITS_MIN) {
        bits = DEFLATE_BITS_MIN;
    }
    if (deflateInit2(&deflater->zlib, settings->level, Z_DEFLATED, -bits,
                     settings->mem_level, Z_DEFAULT_STRATEGY)
        != Z_OK) {
        free(deflater);
        return NULL;
    }
    deflater->settings = *settings;
    return deflater;
}

const struct tws_deflate_settings *
tws_deflater_settings(const struct tws_deflater *deflater)
{
    return &deflater->settings;
}

void
tws_deflater_free(struct tws_deflater *deflater)
{
    if (deflater != NULL) {
        (void)deflateEnd(&deflater->zlib);
        free(deflater);
    }
}

void
tws_deflater_reset(struct tws_deflater *deflater)
{
    (void)deflateReset(&deflater->zlib);
}

enum tws_status
tws_deflater_save(struct tws_deflater *deflater, struct tws_history *history)
{
    uInt length = 0;
    (void)deflateGetDictionary(&deflater->zlib, NULL, &length);
    if (!resize(history, length)) {
        return TWS_NOMEM;
    }
    (void)deflateGetDictionary(&deflater->zlib, history->bytes, &length);
    return TWS_OK;
}

void
tws_deflater_restore(struct tws_deflater *deflater,
                     const struct tws_history *history)
{
    if (history->length > 0) {
        int result = deflateSetDictionary(&deflater->zlib, history->bytes,
                                          (uInt)history->length);
        assert(result == Z_OK); /* it allocates nothing */
        (void)result;
    }
}

/* Compresses all that avail_in counts, and flushes. */
static enum tws_status
flush(z_stream *zlib, struct tws_buffer *out, struct tws_error *err)
{
    size_t want = zlib->avail_in / 2 + ROOM_MIN;
    do {
        uint8_t *room;
        if (want > ROOM_MAX) {
            want = ROOM_MAX;
        }
        if (tws_buffer_reserve(out, want, &room) != TWS_OK) {
            return tws_error_nomem(err);
        }
        zlib->next_out = room;
        zlib->avail_out = (uInt)want;
        /* Z_BUF_ERROR: there was nothing left to do. Where the room ends
         * inside of the flush's own bytes zlib flushes once more: 5 bytes that
         * say nothing. */
        int result = deflate(zlib, Z_SYNC_FLUSH);
        assert(result == Z_OK || result == Z_BUF_ERROR);
        (void)result;
        tws_buffer_commit(out, want - zlib->avail_out);
    } while (zlib->avail_out == 0);
    assert(zlib->avail_in == 0);
    return TWS_OK;
}

enum tws_status
tws_deflater_add(struct tws_deflater *deflater, struct tws_span data, bool end,
                 struct tws_buffer *out, struct tws_error *err)
{
    z_stream *zlib = &deflater->zlib;
    size_t before = tws_buffer_length(out);
    size_t left = data.length;
    enum tws_status status = TWS_OK;
    if (left == 0) {
        /* An empty block whose length is what is left out (§7.2.3.6): zlib
         * does not flush twice. */
        static const uint8_t EMPTY = 0x00;
        return end && tws_buffer_append(out, &EMPTY, 1) != TWS_OK
                   ? tws_error_nomem(err)
                   : TWS_OK;
    }
    zlib->next_in = (const Bytef *)data.data;
    while (status == TWS_OK && left > 0) {
        zlib->avail_in = left < INPUT_MAX ? (uInt)left : INPUT_MAX;
        left -= zlib->avail_in;
        status = flush(zlib, out, err);
    }
    if (status == TWS_OK && end) {
        out->end -= sizeof(TAIL);
        assert(memcmp(out->memory + out->end, TAIL, sizeof(TAIL)) == 0);
    }
    if (status != TWS_OK) {
        out->end = out->start + before;
    }
    return status;
}

/* Inflating -------------------------------------------------------------- */

struct tws_inflater *
tws_inflater_new(unsigned window_bits)
{
    struct tws_inflater *inflater = calloc(1, sizeof(*inflater));
    if (inflater == NULL) {
        return NULL;
    }
    if (inflateInit2(&inflater->zlib, -(int)window_bits) != Z_OK) {
        free(inflater);
        return NULL;
    }
    inflater->window_bits = window_bits;
    return inflater;
}

unsigned
tws_inflater_window_bits(const struct tws_inflater *inflater)
{
    return inflater->window_bits;
}

void
tws_inflater_free(struct tws_inflater *inflater)
{
    if (inflater != NULL) {
        (void)inflateEnd(&inflater->zlib);
        free(inflater);
    }
}

void
tws_inflater_reset(struct tws_inflater *inflater)
{
    (void)inflateReset(&inflater->zlib);
    inflater->full = false;
    inflater->ended = false;
    inflater->begun = false;
    inflater->ending = false;
}

enum tws_status
tws_inflater_save(struct tws_inflater *inflater, struct tws_history *history)
{
    uInt length = 0;
    (void)inflateGetDictionary(&inflater->zlib, NULL, &length);
    if (!resize(history, length)) {
        return TWS_NOMEM;
    }
    (void)inflateGetDictionary(&inflater->zlib, history->bytes, &length);
    return TWS_OK;
}

enum tws_status
tws_inflater_restore(struct tws_inflater *inflater,
                     const struct tws_history *history)
{
    if (history->length > 0
        && inflateSetDictionary(&inflater->zlib, history->bytes,
                                (uInt)history->length)
               != Z_OK) {
        return TWS_NOMEM; /* for its window, the only thing that can fail */
    }
    return TWS_OK;
}

/* Behind a block that says that it is the last others may follow all the same
 * (RFC 7692 §7.2.3.4), and refer to what was before: the window stays. A
 * message may be full of such blocks, so this must cost next to nothing;
 * inflateGetDictionary() and inflateSetDictionary() copy the window. */
static void
go_on_behind_last(struct tws_inflater *inflater)
{
    (void)inflateResetKeep(&inflater->zlib);
    inflater->ended = false;
}

/* Inflates what it can, once. */
static enum tws_status
step(struct tws_inflater *inflater, struct tws_input *input, uint8_t *room,
     size_t size, size_t *got, struct tws_error *err)
{
    z_stream *zlib = &inflater->zlib;
    uInt in = input->length < INPUT_MAX ? (uInt)input->length : INPUT_MAX;
    uInt out = size < INPUT_MAX ? (uInt)size : INPUT_MAX;
    zlib->next_in = input->data;
    zlib->avail_in = in;
    zlib->next_out = room;
    zlib->avail_out = out;
    int result = inflate(zlib, Z_SYNC_FLUSH);
    *got = out - zlib->avail_out;
    in -= zlib->avail_in;
    if (in > 0) { /* else there may be no memory to step forward in */
        input->data += in;
        input->length -= in;
    }
    switch (result) {
    case Z_STREAM_END:
        inflater->ended = true;
        return TWS_OK;
    case Z_OK:
        inflater->place = zlib->data_type;
        return TWS_OK;
    case Z_BUF_ERROR: /* it got nowhere, and has forgotten the place */
        return TWS_OK;
    case Z_MEM_ERROR:
        return tws_error_nomem(err);
    default:
        return tws_error_protocol(err, TWS_CLOSE_INVALID_DATA,
                                  "compressed data can't be inflated: %s",
                                  zlib->msg == NULL ? "not deflated"
                                                    : zlib->msg);
    }
}

enum tws_status
tws_inflater_read(struct tws_inflater *inflater, struct tws_input *input,
                  uint8_t *room, size_t size, size_t *got,
                  struct tws_error *err)
{
    enum tws_status status = TWS_OK;
    size_t length = 0;
    inflater->begun = inflater->begun || input->length > 0;
    /* What zlib holds back without input does not reach behind a last
     * block. */
    while (status == TWS_OK && length < size
           && !(inflater->ended && input->length == 0)) {
        size_t more;
        if (inflater->ended) {
            go_on_behind_last(inflater);
        }
        status =
            step(inflater, input, room + length, size - length, &more, err);
        length += more;
        if (input->length == 0) {
            break;
        }
    }
    inflater->full = length == size;
    *got = length;
    return status;
}

/* With all input, and all that came of it. */
static enum tws_status
end_message(struct tws_inflater *inflater, struct tws_error *err)
{
    inflater->begun = false;
    inflater->ending = false;
    if (inflater->ended) {
        go_on_behind_last(inflater); /* what was left out was of it */
    }
    else if ((inflater->place & AT_BLOCK_END) == 0
             || (inflater->place & UNUSED_BITS) != 0) {
        return tws_error_protocol(
            err, TWS_CLOSE_INVALID_DATA,
            "compressed data can't be inflated: it ends inside of a block");
    }
    return TWS_OK;
}

enum tws_status
tws_inflater_end(struct tws_inflater *inflater, uint8_t *room, size_t size,
                 size_t *got, struct tws_error *err)
{
    uint8_t tail[sizeof(TAIL)];
    struct tws_input input = {.data = tail};
    enum tws_status status = TWS_OK;
    size_t more = 0;
    *got = 0;
    if (size == 0) {
        return TWS_AGAIN;
    }
    if (!inflater->begun) {
        /* Not even the byte that an empty message is sent as (RFC 7692
         * §7.2.3.6): it is empty, too. What is left out would be no block of
         * its own, and keep zlib from beginning with the next. */
        return TWS_OK;
    }
    if (!inflater->ending) {
        if (inflater->full) {
            status = tws_inflater_read(inflater, &input, room, size, got, err);
        }
        if (status != TWS_OK || inflater->full) {
            return status != TWS_OK ? status : TWS_AGAIN;
        }
        if (inflater->ended) {
            /* Nothing behind a last block, not even the byte that was left of
             * the next one (RFC 7692 §7.2.3.4): it is the end all the same. */
            go_on_behind_last(inflater);
            inflater->begun = false;
            return TWS_OK;
        }
        inflater->ending = true;
        inflater->tail_left = sizeof(TAIL);
    }
    memcpy(tail, TAIL, sizeof(TAIL)); /* what reads it takes no const */
    input.data = tail + sizeof(TAIL) - inflater->tail_left;
    input.length = inflater->tail_left;
    status = tws_inflater_read(inflater, &input, room + *got, size - *got,
                               &more, err);
    *got += more;
    inflater->tail_left = (uint8_t)input.length;
    if (status != TWS_OK || inflater->full) {
        return status != TWS_OK ? status : TWS_AGAIN;
    }
    return end_message(inflater, err);
}
