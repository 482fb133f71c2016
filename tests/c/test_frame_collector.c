#include "scarce_buffers.h"

#include "protocol/close_code.h"
#include "protocol/frame_collector.h"
#include "protocol/mask.h"

#include "guard.h"
#include "harness.h"

enum { EVENTS_MAX = 32, WIRE_MAX = 4096 };

static const uint8_t KEY[4] = {0x37, 0xfa, 0x21, 0x3d};

/* First bytes of frames. */
enum {
    TEXT = TWS_FIN | TWS_OPCODE_TEXT,
    BINARY = TWS_FIN | TWS_OPCODE_BINARY,
    BEGIN = TWS_OPCODE_TEXT,
    MORE = TWS_OPCODE_CONTINUATION,
    END = TWS_FIN | TWS_OPCODE_CONTINUATION,
    PING = TWS_FIN | TWS_OPCODE_PING,
    CLOSE = TWS_FIN | TWS_OPCODE_CLOSE,
};

/* A stream of frames, and what has come of it. */
struct stream {
    enum tws_role role; /* of the end that reads */
    uint8_t wire[WIRE_MAX];
    size_t length;
    struct tws_message_limits limits;
    uint8_t rsv;
    uint16_t opcodes;
};

struct outcome {
    struct {
        enum tws_event_type type;
        uint8_t first_byte;
        size_t length;
        uint8_t data[256];
    } events[EVENTS_MAX];
    size_t count;
    enum tws_status status;
    struct tws_error err;
};

static struct stream
new_stream(enum tws_role role)
{
    return (struct stream){
        .role = role,
        .limits = {.size = 200, .fragments = 10},
        .rsv = TWS_RSV1,
        .opcodes = 1U << 3 | 1U << 12,
    };
}

static void
say(struct stream *s, unsigned first_byte, const char *text)
{
    size_t length = strlen(text);
    struct tws_frame_header header = {
        .opcode = first_byte & 0x0f,
        .rsv = (uint8_t)(first_byte & TWS_RSV),
        .fin = (first_byte & TWS_FIN) != 0,
        .length = length,
        .masked = s->role == TWS_SERVER,
    };
    if (s->length + TWS_FRAME_HEADER_MAX + length > sizeof(s->wire)) {
        abort();
    }
    memcpy(header.key, KEY, sizeof(KEY));
    s->length += tws_frame_header_encode(&header, s->wire + s->length);
    if (header.masked) {
        tws_mask(s->wire + s->length, (const uint8_t *)text, length, KEY, 0);
    }
    else {
        memcpy(s->wire + s->length, text, length);
    }
    s->length += length;
}

static void
note(struct outcome *o, const struct tws_event *event)
{
    if (o->count == EVENTS_MAX || event->length > 256) {
        abort();
    }
    o->events[o->count].type = event->type;
    o->events[o->count].first_byte = event->first_byte;
    o->events[o->count].length = event->length;
    if (event->length > 0) {
        memcpy(o->events[o->count].data, event->data, event->length);
    }
    o->count++;
}

/* Reads the stream in pieces that end at guard pages: up to `cut`, then steps
 * of `step` bytes. */
static void
play(const struct stream *s, size_t cut, size_t step, struct outcome *o)
{
    struct tws_frame_reader reader;
    struct tws_frame_collector collector = {.handed_out = false};
    struct tws_assembler assembler = {.opcode = 0};
    size_t at = 0;
    *o = (struct outcome){.status = TWS_AGAIN};
    tws_frame_reader_init(&reader, s->role);
    reader.rsv_allowed = s->rsv;
    reader.opcodes_allowed = s->opcodes;
    while (o->status == TWS_AGAIN && at < s->length) {
        size_t length = at < cut ? cut - at : step;
        if (length > s->length - at) {
            length = s->length - at;
        }
        struct guard guard = guard_copy(s->wire + at, length);
        struct tws_input input = {.data = guard.data, .length = length};
        do {
            struct tws_event event;
            o->status = tws_frame_collector_receive(&reader, &collector,
                                                    &assembler, &s->limits,
                                                    &input, &event, &o->err);
            if (o->status == TWS_OK) {
                note(o, &event);
            }
        } while (o->status == TWS_OK);
        at += length;
        guard_free(&guard);
    }
    tws_frame_collector_release(&collector);
    tws_assembler_release(&assembler);
}

