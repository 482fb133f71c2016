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

#include "../../csrc/protocol/deflate_pool.c"

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
    tws_deflate_pool_enter(f.pool); /* to find there what was given back */
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
    (void)length_of_message(&f);
    CHECK(f.compression->inflater == NULL);
    CHECK_INT(tws_deflater_settings(f.compression->deflater)->window_bits, 11);
    CHECK_INT(tws_deflater_settings(f.compression->deflater)->mem_level, 4);
    CHECK_INT(inflate_hello(&f, false), TWS_OK);
    CHECK_INT(inflate_hello(&f, true), TWS_OK);
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
        CHECK(f.compression->deflater == NULL); /* it was only one message */
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

/* In the middle of a message, or with what is kept for the next: all goes back
 * where it came from; and it could go on. */
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
        CHECK(tws_deflate_pool_take_deflater(f.pool, &settings) == deflater);
        CHECK(tws_deflate_pool_take_inflater(f.pool, 13) == inflater);
        tws_deflate_pool_give_deflater(f.pool, deflater);
        tws_deflate_pool_give_inflater(f.pool, inflater);
        CHECK_INT(deflate_text(&f, false, &out), first);
        CHECK_INT(inflate_hello(&f, false), TWS_OK);
        tws_compression_end(f.compression);
        CHECK(f.compression->out.history.bytes == NULL);
        CHECK(f.compression->in.history.bytes == NULL);
        tws_buffer_release(&out);
        end(&f);
    }
}

/* Between messages -------------------------------------------------------- */

/* So many messages, both ways, of others that share the pool. */
static void
others_talk(struct fixture *f, int messages)
{
    struct fixture other = *f;
    other.compression = tws_compression_new(&f->compression->terms, f->pool);
    for (int i = 0; i < messages; i++) {
        (void)length_of_message(&other);
        CHECK_INT(inflate_hello(&other, i > 0), TWS_OK);
    }
    tws_compression_free(other.compression);
}

enum { LONG_AGO = TWS_KEPT_MAX }; /* messages */

TEST(one_that_says_little_keeps_what_was_said)
{
    struct fixture f = begin(true, true);
    struct tws_compression *c = f.compression;
    size_t first = length_of_message(&f);
    CHECK_INT(inflate_hello(&f, false), TWS_OK);
    for (int i = 0; i < 3; i++) {
        CHECK(c->deflater == NULL);
        CHECK(c->inflater == NULL);
        /* Not a byte more than there was. */
        CHECK_INT(c->out.history.length, (sizeof(TEXT) - 1) * (size_t)(i + 1));
        CHECK_INT(c->in.history.length, 5 * (size_t)(i + 1));
        CHECK_BYTES(c->in.history.bytes, 5, "Hello");
        others_talk(&f, LONG_AGO);
        CHECK(length_of_message(&f) < first);
        CHECK_INT(inflate_hello(&f, true), TWS_OK);
    }
    end(&f);
}

TEST(messages_close_together_keep_their_contexts)
{
    struct fixture f = begin(true, true);
    struct tws_compression *c = f.compression;
    (void)length_of_message(&f);
    CHECK_INT(inflate_hello(&f, false), TWS_OK);
    others_talk(&f, LONG_AGO - 1); /* just close enough */
    for (int i = 0; i < 3; i++) {
        (void)length_of_message(&f);
        CHECK_INT(inflate_hello(&f, true), TWS_OK);
        CHECK(c->deflater != NULL && c->out.history.bytes == NULL);
        CHECK(c->inflater != NULL && c->in.history.bytes == NULL);
    }
    others_talk(&f, LONG_AGO);
    (void)length_of_message(&f);
    CHECK_INT(inflate_hello(&f, true), TWS_OK);
    CHECK(c->deflater == NULL && c->out.history.bytes != NULL);
    CHECK(c->inflater == NULL && c->in.history.bytes != NULL);
    end(&f);
}

