#include "protocol/deflate.h"

#include "harness.h"

static const struct tws_deflate_settings settings = {
    .window_bits = 12, .mem_level = 5, .level = -1};

static struct tws_span
span(const char *text)
{
    return (struct tws_span){.data = text, .length = strlen(text)};
}

/* Inflates a message with rooms of `size` bytes. */
static enum tws_status
inflate_message(struct tws_inflater *inflater, struct tws_span data,
                size_t size, struct tws_buffer *out, struct tws_error *err)
{
    uint8_t room[4096];
    size_t got;
    struct tws_input input = {.data = (uint8_t *)(uintptr_t)data.data,
                              .length = data.length};
    enum tws_status status;
    do {
        status = tws_inflater_read(inflater, &input, room, size, &got, err);
        if (status != TWS_OK) {
            return status;
        }
        CHECK_INT(tws_buffer_append(out, room, got), TWS_OK);
    } while (input.length > 0 || got == size);
    do {
        status = tws_inflater_end(inflater, room, size, &got, err);
        if (status == TWS_OK || status == TWS_AGAIN) {
            CHECK_INT(tws_buffer_append(out, room, got), TWS_OK);
        }
    } while (status == TWS_AGAIN);
    return status;
}

static void
check_inflates(struct tws_inflater *inflater, struct tws_span data,
               struct tws_span expected)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    CHECK_INT(inflate_message(inflater, data, sizeof(char[64]), &out, &err),
              TWS_OK);
    CHECK_INT(tws_buffer_length(&out), expected.length);
    CHECK(expected.length != tws_buffer_length(&out) || expected.length == 0
          || memcmp(tws_buffer_data(&out), expected.data, expected.length)
                 == 0);
    tws_buffer_release(&out);
}

/* RFC 7692 §7.2.3. */
TEST(examples_of_the_rfc)
{
    static const struct {
        const char *data;
        size_t length;
        const char *text;
    } cases[] = {
        {"\xf2\x48\xcd\xc9\xc9\x07\x00", 7, "Hello"},
        {"\xf2\x00\x11\x00\x00", 5, "Hello"}, /* refers to the one before */
        {"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 11, "Hello"},
        {"\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8, "Hello"},
        {"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 13, "Hello"},
        {"\x00", 1, ""},
    };
    struct tws_inflater *inflater = tws_inflater_new(15);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        check_inflates(inflater,
                       (struct tws_span){.data = cases[i].data,
                                         .length = cases[i].length},
                       span(cases[i].text));
    }
    tws_inflater_free(inflater);
}

TEST(round_trips)
{
    static const char *const texts[] = {"Hello",        "Hello", "",
                                        "Hello, Hello", "",      ""};
    struct tws_deflater *deflater = tws_deflater_new(&settings);
    struct tws_inflater *inflater = tws_inflater_new(12);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(texts); i++) {
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        struct tws_error err;
        CHECK_INT(tws_deflater_add(deflater, span(texts[i]), true, &out, &err),
                  TWS_OK);
        check_inflates(
            inflater,
            (struct tws_span){.data = (const char *)tws_buffer_data(&out),
                              .length = tws_buffer_length(&out)},
            span(texts[i]));
        tws_buffer_release(&out);
    }
    tws_deflater_free(deflater);
    tws_inflater_free(inflater);
}

TEST(rooms_of_every_size)
{
    char text[2000];
    struct tws_deflater *deflater = tws_deflater_new(&settings);
    struct tws_buffer data = TWS_BUFFER_EMPTY;
    struct tws_error err;
    for (size_t i = 0; i < sizeof(text); i++) {
        text[i] = (char)('a' + i * i % 23);
    }
    struct tws_span whole = {.data = text, .length = sizeof(text)};
    CHECK_INT(tws_deflater_add(deflater, whole, true, &data, &err), TWS_OK);
    for (size_t size = 1; size <= 2001; size++) {
        struct tws_inflater *inflater = tws_inflater_new(12);
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        CHECK_INT(
            inflate_message(
                inflater,
                (struct tws_span){.data = (const char *)tws_buffer_data(&data),
                                  .length = tws_buffer_length(&data)},
                size, &out, &err),
            TWS_OK);
        CHECK_INT(tws_buffer_length(&out), sizeof(text));
        CHECK(memcmp(tws_buffer_data(&out), text, sizeof(text)) == 0);
        tws_buffer_release(&out);
        tws_inflater_free(inflater);
    }
    tws_buffer_release(&data);
    tws_deflater_free(deflater);
}

TEST(broken_data)
{
    static const struct {
        const char *data;
        size_t length;
    } cases[] = {
        {"\xff\xff\xff", 3},                     /* a block of no type */
        {"\xf2\x48\xcd\xc9", 4},                 /* ends inside of a block */
        {"\x00\x06\x00\xf9\xff\x48", 6},         /* the same, stored */
        {"", 0},                                 /* not even a block */
        {"\x00\x05\x00\xfb\xff\x48\x65\x6c", 8}, /* lengths that differ */
        {"\xf2\x00\x11\x00\x00", 5},             /* refers to nothing */
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        struct tws_inflater *inflater = tws_inflater_new(15);
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        struct tws_error err = {.close_code = 0};
        struct tws_span data = {.data = cases[i].data,
                                .length = cases[i].length};
        CHECK_INT(inflate_message(inflater, data, 64, &out, &err),
                  TWS_PROTOCOL);
        CHECK_INT(err.close_code, 1007);
        tws_buffer_release(&out);
        tws_inflater_free(inflater);
    }
}

RUN(T(examples_of_the_rfc), T(round_trips), T(rooms_of_every_size),
    T(broken_data))
