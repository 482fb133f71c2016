/* What goes out to a client: whole messages in order, gathered where they can
 * be, queued where they must, from the handlers and from other threads. */

#include "scarce_buffers.h"

#include "odd_transport.h"

enum { MANY = 200 * 1024 };

/* ---- messages ---------------------------------------------------------- */

BOTH_KINDS(messages_survive_a_transport_that_stutters)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_open = stutter_writes;
    fixture.options.high_water = 1 << 20;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    echo_all_sizes(fd);
    for (int i = 0; i < 500; i++) {
        put_frame(fd, BINARY, pattern, (size_t)(i * i % 3001));
    }
    for (int i = 0; i < 500; i++) {
        expect_frame(fd, BINARY, pattern, (size_t)(i * i % 3001));
    }
    close_politely(fd);
    fixture_end(&fixture);
}

/* Answers "12" with what stands in `pattern`, in fragments of 12 bytes. */
static void
answer_in_fragments(struct fixture *fixture, struct tws_client *client,
                    const struct tws_event *event)
{
    struct tws_error err;
    char digits[16] = "";
    (void)fixture;
    memcpy(digits, event->data, event->length);
    struct tws_span payload = {.data = pattern, .length = 100};
    CHECK_INT(tws_client_send(client, TWS_OPCODE_TEXT, payload,
                              (size_t)atoi(digits), NULL, &err),
              TWS_OK);
}

BOTH_KINDS(a_message_leaves_in_fragments)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = answer_in_fragments;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    for (size_t fragment = 0; fragment <= 102; fragment++) {
        size_t most = fragment == 0 || fragment > 100 ? 100 : fragment;
        size_t done = 0;
        char text[16];
        snprintf(text, sizeof(text), "%zu", fragment);
        put_text(fd, text);
        while (done < 100 && harness_failures == 0) {
            size_t part = 100 - done < most ? 100 - done : most;
            unsigned first =
                done == 0 ? TWS_OPCODE_TEXT : TWS_OPCODE_CONTINUATION;
            if (done + part == 100) {
                first |= TWS_FIN;
            }
            expect_frame(fd, first, pattern + done, part);
            done += part;
        }
    }
    close_politely(fd);
    fixture_end(&fixture);
}

static void
send_nothing(struct fixture *fixture, struct tws_client *client)
{
    struct tws_error err;
    (void)fixture;
    CHECK_INT(tws_client_send(client, TWS_OPCODE_TEXT, (struct tws_span){0}, 0,
                              NULL, &err),
              TWS_OK);
    CHECK_INT(tws_client_send(client, TWS_OPCODE_BINARY, (struct tws_span){0},
                              5, NULL, &err),
              TWS_OK);
    CHECK_INT(tws_client_send_packed(client, (struct tws_span){0},
                                     TWS_STANDS_ALONE, 0, 0, NULL, &err),
              TWS_OK);
}

BOTH_KINDS(an_empty_message_needs_no_memory_of_its_own)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_open = send_nothing;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    expect_frame(fd, TEXT, "", 0);
    expect_frame(fd, BINARY, "", 0);
    close_politely(fd);
    fixture_end(&fixture);
}

static const size_t short_lengths[] = {0,   1,    125,   126,
                                       127, 2048, 16383, 16384};

