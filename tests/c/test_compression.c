/* Compiled in here with a mutex and memory that a test can make fail. */
#include "scarce_zlib.h"

#include "scarce_buffers.h"

#include "harness.h"
#include "protocol/compression.h"

static int mutex_error;

static int
odd_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    return mutex_error != 0 ? mutex_error
                            : pthread_mutex_init(mutex, attributes);
}

#define calloc scarce_zlib_calloc
#define pthread_mutex_init odd_mutex_init
#include "../../csrc/protocol/compression.c"
#undef pthread_mutex_init
#undef calloc

#define TEXT "Hello, Hello, Hello"

struct fixture {
    struct tws_deflate_pool *pool;
    struct tws_compression *compression;
};

static struct fixture
begin(bool out_takeover, bool in_takeover)
{
    const struct tws_compression_terms terms = {
        .out = {.window_bits = 11, .mem_level = 4, .level = 6},
        .in_window_bits = 13,
        .out_takeover = out_takeover,
        .in_takeover = in_takeover,
        .threshold = 10,
    };
    struct fixture f = {.pool = tws_deflate_pool_new()};
    f.compression = tws_compression_new(&terms, f.pool);
    if (f.compression == NULL) {
        abort();
    }
    CHECK(memcmp(&f.compression->terms, &terms, sizeof(terms)) == 0);
    return f;
}

static void
end(struct fixture *f)
{
    tws_compression_free(f->compression);
    tws_deflate_pool_release(f->pool);
}

/* As long as what is compressed, in bytes. */
static size_t
deflate_text(struct fixture *f, bool last, struct tws_buffer *out)
{
    struct tws_error err;
    size_t before = tws_buffer_length(out);
    CHECK_INT(pthread_mutex_lock(&f->compression->lock), 0);
    CHECK_INT(tws_compression_deflate(f->compression, TWS_SPAN(TEXT), last,
                                      out, &err),
              TWS_OK);
    CHECK_INT(pthread_mutex_unlock(&f->compression->lock), 0);
    return tws_buffer_length(out) - before;
}

static size_t
length_of_message(struct fixture *f)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    size_t length = deflate_text(f, true, &out);
    tws_buffer_release(&out);
    return length;
}

/* RFC 7692 §7.2.3: "Hello", the second one with reference to the first. */
static enum tws_status
inflate_hello(struct fixture *f, bool second)
{
    uint8_t data[7] = {0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00};
    uint8_t more[5] = {0xf2, 0x00, 0x11, 0x00, 0x00};
    uint8_t room[5];
    size_t got;
    struct tws_error err;
    struct tws_input input = {.data = data, .length = sizeof(data)};
    if (second) {
        input = (struct tws_input){.data = more, .length = sizeof(more)};
    }
    enum tws_status status = tws_compression_inflate(
        f->compression, &input, room, sizeof(room), &got, &err);
    if (status != TWS_OK) {
        return status;
    }
    CHECK_BYTES(room, got, "Hello");
    while (input.length > 0) {
        CHECK_INT(tws_compression_inflate(f->compression, &input, room,
                                          sizeof(room), &got, &err),
                  TWS_OK);
        CHECK_INT(got, 0);
    }
    CHECK(f->compression->inflater != NULL);
    /* Without room it is not the end yet. */
    CHECK_INT(tws_compression_end_inflate(f->compression, room, 0, &got, &err),
              TWS_AGAIN);
    CHECK(f->compression->inflater != NULL);
    return tws_compression_end_inflate(f->compression, room, sizeof(room),
                                       &got, &err);
}

TEST(nothing_is_made_before_its_use)
{
    int before = zlib_allocations;
    struct fixture f = begin(true, true);
    CHECK_INT(zlib_allocations, before + 1);
    CHECK(f.compression->deflater == NULL);
    CHECK(f.compression->inflater == NULL);
    (void)length_of_message(&f);
    CHECK(f.compression->inflater == NULL);
    CHECK_INT(tws_deflater_settings(f.compression->deflater)->window_bits, 11);
    CHECK_INT(tws_deflater_settings(f.compression->deflater)->mem_level, 4);
    CHECK_INT(inflate_hello(&f, false), TWS_OK);
    CHECK_INT(tws_inflater_window_bits(f.compression->inflater), 13);
    end(&f);
}

