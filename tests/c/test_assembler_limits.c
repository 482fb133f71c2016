#include "protocol/assembler.h"

#include "script.h"

static const enum tws_role roles[] = {TWS_CLIENT, TWS_SERVER};

static void
check_limits(struct script *s, uint64_t size, uint32_t fragments)
{
    s->limits.size = size;
    s->limits.fragments = fragments;
    CHECK(script_play_everywhere(s));
    script_free(s);
}

TEST(size_limits_that_are_met)
{
    for (size_t i = 0; i < TWS_ARRAY_SIZE(roles); i++) {
        struct script s;
        script_init(&s, roles[i]);
        script_add_fragmented(&s, TWS_OPCODE_TEXT, 10, 4, false,
                              "a longer ping");
        script_add_fragmented(&s, TWS_OPCODE_TEXT, 10, 10, false, NULL);
        script_add_whole(&s, TWS_OPCODE_BINARY, 10, false);
        script_add_whole(&s, TWS_OPCODE_BINARY, 10, false);
        check_limits(&s, 10, 100);

        /* 0 bytes: only empty messages pass. */
        script_init(&s, roles[i]);
        script_add_whole(&s, TWS_OPCODE_TEXT, 0, true);
        script_say(&s, TEXT | MORE, "");
        script_whole(&s, TWS_OPCODE_PING, "p", 1);
        script_say(&s, END, "");
        script_hear(&s, TWS_EVENT_TEXT, "");
        script_header(&s, END | TEXT, 1);
        script_breaks(&s, 1009);
        check_limits(&s, 0, 100);

        script_init(&s, roles[i]);
        script_add_fragmented(&s, TWS_OPCODE_TEXT, 10, 4, false, NULL);
        script_header(&s, END | TEXT, INT64_MAX);
        check_limits(&s, UINT64_MAX, UINT32_MAX);
    }
}

/* What is there and what is declared must not overflow when added. */
TEST(huge_lengths_behind_a_partial_message)
{
    static const struct {
        uint64_t limit;
        bool passes;
    } cases[] = {
        {1 << 20, false},
        {INT64_MAX, false},
        {(uint64_t)INT64_MAX + 9, false},
        {(uint64_t)INT64_MAX + 10, true},
        {UINT64_MAX - 1, true},
        {UINT64_MAX, true},
        {10, false},
    };
    for (size_t i = 0; i < 2 * TWS_ARRAY_SIZE(cases); i++) {
        struct script s;
        script_init(&s, roles[i % 2]);
        script_say(&s, BINARY | MORE, "0123456789");
        script_header(&s, END, INT64_MAX);
        if (!cases[i / 2].passes) {
            script_breaks(&s, 1009);
        }
        script_payload(&s, "abc", 3);
        check_limits(&s, cases[i / 2].limit, 2);
    }
}

/* The count begins anew with each message, however it came. */
TEST(fragment_limits_that_are_met)
{
    for (size_t i = 0; i < TWS_ARRAY_SIZE(roles); i++) {
        struct script s;
        script_init(&s, roles[i]);
        for (int j = 0; j < 3; j++) {
            script_add_fragmented(&s, TWS_OPCODE_TEXT, 9, 3, false, "p");
            script_add_whole(&s, TWS_OPCODE_BINARY, 3, true);
        }
        script_add_fragmented(&s, TWS_OPCODE_BINARY, 9, 3, false, NULL);
        script_add_fragmented(&s, TWS_OPCODE_TEXT, 9, 3, false, NULL);
        check_limits(&s, 100, 3);

        script_init(&s, roles[i]);
        script_add_whole(&s, TWS_OPCODE_TEXT, 9, false);
        script_add_whole(&s, TWS_OPCODE_BINARY, 9, false);
        script_header(&s, TEXT | MORE, 0);
        script_header(&s, END, 0);
        script_breaks(&s, 1008);
        check_limits(&s, 100, 1);
    }
}

struct receiver {
    struct tws_frame_reader reader;
    struct tws_assembler assembler;
    struct tws_message_limits limits;
    struct tws_event event;
    struct tws_error err;
};

/* A client's end, so that the tests below can write the bytes as they are. */
static void
receiver_init(struct receiver *r, uint64_t size, uint32_t fragments)
{
    memset(r, 0, sizeof(*r));
    tws_frame_reader_init(&r->reader, TWS_CLIENT);
    r->limits.size = size;
    r->limits.fragments = fragments;
}