/* In its handler, with `out` there from a message before. */
static void
send_shorts(struct fixture *fixture, struct tws_client *client,
            const struct tws_event *event)
{
    struct tws_error err;
    struct tws_span payload = {.data = pattern, .length = 16385};
    (void)fixture;
    (void)event;
    CHECK_INT(send_text(client, "first"), TWS_OK);
    CHECK_INT(tws_buffer_reserve(&client->worker->out, 64 * 1024,
                                 &(uint8_t *){NULL}),
              TWS_OK);
    CHECK(!tws_client_send_short(client, TWS_OPCODE_BINARY, payload));
    for (size_t i = 0; i < TWS_ARRAY_SIZE(short_lengths); i++) {
        payload.length = short_lengths[i];
        CHECK(tws_client_send_short(client, TWS_OPCODE_BINARY, payload));
    }
    uint64_t accepted = client->accepted;
    CHECK_INT(
        tws_client_begin_stream(client, fixture, TWS_COMPRESS_AUTO, &err),
        TWS_OK);
    CHECK(!tws_client_send_short(client, TWS_OPCODE_TEXT, payload));
    tws_client_end_stream(client, fixture);
    client->write_failed = true;
    CHECK(!tws_client_send_short(client, TWS_OPCODE_TEXT, payload));
    client->write_failed = false;
    CHECK_INT(client->accepted, accepted);
    CHECK_INT(tws_client_close(client, 4000, TWS_SPAN("over"), TWS_ENDED_BY_US,
                               &err),
              TWS_OK);
    CHECK(!tws_client_send_short(client, TWS_OPCODE_TEXT, payload));
}

BOTH_KINDS(short_messages_leave_as_all_others_do)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = send_shorts;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "go");
    expect_text(fd, "first");
    for (size_t i = 0; i < TWS_ARRAY_SIZE(short_lengths); i++) {
        expect_frame(fd, BINARY, pattern, short_lengths[i]);
    }
    expect_close(fd, 4000);
    put_close(fd, 4000);
    CHECK(read_to_end(fd));
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

/* ---- corking ----------------------------------------------------------- */

BOTH_KINDS(replies_to_what_came_together_leave_together)
{
    enum { BATCH = 1000 };
    uint8_t bytes[BATCH * (WIRE_HEADER_MAX + 5)];
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_open = count_calls;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 1);
    size_t length = 0;
    for (int i = 0; i < BATCH; i++) {
        length += write_frame(bytes + length, TEXT, "hello", 5);
    }
    give(fd, bytes, length);
    for (int i = 0; i < BATCH; i++) {
        expect_text(fd, "hello");
    }
    CHECK(reads <= 10);
    /* Where serving them takes long, others have their turn in between. */
    CHECK(writes <= reads + BATCH / 50);
    CHECK(writes >= 1);
    close_politely(fd);
    fixture_end(&fixture);
}

static void
send_three(struct fixture *fixture, struct tws_client *client,
           const struct tws_event *event)
{
    struct tws_error err;
    (void)fixture;
    (void)event;
    struct tws_span large = {.data = pattern, .length = 100000};
    CHECK_INT(send_text(client, "before"), TWS_OK);
    CHECK_INT(tws_client_queued(client), 8);
    CHECK_INT(tws_client_send(client, TWS_OPCODE_BINARY, large, 0, NULL, &err),
              TWS_OK);
    CHECK_INT(send_text(client, "behind"), TWS_OK);
    CHECK(tws_client_queued(client) >= 8);
    tws_client_flush(client);
    CHECK_INT(tws_client_queued(client), 0);
    CHECK_INT(send_text(client, "last"), TWS_OK);
}

BOTH_KINDS(small_and_large_messages_keep_their_order)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_open = count_calls;
    fixture.on_message = send_three;
    fixture.send_room = 1 << 20;
    fixture_start(&fixture);
    int fd = connect_small(&fixture, 1 << 20);
    put_text(fd, "go");
    expect_text(fd, "before");
    expect_frame(fd, BINARY, pattern, 100000);
    expect_text(fd, "behind");
    expect_text(fd, "last");
    CHECK_INT(writes, 4);
    close_politely(fd);
    fixture_end(&fixture);
}

static void
send_thousands(struct fixture *fixture, struct tws_client *client,
               const struct tws_event *event)
{
    struct tws_error err;
    (void)fixture;
    (void)event;
    for (int i = 0; i < 2000; i++) {
        struct tws_span payload = {.data = pattern,
                                   .length = (size_t)(i % 300)};
        CHECK_INT(
            tws_client_send(client, TWS_OPCODE_TEXT, payload, 0, NULL, &err),
            TWS_OK);
        CHECK(tws_buffer_length(&client->cork->out) <= 160 * 1024);
    }
}