TEST(messages_refer_to_those_before)
{
    struct fixture f = begin(true, true);
    size_t first = length_of_message(&f);
    size_t second = length_of_message(&f);
    CHECK(second < first);
    CHECK_INT(inflate_hello(&f, false), TWS_OK);
    CHECK_INT(inflate_hello(&f, true), TWS_OK);
    CHECK(f.compression->deflater != NULL);
    CHECK(f.compression->inflater != NULL);
    end(&f);
}

TEST(without_takeover_contexts_are_borrowed)
{
    struct fixture f = begin(false, false);
    size_t first = length_of_message(&f);
    CHECK(f.compression->deflater == NULL);
    CHECK_INT(length_of_message(&f), first);
    CHECK_INT(inflate_hello(&f, false), TWS_OK);
    CHECK(f.compression->inflater == NULL);
    int before = zlib_allocations;
    CHECK_INT(length_of_message(&f), first);
    CHECK_INT(inflate_hello(&f, false), TWS_OK);
    CHECK_INT(zlib_allocations, before);
    CHECK_INT(inflate_hello(&f, true), TWS_PROTOCOL);
    end(&f);
}

/* Each way by itself. */
TEST(one_way_takes_over)
{
    struct fixture f = begin(true, false);
    size_t first = length_of_message(&f);
    CHECK(length_of_message(&f) < first);
    CHECK_INT(inflate_hello(&f, false), TWS_OK);
    CHECK_INT(inflate_hello(&f, true), TWS_PROTOCOL);
    end(&f);
    f = begin(false, true);
    first = length_of_message(&f);
    CHECK_INT(length_of_message(&f), first);
    CHECK_INT(inflate_hello(&f, false), TWS_OK);
    CHECK_INT(inflate_hello(&f, true), TWS_OK);
    end(&f);
}

TEST(a_message_in_parts_has_one_context)
{
    for (int takeover = 0; takeover < 2; takeover++) {
        struct fixture f = begin(takeover == 1, true);
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        size_t first = deflate_text(&f, false, &out);
        struct tws_deflater *deflater = f.compression->deflater;
        CHECK(deflater != NULL);
        CHECK(deflate_text(&f, false, &out) < first);
        CHECK(f.compression->deflater == deflater);
        CHECK(deflate_text(&f, true, &out) < first);
        CHECK((f.compression->deflater == deflater) == (takeover == 1));
        /* All of it inflates as one message. */
        struct tws_inflater *inflater = tws_inflater_new(11);
        struct tws_input input = {.data = tws_buffer_data(&out),
                                  .length = tws_buffer_length(&out)};
        uint8_t room[128];
        size_t got;
        struct tws_error err;
        CHECK_INT(tws_inflater_read(inflater, &input, room, sizeof(room), &got,
                                    &err),
                  TWS_OK);
        CHECK_BYTES(room, got, TEXT TEXT TEXT);
        CHECK_INT(tws_inflater_end(inflater, room, sizeof(room), &got, &err),
                  TWS_OK);
        tws_inflater_free(inflater);
        tws_buffer_release(&out);
        end(&f);
    }
}

TEST(what_did_not_go_out_is_not_referred_to)
{
    struct fixture f = begin(true, true);
    tws_compression_forget_sent(f.compression); /* nothing yet */
    size_t first = length_of_message(&f);
    CHECK(length_of_message(&f) < first);
    struct tws_deflater *deflater = f.compression->deflater;
    tws_compression_forget_sent(f.compression);
    tws_compression_forget_sent(f.compression);
    CHECK(f.compression->deflater == deflater);
    CHECK_INT(length_of_message(&f), first);
    CHECK(length_of_message(&f) < first); /* to this one, that is */
    end(&f);
    /* A borrowed one goes back in the middle of a message. */
    f = begin(false, true);
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    (void)deflate_text(&f, false, &out);
    CHECK(f.compression->deflater != NULL);
    tws_compression_forget_sent(f.compression);
    CHECK(f.compression->deflater == NULL);
    CHECK_INT(length_of_message(&f), first);
    tws_buffer_release(&out);
    end(&f);
}

