#include "protocol/session.h"

#include "harness.h"

static const uint8_t key[4] = {0x11, 0xa2, 0x33, 0xf4};

/* A server's frames are not masked, a client's are. */
static const uint8_t *const keys[] = {NULL, key};

/* Reads one frame back and looks at every bit of it. */
static void
check_control(const struct tws_control *control, const uint8_t *used_key,
              unsigned opcode, const void *payload, size_t length)
{
    size_t header = used_key == NULL ? 2 : 6;
    const uint8_t *bytes = control->bytes;
    CHECK_INT(control->length, header + length);
    if (control->length != header + length) {
        return;
    }
    CHECK_INT(bytes[0], 0x80 | opcode);
    CHECK_INT(bytes[1], length | (used_key == NULL ? 0 : 0x80));
    if (used_key != NULL) {
        CHECK(memcmp(bytes + 2, used_key, 4) == 0);
    }
    for (size_t i = 0; i < length; i++) {
        unsigned mask = used_key == NULL ? 0 : used_key[i % 4];
        if ((bytes[header + i] ^ mask) != ((const uint8_t *)payload)[i]) {
            CHECK_INT(i, -1);
            return;
        }
    }
}

static void
check_silent(const struct tws_control *reply)
{
    CHECK_INT(reply->length, 0);
}

/* What was not set by the call under test would be seen. */
static struct tws_control
stale_control(void)
{
    struct tws_control control;
    memset(&control, 0x5a, sizeof(control));
    return control;
}

static bool
take(struct tws_session *session, enum tws_event_type type, const void *data,
     size_t length, const uint8_t *used_key, struct tws_control *reply)
{
    struct tws_event event = {.type = type, .data = data, .length = length};
    struct tws_error err;
    if (type == TWS_EVENT_CLOSE
        && tws_close_parse(data, length, &event.code, &event.reason, &err)
               != TWS_OK) {
        abort();
    }
    *reply = stale_control();
    return tws_session_take(session, &event, used_key, reply);
}

/* With bytes behind the frame that must not be touched. */
TEST(control_frames_of_every_size)
{
    static const enum tws_opcode opcodes[] = {
        TWS_OPCODE_PING,
        TWS_OPCODE_PONG,
        TWS_OPCODE_CLOSE,
    };
    uint8_t payload[TWS_CONTROL_PAYLOAD_MAX];
    for (size_t i = 0; i < sizeof(payload); i++) {
        payload[i] = (uint8_t)(i * 5 + 1);
    }
    for (size_t i = 0; i < TWS_ARRAY_SIZE(opcodes); i++) {
        for (size_t length = 0; length <= sizeof(payload); length++) {
            for (size_t j = 0; j < TWS_ARRAY_SIZE(keys); j++) {
                struct tws_control control = stale_control();
                uint8_t *exact = malloc(length + 1);
                if (exact == NULL) {
                    abort();
                }
                uint8_t *data = exact + 1;
                memcpy(data, payload, length);
                tws_control_pack(&control, opcodes[i],
                                 length > 0 ? data : NULL, length, keys[j]);
                check_control(&control, keys[j], opcodes[i], payload, length);
                for (size_t k = control.length; k < sizeof(control.bytes);
                     k++) {
                    CHECK_INT(control.bytes[k], 0x5a);
                }
                free(exact);
            }
        }
    }
    CHECK_INT(sizeof(((struct tws_control *)0)->bytes), 2 + 4 + 125);
}

TEST(pings_are_answered_with_their_payload)
{
    char payload[TWS_CONTROL_PAYLOAD_MAX];
    memset(payload, 0xc3, sizeof(payload));
    for (size_t i = 0; i < TWS_ARRAY_SIZE(keys); i++) {
        struct tws_session session = {0};
        struct tws_control reply;
        CHECK(take(&session, TWS_EVENT_PING, NULL, 0, keys[i], &reply));
        check_control(&reply, keys[i], 10, "", 0);
        CHECK(take(&session, TWS_EVENT_PING, "ping", 4, keys[i], &reply));
        check_control(&reply, keys[i], 10, "ping", 4);
        CHECK(take(&session, TWS_EVENT_PING, payload, sizeof(payload), keys[i],
                   &reply));
        check_control(&reply, keys[i], 10, payload, sizeof(payload));
        CHECK(tws_session_open(&session) && !tws_session_finished(&session));
    }
}