static bool
same(const struct outcome *a, const struct outcome *b)
{
    bool good = a->count == b->count && a->status == b->status
                && (a->status != TWS_PROTOCOL
                    || a->err.close_code == b->err.close_code);
    for (size_t i = 0; good && i < a->count; i++) {
        good = a->events[i].type == b->events[i].type
               && a->events[i].first_byte == b->events[i].first_byte
               && a->events[i].length == b->events[i].length
               && memcmp(a->events[i].data, b->events[i].data,
                         a->events[i].length)
                      == 0;
    }
    return good;
}

/* Whatever the pieces, the outcome is the same, which is left in *o. */
static void
play_everywhere(const struct stream *s, struct outcome *o)
{
    struct outcome other;
    play(s, s->length, 1, o);
    for (size_t cut = 0; cut < s->length; cut++) {
        play(s, cut, s->length, &other);
        CHECK(same(o, &other));
    }
    for (size_t step = 1; step < 10; step++) {
        play(s, 0, step, &other);
        CHECK(same(o, &other));
    }
}

static void
check_event(const struct outcome *o, size_t i, enum tws_event_type type,
            unsigned first_byte, const char *text)
{
    CHECK_INT(o->events[i].type, type);
    CHECK_INT(o->events[i].first_byte, first_byte);
    CHECK_INT(o->events[i].length, strlen(text));
    CHECK(memcmp(o->events[i].data, text, strlen(text)) == 0);
}

TEST(frames_come_as_they_are)
{
    static const enum tws_role roles[] = {TWS_CLIENT, TWS_SERVER};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(roles); i++) {
        struct stream s = new_stream(roles[i]);
        struct outcome o;
        say(&s, TEXT, "whole");
        say(&s, BEGIN | TWS_RSV1, "a part");
        say(&s, PING, "between");
        say(&s, MORE, "");
        say(&s, TWS_FIN | TWS_RSV1 | 3, "reserved, data");
        say(&s, TWS_FIN | 12, "reserved, control");
        say(&s, END, "its end");
        say(&s, END, "and one without a beginning");
        say(&s, TEXT, "\xff\xfe no UTF-8");
        say(&s, BINARY, "");
        say(&s, CLOSE, "\x03\xe8 bye");
        play_everywhere(&s, &o);
        CHECK_INT(o.status, TWS_AGAIN);
        CHECK_INT(o.count, 11);
        check_event(&o, 0, TWS_EVENT_FRAME, TEXT, "whole");
        check_event(&o, 1, TWS_EVENT_FRAME, BEGIN | TWS_RSV1, "a part");
        check_event(&o, 2, TWS_EVENT_PING, 0, "between");
        check_event(&o, 3, TWS_EVENT_FRAME, MORE, "");
        check_event(&o, 4, TWS_EVENT_FRAME, TWS_FIN | TWS_RSV1 | 3,
                    "reserved, data");
        check_event(&o, 5, TWS_EVENT_FRAME, TWS_FIN | 12, "reserved, control");
        check_event(&o, 6, TWS_EVENT_FRAME, END, "its end");
        check_event(&o, 7, TWS_EVENT_FRAME, END,
                    "and one without a beginning");
        check_event(&o, 8, TWS_EVENT_FRAME, TEXT, "\xff\xfe no UTF-8");
        check_event(&o, 9, TWS_EVENT_FRAME, BINARY, "");
        check_event(&o, 10, TWS_EVENT_CLOSE, 0, "\x03\xe8 bye");
    }
}

/* What follows the first frame breaks a rule. */
static void
check_broken(unsigned first_byte, const char *text, unsigned code)
{
    struct stream s = new_stream(TWS_SERVER);
    struct outcome o;
    say(&s, TEXT, "good");
    say(&s, first_byte, text);
    say(&s, TEXT, "late");
    play_everywhere(&s, &o);
    CHECK_INT(o.count, 1);
    CHECK_INT(o.status, TWS_PROTOCOL);
    CHECK_INT(o.err.close_code, code);
}