TEST(borrowed_contexts_go_back_at_the_end)
{
    struct fixture f = begin(false, false);
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    uint8_t data[2] = {0xf2, 0x48};
    uint8_t room[8];
    size_t got;
    struct tws_error err;
    struct tws_input input = {.data = data, .length = sizeof(data)};
    (void)deflate_text(&f, false, &out);
    CHECK_INT(tws_compression_inflate(f.compression, &input, room,
                                      sizeof(room), &got, &err),
              TWS_OK);
    struct tws_deflater *deflater = f.compression->deflater;
    struct tws_inflater *inflater = f.compression->inflater;
    CHECK(deflater != NULL && inflater != NULL);
    tws_compression_free(f.compression);
    struct tws_deflate_settings settings = {
        .window_bits = 11, .mem_level = 4, .level = 6};
    CHECK(tws_deflate_pool_take_deflater(f.pool, &settings) == deflater);
    CHECK(tws_deflate_pool_take_inflater(f.pool, 13) == inflater);
    tws_deflater_free(deflater);
    tws_inflater_free(inflater);
    tws_buffer_release(&out);
    tws_deflate_pool_release(f.pool);
}

/* Whatever it was, and in the middle of a message. */
TEST(who_stops_gives_back)
{
    for (int takeover = 0; takeover < 2; takeover++) {
        struct fixture f = begin(takeover == 1, takeover == 1);
        struct tws_deflate_settings settings = {
            .window_bits = 11, .mem_level = 4, .level = 6};
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        uint8_t data[2] = {0xf2, 0x48};
        uint8_t room[8];
        size_t got;
        struct tws_error err;
        struct tws_input input = {.data = data, .length = sizeof(data)};
        tws_compression_stop_inflating(f.compression); /* nothing yet */
        CHECK_INT(tws_compression_inflate(f.compression, &input, room,
                                          sizeof(room), &got, &err),
                  TWS_OK);
        struct tws_inflater *inflater = f.compression->inflater;
        tws_compression_stop_inflating(f.compression);
        CHECK(f.compression->inflater == NULL);
        CHECK(tws_deflate_pool_take_inflater(f.pool, 13) == inflater);
        tws_deflate_pool_give_inflater(f.pool, inflater);
        CHECK_INT(inflate_hello(&f, false), TWS_OK);
        tws_compression_stop_deflating(f.compression); /* nothing yet */
        size_t first = deflate_text(&f, false, &out);
        struct tws_deflater *deflater = f.compression->deflater;
        tws_compression_stop_deflating(f.compression);
        CHECK(f.compression->deflater == NULL);
        CHECK(tws_deflate_pool_take_deflater(f.pool, &settings) == deflater);
        tws_deflate_pool_give_deflater(f.pool, deflater);
        CHECK_INT(deflate_text(&f, false, &out), first);
        tws_buffer_release(&out);
        end(&f);
    }
}

/* In the middle of a message: what was its own is freed, what was borrowed
 * goes back; and it could go on. */
TEST(the_end_leaves_no_contexts)
{
    for (int takeover = 0; takeover < 2; takeover++) {
        struct fixture f = begin(takeover == 1, takeover == 1);
        struct tws_deflate_settings settings = {
            .window_bits = 11, .mem_level = 4, .level = 6};
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        uint8_t data[2] = {0xf2, 0x48};
        uint8_t room[8];
        size_t got;
        struct tws_error err;
        struct tws_input input = {.data = data, .length = sizeof(data)};
        tws_compression_end(f.compression); /* nothing yet */
        size_t first = deflate_text(&f, false, &out);
        CHECK_INT(tws_compression_inflate(f.compression, &input, room,
                                          sizeof(room), &got, &err),
                  TWS_OK);
        struct tws_deflater *deflater = f.compression->deflater;
        struct tws_inflater *inflater = f.compression->inflater;
        tws_compression_end(f.compression);
        CHECK(f.compression->deflater == NULL);
        CHECK(f.compression->inflater == NULL);
        if (takeover == 0) {
            CHECK(tws_deflate_pool_take_deflater(f.pool, &settings)
                  == deflater);
            CHECK(tws_deflate_pool_take_inflater(f.pool, 13) == inflater);
            tws_deflate_pool_give_deflater(f.pool, deflater);
            tws_deflate_pool_give_inflater(f.pool, inflater);
        }
        CHECK_INT(deflate_text(&f, false, &out), first);
        CHECK_INT(inflate_hello(&f, false), TWS_OK);
        tws_buffer_release(&out);
        end(&f);
    }
}

