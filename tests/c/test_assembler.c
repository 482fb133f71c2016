#include "protocol/assembler.h"

#include "protocol/mask.h"
#include "script.h"

static const enum tws_role roles[] = {TWS_CLIENT, TWS_SERVER};

TEST(a_small_stream_cut_at_every_place)
{
    for (size_t i = 0; i < TWS_ARRAY_SIZE(roles); i++) {
        struct script s;
        script_init(&s, roles[i]);
        script_add_small_stream(&s);
        CHECK(script_play_everywhere(&s));
        script_free(&s);
    }
}

TEST(a_small_stream_cut_at_random)
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
                                       .guarded = seed % 16 == 0,
                                       .direct = seed % 2 == 0,
                                   });
        }
        CHECK(good);
        script_free(&s);
    }
}

/* A short message and what surrounds it, cut at every two places. */
TEST(a_fragmented_text_cut_twice)
{
    for (size_t i = 0; i < TWS_ARRAY_SIZE(roles); i++) {
        struct script s;
        bool good = true;
        script_init(&s, roles[i]);
        script_add_whole(&s, TWS_OPCODE_TEXT, 4, true);
        script_add_fragmented(&s, TWS_OPCODE_TEXT, 14, 6, false, "ping");
        script_add_whole(&s, TWS_OPCODE_CLOSE, 0, true);
        size_t total = tws_buffer_length(&s.wire);
        for (size_t n = 1; good && n < total; n++) {
            for (size_t m = n + 1; good && m < total; m += harness_step(7)) {
                good = script_play(&s, &(struct script_cut){.mode = CUT_TWICE,
                                                            .n = n,
                                                            .second = m});
            }
        }
        CHECK(good);
        script_free(&s);
    }
}

TEST(a_large_stream_cut_at_random)
{
    for (size_t i = 0; i < TWS_ARRAY_SIZE(roles); i++) {
        struct script s;
        script_init(&s, roles[i]);
        script_add_large_stream(&s);
        size_t total = tws_buffer_length(&s.wire);
        bool good = script_play(&s, &(struct script_cut){.n = 1})
                    && script_play(&s, &(struct script_cut){.n = total});
        for (uint64_t seed = 0; good && seed < 250; seed += harness_step(10)) {
            good = script_play(&s, &(struct script_cut){
                                       .mode = CUT_RANDOM,
                                       .seed = seed,
                                       .direct = seed % 4 != 0,
                                   });
        }
        for (size_t n = 1000; good && n < 100000; n = n * 3 + 7) {
            good =
                script_play(&s, &(struct script_cut){.n = n, .guarded = true})
                && script_play(&s,
                               &(struct script_cut){.n = n, .direct = true});
        }
        CHECK(good);
        script_free(&s);
    }
}

static void
continuation_at_once(struct script *s)
{
    script_header(s, END, 3);
    script_breaks(s, 1002);
}

static void
continuation_after_a_message(struct script *s)
{
    script_add_whole(s, TWS_OPCODE_TEXT, 4, true);
    script_header(s, MORE, 0);
    script_breaks(s, 1002);
}