TEST(rules_that_hold_for_each_frame)
{
    check_broken(TEXT | TWS_RSV2, "", TWS_CLOSE_PROTOCOL_ERROR);
    check_broken(TWS_FIN | 4, "", TWS_CLOSE_PROTOCOL_ERROR);
    check_broken(TWS_FIN | 11, "", TWS_CLOSE_PROTOCOL_ERROR);
    check_broken(12, "", TWS_CLOSE_PROTOCOL_ERROR);
    check_broken(PING | TWS_RSV1, "", TWS_CLOSE_PROTOCOL_ERROR);
    check_broken(CLOSE | TWS_RSV1, "", TWS_CLOSE_PROTOCOL_ERROR);
    check_broken(CLOSE, "\x03", TWS_CLOSE_PROTOCOL_ERROR);
}

TEST(sizes_are_judged_by_the_header)
{
    struct stream s = new_stream(TWS_CLIENT);
    struct outcome o;
    uint64_t limit = tws_frame_size_limit(s.limits.size);
    struct tws_frame_header header = {
        .opcode = TWS_OPCODE_BINARY, .fin = true, .length = limit};
    CHECK_INT(limit, 200 + 50 + 1024);
    s.length = tws_frame_header_encode(&header, s.wire);
    play_everywhere(&s, &o);
    CHECK_INT(o.status, TWS_AGAIN);
    header.length++;
    s.length = tws_frame_header_encode(&header, s.wire);
    play_everywhere(&s, &o);
    CHECK_INT(o.status, TWS_PROTOCOL);
    CHECK_INT(o.err.close_code, TWS_CLOSE_MESSAGE_TOOBIG);
    CHECK(strstr(o.err.reason, "1275") != NULL);
    CHECK(tws_frame_size_limit(UINT64_MAX) == UINT64_MAX);
    CHECK(tws_frame_size_limit(UINT64_MAX - 1) == UINT64_MAX);
    CHECK(tws_frame_size_limit(0) == 1024);
}

/* An idle connection keeps nothing. */
TEST(memory_goes_back)
{
    struct stream s = new_stream(TWS_CLIENT);
    struct tws_frame_reader reader;
    struct tws_frame_collector collector = {.handed_out = false};
    struct tws_assembler assembler = {.opcode = 0};
    struct tws_event event;
    struct tws_error err;
    say(&s, TEXT, "in two pieces");
    tws_frame_reader_init(&reader, TWS_CLIENT);
    for (size_t i = 0; i < 2; i++) {
        struct tws_input input = {
            .data = s.wire + (i == 0 ? 0 : 5),
            .length = i == 0 ? 5 : s.length - 5,
        };
        CHECK_INT(tws_frame_collector_receive(&reader, &collector, &assembler,
                                              &s.limits, &input, &event, &err),
                  i == 0 ? TWS_AGAIN : TWS_OK);
    }
    CHECK_BYTES(event.data, event.length, "in two pieces");
    CHECK(collector.payload.capacity > 0);
    tws_frame_collector_settle(&collector);
    CHECK_INT(collector.payload.capacity, 0);
    tws_frame_collector_settle(&collector);
}

TEST(no_memory_for_a_frame)
{
    struct stream s = new_stream(TWS_CLIENT);
    struct outcome o;
    say(&s, TEXT, "in two pieces");
    allocations_left = 0;
    play(&s, 5, s.length, &o);
    allocations_left = -1;
    CHECK_INT(o.status, TWS_NOMEM);
}

/* Messages ---------------------------------------------------------------- */

struct joining {
    struct tws_frame_joiner joiner;
    struct tws_message_limits limits;
    struct tws_error err;
};

static struct joining
new_joining(void)
{
    return (struct joining){.limits = {.size = 200, .fragments = 4}};
}

static enum tws_status
join(struct joining *j, unsigned first_byte, const char *text)
{
    struct tws_span data = {.data = text, .length = strlen(text)};
    return tws_frame_joiner_take(&j->joiner, &j->limits, (uint8_t)first_byte,
                                 data, &j->err);
}

TEST(whole_messages_pass)
{
    struct joining j = new_joining();
    CHECK(tws_frame_joiner_passes(&j.joiner, TEXT));
    CHECK(tws_frame_joiner_passes(&j.joiner, BINARY | TWS_RSV1));
    CHECK(!tws_frame_joiner_passes(&j.joiner, BEGIN));
    CHECK(!tws_frame_joiner_passes(&j.joiner, MORE));
    CHECK(!tws_frame_joiner_passes(&j.joiner, END));
    CHECK_INT(join(&j, BEGIN, ""), TWS_AGAIN);
    CHECK(!tws_frame_joiner_passes(&j.joiner, TEXT));
    tws_frame_joiner_release(&j.joiner);
    CHECK(tws_frame_joiner_passes(&j.joiner, TEXT));
}