BOTH_KINDS(what_is_gathered_is_bounded)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = send_thousands;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "go");
    for (int i = 0; i < 2000; i++) {
        expect_frame(fd, TEXT, pattern, (size_t)(i % 300));
    }
    close_politely(fd);
    fixture_end(&fixture);
}

/* ---- writing fails ----------------------------------------------------- */

static void
fail_to_write(struct fixture *fixture, struct tws_client *client,
              const struct tws_event *event)
{
    (void)fixture;
    write_errno = is_text(event, "fail") ? EIO : 0;
    CHECK_INT(send_text(client, "reply"), TWS_OK);
}

BOTH_KINDS(a_failed_write_ends_the_connection)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_open = count_calls;
    fixture.on_message = fail_to_write;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "fine");
    expect_text(fd, "reply");
    put_text(fd, "fail");
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1006);
    (void)read_to_end(fd);
    CHECK_INT(close(fd), 0);
    fixture_end(&fixture);
}

/* ---- memory runs out --------------------------------------------------- */

static void
send_without_memory(struct fixture *fixture, struct tws_client *client,
                    const struct tws_event *event)
{
    struct tws_error err;
    (void)fixture;
    (void)event;
    struct tws_span payload = {.data = pattern, .length = 10000};
    tws_buffer_release(&client->cork->out); /* it may have room from before */
    allocations_left = 0;
    CHECK_INT(tws_client_send(client, TWS_OPCODE_TEXT, payload, 0, NULL, &err),
              TWS_NOMEM);
    allocations_left = -1;
    CHECK_INT(send_text(client, "small"), TWS_OK);
}

BOTH_KINDS(a_message_that_finds_no_memory_harms_no_other)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = send_without_memory;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "go");
    expect_text(fd, "small");
    close_politely(fd);
    fixture_end(&fixture);
}

/* The first fragments went, the others can't: no message may follow. */
static void
break_in_fragments(struct fixture *fixture, struct tws_client *client,
                   const struct tws_event *event)
{
    struct tws_error err;
    (void)fixture;
    (void)event;
    struct tws_span payload = {.data = pattern, .length = 50000};
    tws_buffer_release(&client->cork->out);
    allocations_left = 2;
    CHECK_INT(
        tws_client_send(client, TWS_OPCODE_TEXT, payload, 1000, NULL, &err),
        TWS_NOMEM);
    allocations_left = -1;
    (void)send_text(client, "what follows");
}

BOTH_KINDS(half_a_message_is_not_followed_by_another)
{
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.on_message = break_in_fragments;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "go");
    struct wire_frame frame;
    bool first = true;
    while (take_frame(fd, &frame)) {
        CHECK_INT(frame.first,
                  first ? TWS_OPCODE_TEXT : TWS_OPCODE_CONTINUATION);
        first = false;
        free(frame.data);
    }
    CHECK_INT(close(fd), 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, 1006);
    fixture_end(&fixture);
}

/* ---- another thread sends while a handler runs ------------------------- */

static void
block_in_handler(struct fixture *fixture, struct tws_client *client,
                 const struct tws_event *event)
{
    (void)event;
    CHECK_INT(send_text(client, "corked"), TWS_OK);
    CHECK_INT(tws_client_queued(client), 8); /* until the handler is done */
    fixture_block(fixture, fixture->context);
    CHECK_INT(send_text(client, "corked again"), TWS_OK);
}

/* The handler keeps the role of the driver: there is nobody to take it. */
BOTH_KINDS(another_thread_s_message_does_not_wait_for_the_handler)
{
    atomic_bool go = false;
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.hold = true;
    fixture.context = &go;
    fixture.on_message = block_in_handler;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    put_text(fd, "block");
    EVENTUALLY(fixture.opened == 1 && tws_client_queued(fixture.held) == 8);
    CHECK_INT(send_text(fixture.held, "at once"), TWS_OK);
    expect_text(fd, "corked"); /* what came before goes first */
    expect_text(fd, "at once");
    CHECK_INT(send_pattern(fixture.held, MANY), TWS_OK);
    expect_frame(fd, TEXT, pattern, MANY);
    CHECK_INT(fixture.messages, 0);
    go = true;
    expect_text(fd, "corked again");
    close_politely(fd);
    fixture_end(&fixture);
}

