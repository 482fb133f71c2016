#include "protocol/message_stream.h"

#include "script.h"

static const enum tws_role roles[] = {TWS_CLIENT, TWS_SERVER};

/* Whole, in steps, and cut at every place, as whole messages are tested. */
static bool
play_chunked_everywhere(const struct script *s)
{
    size_t total = tws_buffer_length(&s->wire);
    bool good =
        script_play(s, &(struct script_cut){.n = total + 1, .chunked = true});
    for (size_t n = 1; good && n <= 20; n++) {
        good =
            script_play(s, &(struct script_cut){.n = n, .chunked = true})
            && script_play(s, &(struct script_cut){
                                  .n = n, .chunked = true, .guarded = true});
    }
    for (size_t n = 1; good && n < total; n++) {
        good = script_play(
            s, &(struct script_cut){
                   .mode = CUT_ONCE, .n = n, .direct = true, .chunked = true});
    }
    return good;
}

TEST(a_small_stream_cut_at_every_place)
{
    for (size_t i = 0; i < TWS_ARRAY_SIZE(roles); i++) {
        struct script s;
        script_init(&s, roles[i]);
        script_add_small_stream(&s);
        CHECK(play_chunked_everywhere(&s));
        script_free(&s);
    }
}

/* Some messages are streamed, from their beginning or from somewhere on, and
 * some of these to their end; the others stay whole. */
TEST(a_small_stream_streamed_in_parts)
{
    for (size_t i = 0; i < TWS_ARRAY_SIZE(roles); i++) {
        struct script s;
        bool good = true;
        script_init(&s, roles[i]);
        script_add_small_stream(&s);
        for (uint64_t seed = 0; good && seed < 4000;
             seed += harness_step(20)) {
            good = script_play(&s, &(struct script_cut){
                                       .mode = CUT_RANDOM,
                                       .seed = seed,
                                       .direct = seed % 2 == 0,
                                       .chunked = seed % 3 == 0,
                                       .mixed = seed % 3 != 1,
                                   });
        }
        for (size_t n = 1; good && n < 300; n += harness_step(10)) {
            good =
                script_play(&s, &(struct script_cut){.n = n % 10 + 1,
                                                     .seed = n,
                                                     .mixed = true,
                                                     .chunked = n % 2 == 0});
        }
        CHECK(good);
        script_free(&s);
    }
}

TEST(a_large_stream_cut_at_random)
{
    for (size_t i = 0; i < TWS_ARRAY_SIZE(roles); i++) {
        struct script s;
        bool good = true;
        script_init(&s, roles[i]);
        script_add_large_stream(&s);
        for (uint64_t seed = 0; good && seed < 250; seed += harness_step(10)) {
            good = script_play(&s, &(struct script_cut){
                                       .mode = CUT_RANDOM,
                                       .seed = seed,
                                       .direct = seed % 4 != 0,
                                       .chunked = seed % 2 == 0,
                                       .mixed = seed % 5 != 0,
                                   });
        }
        CHECK(good);
        script_free(&s);
    }
}

static void
text_wrong_between_fragments(struct script *s)
{
    script_say(s, TEXT | MORE, "12\xed");
    script_whole(s, TWS_OPCODE_PING, "\x9f\xbf", 2);
    script_say(s, MORE, "");
    script_header(s, MORE, 9);
    script_payload(s, "\xa0", 1);
    script_breaks(s, 1007);
    script_payload(s, "and so on", 8);
}

static void
text_unfinished(struct script *s)
{
    script_add_whole(s, TWS_OPCODE_BINARY, 20, false);
    script_say(s, TEXT | MORE, "abc\xf0\x9d");
    script_say(s, END, "\x84");
    script_breaks(s, 1007);
}

static void
text_in_a_message(struct script *s)
{
    script_say(s, BINARY | MORE, "abc");
    script_whole(s, TWS_OPCODE_PING, "p", 1);
    script_header(s, END | TEXT, 3);
    script_breaks(s, 1002);
}