TEST(fragments_are_joined)
{
    struct joining j = new_joining();
    for (int i = 0; i < 2; i++) {
        CHECK_INT(join(&j, BEGIN | TWS_RSV1, "one "), TWS_AGAIN);
        CHECK_INT(join(&j, MORE, ""), TWS_AGAIN);
        CHECK_INT(join(&j, END, "two"), TWS_OK);
        CHECK_INT(j.joiner.first_byte, TEXT | TWS_RSV1);
        CHECK_BYTES(tws_buffer_data(&j.joiner.payload),
                    tws_buffer_length(&j.joiner.payload), "one two");
        tws_frame_joiner_release(&j.joiner);
        CHECK_INT(j.joiner.payload.capacity, 0);
    }
    CHECK_INT(join(&j, BEGIN, ""), TWS_AGAIN);
    CHECK_INT(join(&j, END, ""), TWS_OK);
    CHECK_INT(tws_buffer_length(&j.joiner.payload), 0);
    tws_frame_joiner_release(&j.joiner);
}

static void
check_refused(struct joining *j, unsigned first_byte, const char *text,
              unsigned code)
{
    CHECK_INT(join(j, first_byte, text), TWS_PROTOCOL);
    CHECK_INT(j->err.close_code, code);
    tws_frame_joiner_release(&j->joiner);
}

TEST(what_can_not_be_joined)
{
    struct joining j = new_joining();
    check_refused(&j, MORE, "", TWS_CLOSE_PROTOCOL_ERROR);
    check_refused(&j, END, "", TWS_CLOSE_PROTOCOL_ERROR);
    CHECK_INT(join(&j, BEGIN, ""), TWS_AGAIN);
    check_refused(&j, TEXT, "", TWS_CLOSE_PROTOCOL_ERROR);
    CHECK_INT(join(&j, BEGIN, ""), TWS_AGAIN);
    check_refused(&j, BEGIN, "", TWS_CLOSE_PROTOCOL_ERROR);
    CHECK_INT(join(&j, BEGIN | TWS_RSV1, ""), TWS_AGAIN);
    check_refused(&j, END | TWS_RSV1, "", TWS_CLOSE_PROTOCOL_ERROR);
    CHECK_INT(join(&j, BEGIN, ""), TWS_AGAIN);
    check_refused(&j, MORE | TWS_RSV3, "", TWS_CLOSE_PROTOCOL_ERROR);
}

TEST(limits_of_a_message)
{
    struct joining j = new_joining();
    char text[1275];
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    CHECK_INT(join(&j, BEGIN, text), TWS_AGAIN); /* as much as there may be */
    CHECK_INT(join(&j, MORE, ""), TWS_AGAIN);
    check_refused(&j, END, "x", TWS_CLOSE_MESSAGE_TOOBIG);
    CHECK_INT(join(&j, BEGIN, ""), TWS_AGAIN);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(join(&j, MORE, ""), TWS_AGAIN);
    }
    check_refused(&j, END, "", TWS_CLOSE_POLICY);
    j.limits.size = UINT64_MAX;
    CHECK_INT(join(&j, BEGIN, text), TWS_AGAIN);
    CHECK_INT(join(&j, END, text), TWS_OK);
    tws_frame_joiner_release(&j.joiner);
}

TEST(no_memory_for_a_message)
{
    struct joining j = new_joining();
    allocations_left = 0;
    CHECK_INT(join(&j, BEGIN, "x"), TWS_NOMEM);
    allocations_left = -1;
    CHECK_INT(join(&j, BEGIN, "x"), TWS_AGAIN);
    CHECK_INT(join(&j, END, "y"), TWS_OK);
    tws_frame_joiner_release(&j.joiner);
}

RUN(T(frames_come_as_they_are), T(rules_that_hold_for_each_frame),
    T(sizes_are_judged_by_the_header), T(memory_goes_back),
    T(no_memory_for_a_frame), T(whole_messages_pass), T(fragments_are_joined),
    T(what_can_not_be_joined), T(limits_of_a_message),
    T(no_memory_for_a_message))