static void
continuation_after_the_last(struct script *s)
{
    script_add_fragmented(s, TWS_OPCODE_TEXT, 4, 2, true, "p");
    script_header(s, END, 200);
    script_breaks(s, 1002);
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
binary_in_an_empty_message(struct script *s)
{
    script_say(s, TEXT | MORE, "");
    script_header(s, BINARY | MORE, 0);
    script_breaks(s, 1002);
}

/* Text that goes wrong with the last byte of `bad`, with more behind it. */
static void
wrong_text(struct script *s, unsigned first, const char *bad)
{
    script_header(s, first, strlen(bad) + 10);
    script_payload(s, bad, strlen(bad));
    script_breaks(s, 1007);
    script_payload(s, "and so on.", 10);
}

static void
text_not_utf8(struct script *s)
{
    wrong_text(s, END | TEXT, "caf\xc3\xa9 ok\xff");
}

static void
text_overlong(struct script *s)
{
    wrong_text(s, END | TEXT, "\xf0\x8f");
}

static void
text_surrogate_in_fragments(struct script *s)
{
    script_say(s, TEXT | MORE, "12\xed");
    script_whole(s, TWS_OPCODE_PING, "\x9f\xbf", 2);
    script_say(s, MORE, "");
    wrong_text(s, MORE, "\xa0");
}

static void
text_cut_short_by_ascii(struct script *s)
{
    script_say(s, TEXT | MORE, "12345678\xe2\x82");
    wrong_text(s, END, "a");
}

static void
text_over_the_top(struct script *s)
{
    script_say(s, TEXT | MORE, "\xf4");
    wrong_text(s, END, "\x90");
}

static void
text_unfinished(struct script *s)
{
    script_say(s, END | TEXT, "abc\xe2\x82");
    script_breaks(s, 1007);
}

static void
text_unfinished_in_fragments(struct script *s)
{
    script_say(s, TEXT | MORE, "abc\xf0\x9d\x84");
    script_whole(s, TWS_OPCODE_PONG, "\x9e", 1);
    script_header(s, END, 0);
    script_breaks(s, 1007);
}

/* Wrong in the second message only: no state is left of the first. */
static void
text_wrong_after_binary(struct script *s)
{
    script_say(s, BINARY | MORE, "\xff\xe2");
    script_say(s, END, "\x82\xff");
    script_expect(s, TWS_EVENT_BINARY, "\xff\xe2\x82\xff", 4);
    wrong_text(s, MORE | TEXT, "\x82");
}

static void
close_of_one_byte(struct script *s)
{
    script_say(s, TEXT | MORE, "abc");
    script_say(s, CLOSE, "\x03");
    script_breaks(s, 1002);
}

static void
close_code_that_is_never_sent(struct script *s)
{
    script_frame(s, CLOSE,
                 "\x03\xed"
                 "bye",
                 5);
    script_breaks(s, 1002);
}

static void
close_reason_not_utf8(struct script *s)
{
    script_frame(s, CLOSE, "\x03\xe8\xff", 3);
    script_breaks(s, 1007);
}

static void
reserved_opcode(struct script *s)
{
    script_add_whole(s, TWS_OPCODE_BINARY, 200, true);
    script_must(tws_buffer_append(&s->wire, "\x83", 1) == TWS_OK);
    script_breaks(s, 1002);
}

static void
control_of_126_bytes(struct script *s)
{
    script_say(s, TEXT | MORE, "abc");
    const char *wrong = s->role == TWS_SERVER ? "\x89\xfe" : "\x89\x7e";
    script_must(tws_buffer_append(&s->wire, wrong, 2) == TWS_OK);
    script_breaks(s, 1002);
}

static void
mask_bit_of_the_other_side(struct script *s)
{
    script_add_whole(s, TWS_OPCODE_TEXT, 3, true);
    const char *wrong = s->role == TWS_SERVER ? "\x81\x05" : "\x81\x85";
    script_must(tws_buffer_append(&s->wire, wrong, 2) == TWS_OK);
    script_breaks(s, 1002);
}

static void
message_over_the_limit(struct script *s)
{
    s->limits.size = 300;
    script_add_whole(s, TWS_OPCODE_TEXT, 300, false);
    script_add_fragmented(s, TWS_OPCODE_BINARY, 300, 150, true, "p");
    script_header(s, TEXT | MORE, 301);
    script_breaks(s, 1009);
}

static void
fragments_over_the_limit(struct script *s)
{
    s->limits.size = 300;
    script_add_whole(s, TWS_OPCODE_TEXT, 200, true);
    script_frame(s, BINARY | MORE, "0123456789", 10);
    script_whole(s, TWS_OPCODE_PING, "p", 1);
    script_header(s, MORE, 291);
    script_breaks(s, 1009);
}

static void
too_many_fragments(struct script *s)
{
    s->limits.fragments = 3;
    script_add_fragmented(s, TWS_OPCODE_TEXT, 9, 3, false, "p");
    script_say(s, TEXT | MORE, "a");
    script_say(s, MORE, "");
    script_whole(s, TWS_OPCODE_PING, "p", 1);
    script_say(s, MORE, "c");
    script_header(s, END, 0);
    script_breaks(s, 1008);
}

TEST(broken_streams_cut_at_every_place)
{
    static void (*const add[])(struct script *) = {
        continuation_at_once,
        continuation_after_a_message,
        continuation_after_the_last,
        text_in_a_message,
        binary_in_an_empty_message,
        text_not_utf8,
        text_overlong,
        text_surrogate_in_fragments,
        text_cut_short_by_ascii,
        text_over_the_top,
        text_unfinished,
        text_unfinished_in_fragments,
        text_wrong_after_binary,
        close_of_one_byte,
        close_code_that_is_never_sent,
        close_reason_not_utf8,
        reserved_opcode,
        control_of_126_bytes,
        mask_bit_of_the_other_side,
        message_over_the_limit,
        fragments_over_the_limit,
        too_many_fragments,
    };
    for (size_t i = 0; i < 2 * TWS_ARRAY_SIZE(add); i++) {
        struct script s;
        script_init(&s, roles[i % 2]);
        add[i / 2](&s);
        /* Nothing behind the error is looked at. */
        script_say(&s, PING, "behind");
        if (!script_play_everywhere(&s)) {
            fprintf(stderr, "broken stream %zu\n", i / 2);
            CHECK(false);
        }
        script_free(&s);
    }
}

/* Broken in the middle of a large frame, of which a part is read straight
 * into the message. */
TEST(broken_large_text)
{
    for (size_t i = 0; i < TWS_ARRAY_SIZE(roles); i++) {
        struct script s;
        bool good = true;
        script_init(&s, roles[i]);
        char *text = script_new_text(150000, false);
        script_header(&s, END | TEXT, 300000);
        script_payload(&s, text, 150000);
        script_payload(&s, "\xc0", 1);
        script_breaks(&s, 1007);
        script_payload(&s, text, 149999);
        for (uint64_t seed = 0; good && seed < 200; seed += harness_step(10)) {
            good = script_play(&s, &(struct script_cut){.mode = CUT_RANDOM,
                                                        .seed = seed,
                                                        .direct = true});
        }
        CHECK(good);
        free(text);
        script_free(&s);
    }
}

/* One masked frame in `wire`; returns its length. */
static size_t
masked_frame(uint8_t *wire, enum tws_opcode opcode, const uint8_t *payload,
             size_t length)
{
    struct tws_frame_header header = {.fin = true,
                                      .opcode = (uint8_t)opcode,
                                      .masked = true,
                                      .key = {0x12, 0x9f, 0xa7, 0x38},
                                      .length = length};
    size_t begin = tws_frame_header_encode(&header, wire);
    tws_mask(wire + begin, payload, length, header.key, 0);
    return begin + length;
}

/* Whoever copies a binary message can unmask it as it does. */
TEST(binary_messages_left_masked)
{
    static const size_t lengths[] = {0,   1,    3,     17,    125,
                                     126, 1024, 16384, 65535, 65536};
    static const struct tws_message_limits limits = {.size = 1 << 20,
                                                     .fragments = 1};
    enum { MOST = 65536 };
    uint8_t *payload = malloc(3 * (size_t)MOST + 64);
    script_must(payload != NULL);
    uint8_t *wire = payload + MOST;
    uint8_t *copy = wire + MOST + 32;
    for (size_t i = 0; i < MOST; i++) {
        payload[i] = (uint8_t)(i * 7 % 127);
    }
    for (size_t i = 0; i < 4 * TWS_ARRAY_SIZE(lengths); i++) {
        size_t length = lengths[i / 4];
        bool text = i % 4 == 0;
        bool asked = i % 4 != 1;
        bool cut = i % 4 == 2 && length > 0;
        struct tws_frame_reader reader;
        struct tws_assembler assembler = {.leaves_masked = asked};
        struct tws_event event = {.masked = !asked};
        struct tws_error err;
        size_t size = masked_frame(
            wire, text ? TWS_OPCODE_TEXT : TWS_OPCODE_BINARY, payload, length);
        struct tws_input input = {.data = wire, .length = size};
        memcpy(copy, wire, size);
        tws_frame_reader_init(&reader, TWS_SERVER);
        if (cut) { /* it is unmasked into memory of its own */
            input.length--;
            CHECK_INT(tws_receive(&reader, &assembler, &limits, &input, &event,
                                  &err),
                      TWS_AGAIN);
            input.data = wire + size - 1;
            input.length = 1;
        }
        CHECK_INT(
            tws_receive(&reader, &assembler, &limits, &input, &event, &err),
            TWS_OK);
        CHECK_INT(input.length, 0);
        CHECK_INT(event.type, text ? TWS_EVENT_TEXT : TWS_EVENT_BINARY);
        CHECK_INT(event.length, length);
        CHECK_INT(event.ascii, text);
        CHECK_INT(event.masked, asked && !text && !cut && length < 65536);
        if (event.masked) {
            CHECK(memcmp(wire, copy, size) == 0); /* untouched */
            CHECK(event.data == wire + size - length);
            tws_mask(copy, event.data, length, event.data - 4, 0);
            event.data = copy;
        }
        CHECK(length == 0 || memcmp(event.data, payload, length) == 0);
        tws_assembler_release(&assembler);
    }
    free(payload);
}

RUN(T(binary_messages_left_masked), T(a_small_stream_cut_at_every_place),
    T(a_small_stream_cut_at_random), T(a_fragmented_text_cut_twice),
    T(a_large_stream_cut_at_random), T(broken_streams_cut_at_every_place),
    T(broken_large_text))