TEST(small_messages_go_as_they_are)
{
    static const struct {
        size_t length;
        enum tws_compress compress;
        bool wanted;
    } cases[] = {
        {0, TWS_COMPRESS_AUTO, false},   {9, TWS_COMPRESS_AUTO, false},
        {10, TWS_COMPRESS_AUTO, true},   {SIZE_MAX, TWS_COMPRESS_AUTO, true},
        {0, TWS_COMPRESS_ALWAYS, true},  {9, TWS_COMPRESS_ALWAYS, true},
        {10, TWS_COMPRESS_NEVER, false}, {11, TWS_COMPRESS_NEVER, false},
    };
    struct fixture f = begin(true, true); /* with a threshold of 10 */
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        CHECK_INT(tws_compression_wants(f.compression, cases[i].length,
                                        cases[i].compress),
                  cases[i].wanted);
    }
    end(&f);
}

TEST(the_pool_lives_as_long)
{
    struct fixture f = begin(false, false);
    tws_deflate_pool_release(f.pool);
    CHECK(length_of_message(&f) > 0);
    CHECK_INT(inflate_hello(&f, false), TWS_OK);
    tws_compression_free(f.compression);
    tws_compression_free(NULL);
}

TEST(no_memory_for_a_new_one)
{
    const struct tws_compression_terms terms = {.in_window_bits = 15};
    struct tws_deflate_pool *pool = tws_deflate_pool_new();
    zlib_allocations_left = 0;
    CHECK(tws_compression_new(&terms, pool) == NULL);
    zlib_allocations_left = -1;
    mutex_error = 12;
    CHECK(tws_compression_new(&terms, pool) == NULL);
    mutex_error = 0;
    tws_deflate_pool_release(pool);
}

TEST(no_memory_for_a_context)
{
    for (int takeover = 0; takeover < 2; takeover++) {
        struct fixture f = begin(takeover == 1, takeover == 1);
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        struct tws_error err = {.status = TWS_OK};
        uint8_t room[8];
        size_t got;
        struct tws_input input = {.data = room, .length = 1};
        zlib_allocations_left = 0;
        CHECK_INT(tws_compression_deflate(f.compression, TWS_SPAN(TEXT), true,
                                          &out, &err),
                  TWS_NOMEM);
        CHECK_INT(err.status, TWS_NOMEM);
        CHECK_INT(tws_compression_inflate(f.compression, &input, room,
                                          sizeof(room), &got, &err),
                  TWS_NOMEM);
        CHECK_INT(tws_compression_end_inflate(f.compression, room,
                                              sizeof(room), &got, &err),
                  TWS_NOMEM);
        CHECK_INT(input.length, 1);
        zlib_allocations_left = -1;
        CHECK(length_of_message(&f) > 0);
        CHECK_INT(inflate_hello(&f, false), TWS_OK);
        end(&f);
    }
}

TEST(a_failure_is_forgotten)
{
    for (int takeover = 0; takeover < 2; takeover++) {
        struct fixture f = begin(takeover == 1, true);
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        struct tws_error err;
        size_t first = length_of_message(&f);
        allocations_left = 0;
        CHECK_INT(tws_compression_deflate(f.compression, TWS_SPAN(TEXT), true,
                                          &out, &err),
                  TWS_NOMEM);
        allocations_left = -1;
        CHECK_INT(tws_buffer_length(&out), 0);
        CHECK_INT(length_of_message(&f), first);
        end(&f);
    }
}

RUN(T(nothing_is_made_before_its_use), T(messages_refer_to_those_before),
    T(without_takeover_contexts_are_borrowed), T(one_way_takes_over),
    T(a_message_in_parts_has_one_context),
    T(what_did_not_go_out_is_not_referred_to),
    T(borrowed_contexts_go_back_at_the_end), T(who_stops_gives_back),
    T(the_end_leaves_no_contexts), T(small_messages_go_as_they_are),
    T(the_pool_lives_as_long), T(no_memory_for_a_new_one),
    T(no_memory_for_a_context), T(a_failure_is_forgotten))