TEST(who_looks_takes_what_is_kept_in_vain)
{
    struct fixture f = begin(true, true);
    struct tws_compression *c = f.compression;
    size_t first = length_of_message(&f);
    tws_compression_look(c);
    for (int i = 0; i < 3; i++) {
        (void)length_of_message(&f);
        CHECK_INT(inflate_hello(&f, i > 0), TWS_OK);
    }
    CHECK(c->deflater != NULL && c->inflater != NULL);
    tws_compression_look(c); /* there were messages since */
    CHECK(c->deflater != NULL && c->inflater != NULL);
    tws_compression_look(c);
    CHECK(c->deflater == NULL && c->inflater == NULL);
    CHECK(!c->out.tenure.held && !c->in.tenure.held);
    tws_compression_look(c);
    CHECK(length_of_message(&f) < first);
    CHECK_INT(inflate_hello(&f, true), TWS_OK);
    CHECK(c->deflater != NULL && c->inflater != NULL);
    end(&f);
}

/* Each direction by itself, and not what is in use. */
TEST(who_looks_does_not_disturb)
{
    struct fixture f = begin(true, true);
    struct tws_compression *c = f.compression;
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    uint8_t data[2] = {0xf2, 0x48};
    uint8_t rest[5] = {0xcd, 0xc9, 0xc9, 0x07, 0x00};
    uint8_t room[8];
    size_t got;
    struct tws_error err;
    struct tws_input input = {.data = data, .length = sizeof(data)};
    (void)length_of_message(&f);
    (void)deflate_text(&f, false, &out);
    CHECK_INT(
        tws_compression_inflate(c, &input, room, sizeof(room), &got, &err),
        TWS_OK);
    for (int i = 0; i < 3; i++) {
        tws_compression_look(c);
    }
    CHECK(c->deflater != NULL && c->inflater != NULL);
    CHECK(deflate_text(&f, true, &out) > 0);
    input = (struct tws_input){.data = rest, .length = sizeof(rest)};
    CHECK_INT(tws_compression_inflate(c, &input, room + got,
                                      sizeof(room) - got, &got, &err),
              TWS_OK);
    CHECK_INT(tws_compression_end_inflate(c, room, sizeof(room), &got, &err),
              TWS_OK);
    CHECK(c->deflater != NULL);
    tws_compression_look(c);
    CHECK_INT(pthread_mutex_lock(&c->lock), 0);
    tws_compression_look(c); /* whoever has the lock deflates */
    CHECK(c->deflater != NULL);
    CHECK_INT(pthread_mutex_unlock(&c->lock), 0);
    tws_compression_look(c);
    CHECK(c->deflater == NULL);
    tws_buffer_release(&out);
    end(&f);
}

TEST(not_too_many_keep_theirs)
{
    enum { MANY = TWS_KEPT_MAX + 6 };
    struct fixture f = begin(true, true);
    struct tws_compression *all[MANY];
    for (int i = 0; i < MANY; i++) {
        struct fixture one = f;
        all[i] = tws_compression_new(&f.compression->terms, f.pool);
        one.compression = all[i];
        (void)length_of_message(&one);
        (void)length_of_message(&one);
        CHECK_INT(inflate_hello(&one, false), TWS_OK);
        CHECK_INT(inflate_hello(&one, true), TWS_OK);
        CHECK((all[i]->deflater != NULL) == (i < TWS_KEPT_MAX));
        CHECK((all[i]->inflater != NULL) == (i < TWS_KEPT_MAX));
    }
    /* Each that goes makes room for one, however it goes. */
    tws_compression_free(all[0]);
    tws_compression_end(all[1]);
    tws_compression_stop_deflating(all[2]);
    tws_compression_stop_inflating(all[2]);
    tws_compression_look(all[3]);
    tws_compression_look(all[3]);
    for (int i = TWS_KEPT_MAX; i < MANY; i++) {
        struct fixture one = f;
        one.compression = all[i];
        for (int message = 0; message < 2; message++) {
            (void)length_of_message(&one);
            CHECK_INT(inflate_hello(&one, true), TWS_OK);
        }
        CHECK((all[i]->deflater != NULL) == (i < TWS_KEPT_MAX + 4));
        CHECK((all[i]->inflater != NULL) == (i < TWS_KEPT_MAX + 4));
    }
    for (int i = 1; i < MANY; i++) {
        tws_compression_free(all[i]);
    }
    end(&f);
}

