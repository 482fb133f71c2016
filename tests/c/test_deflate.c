#include "scarce_zlib.h"

#include "scarce_buffers.h"

#include "deflate_corpus.h"
#include "guard.h"
#include "harness.h"

static const struct tws_deflate_settings settings = {
    .window_bits = 12, .mem_level = 5, .level = -1};

static struct tws_span
span(const char *text)
{
    return (struct tws_span){.data = text, .length = strlen(text)};
}

static struct tws_span
content(const struct tws_buffer *buffer)
{
    return (struct tws_span){.data = (const char *)tws_buffer_data(buffer),
                             .length = tws_buffer_length(buffer)};
}

/* Bytes that no compressor makes less of. */
static void
fill_random(char *data, size_t length, uint32_t seed)
{
    for (size_t i = 0; i < length; i++) {
        seed = seed * 1664525u + 1013904223u;
        data[i] = (char)(seed >> 24);
    }
}

/* Whether inflate_message() ends a message as soon as its input is used up,
 * with what is still to come of it. */
static bool hasty;

/* Inflates a message that comes `piece` bytes at a time, with rooms of `size`
 * bytes, each of which ends where memory does. */
static enum tws_status
inflate_message(struct tws_inflater *inflater, struct tws_span data,
                size_t piece, size_t size, struct tws_buffer *out,
                struct tws_error *err)
{
    uint8_t *room = malloc(size);
    struct tws_input input = {.data = (uint8_t *)(uintptr_t)data.data};
    size_t left = data.length;
    size_t got = 0;
    enum tws_status status = TWS_OK;
    if (room == NULL) {
        abort();
    }
    while (status == TWS_OK && left > 0) {
        input.length = left < piece ? left : piece;
        left -= input.length;
        do {
            status =
                tws_inflater_read(inflater, &input, room, size, &got, err);
            CHECK(got <= size);
            CHECK_INT(tws_buffer_append(out, room, got), TWS_OK);
        } while (status == TWS_OK
                 && (input.length > 0 || (got == size && !hasty)));
    }
    while (status == TWS_OK) {
        status = tws_inflater_end(inflater, room, size, &got, err);
        if (status == TWS_OK || status == TWS_AGAIN) {
            CHECK_INT(tws_buffer_append(out, room, got), TWS_OK);
        }
        if (status != TWS_AGAIN) {
            break;
        }
        CHECK_INT(got, size);
        status = TWS_OK;
    }
    free(room);
    return status;
}

static void
check_inflates(struct tws_inflater *inflater, struct tws_span data,
               size_t piece, size_t size, struct tws_span expected)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err = {0};
    struct guard guard = guard_copy(data.data, data.length);
    struct tws_span guarded = {.data = (const char *)guard.data,
                               .length = data.length};
    CHECK_INT(inflate_message(inflater, guarded, piece, size, &out, &err),
              TWS_OK);
    CHECK(tws_span_equal(content(&out), expected));
    tws_buffer_release(&out);
    guard_free(&guard);
}

static void
add(struct tws_deflater *deflater, struct tws_span data, bool end,
    struct tws_buffer *out)
{
    struct tws_error err;
    CHECK_INT(tws_deflater_add(deflater, data, end, out, &err), TWS_OK);
}

/* Inflating what others have made ---------------------------------------- */

static void
check_corpus(void)
{
    static const size_t sizes[] = {1, 2, 3, 7, 64, 4096};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(sizes); i++) {
        for (size_t j = 0; j < TWS_ARRAY_SIZE(sizes); j++) {
            struct tws_inflater *inflater = NULL;
            for (size_t k = 0; k < TWS_ARRAY_SIZE(corpus); k++) {
                const struct corpus_message *message = &corpus[k];
                if (message->first) {
                    tws_inflater_free(inflater);
                    inflater = tws_inflater_new(message->window_bits);
                }
                check_inflates(inflater, message->data, sizes[i], sizes[j],
                               message->text);
            }
            tws_inflater_free(inflater);
        }
    }
}

TEST(what_others_have_compressed)
{
    check_corpus();
    hasty = true;
    check_corpus();
    hasty = false;
}