static void
continuation_after_a_message(struct script *s)
{
    script_add_whole(s, TWS_OPCODE_TEXT, 4, true);
    script_header(s, MORE, 0);
    script_breaks(s, 1002);
}

/* Also in the rest of a message that nobody wants. */
TEST(broken_rules_show_at_the_same_byte)
{
    static void (*const cases[])(struct script *) = {
        text_wrong_between_fragments,
        text_unfinished,
        text_in_a_message,
        continuation_after_a_message,
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(roles); i++) {
        for (size_t j = 0; j < TWS_ARRAY_SIZE(cases); j++) {
            struct script s;
            script_init(&s, roles[i]);
            cases[j](&s);
            bool good = play_chunked_everywhere(&s);
            for (uint64_t seed = 0; good && seed < 300;
                 seed += harness_step(20)) {
                good = script_play(&s, &(struct script_cut){
                                           .mode = CUT_RANDOM,
                                           .seed = seed,
                                           .chunked = seed % 2 == 0,
                                           .mixed = true,
                                       });
            }
            CHECK(good);
            script_free(&s);
        }
    }
}

/* One by one ------------------------------------------------------------- */

struct scene {
    struct tws_frame_reader reader;
    struct tws_assembler assembler;
    struct tws_message_limits limits;
    struct tws_event event;
    struct tws_error err;
};

static void
begin(struct scene *scene)
{
    *scene = (struct scene){.limits = {.size = 10, .fragments = 3}};
    tws_frame_reader_init(&scene->reader, TWS_CLIENT);
}

static enum tws_status
give(struct scene *scene, const char *bytes, size_t length)
{
    uint8_t copy[256];
    script_must(length <= sizeof(copy));
    if (length > 0) {
        memcpy(copy, bytes, length);
    }
    struct tws_input input = {.data = copy, .length = length};
    return tws_receive(&scene->reader, &scene->assembler, &scene->limits,
                       &input, &scene->event, &scene->err);
}

#define GIVE(scene, literal) give((scene), (literal), sizeof(literal) - 1)

static enum tws_status
stream(struct scene *scene, uint64_t limit)
{
    return tws_message_stream_begin(&scene->assembler, limit, &scene->err);
}

/* The bytes of the chunk that was found, which is consumed. */
#define CHECK_CHUNK(scene, literal)                                           \
    do {                                                                      \
        CHECK_INT((scene)->event.type, TWS_EVENT_CHUNK);                      \
        CHECK_BYTES((scene)->event.data, (scene)->event.length, literal);     \
        tws_message_stream_consume(&(scene)->assembler,                       \
                                   (scene)->event.length);                    \
    } while (0)

TEST(a_chunk_stays_until_it_is_consumed)
{
    struct scene s;
    begin(&s);
    CHECK_INT(stream(&s, UINT64_MAX), TWS_OK);
    CHECK_INT(tws_message_stream_opcode(&s.assembler), 0);
    CHECK_INT(GIVE(&s, "\x81"), TWS_AGAIN);
    CHECK_INT(GIVE(&s, "\x05"), TWS_AGAIN);
    CHECK_INT(tws_message_stream_opcode(&s.assembler), TWS_OPCODE_TEXT);
    CHECK_INT(GIVE(&s, "ab\xc3"), TWS_OK);
    CHECK_BYTES(s.event.data, s.event.length, "ab");
    CHECK_INT(GIVE(&s, ""), TWS_OK);
    CHECK_CHUNK(&s, "ab");
    CHECK_INT(GIVE(&s, ""), TWS_AGAIN);
    CHECK_INT(GIVE(&s, "\xb1!"), TWS_OK);
    CHECK_CHUNK(&s, "\xc3\xb1!");
    for (int i = 0; i < 2; i++) {
        CHECK_INT(GIVE(&s, ""), TWS_OK);
        CHECK_INT(s.event.length, 0);
        CHECK(s.event.text);
    }
    tws_message_stream_end(&s.assembler);
    CHECK(s.assembler.message.memory == NULL);
    CHECK_INT(GIVE(&s, "\x82\x01x"), TWS_OK);
    CHECK_INT(s.event.type, TWS_EVENT_BINARY);
    tws_assembler_release(&s.assembler);
}

