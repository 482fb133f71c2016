/* Compressed messages, and messages to be compressed. The first bytes choose
 * windows, rooms and parts. Inflating: what comes out in small rooms must be
 * what zlib makes of the same message in one go, with nothing but its
 * documented functions. Deflating: what one end sends the other must get. */
#include "input.h"
#include "protocol/compression.h"

#define ZLIB_CONST
#include <zlib.h>

enum {
    HEAD = 4,
    OUT_MAX = 1 << 19, /* more of a message is not looked at */

    /* Bits of the first byte, beside the 3 of the window. */
    TAKEOVER = 0x08,
    DEFLATE = 0x10,
    ONE_MESSAGE = 0x20,
    HASTY = 0x40,     /* the end comes before all of what was inflated */
    LOOKED_AT = 0x80, /* no context is kept that can be given back */
};

/* Memory of exactly that size. */
static uint8_t *
allocate(size_t size)
{
    uint8_t *memory = malloc(size > 0 ? size : 1);
    require(memory != NULL);
    return memory;
}

/* The next message: all that is left, or as much as a byte says. */
static struct tws_span
take_message(struct tws_span *rest, bool all)
{
    size_t length = rest->length;
    if (!all && length > 0) {
        length = 3 * (size_t)(uint8_t)rest->data[0];
        tws_span_advance(rest, 1);
        length = length < rest->length ? length : rest->length;
    }
    struct tws_span message = {.data = rest->data, .length = length};
    tws_span_advance(rest, length);
    return message;
}

/* The simple way --------------------------------------------------------- */

enum outcome { GOOD, BROKEN, TOO_LARGE };

struct simple {
    z_stream zlib;
    bool ended;
    uint8_t out[OUT_MAX];
    size_t length;
};

static void
simple_go_on(struct simple *s)
{
    static uint8_t window[32768];
    uInt length = 0;
    require(inflateGetDictionary(&s->zlib, window, &length) == Z_OK);
    require(inflateReset(&s->zlib) == Z_OK);
    require(inflateSetDictionary(&s->zlib, window, length) == Z_OK);
    s->ended = false;
}

static enum outcome
simple_feed(struct simple *s, const void *data, size_t length)
{
    s->zlib.next_in = data;
    s->zlib.avail_in = (uInt)length;
    do {
        if (s->ended) {
            simple_go_on(s);
        }
        s->zlib.next_out = s->out + s->length;
        s->zlib.avail_out = (uInt)(OUT_MAX - s->length);
        int result = inflate(&s->zlib, Z_SYNC_FLUSH);
        s->length = OUT_MAX - s->zlib.avail_out;
        if (s->length == OUT_MAX) {
            return TOO_LARGE;
        }
        if (result == Z_STREAM_END) {
            s->ended = true;
        }
        else if (result != Z_OK && result != Z_BUF_ERROR) {
            return BROKEN;
        }
    } while (s->zlib.avail_in > 0);
    return GOOD;
}

static enum outcome
simple_message(struct simple *s, struct tws_span message)
{
    s->length = 0;
    if (message.length == 0) {
        return GOOD; /* empty, whatever an end is after nothing */
    }
    enum outcome outcome = simple_feed(s, message.data, message.length);
    if (outcome != GOOD) {
        return outcome;
    }
    if (s->ended) {
        simple_go_on(s);
        return GOOD;
    }
    outcome = simple_feed(s, "\x00\x00\xff\xff", 4);
    if (outcome == GOOD && s->ended) {
        simple_go_on(s);
    }
    else if (outcome == GOOD
             && ((s->zlib.data_type & 128) == 0
                 || (s->zlib.data_type & 7) != 0)) {
        outcome = BROKEN;
    }
    return outcome;
}

/* Inflating -------------------------------------------------------------- */

struct under_test {
    struct tws_compression *compression;
    size_t room;  /* bytes */
    size_t piece; /* of input, in bytes */
    bool hasty;
    bool looked_at;
    uint8_t out[OUT_MAX];
    size_t length;
};

/* Appends what came; false where that is too much. */
static bool
keep(struct under_test *t, const uint8_t *room, size_t got)
{
    require(got <= t->room);
    if (got >= OUT_MAX - t->length) {
        return false;
    }
    memcpy(t->out + t->length, room, got);
    t->length += got;
    return true;
}

static enum outcome
outcome_of(enum tws_status status, const struct tws_error *err)
{
    require(status == TWS_PROTOCOL && err->status == TWS_PROTOCOL);
    require(err->close_code == 1007);
    require(strlen(err->reason) > 0);
    return BROKEN;
}

/* Between any two calls somebody may look whether contexts are kept in vain.
 */
static void
look(const struct under_test *t)
{
    for (int i = 0; t->looked_at && i < 2; i++) {
        tws_compression_look(t->compression);
    }
    require(!t->looked_at || t->compression->inflater == NULL
            || t->compression->in.amid);
    require(!t->looked_at || t->compression->deflater == NULL
            || t->compression->out.amid);
}