TEST(other_events_have_no_answer)
{
    static const enum tws_event_type types[] = {
        TWS_EVENT_TEXT,
        TWS_EVENT_BINARY,
        TWS_EVENT_PONG,
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(types); i++) {
        struct tws_session session = {0};
        struct tws_control reply;
        CHECK(take(&session, types[i], "data", 4, key, &reply));
        check_silent(&reply);
        CHECK(tws_session_open(&session) && !tws_session_finished(&session));
    }
}

/* The answer is the code alone: the reason was the peer's. */
TEST(a_close_is_answered_with_its_code)
{
    static const struct {
        const char *payload;
        size_t length;
        uint16_t code;
    } cases[] = {
        {"", 0, 1005},
        {"\x03\xe8", 2, 1000},
        {"\x03\xe9 going away", 13, 1001},
        {"\x0b\xb8", 2, 3000},
        {"\x13\x87 bye", 6, 4999},
    };
    for (size_t i = 0; i < 2 * TWS_ARRAY_SIZE(cases); i++) {
        const uint8_t *used_key = keys[i % 2];
        const char *payload = cases[i / 2].payload;
        size_t length = cases[i / 2].length;
        struct tws_session session = {0};
        struct tws_control reply;
        CHECK(take(&session, TWS_EVENT_CLOSE, payload, length, used_key,
                   &reply));
        check_control(&reply, used_key, 8, payload, length == 0 ? 0 : 2);
        CHECK_INT(session.received_code, cases[i / 2].code);
        CHECK_INT(session.sent_code, cases[i / 2].code);
        CHECK(!tws_session_open(&session) && tws_session_finished(&session));
    }
}

static void
check_deaf(struct tws_session *session, bool to_close)
{
    static const enum tws_event_type types[] = {
        TWS_EVENT_TEXT,
        TWS_EVENT_BINARY,
        TWS_EVENT_PING,
        TWS_EVENT_PONG,
    };
    struct tws_session before = *session;
    struct tws_control reply;
    for (size_t i = 0; i < TWS_ARRAY_SIZE(types); i++) {
        CHECK(!take(session, types[i], "data", 4, key, &reply));
        check_silent(&reply);
    }
    if (to_close) {
        CHECK(!take(session, TWS_EVENT_CLOSE, "\x03\xf3", 2, key, &reply));
        check_silent(&reply);
    }
    CHECK_INT(session->sent_code, before.sent_code);
    CHECK_INT(session->received_code, before.received_code);
}

TEST(nothing_counts_after_the_peers_close)
{
    struct tws_session session = {0};
    struct tws_control reply;
    CHECK(take(&session, TWS_EVENT_CLOSE, "\x03\xe8", 2, key, &reply));
    check_deaf(&session, true);
    reply = stale_control();
    tws_session_close(&session, 1011, TWS_SPAN("late"), key, &reply);
    check_silent(&reply);
    CHECK_INT(session.sent_code, 1000);
}

TEST(after_our_close_only_the_peers_counts)
{
    for (size_t i = 0; i < TWS_ARRAY_SIZE(keys); i++) {
        struct tws_session session = {0};
        struct tws_control reply = stale_control();
        tws_session_close(&session, 1001, TWS_SPAN("bye"), keys[i], &reply);
        check_control(&reply, keys[i], 8,
                      "\x03\xe9"
                      "bye",
                      5);
        CHECK_INT(session.sent_code, 1001);
        CHECK_INT(session.received_code, 0);
        CHECK(!tws_session_open(&session) && !tws_session_finished(&session));
        check_deaf(&session, false);
        /* A second Close of ours does not go out. */
        reply = stale_control();
        tws_session_close(&session, 1000, TWS_SPAN(""), keys[i], &reply);
        check_silent(&reply);
        CHECK_INT(session.sent_code, 1001);

        CHECK(take(&session, TWS_EVENT_CLOSE, "\x0f\xa0", 2, keys[i], &reply));
        check_silent(&reply);
        CHECK_INT(session.sent_code, 1001);
        CHECK_INT(session.received_code, 4000);
        CHECK(tws_session_finished(&session));
        check_deaf(&session, true);
    }
}