TEST(a_reset_forgets_the_window)
{
    struct tws_inflater *inflater = tws_inflater_new(15);
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    check_inflates(inflater, corpus[0].data, 64, 64, corpus[0].text);
    check_inflates(inflater, corpus[1].data, 64, 64, corpus[1].text);
    tws_inflater_reset(inflater);
    CHECK_INT(inflate_message(inflater, corpus[1].data, 64, 64, &out, &err),
              TWS_PROTOCOL);
    /* It is as new, whatever was before: an error, a part of a message, the
     * middle of its end, a last block. */
    tws_inflater_reset(inflater);
    check_inflates(inflater, corpus[0].data, 64, 64, corpus[0].text);
    uint8_t part[3] = {0xf2, 0x48, 0xcd};
    uint8_t room[64];
    size_t got;
    struct tws_input input = {.data = part, .length = sizeof(part)};
    CHECK_INT(
        tws_inflater_read(inflater, &input, room, sizeof(room), &got, &err),
        TWS_OK);
    tws_inflater_reset(inflater);
    check_inflates(inflater, corpus[0].data, 64, 64, corpus[0].text);
    input = (struct tws_input){.data = part, .length = sizeof(part)};
    CHECK_INT(
        tws_inflater_read(inflater, &input, room, sizeof(room), &got, &err),
        TWS_OK);
    CHECK_INT(tws_inflater_end(inflater, room, 1, &got, &err), TWS_AGAIN);
    tws_inflater_reset(inflater);
    check_inflates(inflater, corpus[0].data, 64, 64, corpus[0].text);
    uint8_t last[7] = {0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00};
    input = (struct tws_input){.data = last, .length = sizeof(last)};
    CHECK_INT(
        tws_inflater_read(inflater, &input, room, sizeof(room), &got, &err),
        TWS_OK);
    CHECK_INT(got, 5);
    tws_inflater_reset(inflater);
    CHECK_INT(tws_inflater_end(inflater, room, sizeof(room), &got, &err),
              TWS_OK);
    CHECK_INT(got, 0);
    tws_buffer_release(&out);
    tws_inflater_free(inflater);
}

TEST(broken_data)
{
    static const struct {
        const char *data;
        size_t length;
        const char *reason;
    } cases[] = {
        {"\xff\xff\xff", 3, "invalid block type"},
        {"\xf2\x48\xcd\xc9", 4, "inside of a block"},
        {"\x00\x06\x00\xf9\xff\x48", 6, "inside of a block"}, /* stored */
        {"\x00\x05\x00\xfb\xff\x48\x65\x6c", 8, "stored block lengths"},
        {"\xf2\x00\x11\x00\x00", 5, "too far back"}, /* there is nothing */
        {"\xf2\x48\xcd\xc9\xc9\x07\x00\x00\x00\xff\xff\x07", 12, ""},
        {"\xf3\x48\xcd\xc9\xc9\x07\x00\x07", 8, "invalid block type"},
        /* behind a last block and the byte that is left of the next one
         * there is another byte */
        {"\xf3\x48\xcd\xc9\xc9\x07\x00\x00\x00", 9, "stored block lengths"},
        /* the bytes that were left out make an end of block, and 2 bits of
         * the next one */
        {"\x04\xe0\x01\x92\x24\x49\x92\x24\x49\xbc\x15\x89\x45\xcd\x23\xab"
         "\x67\xef\xff\x00\x00\x00\x70\x08",
         24, "inside of a block"},
        {"\x05\xe0\xff", 3, ""}, /* codes of which there can't be so many */
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        for (size_t size = 1; size <= 64; size += 9) {
            struct tws_inflater *inflater = tws_inflater_new(15);
            struct tws_buffer out = TWS_BUFFER_EMPTY;
            struct tws_error err = {.close_code = 0};
            struct tws_span data = {.data = cases[i].data,
                                    .length = cases[i].length};
            CHECK_INT(inflate_message(inflater, data, size, size, &out, &err),
                      TWS_PROTOCOL);
            CHECK_INT(err.close_code, 1007);
            CHECK(strstr(err.reason, "compressed data can't be inflated")
                  != NULL);
            CHECK(strstr(err.reason, cases[i].reason) != NULL);
            tws_buffer_release(&out);
            tws_inflater_free(inflater);
        }
    }
}