static enum tws_status
give(struct receiver *r, const void *data, size_t length)
{
    static uint8_t bytes[4096];
    script_must(length <= sizeof(bytes));
    memcpy(bytes, data, length);
    struct tws_input input = {.data = bytes, .length = length};
    enum tws_status status = tws_receive(&r->reader, &r->assembler, &r->limits,
                                         &input, &r->event, &r->err);
    CHECK(status != TWS_AGAIN || input.length == 0);
    return status;
}

TEST(a_million_empty_fragments)
{
    struct receiver r;
    receiver_init(&r, UINT64_MAX, TWS_MESSAGE_LIMITS_DEFAULT.fragments);
    CHECK_INT(give(&r, "\x01\x00", 2), TWS_AGAIN);
    size_t frames = 1;
    enum tws_status status = TWS_AGAIN;
    while (frames < 1000000 && status == TWS_AGAIN) {
        status = give(&r, "\x00\x00", 2);
        frames++;
        if (r.assembler.message.capacity != 0) {
            break;
        }
    }
    CHECK_INT(status, TWS_PROTOCOL);
    CHECK_INT(r.err.close_code, 1008);
    CHECK_INT(frames, (1 << 17) + 1);
    CHECK_INT(r.assembler.message.capacity, 0);
    tws_assembler_release(&r.assembler);

    /* Where they are allowed, they cost no memory. */
    receiver_init(&r, UINT64_MAX, UINT32_MAX);
    CHECK_INT(give(&r,
                   "\x01\x01"
                   "a",
                   3),
              TWS_AGAIN);
    size_t capacity = r.assembler.message.capacity;
    for (frames = 1; frames < 1000000; frames++) {
        if (give(&r, "\x00\x00", 2) != TWS_AGAIN) {
            break;
        }
    }
    CHECK_INT(frames, 1000000);
    CHECK(capacity < 1000);
    CHECK_INT(r.assembler.message.capacity, capacity);
    CHECK_INT(give(&r, "\x80\x00", 2), TWS_OK);
    CHECK_BYTES(r.event.data, r.event.length, "a");
    tws_assembler_release(&r.assembler);
}

/* 2^30 and 2^63 - 1 are declared; a hundred bytes arrive. */
TEST(what_is_declared_takes_no_memory)
{
    static const char headers[][11] = {
        "\x82\x7f\x00\x00\x00\x00\x40\x00\x00\x00",
        "\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff",
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(headers); i++) {
        struct receiver r;
        uint8_t *room;
        size_t size;
        receiver_init(&r, UINT64_MAX, 10);
        CHECK_INT(give(&r, headers[i], 10), TWS_AGAIN);
        CHECK_INT(r.assembler.message.capacity, 0);
        for (int j = 0; j < 100; j++) {
            CHECK_INT(give(&r, "x", 1), TWS_AGAIN);
        }
        CHECK(r.assembler.message.capacity < 1024);
        CHECK(tws_receive_room(&r.reader, &r.assembler, &room, &size));
        CHECK_INT(size, 65536);
        CHECK(r.assembler.message.capacity <= 2 * 65536);
        tws_assembler_release(&r.assembler);
        CHECK(r.assembler.message.memory == NULL);
    }
}

/* 20 MB of a GiB, by ordinary input and straight into the message. */
TEST(memory_grows_with_what_arrived)
{
    for (int direct = 0; direct < 2; direct++) {
        struct receiver r;
        size_t arrived = 0;
        receiver_init(&r, UINT64_MAX, 10);
        CHECK_INT(give(&r, "\x82\x7f\x00\x00\x00\x00\x40\x00\x00\x00", 10),
                  TWS_AGAIN);
        while (arrived < 20000000) {
            uint8_t bytes[4096] = {0};
            uint8_t *room;
            size_t size = sizeof(bytes);
            enum tws_status status = TWS_PROTOCOL;
            if (direct == 0) {
                status = give(&r, bytes, size);
            }
            else if (tws_receive_room(&r.reader, &r.assembler, &room, &size)) {
                CHECK(size <= 65536 || size <= arrived);
                size = size / 3 + 1;
                memset(room, 0, size);
                status = tws_receive_direct(&r.reader, &r.assembler, &r.limits,
                                            room, size, &r.event, &r.err);
            }
            arrived += size;
            if (status != TWS_AGAIN
                || r.assembler.message.capacity > 4 * arrived + 131072) {
                CHECK_INT(status, TWS_AGAIN);
                CHECK_INT(r.assembler.message.capacity, arrived);
                break;
            }
        }
        CHECK_INT(tws_buffer_length(&r.assembler.message), arrived);
        tws_assembler_release(&r.assembler);
    }
}