TEST(what_did_not_go_out_is_not_kept_either)
{
    struct fixture f = begin(true, true);
    size_t first = length_of_message(&f);
    CHECK(f.compression->out.history.length > 0);
    tws_compression_forget_sent(f.compression);
    CHECK_INT(f.compression->out.history.length, 0);
    others_talk(&f, LONG_AGO);
    CHECK_INT(length_of_message(&f), first);
    others_talk(&f, LONG_AGO);
    CHECK(length_of_message(&f) < first);
    (void)length_of_message(&f);
    CHECK(f.compression->deflater != NULL); /* kept, and stale */
    tws_compression_forget_sent(f.compression);
    for (int i = 0; i < 2; i++) {
        tws_compression_look(f.compression);
    }
    CHECK(f.compression->deflater == NULL);
    CHECK_INT(f.compression->out.history.length, 0);
    CHECK_INT(length_of_message(&f), first);
    end(&f);
}

TEST(no_memory_for_what_was_said)
{
    struct fixture f = begin(true, true);
    struct tws_compression *c = f.compression;
    struct tws_error err = {.status = TWS_OK};
    uint8_t room[8];
    size_t got;
    struct tws_input input = {.data = room, .length = 1};
    histories_left = 0;
    size_t first = length_of_message(&f);
    CHECK_INT(inflate_hello(&f, false), TWS_OK);
    /* Then there is more of it, as it was before. */
    CHECK(c->deflater != NULL && !c->out.tenure.held);
    CHECK(c->inflater != NULL && !c->in.tenure.held);
    histories_left = -1;
    tws_compression_look(c);
    tws_compression_look(c);
    CHECK(c->deflater == NULL && c->inflater == NULL);
    histories_left = 0;
    others_talk(&f, LONG_AGO);
    CHECK(length_of_message(&f) < first);
    CHECK_INT(inflate_hello(&f, true), TWS_OK);
    CHECK(c->deflater != NULL && c->inflater != NULL);
    histories_left = -1;
    others_talk(&f, LONG_AGO);
    CHECK(length_of_message(&f) < first);
    CHECK_INT(inflate_hello(&f, true), TWS_OK);
    CHECK(c->deflater == NULL && c->inflater == NULL);
    /* There is a new inflater, but none for its window. */
    for (int i = 0; i < IDLE_MAX; i++) {
        tws_inflater_free(tws_deflate_pool_take_inflater(f.pool, 13));
    }
    zlib_allocations_left = 2;
    CHECK_INT(
        tws_compression_inflate(c, &input, room, sizeof(room), &got, &err),
        TWS_NOMEM);
    zlib_allocations_left = -1;
    CHECK_INT(err.status, TWS_NOMEM);
    CHECK(c->inflater == NULL);
    CHECK_INT(inflate_hello(&f, true), TWS_OK);
    end(&f);
}

/* Chat, much of which was said before. */
static struct tws_span
say(unsigned number, char *room, size_t size)
{
    static const char *const words[] = {"hello", "world", "how", "are",
                                        "you",   "today", "fine"};
    size_t length = 0;
    for (unsigned i = 0; i < 40; i++) {
        unsigned draw = (number * 2654435761U + i * 40503U) >> 7;
        length +=
            (size_t)snprintf(room + length, size - length, "%s %u, ",
                             words[draw % TWS_ARRAY_SIZE(words)], draw % 97);
    }
    return (struct tws_span){.data = room, .length = length};
}

/* From one end to the other; the length of what went. */
static size_t
pass_on(struct tws_compression *from, struct tws_compression *to,
        struct tws_span message, size_t piece)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    uint8_t room[2048];
    size_t length = 0;
    size_t got = 0;
    CHECK_INT(pthread_mutex_lock(&from->lock), 0);
    CHECK_INT(tws_compression_deflate(from, message, true, &out, &err),
              TWS_OK);
    CHECK_INT(pthread_mutex_unlock(&from->lock), 0);
    size_t left = tws_buffer_length(&out);
    struct tws_input input = {.data = tws_buffer_data(&out)};
    while (left > 0) {
        size_t more = left < piece ? left : piece;
        input.length += more;
        left -= more;
        CHECK_INT(tws_compression_inflate(to, &input, room + length,
                                          sizeof(room) - length, &got, &err),
                  TWS_OK);
        length += got;
        tws_compression_look(to);
    }
    CHECK_INT(tws_compression_end_inflate(to, room + length,
                                          sizeof(room) - length, &got, &err),
              TWS_OK);
    length += got;
    CHECK_INT(length, message.length);
    CHECK(memcmp(room, message.data, length) == 0);
    length = tws_buffer_length(&out);
    tws_buffer_release(&out);
    return length;
}