TEST(limits_of_whole_messages_do_not_count)
{
    struct scene s;
    begin(&s);
    CHECK_INT(stream(&s, UINT64_MAX), TWS_OK);
    CHECK_INT(GIVE(&s, "\x02\x0c"
                       "0123456789ab"),
              TWS_OK);
    CHECK_CHUNK(&s, "0123456789ab");
    for (int i = 0; i < 5; i++) {
        CHECK_INT(GIVE(&s, "\x00\x00"), TWS_AGAIN);
    }
    CHECK_INT(GIVE(&s, "\x80\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"), TWS_AGAIN);
    /* Whatever the header claims. */
    uint8_t *room;
    size_t size;
    CHECK(tws_receive_room(&s.reader, &s.assembler, &room, &size));
    CHECK_INT(size, TWS_CHUNK_MAX);
    CHECK_INT(GIVE(&s, "12"), TWS_OK);
    CHECK(tws_receive_room(&s.reader, &s.assembler, &room, &size));
    CHECK_INT(size, TWS_CHUNK_MAX - 2);
    CHECK_CHUNK(&s, "12");
    /* What is skipped needs no memory of its own. */
    tws_message_stream_discard(&s.assembler);
    CHECK(s.assembler.message.memory == NULL);
    for (int i = 0; i < 100; i++) {
        CHECK(tws_receive_room(&s.reader, &s.assembler, &room, &size));
        CHECK(size <= TWS_CHUNK_MAX);
        CHECK_INT(tws_receive_direct(&s.reader, &s.assembler, &s.limits, room,
                                     size, &s.event, &s.err),
                  TWS_AGAIN);
        CHECK(s.assembler.message.capacity <= 2 * TWS_CHUNK_MAX);
    }
    tws_assembler_release(&s.assembler);
}

TEST(a_limit_of_its_own)
{
    struct scene s;
    begin(&s);
    CHECK_INT(stream(&s, 4), TWS_OK);
    CHECK_INT(GIVE(&s, "\x02\x02"
                       "01"),
              TWS_OK);
    CHECK_CHUNK(&s, "01");
    CHECK_INT(GIVE(&s, "\x00\x02"
                       "23"),
              TWS_OK);
    CHECK_CHUNK(&s, "23");
    CHECK_INT(GIVE(&s, "\x00\x00"), TWS_AGAIN);
    CHECK_INT(GIVE(&s, "\x80\x01"), TWS_PROTOCOL);
    CHECK_INT(s.err.close_code, 1009);
    tws_assembler_release(&s.assembler);

    /* What had come before counts: by itself, and with what follows. */
    static const uint64_t limits[] = {1, 2, 3};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(limits); i++) {
        begin(&s);
        CHECK_INT(GIVE(&s, "\x82\x03"
                           "01"),
                  TWS_AGAIN);
        CHECK_INT(stream(&s, limits[i]), i == 0 ? TWS_PROTOCOL : TWS_OK);
        if (i > 0) {
            CHECK_INT(GIVE(&s, ""), TWS_OK);
            CHECK_CHUNK(&s, "01");
            CHECK_INT(GIVE(&s, "2"), i == 1 ? TWS_PROTOCOL : TWS_OK);
        }
        if (i < 2) {
            CHECK_INT(s.err.close_code, 1009);
        }
        tws_assembler_release(&s.assembler);
    }
}

