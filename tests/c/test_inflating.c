#include "scarce_memory.h"

#include "protocol/inflating.h"

#include "compressed_script.h"

static const enum tws_role roles[] = {TWS_CLIENT, TWS_SERVER};

static void
add_small_stream(struct script *s)
{
    compressed_message(s, TWS_OPCODE_TEXT, 5, 100, true, NULL);
    compressed_message(s, TWS_OPCODE_TEXT, 33, 100, false, NULL);
    compressed_message(s, TWS_OPCODE_TEXT, 0, 100, true, NULL);
    compressed_message(s, TWS_OPCODE_BINARY, 0, 100, true, NULL);
    script_add_whole(s, TWS_OPCODE_TEXT, 33, false); /* this one is not */
    compressed_message(s, TWS_OPCODE_BINARY, 70, 100, true, NULL);
    script_add_whole(s, TWS_OPCODE_PING, 3, true);
    compressed_message(s, TWS_OPCODE_TEXT, 23, 3, false, "\xff\xfe");
    compressed_message(s, TWS_OPCODE_TEXT, 19, 1, false, "");
    script_add_fragmented(s, TWS_OPCODE_TEXT, 9, 4, true, "");
    compressed_message(s, TWS_OPCODE_BINARY, 31, 7, false, "ping");
    compressed_message(s, TWS_OPCODE_TEXT, 1200, 1000, false, NULL);
    script_add_whole(s, TWS_OPCODE_CLOSE, 0, true);
}

TEST(a_small_stream_cut_at_every_place)
{
    for (unsigned i = 0; i < 2 * EVERY_TERMS; i++) {
        struct script s;
        compressed_init(&s, roles[i % 2], i / 2);
        add_small_stream(&s);
        CHECK(script_play_everywhere(&s));
        script_free(&s);
    }
}