/* All that says whether contexts are kept changes nothing of what is sent: it
 * is as small as ever, and refers as far back. */
TEST(what_is_sent_is_as_small)
{
    enum { MESSAGES = 60 };
    for (uint8_t bits = 8; bits <= 15; bits++) {
        size_t lengths[4] = {0};
        for (int way = 0; way < 4; way++) {
            const struct tws_compression_terms terms = {
                .out = {.window_bits = bits, .mem_level = 5, .level = 6},
                .in_window_bits = bits,
                .out_takeover = true,
                .in_takeover = true,
            };
            struct fixture f = {.pool = tws_deflate_pool_new()};
            f.compression = tws_compression_new(&terms, f.pool);
            struct tws_compression *to = tws_compression_new(&terms, f.pool);
            for (unsigned i = 0; i < MESSAGES; i++) {
                char room[1024];
                struct tws_span message = say(i, room, sizeof(room));
                if (way == 1 || (way == 2 && i % 7 == 3)) {
                    for (int look = 0; look < 2; look++) {
                        tws_compression_look(f.compression);
                        tws_compression_look(to);
                    }
                    CHECK(f.compression->deflater == NULL);
                    CHECK(to->inflater == NULL);
                }
                histories_left = way == 3 && i % 5 == 0 ? 0 : -1;
                if (way == 3 && i % 11 == 0) {
                    /* All that may be kept is. */
                    f.pool->traffic[TWS_OUT].kept += TWS_KEPT_MAX;
                    f.pool->traffic[TWS_IN].kept += TWS_KEPT_MAX;
                }
                lengths[way] += pass_on(f.compression, to, message,
                                        way == 0 ? SIZE_MAX : 1 + i);
                if (way == 3 && i % 11 == 0) {
                    f.pool->traffic[TWS_OUT].kept -= TWS_KEPT_MAX;
                    f.pool->traffic[TWS_IN].kept -= TWS_KEPT_MAX;
                }
            }
            tws_compression_free(to);
            end(&f);
        }
        for (int way = 1; way < 4; way++) {
            /* zlib may find another match among as good ones. */
            CHECK(lengths[way] * 1000 <= lengths[0] * 1010);
            CHECK(lengths[way] * 1010 >= lengths[0] * 1000);
        }
    }
}

TEST(the_last_one_leaves_nothing_in_the_pool)
{
    for (int takeover = 0; takeover < 2; takeover++) {
        struct fixture f = begin(takeover == 1, takeover == 1);
        struct fixture other = f;
        other.compression = tws_compression_new(&f.compression->terms, f.pool);
        tws_deflate_pool_leave(f.pool);
        (void)length_of_message(&f);
        CHECK_INT(inflate_hello(&f, false), TWS_OK);
        (void)length_of_message(&other);
        tws_compression_end(f.compression);
        tws_compression_end(f.compression);
        int before = zlib_allocations;
        (void)length_of_message(&other); /* it is there still */
        CHECK_INT(zlib_allocations, before);
        tws_compression_free(other.compression);
        for (int i = 0; i < IDLE_MAX; i++) {
            CHECK(f.pool->deflaters[i] == NULL);
            CHECK(f.pool->inflaters[i] == NULL);
        }
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
    T(the_end_leaves_no_contexts), T(one_that_says_little_keeps_what_was_said),
    T(messages_close_together_keep_their_contexts),
    T(who_looks_takes_what_is_kept_in_vain), T(who_looks_does_not_disturb),
    T(not_too_many_keep_theirs), T(what_did_not_go_out_is_not_kept_either),
    T(no_memory_for_what_was_said), T(what_is_sent_is_as_small),
    T(the_last_one_leaves_nothing_in_the_pool),
    T(small_messages_go_as_they_are), T(the_pool_lives_as_long),
    T(no_memory_for_a_new_one), T(no_memory_for_a_context),
    T(a_failure_is_forgotten))