TEST(a_stream_gives_way_to_another)
{
    struct scene s;
    begin(&s);
    CHECK_INT(stream(&s, UINT64_MAX), TWS_OK);
    uint32_t first = s.assembler.stream;
    CHECK(tws_message_stream_is(&s.assembler, first));
    CHECK_INT(GIVE(&s, "\x01\x03one"), TWS_OK);
    CHECK_CHUNK(&s, "one");
    CHECK_INT(stream(&s, 5), TWS_OK);
    CHECK(!tws_message_stream_is(&s.assembler, first));
    CHECK_INT(tws_message_stream_opcode(&s.assembler), 0);
    CHECK_INT(GIVE(&s, "\x80\x06 more!\x82\x03two"), TWS_OK);
    CHECK_CHUNK(&s, "two");
    CHECK_INT(tws_message_stream_opcode(&s.assembler), TWS_OPCODE_BINARY);
    /* And that one, which has come whole, to the next. */
    CHECK_INT(stream(&s, UINT64_MAX), TWS_OK);
    CHECK_INT(GIVE(&s, "\x82\x05three"), TWS_OK);
    CHECK_CHUNK(&s, "three");
    tws_message_stream_discard(&s.assembler);
    tws_message_stream_discard(&s.assembler);
    CHECK_INT(GIVE(&s, "\x82\x04"
                       "four"),
              TWS_OK);
    CHECK_INT(s.event.type, TWS_EVENT_BINARY);
    /* Wanted, but not begun: nothing is lost. */
    CHECK_INT(stream(&s, UINT64_MAX), TWS_OK);
    tws_message_stream_discard(&s.assembler);
    CHECK_INT(GIVE(&s, "\x82\x04"
                       "five"),
              TWS_OK);
    CHECK_INT(s.event.type, TWS_EVENT_BINARY);
    tws_assembler_release(&s.assembler);
}

/* A frame at once, as a hook hands it on: text is cut between characters. */
TEST(a_large_frame_in_one_piece)
{
    struct scene s;
    size_t length = 3 * TWS_CHUNK_MAX;
    char *text = malloc(length);
    script_must(text != NULL);
    for (size_t i = 0; i < length; i += 3) {
        memcpy(text + i, "\xe2\x82\xac", 3);
    }
    struct tws_frame_header header = {
        .opcode = TWS_OPCODE_TEXT, .fin = true, .length = length};
    struct tws_piece piece = {.header = &header,
                              .data = (uint8_t *)text,
                              .length = length,
                              .first = true,
                              .last = true};
    begin(&s);
    CHECK_INT(stream(&s, UINT64_MAX), TWS_OK);
    CHECK_INT(
        tws_assembler_take(&s.assembler, &s.limits, &piece, &s.event, &s.err),
        TWS_OK);
    size_t seen = 0;
    while (s.event.length > 0 && seen < length) {
        CHECK_INT(s.event.length % 3, 0);
        CHECK(s.event.length <= TWS_CHUNK_MAX);
        CHECK(memcmp(s.event.data, text + seen, s.event.length) == 0);
        seen += s.event.length;
        tws_message_stream_consume(&s.assembler, s.event.length);
        CHECK(tws_message_stream_chunk(&s.assembler, &s.event));
    }
    CHECK_INT(seen, length);
    CHECK_INT(s.event.length, 0);
    tws_assembler_release(&s.assembler);
    free(text);
}

TEST(memory_that_runs_out)
{
    struct scene s;
    begin(&s);
    CHECK_INT(stream(&s, UINT64_MAX), TWS_OK);
    struct tws_frame_header header = {
        .opcode = TWS_OPCODE_BINARY, .fin = true, .length = SIZE_MAX / 2};
    uint8_t byte = 0;
    struct tws_piece piece = {.header = &header,
                              .data = &byte,
                              .length = SIZE_MAX / 2 + 1,
                              .first = true};
    CHECK_INT(
        tws_assembler_take(&s.assembler, &s.limits, &piece, &s.event, &s.err),
        TWS_NOMEM);
    tws_assembler_release(&s.assembler);
}

RUN(T(a_small_stream_cut_at_every_place), T(a_small_stream_streamed_in_parts),
    T(a_large_stream_cut_at_random), T(broken_rules_show_at_the_same_byte),
    T(a_chunk_stays_until_it_is_consumed),
    T(limits_of_whole_messages_do_not_count), T(a_limit_of_its_own),
    T(a_stream_gives_way_to_another), T(a_large_frame_in_one_piece),
    T(memory_that_runs_out))