/* Whatever is cut off, it is noticed: there is no other boundary inside. */
TEST(data_that_is_cut_off)
{
    const struct corpus_message *message = NULL;
    for (size_t i = 0; i < TWS_ARRAY_SIZE(corpus); i++) {
        if (message == NULL || corpus[i].data.length > message->data.length) {
            message = &corpus[i];
        }
    }
    for (size_t length = 1; length < message->data.length; length++) {
        struct tws_inflater *inflater = tws_inflater_new(15);
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        struct tws_error err;
        struct tws_span data = {.data = message->data.data, .length = length};
        CHECK_INT(inflate_message(inflater, data, 1000, 1000, &out, &err),
                  TWS_PROTOCOL);
        CHECK_INT(err.close_code, 1007);
        tws_buffer_release(&out);
        tws_inflater_free(inflater);
    }
}

/* Others send an empty message as no bytes at all. The one behind it may
 * refer to those before. */
TEST(nothing_is_an_empty_message)
{
    static const struct tws_span messages[] = {
        BYTES("\xf3\x48\xcd\xc9\xc9\x07\x00"), /* a last block */
        BYTES("\x01"),
        BYTES("\xf2\x48\xcd\xc9\xc9\x07\x00"),
        BYTES("\x00"),
    };
    static const struct tws_span again = BYTES("\xf2\x00\x11\x00\x00");
    for (size_t i = 0; i < TWS_ARRAY_SIZE(messages); i++) {
        struct tws_inflater *inflater = tws_inflater_new(15);
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        struct tws_error err;
        check_inflates(inflater, TWS_SPAN(""), 8, 64, TWS_SPAN(""));
        CHECK_INT(inflate_message(inflater, messages[i], 8, 64, &out, &err),
                  TWS_OK);
        bool hello = tws_buffer_length(&out) == 5;
        CHECK(hello == (i % 2 == 0));
        for (size_t n = 0; n < 3; n++) {
            check_inflates(inflater, TWS_SPAN(""), 8, 64, TWS_SPAN(""));
        }
        if (hello) {
            check_inflates(inflater, again, 8, 64, TWS_SPAN("Hello"));
        }
        tws_buffer_release(&out);
        tws_inflater_free(inflater);
    }
}

/* The bytes that were left out may mean something else to one who sends
 * nonsense: content of a block that is longer than the message. */
TEST(an_end_that_makes_text)
{
    static const struct tws_span data = BYTES("\x00\x05\x00\xfa\xff\x48");
    static const struct tws_span last = BYTES("\x01\x05\x00\xfa\xff\x48");
    static const struct tws_span text = BYTES("H\x00\x00\xff\xff");
    for (size_t size = 1; size <= 8; size++) {
        struct tws_inflater *inflater = tws_inflater_new(15);
        check_inflates(inflater, data, 8, size, text);
        check_inflates(inflater, data, 1, size, text);
        check_inflates(inflater, last, 8, size, text);
        check_inflates(inflater, corpus[0].data, 8, size, corpus[0].text);
        tws_inflater_free(inflater);
    }
}

TEST(no_room_is_no_error)
{
    struct tws_inflater *inflater = tws_inflater_new(15);
    struct tws_error err;
    uint8_t data[7];
    uint8_t room[8];
    size_t got = 1;
    memcpy(data, corpus[0].data.data, sizeof(data));
    struct tws_input input = {.data = data, .length = sizeof(data)};
    CHECK_INT(tws_inflater_read(inflater, &input, NULL, 0, &got, &err),
              TWS_OK);
    CHECK_INT(got, 0);
    CHECK_INT(input.length, sizeof(data));
    CHECK_INT(tws_inflater_read(inflater, &input, room, 5, &got, &err),
              TWS_OK);
    CHECK_BYTES(room, got, "Hello");
    struct tws_input none = {.data = NULL, .length = 0};
    while (input.length > 0) {
        CHECK_INT(tws_inflater_read(inflater, &input, room, 8, &got, &err),
                  TWS_OK);
        CHECK_INT(got, 0);
    }
    CHECK_INT(tws_inflater_read(inflater, &none, room, 8, &got, &err), TWS_OK);
    CHECK_INT(got, 0);
    CHECK_INT(tws_inflater_end(inflater, NULL, 0, &got, &err), TWS_AGAIN);
    CHECK_INT(tws_inflater_end(inflater, room, 8, &got, &err), TWS_OK);
    CHECK_INT(got, 0);
    tws_inflater_free(inflater);
}