static enum outcome
inflate_message(struct under_test *t, struct tws_span message)
{
    uint8_t *copy = allocate(message.length);
    uint8_t *room = exact_room(t->room);
    size_t left = message.length;
    size_t got = 0;
    enum outcome outcome = GOOD;
    enum tws_status status = TWS_OK;
    struct tws_error err;
    struct tws_input input = {.data = copy};
    if (message.length > 0) {
        memcpy(copy, message.data, message.length);
    }
    t->length = 0;
    while (outcome == GOOD && left > 0) {
        input.length = left < t->piece ? left : t->piece;
        left -= input.length;
        do {
            size_t before = input.length;
            look(t);
            status = tws_compression_inflate(t->compression, &input, room,
                                             t->room, &got, &err);
            if (status != TWS_OK) {
                outcome = outcome_of(status, &err);
            }
            else if (!keep(t, room, got)) {
                outcome = TOO_LARGE;
            }
            else { /* it goes on */
                require(got > 0 || input.length < before || before == 0);
                require(input.length == 0 || got == t->room);
            }
        } while (outcome == GOOD
                 && (input.length > 0 || (got == t->room && !t->hasty)));
    }
    require(outcome != GOOD || input.data == copy + message.length);
    status = TWS_AGAIN;
    while (outcome == GOOD && status == TWS_AGAIN) {
        look(t);
        status = tws_compression_end_inflate(t->compression, room, t->room,
                                             &got, &err);
        if (status != TWS_OK && status != TWS_AGAIN) {
            outcome = outcome_of(status, &err);
        }
        else if (!keep(t, room, got)) {
            outcome = TOO_LARGE;
        }
        require(status != TWS_AGAIN || got == t->room);
    }
    free(copy);
    exact_end(room);
    return outcome;
}

static void
fuzz_inflate(struct under_test *t, struct tws_span rest, bool one)
{
    static struct simple simple;
    unsigned bits = t->compression->terms.in_window_bits;
    enum outcome outcome = GOOD;
    if (simple.zlib.state == NULL) {
        require(inflateInit2(&simple.zlib, -15) == Z_OK);
    }
    require(inflateReset(&simple.zlib) == Z_OK);
    simple.ended = false;
    do {
        struct tws_span message = take_message(&rest, one);
        enum outcome expected = simple_message(&simple, message);
        outcome = inflate_message(t, message);
        /* A smaller window may not reach as far, but then it says so. */
        if (expected == TOO_LARGE || outcome == TOO_LARGE) {
            /* What comes behind is found, or not, by the size of rooms. */
            require(bits < 15 || t->length + t->room >= OUT_MAX);
            require(outcome != TOO_LARGE
                    || simple.length + t->room >= OUT_MAX);
        }
        else if (outcome != expected) {
            require(bits < 15 && outcome == BROKEN);
        }
        else if (outcome == GOOD) {
            require(t->length == simple.length);
        }
        size_t same = t->length < simple.length ? t->length : simple.length;
        require(memcmp(t->out, simple.out, same) == 0);
        if (!t->compression->terms.in_takeover) {
            require(inflateReset(&simple.zlib) == Z_OK);
        }
    } while (outcome == GOOD && rest.length > 0);
}

/* Deflating -------------------------------------------------------------- */

static void
fuzz_deflate(struct under_test *t, struct tws_span rest, bool one)
{
    struct tws_compression *compression = t->compression;
    do {
        struct tws_span message = take_message(&rest, one);
        struct tws_span left = message;
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        struct tws_error err;
        bool last;
        do {
            size_t length = left.length < t->piece ? left.length : t->piece;
            struct tws_span part = {.data = left.data, .length = length};
            tws_span_advance(&left, length);
            look(t);
            last = left.length == 0;
            require(
                tws_compression_deflate(compression, part, last, &out, &err)
                == TWS_OK);
        } while (!last);
        struct tws_span packed = {.data = (const char *)tws_buffer_data(&out),
                                  .length = tws_buffer_length(&out)};
        require(packed.length > 0);
        if (message.length > 0 && (message.data[0] & 7) == 7) {
            tws_compression_forget_sent(compression); /* it was lost */
        }
        else {
            require(inflate_message(t, packed) == GOOD);
            require(t->length == message.length);
            require(memcmp(t->out, message.data, message.length) == 0);
        }
        tws_buffer_release(&out);
    } while (rest.length > 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct under_test t;
    if (size < HEAD || size > OUT_MAX / 2) {
        return 0;
    }
    bool one = (data[0] & ONE_MESSAGE) != 0;
    bool takeover = (data[0] & TAKEOVER) != 0;
    uint8_t bits = (uint8_t)(8 + (data[0] & 7));
    struct tws_compression_terms terms = {
        .out = {.window_bits = bits,
                .mem_level = (uint8_t)(1 + (data[3] & 15) % 9),
                .level = (int8_t)(data[3] / 16 % 11 - 1)},
        .in_window_bits = bits,
        .out_takeover = takeover,
        .in_takeover = takeover,
    };
    static struct tws_deflate_pool *pool;
    if (pool == NULL) {
        pool = tws_deflate_pool_new();
        require(pool != NULL);
    }
    t.compression = tws_compression_new(&terms, pool);
    require(t.compression != NULL);
    t.looked_at = (data[0] & LOOKED_AT) != 0;
    t.hasty = (data[0] & HASTY) != 0;
    t.room = data[1] == 0 ? 65536 : data[1];
    t.piece = data[2] == 0 ? SIZE_MAX : data[2];
    struct tws_span rest = {.data = (const char *)data + HEAD,
                            .length = size - HEAD};
    if ((data[0] & DEFLATE) != 0) {
        fuzz_deflate(&t, rest, one);
    }
    else {
        fuzz_inflate(&t, rest, one);
    }
    tws_compression_free(t.compression);
    return 0;
}