/* Hands over a frame as it would come over the wire. */
static bool
deliver(struct tws_session *to, enum tws_role role, struct tws_control *frame,
        const uint8_t *used_key, struct tws_control *reply)
{
    struct tws_frame_reader reader;
    struct tws_assembler assembler = {0};
    struct tws_message_limits limits = TWS_MESSAGE_LIMITS_DEFAULT;
    struct tws_input input = {.data = frame->bytes, .length = frame->length};
    struct tws_event event;
    struct tws_error err;
    tws_frame_reader_init(&reader, role);
    enum tws_status status =
        tws_receive(&reader, &assembler, &limits, &input, &event, &err);
    CHECK_INT(status, TWS_OK);
    *reply = stale_control();
    bool concerns =
        status == TWS_OK && tws_session_take(to, &event, used_key, reply);
    tws_assembler_release(&assembler);
    return concerns;
}

TEST(both_ends_close_at_once)
{
    struct tws_session client = {0};
    struct tws_session server = {0};
    struct tws_control from_client;
    struct tws_control from_server;
    struct tws_control reply;
    tws_session_close(&client, 1000, TWS_SPAN("done"), key, &from_client);
    tws_session_close(&server, 1001, TWS_SPAN("stop"), NULL, &from_server);
    CHECK(deliver(&server, TWS_SERVER, &from_client, NULL, &reply));
    check_silent(&reply);
    CHECK(deliver(&client, TWS_CLIENT, &from_server, key, &reply));
    check_silent(&reply);
    CHECK(tws_session_finished(&client) && tws_session_finished(&server));
    CHECK_INT(client.sent_code, 1000);
    CHECK_INT(client.received_code, 1001);
    CHECK_INT(server.sent_code, 1001);
    CHECK_INT(server.received_code, 1000);
}

/* One end closes, the other answers, and neither says more. */
TEST(one_end_closes)
{
    static const uint16_t codes[] = {1000, 1005, 1009, 4999};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(codes); i++) {
        struct tws_session client = {0};
        struct tws_session server = {0};
        struct tws_control frame;
        struct tws_control answer;
        struct tws_control reply;
        tws_session_close(&client, codes[i], TWS_SPAN("why"), key, &frame);
        CHECK(deliver(&server, TWS_SERVER, &frame, NULL, &answer));
        CHECK(deliver(&client, TWS_CLIENT, &answer, key, &reply));
        check_silent(&reply);
        CHECK(tws_session_finished(&client) && tws_session_finished(&server));
        CHECK_INT(client.sent_code, codes[i]);
        CHECK_INT(client.received_code, codes[i]);
        CHECK_INT(server.sent_code, codes[i]);
        CHECK_INT(server.received_code, codes[i]);
    }
}

/* Too long a reason is cut between two characters. */
TEST(reasons_fit_the_frame)
{
    char clefs[400];
    char letters[400];
    uint8_t expected[TWS_CONTROL_PAYLOAD_MAX] = {0x03, 0xf3};
    for (size_t i = 0; i < sizeof(clefs); i += 4) {
        memcpy(clefs + i, "\xf0\x9d\x84\x9e", 4);
    }
    memset(letters, 'x', sizeof(letters));
    const struct {
        const char *reason;
        size_t length;
        size_t sent;
    } cases[] = {
        {clefs, sizeof(clefs), 120},
        {letters, sizeof(letters), 123},
        {letters, 123, 123},
        {letters, 124, 123},
        {clefs, 4, 4},
        {NULL, 0, 0},
    };
    for (size_t i = 0; i < 2 * TWS_ARRAY_SIZE(cases); i++) {
        struct tws_session session = {0};
        struct tws_control reply = stale_control();
        struct tws_span reason = {.data = cases[i / 2].reason,
                                  .length = cases[i / 2].length};
        tws_session_close(&session, 1011, reason, keys[i % 2], &reply);
        if (reason.length > 0) {
            memcpy(expected + 2, reason.data, cases[i / 2].sent);
        }
        check_control(&reply, keys[i % 2], 8, expected, 2 + cases[i / 2].sent);
    }
}

RUN(T(control_frames_of_every_size), T(pings_are_answered_with_their_payload),
    T(other_events_have_no_answer), T(a_close_is_answered_with_its_code),
    T(nothing_counts_after_the_peers_close),
    T(after_our_close_only_the_peers_counts), T(both_ends_close_at_once),
    T(one_end_closes), T(reasons_fit_the_frame))