/* A peer may send a last block every two bytes. */
TEST(last_blocks_cost_no_memory)
{
    enum { COUNT = 20000 };
    static uint8_t data[2 * COUNT + 5];
    struct tws_inflater *inflater = tws_inflater_new(15);
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    check_inflates(inflater, corpus[0].data, 64, 64, corpus[0].text);
    for (size_t i = 0; i < sizeof(data) - 5; i += 2) {
        data[i] = 0x03;
    }
    memcpy(data + 2 * COUNT, "\xf2\x00\x11\x00\x00", 5);
    int before = zlib_allocations;
    CHECK_INT(
        inflate_message(inflater,
                        (struct tws_span){(const char *)data, sizeof(data)},
                        sizeof(data), 4096, &out, &err),
        TWS_OK);
    CHECK_INT(zlib_allocations, before);
    CHECK_BYTES(tws_buffer_data(&out), tws_buffer_length(&out), "Hello");
    tws_buffer_release(&out);
    tws_inflater_free(inflater);
}

/* 16 MiB out of 16 KiB: no more is inflated than there is room for. */
TEST(a_bomb_waits)
{
    enum { SIZE = 16 << 20 };
    char *zeroes = calloc(1, SIZE);
    struct tws_deflater *deflater = tws_deflater_new(&settings);
    struct tws_inflater *inflater = tws_inflater_new(12);
    struct tws_buffer data = TWS_BUFFER_EMPTY;
    struct tws_error err;
    uint8_t room[1000];
    size_t got;
    size_t calls = 0;
    if (zeroes == NULL) {
        abort();
    }
    add(deflater, (struct tws_span){zeroes, SIZE}, true, &data);
    CHECK(tws_buffer_length(&data) < SIZE / 500);
    struct tws_input input = {.data = tws_buffer_data(&data),
                              .length = tws_buffer_length(&data)};
    do {
        CHECK_INT(tws_inflater_read(inflater, &input, room, sizeof(room), &got,
                                    &err),
                  TWS_OK);
        calls++;
    } while (got == sizeof(room));
    CHECK_INT(calls, SIZE / sizeof(room) + 1);
    CHECK_INT(got, SIZE % sizeof(room));
    CHECK_INT(input.length, 0);
    CHECK_INT(tws_inflater_end(inflater, room, sizeof(room), &got, &err),
              TWS_OK);
    tws_buffer_release(&data);
    tws_inflater_free(inflater);
    tws_deflater_free(deflater);
    free(zeroes);
}

/* There and back -------------------------------------------------------- */

TEST(round_trips)
{
    static const char *const texts[] = {
        "Hello", "Hello", "", "Hello, Hello", "", "", "",
    };
    struct tws_deflater *deflater = tws_deflater_new(&settings);
    struct tws_inflater *inflater = tws_inflater_new(12);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(texts); i++) {
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        add(deflater, span(texts[i]), true, &out);
        check_inflates(inflater, content(&out), 64, 64, span(texts[i]));
        if (texts[i][0] == '\0') {
            CHECK_BYTES(tws_buffer_data(&out), tws_buffer_length(&out),
                        "\x00"); /* §7.2.3.6 */
        }
        tws_buffer_release(&out);
    }
    tws_deflater_free(deflater);
    tws_inflater_free(inflater);
}

/* Compresses what looks like nothing before, what does, and what does not
 * look like anything, behind what is in the buffer already. */