TEST(a_small_stream_streamed_in_parts)
{
    for (unsigned i = 0; i < 2 * EVERY_TERMS; i++) {
        struct script s;
        bool good = true;
        compressed_init(&s, roles[i % 2], i / 2);
        add_small_stream(&s);
        for (uint64_t seed = 0; good && seed < 500; seed++) {
            good = script_play(&s, &(struct script_cut){
                                       .mode = CUT_RANDOM,
                                       .seed = seed,
                                       .direct = seed % 2 == 0,
                                       .chunked = seed % 3 == 0,
                                       .mixed = seed % 3 != 1,
                                   });
        }
        for (size_t n = 1; good && n < 100; n++) {
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

static void
add_large_stream(struct script *s)
{
    compressed_message(s, TWS_OPCODE_BINARY, 200000, 100, true, "p");
    compressed_message(s, TWS_OPCODE_TEXT, 65536, 1000000, true, NULL);
    script_add_whole(s, TWS_OPCODE_TEXT, 65535, false);
    compressed_message(s, TWS_OPCODE_TEXT, 300001, 1000000, false, NULL);
    compressed_message(s, TWS_OPCODE_TEXT, 131072, 33333, false, "between");
    compressed_message(s, TWS_OPCODE_BINARY, 65535, 20000, true, NULL);
    script_add_fragmented(s, TWS_OPCODE_TEXT, 70001, 33333, false, "x");
    compressed_message(s, TWS_OPCODE_TEXT, 1, 100, true, NULL);
}

TEST(a_large_stream_cut_at_random)
{
    for (unsigned i = 0; i < 2 * EVERY_TERMS; i++) {
        struct script s;
        bool good = true;
        compressed_init(&s, roles[i % 2], i / 2);
        /* Few pings fit the table. */
        s.terms.per_frame = false;
        add_large_stream(&s);
        for (uint64_t seed = 0; good && seed < 40; seed++) {
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

/* What can't be compressed: more bytes on the wire than in the message. */
TEST(noise)
{
    static char noise[300000];
    uint64_t random = 1;
    for (size_t i = 0; i < sizeof(noise); i++) {
        noise[i] = (char)script_random(&random);
    }
    for (unsigned i = 0; i < EVERY_TERMS; i++) {
        struct script s;
        bool good = true;
        compressed_init(&s, TWS_SERVER, i);
        s.limits.size = sizeof(noise);
        for (size_t chunk = 70000; chunk < 400000; chunk += 240000) {
            compressed_frames(&s, TWS_OPCODE_BINARY, noise, sizeof(noise),
                              chunk, "ping");
            script_expect(&s, TWS_EVENT_BINARY, noise, sizeof(noise));
        }
        for (uint64_t seed = 0; good && seed < 40; seed++) {
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

/* ---- rules ------------------------------------------------------------- */

static void
ping_with_rsv1(struct script *s)
{
    compressed_message(s, TWS_OPCODE_TEXT, 5, 100, true, NULL);
    script_header(s, PING | TWS_RSV1, 3);
    script_breaks(s, 1002);
    script_payload(s, "abc", 3);
}

static void
close_with_rsv1(struct script *s)
{
    script_header(s, CLOSE | TWS_RSV1, 0);
    script_breaks(s, 1002);
}

static void
continuation_of_nothing(struct script *s)
{
    compressed_message(s, TWS_OPCODE_TEXT, 5, 2, true, NULL);
    script_header(s, END | TWS_RSV1, 3);
    script_breaks(s, 1002);
}

static void
message_in_a_message(struct script *s)
{
    script_say(s, TEXT | MORE, "abc");
    script_header(s, END | TEXT | TWS_RSV1, 3);
    script_breaks(s, 1002);
}

static void
rsv2(struct script *s)
{
    script_header(s, END | TEXT | TWS_RSV2, 3);
    script_breaks(s, 1002);
    s->shown = 1; /* by the first byte */
}

TEST(reserved_bits_in_the_wrong_place)
{
    static void (*const cases[])(struct script *) = {
        ping_with_rsv1,
        close_with_rsv1,
        continuation_of_nothing,
        message_in_a_message,
        rsv2,
    };
    for (unsigned i = 0; i < EVERY_TERMS; i++) {
        for (size_t j = 0; j < TWS_ARRAY_SIZE(cases); j++) {
            struct script s;
            compressed_init(&s, roles[j % 2], i);
            cases[j](&s);
            CHECK(script_play_everywhere(&s));
            script_free(&s);
        }
    }
}

/* The bit tells of the whole message (RFC 7692 §6.1), or of each frame. */
TEST(rsv1_on_a_continuation)
{
    for (unsigned i = 0; i < 2 * EVERY_TERMS; i++) {
        struct script s;
        compressed_init(&s, TWS_SERVER, i / 2);
        if (i % 2 == 0) {
            script_say(&s, TEXT | MORE, "abc");
        }
        else {
            compressed_frame(&s, TEXT | MORE, "abc", 3);
        }
        if (s.terms.per_frame) {
            compressed_frame(&s, END, "de", 2);
            script_hear(&s, TWS_EVENT_TEXT, "abcde");
        }
        else {
            script_header(&s, END | TWS_RSV1, 0);
            script_breaks(&s, 1002);
        }
        CHECK(script_play_everywhere(&s));
        CHECK(script_play(&s, &(struct script_cut){.n = 1, .chunked = true}));
        script_free(&s);
    }
}

TEST(rsv1_without_an_agreement)
{
    struct script s;
    script_init(&s, TWS_SERVER);
    script_header(&s, END | TEXT | TWS_RSV1, 7);
    script_breaks(&s, 1002);
    s.shown = 1; /* by the first byte */
    CHECK(script_play_everywhere(&s));
    script_free(&s);
}

/* ---- broken data -------------------------------------------------------- */

static void
play_loose(struct script *s)
{
    s->loose = true;
    CHECK(script_play_everywhere(s));
    for (uint64_t seed = 0; seed < 20; seed++) {
        CHECK(script_play(s, &(struct script_cut){.mode = CUT_RANDOM,
                                                  .seed = seed,
                                                  .chunked = true,
                                                  .mixed = seed % 2 != 0}));
    }
    script_free(s);
}

TEST(broken_data)
{
    static const struct {
        const char *data;
        size_t length;
    } cases[] = {
        {"\xff\xff\xff", 3},             /* a block of no type */
        {"\xf2\x48\xcd\xc9", 4},         /* ends inside of a block */
        {"\x00\x06\x00\xf9\xff\x48", 6}, /* the same, stored */
        {"\x00\x05\x00\xfb\xff\x48", 6}, /* lengths that differ */
        {"\xf2\x00\x11\x00\x00", 5},     /* refers to nothing */
    };
    for (unsigned i = 0; i < EVERY_TERMS; i++) {
        for (size_t j = 0; j < TWS_ARRAY_SIZE(cases); j++) {
            struct script s;
            compressed_init(&s, roles[j % 2], i);
            s.terms.in_takeover = false;
            compressed_message(&s, TWS_OPCODE_TEXT, 15, 5, true, "p");
            script_frame(&s, END | BINARY | TWS_RSV1, cases[j].data,
                         cases[j].length);
            script_breaks(&s, 1007);
            play_loose(&s);
        }
    }
}

/* Bytes that are whole in compressed form, and not as UTF-8. */
TEST(text_that_is_not_utf8)
{
    static const char *const cases[] = {
        "abc\xff",
        "\xe2\x82",
        "a long text before \xed\xa0\x80 surrogates",
    };
    for (unsigned i = 0; i < EVERY_TERMS; i++) {
        for (size_t j = 0; j < TWS_ARRAY_SIZE(cases); j++) {
            struct script s;
            compressed_init(&s, roles[j % 2], i);
            compressed_frame(&s, END | TEXT | TWS_RSV1, cases[j],
                             strlen(cases[j]));
            script_breaks(&s, 1007);
            play_loose(&s);
        }
    }
}

/* It is refused while the message goes on. */
TEST(text_fails_at_once)
{
    for (unsigned i = 0; i < EVERY_TERMS; i++) {
        struct tws_buffer out = TWS_BUFFER_EMPTY;
        struct script s;
        compressed_init(&s, TWS_SERVER, i);
        compressed_add(&s, "abc\xff", 4, s.terms.per_frame, &out);
        script_frame(&s, MORE | TEXT | TWS_RSV1, tws_buffer_data(&out),
                     tws_buffer_length(&out));
        script_breaks(&s, 1007);
        s.loose = true;
        CHECK(script_play_everywhere(&s));
        tws_buffer_release(&out);
        script_free(&s);
    }
}

/* A character may be cut by the end of a frame, not by that of a message. */
TEST(characters_across_frames)
{
    for (unsigned i = 0; i < EVERY_TERMS; i++) {
        struct script s;
        compressed_init(&s, TWS_SERVER, i | PER_FRAME);
        compressed_frame(&s, MORE | TEXT, "\xe2", 1);
        script_say(&s, MORE, "\x82");
        compressed_frame(&s, END, "\xac", 1);
        script_hear(&s, TWS_EVENT_TEXT, "\xe2\x82\xac");
        CHECK(script_play_everywhere(&s));
        CHECK(script_play(&s, &(struct script_cut){.n = 1, .chunked = true}));
        script_free(&s);
    }
}

/* ---- limits ------------------------------------------------------------- */

/* In frames of `chunk` bytes, compressed or plain by turns where it is per
 * frame. */
static void
check_size(unsigned terms, size_t length, size_t chunk, uint64_t limit)
{
    struct script s;
    compressed_init(&s, TWS_SERVER, terms);
    s.limits.size = limit;
    if (length <= limit) {
        compressed_message(&s, TWS_OPCODE_BINARY, length, chunk, true, NULL);
        CHECK(script_play_everywhere(&s));
        script_free(&s);
        return;
    }
    char *text = script_new_text(length, true);
    compressed_frames(&s, TWS_OPCODE_BINARY, text, length, chunk, NULL);
    s.shown = 1;
    s.close_code = 1009;
    s.loose = true;
    CHECK(script_play_everywhere(&s));
    script_free(&s);
    free(text);
}

TEST(the_size_limit_counts_inflated_bytes)
{
    for (unsigned i = 0; i < EVERY_TERMS; i++) {
        check_size(i, 1000, 3, 1000);
        check_size(i, 1000, 3, 999);
        check_size(i, 1000, 4000, 1000);
        check_size(i, 1000, 4000, 999);
        check_size(i, 1000, 400, 999);
        check_size(i, 1, 10, 0);
        check_size(i, 0, 10, 0);
        check_size(i, 100, 10, UINT64_MAX);
        check_size(i, 100, 10, UINT64_MAX - 1);
    }
}

TEST(allowance)
{
    CHECK_INT(tws_inflating_allowance(0), 1024);
    CHECK_INT(tws_inflating_allowance(1000), 2274);
    CHECK(tws_inflating_allowance(UINT64_MAX) == UINT64_MAX);
    CHECK(tws_inflating_allowance(UINT64_MAX / 5 * 4) >= UINT64_MAX / 5 * 4);
}

/* Blocks without content, and the header that announces one too many. */
TEST(compressed_bytes_have_a_limit)
{
    for (unsigned i = 0; i < EVERY_TERMS; i++) {
        static const char empty[] = "\x00\x00\x00\xff\xff";
        struct script s;
        compressed_init(&s, TWS_CLIENT, i);
        s.limits.size = 1000;
        unsigned first = TEXT;
        size_t size = s.terms.per_frame ? 1 : 5; /* the rest is supplied */
        for (size_t sum = 0; sum + size <= 2274; sum += size) {
            unsigned bit = sum == 0 || s.terms.per_frame ? TWS_RSV1 : 0;
            script_frame(&s, MORE | first | bit, empty, size);
            first = TWS_OPCODE_CONTINUATION;
        }
        script_header(&s, MORE | (s.terms.per_frame ? TWS_RSV1 : 0), 5);
        script_breaks(&s, 1009);
        bool good = true;
        for (size_t n = 1; good && n <= 20; n++) {
            good = script_play(&s, &(struct script_cut){.n = n});
        }
        CHECK(good);
        script_free(&s);

        compressed_init(&s, TWS_CLIENT, i);
        s.limits.size = 1000;
        script_header(&s, END | TEXT | TWS_RSV1, 2275);
        script_breaks(&s, 1009);
        CHECK(script_play_everywhere(&s));
        script_free(&s);
    }
}

TEST(fragments_have_a_limit)
{
    for (unsigned i = 0; i < EVERY_TERMS; i++) {
        struct script s;
        compressed_init(&s, TWS_SERVER, i);
        s.limits.fragments = 3;
        compressed_message(&s, TWS_OPCODE_TEXT, 1, 100, true, NULL);
        compressed_frame(&s, MORE | TEXT, "a", 1);
        for (int j = 0; j < 2; j++) {
            if (s.terms.per_frame) {
                compressed_frame(&s, MORE, "b", 1);
            }
            else {
                script_say(&s, MORE, "");
            }
        }
        script_header(&s, MORE | (s.terms.per_frame ? TWS_RSV1 : 0), 1);
        script_breaks(&s, 1008);
        CHECK(script_play_everywhere(&s));
        script_free(&s);
    }
}

/* ---- bombs -------------------------------------------------------------- */

enum { MIB = 1 << 20, BOMB_MIB = 900 };

struct bomb {
    struct tws_deflate_pool *pool;
    struct tws_compression *compression;
    struct tws_frame_reader reader;
    struct tws_assembler assembler;
    struct tws_message_limits limits;
    struct tws_buffer data; /* of so many MiB of zeros */
    struct tws_error err;
    size_t given; /* of `data` */
};

/* One MiB after the other takes the same bytes. */
static void
bomb_init(struct bomb *bomb, bool takeover)
{
    static char zeros[MIB];
    struct tws_compression_terms terms = {
        .out = {.window_bits = 15, .mem_level = 8, .level = 9},
        .in_window_bits = 15,
        .in_takeover = takeover,
    };
    *bomb = (struct bomb){.limits = TWS_MESSAGE_LIMITS_DEFAULT};
    struct tws_deflater *deflater = tws_deflater_new(&terms.out);
    struct tws_span span = {.data = zeros, .length = sizeof(zeros)};
    script_must(
        tws_deflater_add(deflater, span, false, &bomb->data, &bomb->err)
        == TWS_OK);
    tws_deflater_free(deflater);
    size_t length = tws_buffer_length(&bomb->data);
    uint8_t *once = malloc(length);
    script_must(once != NULL);
    memcpy(once, tws_buffer_data(&bomb->data), length);
    for (int i = 1; i < BOMB_MIB; i++) {
        script_must(tws_buffer_append(&bomb->data, once, length) == TWS_OK);
    }
    free(once);
    bomb->pool = tws_deflate_pool_new();
    bomb->compression = tws_compression_new(&terms, bomb->pool);
    script_must(bomb->compression != NULL);
    tws_frame_reader_init(&bomb->reader, TWS_CLIENT);
    bomb->reader.rsv_allowed = TWS_RSV1;
    bomb->assembler.compression = bomb->compression;
    memory_mark();
}

static void
bomb_end(struct bomb *bomb)
{
    CHECK_INT(bomb->err.close_code, 1009);
    CHECK(bomb->compression->inflater == NULL);
    tws_assembler_release(&bomb->assembler);
    tws_compression_free(bomb->compression);
    tws_deflate_pool_release(bomb->pool);
    tws_buffer_release(&bomb->data);
}

static enum tws_status
bomb_give(struct bomb *bomb, const uint8_t *data, size_t length)
{
    struct tws_event event;
    uint8_t *piece = malloc(length);
    script_must(piece != NULL);
    memcpy(piece, data, length);
    struct tws_input input = {.data = piece, .length = length};
    enum tws_status status =
        tws_receive(&bomb->reader, &bomb->assembler, &bomb->limits, &input,
                    &event, &bomb->err);
    free(piece);
    return status;
}

/* In frames of `frame` bytes, in pieces of `piece` bytes. */
static enum tws_status
bomb_play(struct bomb *bomb, size_t frame, size_t piece)
{
    enum tws_status status = TWS_AGAIN;
    size_t total = tws_buffer_length(&bomb->data);
    const uint8_t *data = tws_buffer_data(&bomb->data);
    while (status == TWS_AGAIN && bomb->given < total) {
        uint8_t bytes[TWS_FRAME_HEADER_MAX];
        size_t left = total - bomb->given;
        struct tws_frame_header header = {
            .length = left < frame ? left : frame,
            .opcode =
                bomb->given == 0 ? TWS_OPCODE_BINARY : TWS_OPCODE_CONTINUATION,
            .rsv = bomb->given == 0 ? TWS_RSV1 : 0,
            .fin = left <= frame,
        };
        status =
            bomb_give(bomb, bytes, tws_frame_header_encode(&header, bytes));
        for (size_t at = 0; status == TWS_AGAIN && at < header.length;) {
            size_t size = header.length - at < piece
                              ? (size_t)header.length - at
                              : piece;
            status = bomb_give(bomb, data + bomb->given, size);
            bomb->given += size;
            at += size;
        }
    }
    return status;
}

/* Nothing beyond the limit is ever made: here are 900 MiB for 1 MiB. */
TEST(a_bomb_in_one_frame)
{
    for (size_t piece = 1; piece < 1000000; piece *= 10) {
        struct bomb bomb;
        bomb_init(&bomb, piece % 3 == 1);
        CHECK_INT(bomb_play(&bomb, SIZE_MAX, piece), TWS_PROTOCOL);
        CHECK(bomb.given <= 2000 + piece);
        CHECK(memory_peak() < 4 * MIB);
        bomb_end(&bomb);
    }
}

TEST(a_bomb_in_fragments)
{
    for (size_t frame = 1; frame < 1000000; frame *= 10) {
        struct bomb bomb;
        bomb_init(&bomb, frame % 3 == 1);
        CHECK_INT(bomb_play(&bomb, frame, frame), TWS_PROTOCOL);
        CHECK(bomb.given <= 2000 + frame);
        CHECK(memory_peak() < 4 * MIB);
        bomb_end(&bomb);
    }
}

/* A stream holds a chunk, whatever comes. */
TEST(a_bomb_in_a_stream)
{
    struct bomb bomb;
    struct tws_event event = {.length = 0};
    uint64_t limit = 5 * MIB + 1;
    uint64_t sum = 0;
    bomb_init(&bomb, false);
    CHECK_INT(tws_message_stream_begin(&bomb.assembler, limit, &bomb.err),
              TWS_OK);
    size_t total = tws_buffer_length(&bomb.data);
    uint8_t bytes[TWS_FRAME_HEADER_MAX];
    struct tws_frame_header header = {
        .length = total, .opcode = TWS_OPCODE_BINARY, .rsv = TWS_RSV1};
    CHECK_INT(bomb_give(&bomb, bytes, tws_frame_header_encode(&header, bytes)),
              TWS_AGAIN);
    struct tws_input input = {.data = tws_buffer_data(&bomb.data),
                              .length = total};
    enum tws_status status;
    do {
        status = tws_receive(&bomb.reader, &bomb.assembler, &bomb.limits,
                             &input, &event, &bomb.err);
        if (status == TWS_OK) {
            CHECK_INT(event.type, TWS_EVENT_CHUNK);
            CHECK(event.length > 0 && event.length <= TWS_CHUNK_MAX);
            sum += event.length;
            tws_message_stream_consume(&bomb.assembler, event.length);
        }
    } while (status == TWS_OK);
    CHECK_INT(status, TWS_PROTOCOL);
    CHECK(sum > 4 * MIB && sum <= limit);
    CHECK(memory_peak() < 3 * MIB); /* of which what came takes a half */
    bomb_end(&bomb);
}

/* What was announced of a message in chunks does not count for the next. */
TEST(the_count_begins_anew_behind_a_stream)
{
    static char noise[900];
    uint64_t random = 1;
    for (size_t i = 0; i < sizeof(noise); i++) {
        noise[i] = (char)script_random(&random);
    }
    for (unsigned i = 0; i < EVERY_TERMS; i++) {
        struct script s;
        bool good = true;
        compressed_init(&s, TWS_SERVER, i);
        s.limits.size = sizeof(noise);
        for (int j = 0; j < 9; j++) {
            compressed_frames(&s, TWS_OPCODE_BINARY, noise, sizeof(noise),
                              1000, NULL);
            script_expect(&s, TWS_EVENT_BINARY, noise, sizeof(noise));
        }
        for (uint64_t seed = 0; good && seed < 100; seed++) {
            good =
                script_play(&s, &(struct script_cut){.mode = CUT_RANDOM,
                                                     .seed = seed,
                                                     .chunked = seed % 8 == 0,
                                                     .mixed = true});
        }
        CHECK(good);
        script_free(&s);
    }
}

/* ---- memory ------------------------------------------------------------- */

TEST(memory_that_runs_out)
{
    for (int left = 0; left < 20; left++) {
        struct bomb bomb;
        bomb_init(&bomb, left % 2 == 0);
        if (left % 4 > 1) {
            CHECK_INT(tws_message_stream_begin(&bomb.assembler, UINT64_MAX,
                                               &bomb.err),
                      TWS_OK);
        }
        memory_left = left;
        enum tws_status status = bomb_play(&bomb, SIZE_MAX, 500);
        memory_left = -1;
        CHECK(status == TWS_NOMEM || status == TWS_PROTOCOL
              || status == TWS_OK);
        bomb.err.close_code = 1009;
        if (status == TWS_OK) {
            tws_compression_stop_inflating(bomb.compression);
        }
        bomb_end(&bomb);
    }
}

TEST(an_unfinished_message_holds_nothing_in_the_end)
{
    struct bomb bomb;
    bomb_init(&bomb, false);
    CHECK_INT(bomb_give(&bomb, (const uint8_t *)"\x42\x01\x00", 3), TWS_AGAIN);
    CHECK(bomb.compression->inflater != NULL);
    tws_assembler_release(&bomb.assembler);
    bomb.err.close_code = 1009;
    bomb_end(&bomb);
}

/* ---- what takes long ---------------------------------------------------- */

static bool
is_heavy(struct bomb *bomb, const char *bytes, size_t length, size_t more)
{
    uint8_t *data = calloc(1, length + more);
    script_must(data != NULL);
    memcpy(data, bytes, length);
    struct tws_input input = {.data = data, .length = length + more};
    bool heavy = tws_receive_is_heavy(&bomb->reader, &bomb->assembler, &input);
    free(data);
    return heavy;
}

TEST(heavy_input)
{
    struct bomb bomb;
    bomb_init(&bomb, false);
    CHECK(is_heavy(&bomb, "\xc1\x7e\x20\x00", 4, 9000));
    CHECK(is_heavy(&bomb, "\xc1\x7f\0\0\0\0\0\1\0\0", 10, 9000));
    CHECK(!is_heavy(&bomb, "\x81\x7e\x20\x00", 4, 9000)); /* plain */
    CHECK(!is_heavy(&bomb, "\xc1\x7e\x20\x00", 4, 900));  /* so far */
    CHECK(!is_heavy(&bomb, "\xc1\x7e\x02\x00", 4, 9000)); /* small ones */
    CHECK(!is_heavy(&bomb, "\xc1\x20", 2, 9000));
    CHECK(!is_heavy(&bomb, "\x80\x7e\x20\x00", 4, 9000));
    CHECK_INT(
        bomb_give(&bomb, (const uint8_t *)"\x42\x7f\0\0\0\0\0\1\0\0", 10),
        TWS_AGAIN);
    CHECK(is_heavy(&bomb, "", 0, 9000));
    CHECK(!is_heavy(&bomb, "", 0, 900));
    CHECK_INT(bomb_play(&bomb, SIZE_MAX, 1000), TWS_PROTOCOL);
    bomb.err.close_code = 1009;
    bomb_end(&bomb);
    bomb_init(&bomb, false);
    CHECK_INT(bomb_give(&bomb, (const uint8_t *)"\x42\x01\x00", 3), TWS_AGAIN);
    CHECK(is_heavy(&bomb, "\x80\x7e\x20\x00", 4, 9000));
    tws_compression_stop_inflating(bomb.compression);
    tws_assembler_release(&bomb.assembler);
    bomb.assembler.compression = bomb.compression;
    CHECK_INT(
        bomb_give(&bomb, (const uint8_t *)"\x02\x7f\0\0\0\0\0\1\0\0", 10),
        TWS_AGAIN);
    CHECK(!is_heavy(&bomb, "", 0, 9000)); /* it is plain */
    bomb.err.close_code = 1009;
    tws_compression_stop_inflating(bomb.compression);
    bomb_end(&bomb);
}

/* All that is at hand of a message is inflated in one call, however small its
 * frames are. */
TEST(heavy_input_in_small_frames)
{
    struct bomb bomb;
    bomb_init(&bomb, false);
    CHECK(is_heavy(&bomb, "\x41\x20", 2, 9000));
    CHECK(!is_heavy(&bomb, "\x41\x20", 2, 900));
    CHECK(!is_heavy(&bomb, "\x01\x20", 2, 9000)); /* plain */
    CHECK(!is_heavy(&bomb, "\xc1\x20", 2, 9000)); /* whole */
    CHECK_INT(bomb_give(&bomb, (const uint8_t *)"\x42\x01\x00", 3), TWS_AGAIN);
    CHECK(is_heavy(&bomb, "\x00\x20", 2, 9000));
    CHECK(!is_heavy(&bomb, "\x80\x20", 2, 9000)); /* the last */
    CHECK(!is_heavy(&bomb, "\x89\x20", 2, 9000)); /* a ping */
    CHECK_INT(bomb_give(&bomb, (const uint8_t *)"\x00\x7e\x02\x00", 4),
              TWS_AGAIN);
    CHECK(is_heavy(&bomb, "", 0, 9000));
    bomb.err.close_code = 1009;
    tws_compression_stop_inflating(bomb.compression);
    bomb_end(&bomb);
}

/* What is skipped has no limit; with deflate-frame whether a frame is
 * compressed does not show before its header. */
static void
skip_heavily(bool per_frame)
{
    struct bomb bomb;
    bomb_init(&bomb, false);
    bomb.compression->terms.per_frame = per_frame;
    CHECK(!tws_receive_inflates_in_vain(&bomb.assembler));
    CHECK_INT(tws_message_stream_begin(&bomb.assembler, UINT64_MAX, &bomb.err),
              TWS_OK);
    CHECK_INT(bomb_give(&bomb, (const uint8_t *)"\x42\x01\x00", 3), TWS_AGAIN);
    CHECK(!tws_receive_inflates_in_vain(&bomb.assembler));
    tws_message_stream_discard(&bomb.assembler);
    CHECK(tws_receive_inflates_in_vain(&bomb.assembler));
    CHECK(is_heavy(&bomb, per_frame ? "\x40\x20" : "\x00\x20", 2, 900));
    CHECK(!is_heavy(&bomb, per_frame ? "\x40\x20" : "\x00\x20", 2, 90));
    bomb.err.close_code = 1009;
    tws_compression_stop_inflating(bomb.compression);
    bomb_end(&bomb);
}

TEST(heavy_input_that_is_skipped)
{
    skip_heavily(false);
    skip_heavily(true);
}

RUN(T(a_small_stream_cut_at_every_place), T(a_small_stream_streamed_in_parts),
    T(a_large_stream_cut_at_random), T(noise),
    T(reserved_bits_in_the_wrong_place), T(rsv1_on_a_continuation),
    T(rsv1_without_an_agreement), T(broken_data), T(text_that_is_not_utf8),
    T(text_fails_at_once), T(characters_across_frames),
    T(the_size_limit_counts_inflated_bytes), T(allowance),
    T(compressed_bytes_have_a_limit), T(fragments_have_a_limit),
    T(the_count_begins_anew_behind_a_stream),
    T(an_unfinished_message_holds_nothing_in_the_end), T(a_bomb_in_one_frame),
    T(a_bomb_in_fragments), T(a_bomb_in_a_stream), T(memory_that_runs_out),
    T(heavy_input), T(heavy_input_in_small_frames),
    T(heavy_input_that_is_skipped))