/* ---- marks ------------------------------------------------------------- */

enum { HIGH = 5000, LOW = 2000, FRAME = 1004 };

BOTH_KINDS(the_queue_is_long_from_one_mark_to_the_other)
{
    static const size_t lengths[] = {
        FRAME - 4, FRAME - 4, FRAME - 4, FRAME - 4, HIGH - 4 * FRAME - 4, 0};
    struct fixture fixture;
    fixture_init(&fixture, kind);
    fixture.options.high_water = HIGH;
    fixture.options.low_water = LOW;
    int fd = start_held_back(&fixture);
    struct tws_client *client = fixture.held;
    for (int round = 0; round < 6; round += 2) {
        for (int i = 0; i < 5; i++) {
            CHECK_INT(send_pattern(client, lengths[i]), TWS_OK);
            CHECK(!client->congested);
        }
        CHECK_INT(tws_client_queued(client), HIGH); /* at it, not above */
        CHECK_INT(send_pattern(client, lengths[5]), TWS_OK);
        CHECK(client->congested);
        put_text(fd, "this finds it so");
        EVENTUALLY(client->paused);
        put_text(fd, "and this has to wait");
        let_leave(client, HIGH + 2 - LOW - 1);
        pause_for(10 * MILLISECOND);
        CHECK(client->congested && client->paused);
        CHECK_INT(fixture.messages, round + 1);
        let_leave(client, 1);
        EVENTUALLY(fixture.messages == round + 2);
        CHECK(!client->congested && !client->paused);
        allowance = SIZE_MAX;
        for (int i = 0; i < 6; i++) {
            expect_frame(fd, TEXT, pattern, lengths[i]);
        }
        EVENTUALLY(tws_client_queued(client) == 0);
        allowance = 0;
    }
    allowance = SIZE_MAX;
    close_politely(fd);
    fixture_end(&fixture);
}

/* ---- many threads ------------------------------------------------------ */

enum { SENDERS = 8, SENT = 1600 };

struct sender {
    pthread_t thread;
    struct tws_client *client;
    unsigned number;
};

/* "thread sequence " and then letters, of a length that both ends know. */
static size_t
stress_length(unsigned number, unsigned sequence)
{
    static const size_t lengths[] = {16,   40,   125,  126,   127,  200,
                                     1000, 3000, 5000, 17000, 40000};
    size_t length =
        lengths[(number * 7 + sequence * 3) % TWS_ARRAY_SIZE(lengths)];
    /* Large ones are rare, to keep the whole small. */
    return length > 1000 && sequence % 8 != 0 ? length % 1000 + 16 : length;
}

static void *
sender_main(void *argument)
{
    struct sender *sender = argument;
    char *payload = malloc(40000 + 1);
    must(payload != NULL, "malloc");
    for (unsigned i = 0; i < SENT; i++) {
        struct tws_error err;
        size_t length = stress_length(sender->number, i);
        memcpy(payload, pattern, length);
        int at = snprintf(payload, 17, "%07u %07u", sender->number, i);
        payload[at] = ' ';
        size_t fragment = i % 5 == 0 ? length / 3 + 1 : 0;
        struct tws_span span = {.data = payload, .length = length};
        enum tws_status status = tws_client_send(
            sender->client, TWS_OPCODE_TEXT, span, fragment, NULL, &err);
        if (status != TWS_OK) {
            CHECK_INT(status, TWS_OK);
            break;
        }
    }
    free(payload);
    return NULL;
}