static void
check_settings(const struct tws_deflate_settings *with)
{
    static char data[3000];
    struct tws_deflater *deflater = tws_deflater_new(with);
    struct tws_inflater *inflater = tws_inflater_new(with->window_bits);
    CHECK(memcmp(tws_deflater_settings(deflater), with, sizeof(*with)) == 0);
    for (uint32_t i = 0; i < 6; i++) {
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        size_t length = i == 4 ? 100 : sizeof(data);
        if (i % 3 == 2) {
            fill_random(data, length, i);
        }
        else {
            for (size_t j = 0; j < length; j++) {
                data[j] = (char)('a' + j * j % (23 - i));
            }
        }
        CHECK_INT(tws_buffer_append(&out, "before", 6), TWS_OK);
        tws_buffer_consume(&out, 2);
        add(deflater, (struct tws_span){data, length}, true, &out);
        CHECK(memcmp(tws_buffer_data(&out), "fore", 4) == 0);
        tws_buffer_consume(&out, 4);
        check_inflates(inflater, content(&out), 1000, 1000,
                       (struct tws_span){data, length});
        tws_buffer_release(&out);
    }
    tws_deflater_free(deflater);
    tws_inflater_free(inflater);
}

TEST(all_settings_are_good)
{
    for (uint8_t bits = 8; bits <= 15; bits++) {
        for (unsigned mem = 1; mem <= 9; mem += harness_step(4)) {
            for (int8_t level = -1; level <= 9;
                 level = (int8_t)(level + (int8_t)harness_step(3))) {
                struct tws_deflate_settings with = {.window_bits = bits,
                                                    .mem_level = (uint8_t)mem,
                                                    .level = level};
                check_settings(&with);
            }
        }
    }
}

/* The room for what is compressed is exactly used up by one length or the
 * other, the flush's own bytes are cut in two by some. */
TEST(lengths_of_every_kind)
{
    static char data[1600];
    fill_random(data, sizeof(data), 1);
    for (int8_t level = 0; level <= 6; level += 3) {
        struct tws_deflate_settings with = {
            .window_bits = 9, .mem_level = 1, .level = level};
        struct tws_deflater *deflater = tws_deflater_new(&with);
        struct tws_inflater *inflater = tws_inflater_new(9);
        for (size_t length = 0; length <= sizeof(data);
             length += harness_step(29)) {
            struct tws_buffer out = TWS_BUFFER_EMPTY;
            add(deflater, (struct tws_span){data, length}, true, &out);
            CHECK(tws_buffer_length(&out) <= length + length / 50 + 40);
            check_inflates(inflater, content(&out), 5000, 5000,
                           (struct tws_span){data, length});
            tws_buffer_release(&out);
        }
        tws_deflater_free(deflater);
        tws_inflater_free(inflater);
    }
}

TEST(a_message_in_parts)
{
    static const size_t parts[] = {0, 1, 0, 0, 299, 700, 0};
    static char data[1000];
    struct tws_deflater *deflater = tws_deflater_new(&settings);
    struct tws_inflater *inflater = tws_inflater_new(12);
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    uint8_t room[2000];
    size_t got;
    size_t done = 0;
    size_t inflated = 0;
    fill_random(data, sizeof(data), 2);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(parts); i++) {
        bool end = i == TWS_ARRAY_SIZE(parts) - 1;
        size_t before = tws_buffer_length(&out);
        add(deflater, (struct tws_span){data + done, parts[i]}, end, &out);
        CHECK(parts[i] > 0 || end || tws_buffer_length(&out) == before);
        done += parts[i];
        /* All of it is there for the peer at once. */
        struct tws_input input = {.data = tws_buffer_data(&out),
                                  .length = tws_buffer_length(&out) - before};
        if (before > 0) {
            input.data += before;
        }
        CHECK_INT(tws_inflater_read(inflater, &input, room + inflated,
                                    sizeof(room) - inflated, &got, &err),
                  TWS_OK);
        inflated += got;
        CHECK_INT(inflated, done);
    }
    CHECK_INT(
        tws_inflater_end(inflater, room, sizeof(room) - inflated, &got, &err),
        TWS_OK);
    CHECK_INT(got, 0);
    CHECK(memcmp(room, data, sizeof(data)) == 0);
    tws_buffer_release(&out);
    tws_deflater_free(deflater);
    tws_inflater_free(inflater);
}