static bool
is_zero(const struct tws_assembler *assembler)
{
    return assembler->message.memory == NULL
           && assembler->message.capacity == 0
           && assembler->control.memory == NULL && assembler->opcode == 0
           && assembler->fragments == 0 && assembler->utf8.needed == 0
           && !assembler->ascii && !assembler->handed_out;
}

/* What an event borrowed goes with the next call, even one without input. */
TEST(events_leave_no_memory_behind)
{
    struct receiver r;
    receiver_init(&r, 100, 10);
    CHECK_INT(give(&r,
                   "\x01\x02"
                   "ab",
                   4),
              TWS_AGAIN);
    CHECK_INT(give(&r,
                   "\x80\x01"
                   "c",
                   3),
              TWS_OK);
    CHECK_BYTES(r.event.data, r.event.length, "abc");
    CHECK(r.event.data == tws_buffer_data(&r.assembler.message));
    CHECK_INT(give(&r, "", 0), TWS_AGAIN);
    CHECK(r.assembler.message.memory == NULL);

    CHECK_INT(give(&r,
                   "\x01\x02"
                   "ab",
                   4),
              TWS_AGAIN);
    CHECK_INT(give(&r,
                   "\x89\x02"
                   "p",
                   3),
              TWS_AGAIN);
    CHECK_INT(give(&r, "i", 1), TWS_OK);
    CHECK_BYTES(r.event.data, r.event.length, "pi");
    CHECK(r.event.data == tws_buffer_data(&r.assembler.control));
    CHECK_INT(give(&r, "", 0), TWS_AGAIN);
    CHECK(r.assembler.control.memory == NULL);
    CHECK_BYTES(tws_buffer_data(&r.assembler.message),
                tws_buffer_length(&r.assembler.message), "ab");

    /* Released in the middle of it all, it can be used again. */
    CHECK_INT(give(&r,
                   "\x89\x02"
                   "p",
                   3),
              TWS_AGAIN);
    tws_assembler_release(&r.assembler);
    CHECK(is_zero(&r.assembler));
    tws_frame_reader_init(&r.reader, TWS_CLIENT);
    CHECK_INT(give(&r,
                   "\x81\x02"
                   "ok",
                   4),
              TWS_OK);
    CHECK_BYTES(r.event.data, r.event.length, "ok");
    CHECK_INT(give(&r, "", 0), TWS_AGAIN);
    CHECK(r.assembler.message.memory == NULL);
    CHECK(r.assembler.control.memory == NULL);
    tws_assembler_release(&r.assembler);
    tws_assembler_release(&r.assembler);
}

/* Without tws_receive() it is the next piece that gives the memory back. */
TEST(pieces_taken_one_by_one)
{
    static const char stream[] = "\x02\x01"
                                 "a"
                                 "\x80\x00"
                                 "\x81\x01"
                                 "b"
                                 "\x02\x01"
                                 "c"
                                 "\x80\x01"
                                 "d";
    static const char *const expected[] = {"a", "b", "cd"};
    struct receiver r;
    uint8_t bytes[sizeof(stream)];
    struct tws_input input = {.data = bytes, .length = sizeof(stream) - 1};
    struct tws_piece piece;
    size_t seen = 0;
    receiver_init(&r, 2, 2);
    memcpy(bytes, stream, sizeof(stream));
    while (tws_frame_reader_next(&r.reader, &input, &piece, &r.err)
           == TWS_OK) {
        enum tws_status status = tws_assembler_take(&r.assembler, &r.limits,
                                                    &piece, &r.event, &r.err);
        if (status == TWS_OK) {
            script_must(seen < TWS_ARRAY_SIZE(expected));
            CHECK_INT(r.event.length, strlen(expected[seen]));
            CHECK(memcmp(r.event.data, expected[seen], r.event.length) == 0);
            CHECK_INT(r.assembler.message.memory == NULL, seen == 1);
            seen++;
        }
        else {
            CHECK_INT(status, TWS_AGAIN);
        }
    }
    CHECK_INT(seen, TWS_ARRAY_SIZE(expected));
    CHECK_INT(input.length, 0);
    tws_assembler_release(&r.assembler);
}