/* Joins fragments: a message of the server, whole. */
static bool
take_message(int fd, char *out, size_t *length)
{
    struct wire_frame frame;
    bool first = true;
    *length = 0;
    do {
        if (!take_frame(fd, &frame)) {
            return false;
        }
        CHECK_INT(frame.first & 0x0f,
                  first ? TWS_OPCODE_TEXT : TWS_OPCODE_CONTINUATION);
        must(*length + frame.length <= 40000, "length of a message");
        memcpy(out + *length, frame.data, frame.length);
        *length += frame.length;
        free(frame.data);
        first = false;
    } while ((frame.first & TWS_FIN) == 0);
    return true;
}

static void
check_stress_message(const char *message, size_t length, unsigned *sequence)
{
    char head[17] = "";
    unsigned number = 0;
    unsigned got = 0;
    memcpy(head, message, length < 16 ? length : 16);
    if (sscanf(head, "%u %u", &number, &got) != 2 || number > SENDERS) {
        CHECK_INT(number, SENDERS + 1); /* not one of ours */
        return;
    }
    CHECK_INT(got, sequence[number]);
    sequence[number] = got + 1;
    CHECK_INT(length, stress_length(number, got));
    CHECK(memcmp(message + 16, pattern + 16, length - 16) == 0);
}

/* The peer's own messages (number SENDERS) are echoed between them. */
static void *
peer_sender_main(void *argument)
{
    int *fd = argument;
    char payload[40000 + 1];
    for (unsigned i = 0; i < SENT; i++) {
        size_t length = stress_length(SENDERS, i);
        memcpy(payload, pattern, length);
        int at = snprintf(payload, 17, "%07u %07u", (unsigned)SENDERS, i);
        payload[at] = ' ';
        put_frame(*fd, TEXT, payload, length);
    }
    return NULL;
}

static void
stress(enum tws_poller_kind kind,
       void (*on_open)(struct fixture *, struct tws_client *))
{
    struct fixture fixture;
    struct sender senders[SENDERS];
    unsigned sequence[SENDERS + 1] = {0};
    pthread_t peer;
    fixture_init(&fixture, kind);
    fixture.hold = true;
    fixture.on_open = on_open;
    fixture_start(&fixture);
    int fd = connect_client(&fixture);
    EVENTUALLY(fixture.opened == 1);
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.client = fixture.held, .number = i};
        must(pthread_create(&senders[i].thread, NULL, sender_main, &senders[i])
                 == 0,
             "pthread_create");
    }
    must(pthread_create(&peer, NULL, peer_sender_main, &fd) == 0,
         "pthread_create");
    char *message = malloc(40000);
    must(message != NULL, "malloc");
    for (int i = 0; i < (SENDERS + 1) * SENT; i++) {
        size_t length;
        if (!take_message(fd, message, &length)) {
            CHECK_INT(i, (SENDERS + 1) * SENT); /* all should come */
            break;
        }
        check_stress_message(message, length, sequence);
        not_too_many();
    }
    free(message);
    for (unsigned i = 0; i < SENDERS; i++) {
        CHECK_INT(pthread_join(senders[i].thread, NULL), 0);
    }
    CHECK_INT(pthread_join(peer, NULL), 0);
    CHECK_INT(tws_client_queued(fixture.held), 0);
    close_politely(fd);
    fixture_end(&fixture);
}

BOTH_KINDS(messages_of_many_threads_stay_whole)
{
    stress(kind, NULL);
}

BOTH_KINDS(they_do_where_the_transport_stutters)
{
    stress(kind, stutter_writes);
}

RUN(T(messages_survive_a_transport_that_stutters),
    T(a_message_leaves_in_fragments),
    T(an_empty_message_needs_no_memory_of_its_own),
    T(short_messages_leave_as_all_others_do),
    T(replies_to_what_came_together_leave_together),
    T(small_and_large_messages_keep_their_order),
    T(what_is_gathered_is_bounded), T(a_failed_write_ends_the_connection),
    T(a_message_that_finds_no_memory_harms_no_other),
    T(half_a_message_is_not_followed_by_another),
    T(another_thread_s_message_does_not_wait_for_the_handler),
    T(the_queue_is_long_from_one_mark_to_the_other),
    T(messages_of_many_threads_stay_whole),
    T(they_do_where_the_transport_stutters))