TEST(a_reset_deflater_refers_to_nothing)
{
    struct tws_deflater *deflater = tws_deflater_new(&settings);
    struct tws_buffer out[4] = {TWS_BUFFER_EMPTY, TWS_BUFFER_EMPTY,
                                TWS_BUFFER_EMPTY, TWS_BUFFER_EMPTY};
    const struct tws_span text = BYTES(ONE);
    add(deflater, text, true, &out[0]);
    add(deflater, text, true, &out[1]);
    CHECK(tws_buffer_length(&out[1]) < tws_buffer_length(&out[0]));
    tws_deflater_reset(deflater);
    add(deflater, text, true, &out[2]);
    CHECK(tws_span_equal(content(&out[2]), content(&out[0])));
    add(deflater, text, false, &out[3]); /* without an end */
    tws_deflater_reset(deflater);
    tws_buffer_consume(&out[2], tws_buffer_length(&out[2]));
    add(deflater, text, true, &out[2]);
    CHECK(tws_span_equal(content(&out[2]), content(&out[0])));
    for (size_t i = 0; i < TWS_ARRAY_SIZE(out); i++) {
        tws_buffer_release(&out[i]);
    }
    tws_deflater_free(deflater);
}

TEST(rooms_of_every_size)
{
    char text[2000];
    struct tws_deflater *deflater = tws_deflater_new(&settings);
    struct tws_buffer data = TWS_BUFFER_EMPTY;
    for (size_t i = 0; i < sizeof(text); i++) {
        text[i] = (char)('a' + i * i % 23);
    }
    struct tws_span whole = {.data = text, .length = sizeof(text)};
    add(deflater, whole, true, &data);
    struct tws_inflater *inflater = tws_inflater_new(12);
    for (size_t size = 1; size <= 2001; size += harness_step(37)) {
        tws_inflater_reset(inflater);
        check_inflates(inflater, content(&data), 5000, size, whole);
    }
    tws_buffer_release(&data);
    tws_inflater_free(inflater);
    tws_deflater_free(deflater);
}

/* Windows ---------------------------------------------------------------- */

/* Compresses messages that repeat what is up to 700 bytes back, and inflates
 * them byte by byte with a window of `bits`: then an inflater has nothing but
 * the window to copy from. */
static enum tws_status
repeat_far_back(const struct tws_deflate_settings *with, unsigned bits)
{
    static char data[4000];
    struct tws_deflater *deflater = tws_deflater_new(with);
    struct tws_inflater *inflater = tws_inflater_new(bits);
    enum tws_status status = TWS_OK;
    for (size_t back = 200; back <= 700 && status == TWS_OK;
         back += (size_t)7 * harness_step(9)) {
        struct tws_buffer packed = TWS_BUFFER_EMPTY;
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        struct tws_error err;
        fill_random(data, back, (uint32_t)back);
        for (size_t i = back; i < sizeof(data); i++) {
            data[i] = i % 50 == 0 ? (char)i : data[i - back];
        }
        struct tws_span whole = {.data = data, .length = sizeof(data)};
        add(deflater, whole, true, &packed);
        status =
            inflate_message(inflater, content(&packed), 10000, 1, &out, &err);
        if (status == TWS_OK) {
            CHECK(tws_span_equal(content(&out), whole));
        }
        tws_buffer_release(&packed);
        tws_buffer_release(&out);
    }
    tws_deflater_free(deflater);
    tws_inflater_free(inflater);
    return status;
}

/* RFC 7692 §7.1.2.1: a window of 256 bytes, which zlib has none of. */
TEST(nothing_refers_back_beyond_the_smallest_window)
{
    for (uint8_t mem = 1; mem <= 9; mem += 4) {
        for (int8_t level = 0; level <= 9; level++) {
            struct tws_deflate_settings with = {
                .window_bits = 8, .mem_level = mem, .level = level};
            CHECK_INT(repeat_far_back(&with, 8), TWS_OK);
        }
    }
    /* One who does refer back further is found out. */
    struct tws_deflate_settings wide = {
        .window_bits = 10, .mem_level = 9, .level = 6};
    CHECK_INT(repeat_far_back(&wide, 8), TWS_PROTOCOL);
    CHECK_INT(repeat_far_back(&wide, 9), TWS_PROTOCOL);
    CHECK_INT(repeat_far_back(&wide, 10), TWS_OK);
}

/* Memory ----------------------------------------------------------------- */