/* Room is for large data frames alone. */
TEST(room_where_it_pays)
{
    struct receiver r;
    uint8_t *room = NULL;
    size_t size = 0;
    receiver_init(&r, UINT64_MAX, 10);
    CHECK(!tws_receive_room(&r.reader, &r.assembler, &room, &size));
    CHECK_INT(give(&r, "\x82\x7e\x40", 3), TWS_AGAIN);
    CHECK(!tws_receive_room(&r.reader, &r.assembler, &room, &size));
    CHECK_INT(give(&r, "\x01", 1), TWS_AGAIN);
    CHECK(tws_receive_room(&r.reader, &r.assembler, &room, &size));
    CHECK_INT(size, 16385);
    for (int left = 16384; left >= 16383; left--) {
        *room = 'x';
        CHECK_INT(tws_receive_direct(&r.reader, &r.assembler, &r.limits, room,
                                     1, &r.event, &r.err),
                  TWS_AGAIN);
        CHECK_INT(tws_receive_room(&r.reader, &r.assembler, &room, &size),
                  left == 16384);
    }
    CHECK_INT(tws_buffer_length(&r.assembler.message), 2);
    tws_assembler_release(&r.assembler);

    receiver_init(&r, UINT64_MAX, 10);
    CHECK_INT(give(&r,
                   "\x89\x7d"
                   "ping",
                   6),
              TWS_AGAIN);
    CHECK(!tws_receive_room(&r.reader, &r.assembler, &room, &size));
    tws_assembler_release(&r.assembler);
}

TEST(results_are_untouched_without_an_event)
{
    struct receiver r;
    struct tws_event stale;
    struct tws_error stale_err;
    memset(&stale, 0x5a, sizeof(stale));
    memset(&stale_err, 0x5a, sizeof(stale_err));
    receiver_init(&r, 100, 10);
    r.event = stale;
    r.err = stale_err;
    CHECK_INT(give(&r,
                   "\x01\x02"
                   "ab\x00\x01"
                   "c",
                   7),
              TWS_AGAIN);
    CHECK_INT(give(&r,
                   "\x89\x02"
                   "p",
                   3),
              TWS_AGAIN);
    CHECK(memcmp(&r.err, &stale_err, sizeof(stale_err)) == 0);
    CHECK(memcmp(&r.event, &stale, sizeof(stale)) == 0);
    CHECK_INT(give(&r, "p", 1), TWS_OK);
    r.event = stale;
    CHECK_INT(give(&r,
                   "\x80\x03"
                   "a\xffz",
                   5),
              TWS_PROTOCOL);
    CHECK_INT(r.err.close_code, 1007);
    CHECK(memcmp(&r.event, &stale, sizeof(stale)) == 0);
    tws_assembler_release(&r.assembler);

    receiver_init(&r, 100, 10);
    r.event = stale;
    CHECK_INT(give(&r, "\x88\x02\x03\xed", 4), TWS_PROTOCOL);
    CHECK_INT(r.err.close_code, 1002);
    CHECK(memcmp(&r.event, &stale, sizeof(stale)) == 0);
    tws_assembler_release(&r.assembler);
}

/* A piece that no memory can hold stands for an allocation that fails. */
TEST(no_memory)
{
    struct receiver r;
    receiver_init(&r, UINT64_MAX, 10);
    struct tws_frame_header header = {.opcode = TWS_OPCODE_BINARY,
                                      .length = INT64_MAX};
    struct tws_piece piece = {
        .header = &header, .length = SIZE_MAX, .first = true};
    CHECK_INT(
        tws_assembler_take(&r.assembler, &r.limits, &piece, &r.event, &r.err),
        TWS_NOMEM);
    CHECK_INT(r.err.status, TWS_NOMEM);
    tws_assembler_release(&r.assembler);
    header.opcode = TWS_OPCODE_PING;
    memset(&r.err, 0, sizeof(r.err));
    CHECK_INT(
        tws_assembler_take(&r.assembler, &r.limits, &piece, &r.event, &r.err),
        TWS_NOMEM);
    CHECK_INT(r.err.status, TWS_NOMEM);
    tws_assembler_release(&r.assembler);
}

RUN(T(size_limits_that_are_met), T(huge_lengths_behind_a_partial_message),
    T(fragment_limits_that_are_met), T(a_million_empty_fragments),
    T(what_is_declared_takes_no_memory), T(memory_grows_with_what_arrived),
    T(events_leave_no_memory_behind), T(pieces_taken_one_by_one),
    T(room_where_it_pays), T(results_are_untouched_without_an_event),
    T(no_memory))