TEST(no_memory_for_a_new_one)
{
    for (int i = 0; i < 20; i++) {
        zlib_allocations_left = i;
        struct tws_deflater *deflater = tws_deflater_new(&settings);
        struct tws_inflater *inflater = tws_inflater_new(15);
        zlib_allocations_left = -1;
        CHECK(i > 0 || deflater == NULL);
        CHECK(i < 19 || (deflater != NULL && inflater != NULL));
        tws_deflater_free(deflater);
        tws_inflater_free(inflater);
    }
}

TEST(no_memory_while_deflating)
{
    static char data[300000];
    struct tws_deflater *deflater = tws_deflater_new(&settings);
    struct tws_buffer expected = TWS_BUFFER_EMPTY;
    size_t failures = 0;
    enum tws_status status;
    fill_random(data, sizeof(data), 3);
    struct tws_span whole = {.data = data, .length = sizeof(data)};
    add(deflater, whole, true, &expected);
    do {
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        struct tws_error err = {.status = TWS_OK};
        CHECK_INT(tws_buffer_append(&out, "before", 6), TWS_OK);
        tws_deflater_reset(deflater);
        allocations_left = (int)failures;
        status = tws_deflater_add(deflater, whole, true, &out, &err);
        allocations_left = -1;
        if (status == TWS_OK) {
            tws_buffer_consume(&out, 6);
            CHECK(tws_span_equal(content(&out), content(&expected)));
        }
        else {
            CHECK_INT(status, TWS_NOMEM);
            CHECK_INT(err.status, TWS_NOMEM);
            CHECK_BYTES(tws_buffer_data(&out), tws_buffer_length(&out),
                        "before");
            failures++;
        }
        tws_buffer_release(&out);
    } while (status != TWS_OK);
    CHECK(failures >= 2);
    struct tws_buffer none = TWS_BUFFER_EMPTY;
    struct tws_error err;
    allocations_left = 0;
    CHECK_INT(tws_deflater_add(deflater, TWS_SPAN(""), true, &none, &err),
              TWS_NOMEM);
    CHECK_INT(tws_deflater_add(deflater, TWS_SPAN(""), false, &none, &err),
              TWS_OK);
    allocations_left = -1;
    tws_buffer_release(&expected);
    tws_deflater_free(deflater);
}

/* zlib takes the memory for the window when there is something for it. */
TEST(no_memory_for_a_window)
{
    struct tws_inflater *inflater = tws_inflater_new(15);
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err = {.status = TWS_OK};
    zlib_allocations_left = 0;
    CHECK_INT(inflate_message(inflater, corpus[0].data, 64, 64, &out, &err),
              TWS_NOMEM);
    zlib_allocations_left = -1;
    CHECK_INT(err.status, TWS_NOMEM);
    tws_inflater_reset(inflater);
    check_inflates(inflater, corpus[0].data, 64, 64, corpus[0].text);
    tws_buffer_release(&out);
    tws_inflater_free(inflater);
}

/* Histories ----------------------------------------------------------------
 */

TEST(a_history_is_what_was_said_last)
{
    static const struct tws_deflate_settings small = {
        .window_bits = 9, .mem_level = 1, .level = 6};
    struct tws_deflater *deflater = tws_deflater_new(&small);
    struct tws_inflater *inflater = tws_inflater_new(9);
    struct tws_history sent = {0};
    struct tws_history received = {0};
    uint8_t said[2000];
    for (size_t i = 0; i < sizeof(said); i++) {
        said[i] = (uint8_t)(i * i / 7);
    }
    CHECK_INT(tws_deflater_save(deflater, &sent), TWS_OK);
    CHECK_INT(tws_inflater_save(inflater, &received), TWS_OK);
    CHECK(sent.bytes == NULL && received.bytes == NULL);
    tws_deflater_restore(deflater, &sent);
    CHECK_INT(tws_inflater_restore(inflater, &received), TWS_OK);
    for (size_t at = 0; at + 100 <= sizeof(said); at += 100) {
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        struct tws_span span = {.data = (const char *)said + at,
                                .length = 100};
        struct tws_error err;
        size_t all = at + 100 < 512 ? at + 100 : 512;
        CHECK_INT(tws_deflater_add(deflater, span, true, &out, &err), TWS_OK);
        check_inflates(
            inflater,
            (struct tws_span){.data = (const char *)tws_buffer_data(&out),
                              .length = tws_buffer_length(&out)},
            64, 64, span);
        CHECK_INT(tws_deflater_save(deflater, &sent), TWS_OK);
        CHECK_INT(tws_inflater_save(inflater, &received), TWS_OK);
        CHECK_INT(sent.length, all);
        CHECK_INT(received.length, all);
        CHECK(memcmp(sent.bytes, said + at + 100 - all, all) == 0);
        CHECK(memcmp(received.bytes, said + at + 100 - all, all) == 0);
        tws_deflater_reset(deflater);
        tws_inflater_reset(inflater);
        tws_deflater_restore(deflater, &sent);
        CHECK_INT(tws_inflater_restore(inflater, &received), TWS_OK);
        tws_buffer_release(&out);
    }
    /* And nothing once all was forgotten. */
    tws_deflater_reset(deflater);
    CHECK_INT(tws_deflater_save(deflater, &sent), TWS_OK);
    CHECK(sent.bytes == NULL && sent.length == 0);
    tws_history_release(&sent);
    tws_history_release(&received);
    tws_history_release(&received);
    tws_deflater_free(deflater);
    tws_inflater_free(inflater);
}

TEST(no_memory_for_a_history)
{
    struct tws_deflater *deflater = tws_deflater_new(&settings);
    struct tws_inflater *inflater = tws_inflater_new(12);
    struct tws_history history = {0};
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    CHECK_INT(tws_deflater_add(deflater, TWS_SPAN("Hello"), true, &out, &err),
              TWS_OK);
    CHECK_INT(tws_deflater_save(deflater, &history), TWS_OK);
    CHECK_INT(history.length, 5);
    CHECK_INT(tws_deflater_add(deflater, TWS_SPAN("Hi"), true, &out, &err),
              TWS_OK);
    histories_left = 0;
    CHECK_INT(tws_deflater_save(deflater, &history), TWS_NOMEM);
    CHECK_BYTES(history.bytes, history.length, "Hello");
    check_inflates(inflater, corpus[0].data, 64, 64, corpus[0].text);
    CHECK_INT(tws_inflater_save(inflater, &history), TWS_OK); /* the same */
    check_inflates(inflater, corpus[0].data, 64, 64, corpus[0].text);
    CHECK_INT(tws_inflater_save(inflater, &history), TWS_NOMEM);
    CHECK_BYTES(history.bytes, history.length, "Hello");
    histories_left = -1;
    /* A window has its memory from zlib. */
    tws_inflater_free(inflater);
    inflater = tws_inflater_new(12);
    zlib_allocations_left = 0;
    CHECK_INT(tws_inflater_restore(inflater, &history), TWS_NOMEM);
    zlib_allocations_left = -1;
    tws_inflater_reset(inflater);
    CHECK_INT(tws_inflater_restore(inflater, &history), TWS_OK);
    check_inflates(inflater, corpus[1].data, 64, 64, corpus[1].text);
    tws_history_release(&history);
    tws_buffer_release(&out);
    tws_deflater_free(deflater);
    tws_inflater_free(inflater);
}

TEST(nothing_is_freed_as_well)
{
    tws_deflater_free(NULL);
    tws_inflater_free(NULL);
}

RUN(T(what_others_have_compressed), T(a_reset_forgets_the_window),
    T(broken_data), T(data_that_is_cut_off), T(nothing_is_an_empty_message),
    T(an_end_that_makes_text), T(no_room_is_no_error),
    T(last_blocks_cost_no_memory), T(a_bomb_waits), T(round_trips),
    T(all_settings_are_good), T(lengths_of_every_kind), T(a_message_in_parts),
    T(a_reset_deflater_refers_to_nothing), T(rooms_of_every_size),
    T(nothing_refers_back_beyond_the_smallest_window),
    T(no_memory_for_a_new_one), T(no_memory_while_deflating),
    T(no_memory_for_a_window), T(a_history_is_what_was_said_last),
    T(no_memory_for_a_history), T(nothing_is_freed_as_well))
