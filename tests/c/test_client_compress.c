/* Clients that have agreed on compression: what they are sent, by whom and in
 * which order, and what they send. */
#include "scarce_buffers.h"

#include "compressed_peer.h"

#include "protocol/message_stream.h"

enum { MORE = 0, LAST = TWS_FIN, LARGE = 200 * 1000, NOISE = 3000 };

static const char long_text[] =
    "a text that is longer than the threshold, and says so again: a text "
    "that is longer than the threshold";
static char noise[NOISE];
static char owner[1]; /* its address */

static void
make_noise(char *bytes, size_t length)
{
    uint32_t random = 1;
    for (size_t i = 0; i < length; i++) {
        random = random * 1664525 + 1013904223;
        bytes[i] = (char)(random >> 24);
    }
}

static struct tws_span
span(const char *text)
{
    return (struct tws_span){.data = text, .length = strlen(text)};
}

static struct peer
start(struct fixture *fixture)
{
    fixture_init(fixture, TWS_POLLER_BEST);
    fixture->hold = true;
    fixture->on_open = agree;
    fixture_start(fixture);
    int fd = connect_client(fixture);
    EVENTUALLY(fixture->opened == 1);
    return peer_of(fd);
}

static enum tws_status
send_as(struct tws_client *client, struct tws_span payload, size_t fragment,
        enum tws_compress compress)
{
    struct tws_error err;
    struct tws_client_message message = {
        .payload = payload,
        .fragment = fragment,
        .opcode = TWS_OPCODE_TEXT,
        .compress = (uint8_t)compress,
    };
    return tws_client_send_message(client, &message, &err);
}

EACH_TERMS(echoes)
{
    struct fixture fixture;
    struct peer peer = start(&fixture);
    (void)per_frame;
    (void)takeover;
    for (int i = 0; i < 3; i++) {
        peer_put_text(&peer, "short");
        peer_expect_text(&peer, "short", false);
        peer_put_text(&peer, long_text);
        peer_expect_text(&peer, long_text, true);
        put_text(peer.fd, long_text);
        peer_expect_text(&peer, long_text, true);
        peer_put(&peer, BINARY, pattern, LARGE);
        peer_expect(&peer, TWS_OPCODE_BINARY, pattern, LARGE, 1, 1);
        peer_put_text(&peer, "");
        peer_expect_text(&peer, "", false);
        put_frame(peer.fd, PING, "p", 1);
        expect_frame(peer.fd, PONG, "p", 1);
    }
    peer_close(&peer);
    fixture_end(&fixture);
}

/* What one message teaches makes the next one small, or does not. */
EACH_TERMS(contexts_are_taken_over)
{
    struct fixture fixture;
    struct peer peer = start(&fixture);
    struct wire_frame frames[2];
    (void)per_frame;
    CHECK_INT(send_text(fixture.held, long_text), TWS_OK);
    CHECK_INT(send_text(fixture.held, long_text), TWS_OK);
    CHECK(take_frame(peer.fd, &frames[0]) && take_frame(peer.fd, &frames[1]));
    CHECK(takeover ? frames[1].length * 2 < frames[0].length
                   : frames[1].length == frames[0].length);
    pthread_mutex_lock(&fixture.held->compression->lock);
    CHECK((fixture.held->compression->deflater != NULL) == takeover);
    pthread_mutex_unlock(&fixture.held->compression->lock);
    free(frames[0].data);
    free(frames[1].data);
    peer_close(&peer);
    fixture_end(&fixture);
}

EACH_TERMS(the_program_decides)
{
    struct fixture fixture;
    struct peer peer = start(&fixture);
    struct tws_client *client = fixture.held;
    (void)per_frame;
    (void)takeover;
    CHECK_INT(send_as(client, span("tiny"), 0, TWS_COMPRESS_ALWAYS), TWS_OK);
    CHECK_INT(send_as(client, span(long_text), 0, TWS_COMPRESS_NEVER), TWS_OK);
    CHECK_INT(send_as(client, span("tiny"), 0, TWS_COMPRESS_AUTO), TWS_OK);
    CHECK_INT(send_as(client, span(long_text), 0, TWS_COMPRESS_AUTO), TWS_OK);
    CHECK_INT(send_as(client, span(""), 0, TWS_COMPRESS_ALWAYS), TWS_OK);
    peer_expect_text(&peer, "tiny", true);
    peer_expect_text(&peer, long_text, false);
    peer_expect_text(&peer, "tiny", false);
    peer_expect_text(&peer, long_text, true);
    peer_expect_text(&peer, "", true);
    struct tws_stats stats;
    tws_server_stats(fixture.server, &stats);
    CHECK_INT(stats.messages_out, 5);
    CHECK_INT(stats.bytes_out, 2 * 4 + 2 * strlen(long_text));
    peer_close(&peer);
    fixture_end(&fixture);
}

TEST(exactly_the_threshold)
{
    struct fixture fixture;
    agree_on(false, true);
    struct peer peer = start(&fixture);
    CHECK_INT(send_pattern(fixture.held, THRESHOLD), TWS_OK);
    CHECK_INT(send_pattern(fixture.held, THRESHOLD - 1), TWS_OK);
    peer_expect(&peer, TWS_OPCODE_TEXT, pattern, THRESHOLD, 1, 1);
    peer_expect(&peer, TWS_OPCODE_TEXT, pattern, THRESHOLD - 1, 1, 0);
    peer_close(&peer);
    fixture_end(&fixture);
    agree_on_nothing();
}

/* What would grow is sent as it is, but where it is part of a history. */
EACH_TERMS(noise_is_not_compressed)
{
    struct fixture fixture;
    struct peer peer = start(&fixture);
    struct tws_span span_of_noise = {.data = noise, .length = NOISE};
    make_noise(noise, NOISE);
    (void)per_frame;
    CHECK_INT(send_as(fixture.held, span_of_noise, 0, TWS_COMPRESS_AUTO),
              TWS_OK);
    CHECK_INT(send_as(fixture.held, span_of_noise, 1000, TWS_COMPRESS_AUTO),
              TWS_OK);
    CHECK_INT(send_as(fixture.held, span_of_noise, 0, TWS_COMPRESS_ALWAYS),
              TWS_OK);
    CHECK_INT(send_text(fixture.held, long_text), TWS_OK);
    peer_expect(&peer, TWS_OPCODE_TEXT, noise, NOISE, 1, takeover);
    struct whole whole;
    CHECK(peer_take(&peer, &whole));
    CHECK_INT(tws_buffer_length(&whole.data), NOISE);
    CHECK_INT(whole.compressed, takeover ? whole.frames : 0);
    tws_buffer_release(&whole.data);
    peer_expect(&peer, TWS_OPCODE_TEXT, noise, NOISE, 1, 1);
    peer_expect_text(&peer, long_text, true);
    peer_close(&peer);
    fixture_end(&fixture);
}

/* The compressed form is cut, or each part is compressed. */
EACH_TERMS(fragments)
{
    struct fixture fixture;
    struct peer peer = start(&fixture);
    struct tws_span payload = {.data = pattern, .length = 10000};
    for (size_t fragment = 7; fragment < 20000; fragment = fragment * 3 + 1) {
        struct whole whole;
        CHECK_INT(
            send_as(fixture.held, payload, fragment, TWS_COMPRESS_ALWAYS),
            TWS_OK);
        CHECK(peer_take(&peer, &whole));
        CHECK_INT(tws_buffer_length(&whole.data), 10000);
        CHECK(memcmp(tws_buffer_data(&whole.data), pattern, 10000) == 0);
        CHECK_INT(whole.first | TWS_FIN, TEXT | TWS_RSV1);
        if (per_frame) {
            CHECK_INT(whole.frames, (10000 + fragment - 1) / fragment);
        }
        CHECK_INT(whole.compressed, whole.frames);
        tws_buffer_release(&whole.data);
    }
    (void)takeover;
    peer_close(&peer);
    fixture_end(&fixture);
}

/* What grows beyond a fragment's size: per frame it is one frame still, as
 * half of what was compressed at a time means nothing. */
EACH_TERMS(a_fragment_that_grows)
{
    struct fixture fixture;
    struct peer peer = start(&fixture);
    static const char bytes[] = "abcdefgh"; /* a byte or two more */
    for (size_t length = 1; length < sizeof(bytes); length++) {
        struct whole whole;
        struct tws_span payload = {.data = bytes, .length = length};
        CHECK_INT(send_as(fixture.held, payload, length, TWS_COMPRESS_ALWAYS),
                  TWS_OK);
        CHECK(peer_take(&peer, &whole));
        CHECK_INT(tws_buffer_length(&whole.data), length);
        CHECK(memcmp(tws_buffer_data(&whole.data), bytes, length) == 0);
        if (per_frame) {
            CHECK_INT(whole.frames, 1);
        }
        tws_buffer_release(&whole.data);
    }
    (void)takeover;
    peer_close(&peer);
    fixture_end(&fixture);
}

/* ---- streams ------------------------------------------------------------ */

static enum tws_status
send_piece(struct tws_client *client, unsigned first, const char *one,
           const char *two)
{
    struct tws_error err;
    struct tws_span parts[2] = {span(one), span(two)};
    return tws_client_send_fragment(client, first & 0x0f, (first & LAST) != 0,
                                    parts, &err);
}

static enum tws_status
begin_stream(struct tws_client *client, enum tws_compress compress)
{
    struct tws_error err;
    return tws_client_begin_stream(client, owner, compress, &err);
}

/* What is compressed while a stream is sent follows it, and what follows that
 * refers to it; the stream itself refers to nothing. */
EACH_TERMS(streams)
{
    struct fixture fixture;
    struct peer peer = start(&fixture);
    struct tws_client *client = fixture.held;
    for (int i = 0; i < 3; i++) {
        unsigned marked = i == 1 ? 0 : 4;
        CHECK_INT(send_text(client, long_text), TWS_OK);
        CHECK_INT(begin_stream(client, i == 1 ? TWS_COMPRESS_NEVER
                                              : TWS_COMPRESS_AUTO),
                  TWS_OK);
        CHECK_INT(begin_stream(client, TWS_COMPRESS_AUTO), TWS_AGAIN);
        CHECK_INT(send_piece(client, TWS_OPCODE_TEXT, long_text, ""), TWS_OK);
        CHECK_INT(send_text(client, long_text), TWS_OK);
        CHECK_INT(send_piece(client, MORE, "and ", long_text), TWS_OK);
        CHECK_INT(send_as(client, span(long_text), 20, TWS_COMPRESS_ALWAYS),
                  TWS_OK);
        CHECK_INT(send_as(client, span("plain"), 2, TWS_COMPRESS_NEVER),
                  TWS_OK);
        CHECK_INT(send_piece(client, MORE, "", ""), TWS_OK);
        put_frame(peer.fd, PING, "p", 1);
        peer_expect_text(&peer, long_text, true);
        EVENTUALLY(fixture.pings == i + 1);
        CHECK_INT(send_piece(client, LAST, "", i == 0 ? "" : "end"), TWS_OK);
        tws_client_end_stream(client, owner);
        struct whole whole;
        CHECK(peer_take(&peer, &whole));
        CHECK_INT(tws_buffer_length(&whole.data),
                  2 * strlen(long_text) + 4 + (i == 0 ? 0 : 3));
        CHECK_INT(whole.frames, 4);
        CHECK_INT(whole.compressed, marked);
        CHECK_INT(whole.controls, 1);
        tws_buffer_release(&whole.data);
        peer_expect_text(&peer, long_text, true);
        CHECK(peer_take(&peer, &whole));
        CHECK_INT(whole.compressed, whole.frames);
        CHECK_INT(tws_buffer_length(&whole.data), strlen(long_text));
        tws_buffer_release(&whole.data);
        peer_expect(&peer, TWS_OPCODE_TEXT, "plain", 5, 3, 0);
        CHECK_INT(send_text(client, long_text), TWS_OK);
        peer_expect_text(&peer, long_text, true);
    }
    (void)per_frame;
    (void)takeover;
    peer_close(&peer);
    fixture_end(&fixture);
}

EACH_TERMS(a_stream_that_is_dropped)
{
    struct fixture fixture;
    struct peer peer = start(&fixture);
    struct tws_client *client = fixture.held;
    CHECK_INT(send_text(client, long_text), TWS_OK);
    CHECK_INT(begin_stream(client, TWS_COMPRESS_AUTO), TWS_OK);
    tws_client_end_stream(client, owner);
    CHECK_INT(send_text(client, long_text), TWS_OK);
    peer_expect_text(&peer, long_text, true);
    peer_expect_text(&peer, long_text, true);
    CHECK_INT(begin_stream(client, TWS_COMPRESS_AUTO), TWS_OK);
    CHECK_INT(begin_close(client, 1000, ""), TWS_OK);
    CHECK_INT(send_piece(client, TWS_OPCODE_TEXT, "x", "y"), TWS_EOF);
    expect_close(peer.fd, 1000);
    put_close(peer.fd, 1000);
    CHECK(read_to_end(peer.fd));
    CHECK_INT(close(peer.fd), 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(begin_stream(client, TWS_COMPRESS_AUTO), TWS_EOF);
    peer_free(&peer);
    fixture_end(&fixture); /* with a stream that nobody has ended */
    (void)per_frame;
    (void)takeover;
}

/* ---- one form for several ---------------------------------------------- */

EACH_TERMS(shared_forms)
{
    struct fixture fixture;
    struct peer peer = start(&fixture);
    struct tws_client *client = fixture.held;
    struct tws_buffer frame = TWS_BUFFER_EMPTY;
    struct tws_error err;
    CHECK_INT(tws_client_pack_shared(client, TWS_OPCODE_TEXT, span(long_text),
                                     &frame, &err),
              TWS_OK);
    struct tws_span bytes = {.data = (const char *)tws_buffer_data(&frame),
                             .length = tws_buffer_length(&frame)};
    for (int i = 0; i < 3; i++) {
        /* Between messages that refer to each other. */
        CHECK_INT(send_text(client, long_text), TWS_OK);
        CHECK_INT(send_pattern(client, 5000), TWS_OK);
        CHECK_INT(tws_client_send_shared(client, bytes, strlen(long_text),
                                         NULL, &err),
                  TWS_OK);
        CHECK_INT(send_pattern(client, 5000), TWS_OK);
        peer_expect_text(&peer, long_text, true);
        peer_expect(&peer, TWS_OPCODE_TEXT, pattern, 5000, 1, 1);
        peer_expect_text(&peer, long_text, true);
        peer_expect(&peer, TWS_OPCODE_TEXT, pattern, 5000, 1, 1);
    }
    /* Nobody waits for who compresses for this client. */
    pthread_mutex_lock(&client->compression->lock);
    CHECK_INT(
        tws_client_send_shared(client, bytes, strlen(long_text), NULL, &err),
        takeover ? TWS_AGAIN : TWS_OK);
    struct tws_client_message message = {.payload = span(long_text),
                                         .opcode = TWS_OPCODE_TEXT,
                                         .at_once = true};
    CHECK_INT(tws_client_send_message(client, &message, &err), TWS_AGAIN);
    CHECK_INT(send_text(client, "short"), TWS_OK);
    pthread_mutex_unlock(&client->compression->lock);
    CHECK_INT(tws_client_send_message(client, &message, &err), TWS_OK);
    if (!takeover) {
        peer_expect_text(&peer, long_text, true);
    }
    peer_expect_text(&peer, "short", false);
    peer_expect_text(&peer, long_text, true);
    struct tws_stats stats;
    tws_server_stats(fixture.server, &stats);
    CHECK_INT(stats.messages_out, 12 + 2 + !takeover);
    (void)per_frame;
    tws_buffer_release(&frame);
    peer_close(&peer);
    fixture_end(&fixture);
}

/* ---- several threads ---------------------------------------------------- */

enum { SENDERS = 4, SENT = 150 };

struct sender {
    struct tws_client *client;
    unsigned number;
    pthread_t thread;
};

static void *
sender_main(void *argument)
{
    struct sender *sender = argument;
    struct tws_error err;
    struct tws_buffer frame = TWS_BUFFER_EMPTY;
    for (unsigned i = 0; i < SENT; i++) {
        char text[600];
        size_t length = 20 + i * 37 % 500;
        memcpy(text, pattern, length);
        int head = snprintf(text, 16, "%02u %04u", sender->number, i);
        text[head] = ' ';
        struct tws_span payload = {.data = text, .length = length};
        enum tws_status status;
        if (i % 7 == 3) {
            tws_buffer_consume(&frame, tws_buffer_length(&frame));
            status = tws_client_pack_shared(sender->client, TWS_OPCODE_TEXT,
                                            payload, &frame, &err);
            CHECK_INT(status, TWS_OK);
            struct tws_span bytes = {.data =
                                         (const char *)tws_buffer_data(&frame),
                                     .length = tws_buffer_length(&frame)};
            status = tws_client_send_shared(sender->client, bytes, length,
                                            NULL, &err);
            if (status == TWS_AGAIN) {
                status =
                    send_as(sender->client, payload, 0, TWS_COMPRESS_NEVER);
            }
        }
        else {
            status =
                send_as(sender->client, payload, i % 5 == 0 ? 50 : 0,
                        i % 4 == 0 ? TWS_COMPRESS_ALWAYS : TWS_COMPRESS_AUTO);
        }
        CHECK_INT(status, TWS_OK);
    }
    tws_buffer_release(&frame);
    return NULL;
}

/* Each of them may refer to what another one has sent. */
EACH_TERMS(several_threads_send)
{
    struct fixture fixture;
    struct sender senders[SENDERS];
    unsigned next[SENDERS] = {0};
    struct peer peer = start(&fixture);
    for (unsigned i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.client = fixture.held, .number = i};
        must(pthread_create(&senders[i].thread, NULL, sender_main, &senders[i])
                 == 0,
             "pthread_create");
    }
    for (unsigned i = 0; i < SENDERS * SENT; i++) {
        struct whole whole;
        unsigned number = SENDERS;
        unsigned count;
        bool got = peer_take(&peer, &whole);
        CHECK(got);
        if (got) {
            const char *data = (const char *)tws_buffer_data(&whole.data);
            size_t length = tws_buffer_length(&whole.data);
            char head[8] = "";
            CHECK(length >= sizeof(head));
            memcpy(head, data, sizeof(head) - 1);
            CHECK(sscanf(head, "%2u %4u", &number, &count) == 2);
            must(number < SENDERS, "the number of a sender");
            CHECK_INT(count, next[number]++);
            CHECK_INT(length, 20 + count * 37 % 500);
            CHECK(memcmp(data + 8, pattern + 8, length - 8) == 0);
        }
        tws_buffer_release(&whole.data);
        if (!got) {
            break;
        }
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        CHECK_INT(pthread_join(senders[i].thread, NULL), 0);
    }
    CHECK(peer.compressed > SENDERS * SENT / 2);
    (void)per_frame;
    (void)takeover;
    peer_close(&peer);
    fixture_end(&fixture);
}

/* ---- the end ------------------------------------------------------------ */

EACH_TERMS(nothing_is_sent_after_the_end)
{
    struct fixture fixture;
    struct peer peer = start(&fixture);
    struct tws_client *client = fixture.held;
    struct tws_error err;
    CHECK_INT(send_text(client, long_text), TWS_OK);
    peer_expect_text(&peer, long_text, true);
    peer_close(&peer);
    tws_server_stop(fixture.server, 1000, TWS_SPAN(""), SECOND);
    fixture_join(&fixture);
    /* Who holds it does not hold its contexts. */
    CHECK_INT(client->state, TWS_CLIENT_GONE);
    CHECK(client->compression->deflater == NULL);
    CHECK(client->compression->inflater == NULL);
    CHECK_INT(send_text(client, long_text), TWS_EOF);
    CHECK_INT(
        tws_client_send_shared(client, TWS_SPAN("\x81\x01x"), 1, NULL, &err),
        TWS_EOF);
    (void)per_frame;
    (void)takeover;
    fixture_end(&fixture);
}

/* A message for which there was no memory was compressed in vain. */
EACH_TERMS(what_did_not_leave_is_forgotten)
{
    struct fixture fixture;
    struct peer peer = start(&fixture);
    const char *sent[12];
    int kept = 0;
    CHECK_INT(send_text(fixture.held, long_text), TWS_OK);
    peer_expect_text(&peer, long_text, true);
    CHECK_INT(begin_stream(fixture.held, TWS_COMPRESS_NEVER), TWS_OK);
    make_noise(noise, NOISE);
    for (int left = 0; left < 12; left++) {
        /* Each has a part in common with the one before. */
        struct tws_span part = {.data = noise + 100 * left, .length = 300};
        allocations_left = left % 6;
        enum tws_status status = send_as(fixture.held, part, left < 6 ? 0 : 50,
                                         TWS_COMPRESS_ALWAYS);
        allocations_left = -1;
        CHECK(status == TWS_OK || status == TWS_NOMEM);
        if (status == TWS_OK) {
            sent[kept++] = part.data;
        }
    }
    CHECK(kept > 0 && kept < 12);
    tws_client_end_stream(fixture.held, owner);
    for (int i = 0; i < kept; i++) {
        struct whole whole;
        CHECK(peer_take(&peer, &whole));
        CHECK_INT(tws_buffer_length(&whole.data), 300);
        CHECK(memcmp(tws_buffer_data(&whole.data), sent[i], 300) == 0);
        tws_buffer_release(&whole.data);
    }
    (void)per_frame;
    (void)takeover;
    peer_close(&peer);
    fixture_end(&fixture);
}

/* ---- receiving ---------------------------------------------------------- */

static atomic_int leaves; /* of the exclusion */
static atomic_int leaves_at_message;

static void *
counting_leave(void *context)
{
    leaves++;
    return fixture_leave(context);
}

static int
leaves_for(struct peer *peer, struct fixture *fixture, const char *data,
           size_t length)
{
    /* From message to message, as the driver counts: one is around the wait,
     * or some, where it was woken by something else. */
    int least = INT32_MAX;
    for (int i = 0; i < 10; i++) {
        int before = leaves_at_message;
        int seen = fixture->messages;
        peer_put(peer, BINARY, data, length);
        EVENTUALLY(fixture->messages == seen + 1);
        int count = leaves_at_message - before;
        least = count < least ? count : least;
    }
    return least;
}

static void
note_leaves(struct fixture *fixture, struct tws_client *client,
            const struct tws_event *event)
{
    (void)fixture;
    (void)client;
    (void)event;
    leaves_at_message = leaves;
}

TEST(much_is_inflated_without_the_exclusion)
{
    struct fixture fixture;
    static char much[60000];
    agree_on(false, true);
    fixture_init(&fixture, TWS_POLLER_BEST);
    fixture.on_open = agree;
    fixture.on_message = note_leaves;
    fixture_make(&fixture);
    fixture.server->handlers.leave = counting_leave;
    fixture_run(&fixture);
    struct peer peer = peer_of(connect_client(&fixture));
    make_noise(much, sizeof(much));
    int small = leaves_for(&peer, &fixture, much, 100);
    CHECK(leaves_for(&peer, &fixture, much, sizeof(much)) > small);
    peer_close(&peer);
    fixture_end(&fixture);
    agree_on_nothing();
}

/* "all": to the end; "some": leaves in the middle. Others are echoed. */
static void
read_chunks(struct fixture *fixture, struct tws_client *client,
            const struct tws_event *event)
{
    struct tws_event chunk = {.length = 0};
    struct tws_error err;
    size_t length = 0;
    char answer[32];
    bool all = is_text(event, "all");
    if (!all && !is_text(event, "some")) {
        (void)echo(client, event);
        return;
    }
    CHECK_INT(tws_message_stream_begin(&client->receiving->assembler,
                                       UINT64_MAX, &err),
              TWS_OK);
    while (fixture_next(fixture, client, &chunk) == TWS_OK) {
        CHECK_INT(chunk.type, TWS_EVENT_CHUNK);
        CHECK(tws_buffer_length(&client->receiving->assembler.message)
              <= TWS_CHUNK_MAX);
        CHECK(memcmp(chunk.data, pattern + length, chunk.length) == 0);
        length += chunk.length;
        if (chunk.length == 0 || !all) {
            break;
        }
        tws_message_stream_consume(&client->receiving->assembler,
                                   chunk.length);
    }
    if (all) {
        tws_message_stream_end(&client->receiving->assembler);
    }
    (void)snprintf(answer, sizeof(answer), "%s %d", all ? "all" : "some",
                   all ? (int)length : length > 0);
    CHECK_INT(send_text(client, answer), TWS_OK);
}

EACH_TERMS(a_handler_reads_a_message_in_chunks)
{
    struct fixture fixture;
    enum { WHOLE = 1000 * 1000 };
    fixture_init(&fixture, TWS_POLLER_BEST);
    fixture.options.message.size = 5000; /* not of what comes in chunks */
    fixture.on_open = agree;
    fixture.on_message = read_chunks;
    fixture_start(&fixture);
    struct peer peer = peer_of(connect_client(&fixture));
    for (int i = 0; i < 3; i++) {
        peer_put_text(&peer, "all");
        peer_put(&peer, BINARY, pattern, WHOLE);
        peer_expect_text(&peer, "all 1000000", false);
        peer_put_text(&peer, "some");
        peer_put(&peer, BINARY, pattern, WHOLE);
        peer_expect_text(&peer, "some 1", false);
        peer_put_text(&peer, long_text); /* may refer to what was skipped */
        peer_expect_text(&peer, long_text, true);
        /* In fragments, some of them behind the handler's end. */
        peer_put_text(&peer, "some");
        for (int j = 0; j < 5; j++) {
            peer_put_frame(
                &peer,
                (j == 0 ? TWS_OPCODE_BINARY : MORE) | (j == 4 ? LAST : 0),
                per_frame || j == 0, pattern, WHOLE, per_frame || j == 4);
            if (j == 0) {
                peer_expect_text(&peer, "some 1", false);
            }
        }
        peer_put_text(&peer, long_text);
        peer_expect_text(&peer, long_text, true);
    }
    (void)takeover;
    peer_close(&peer);
    fixture_end(&fixture);
}

static void
expect_failure(unsigned first, const char *data, size_t length, unsigned code)
{
    struct fixture fixture;
    struct peer peer = start(&fixture);
    put_frame(peer.fd, first | TWS_RSV1, data, length);
    expect_close(peer.fd, code);
    put_close(peer.fd, code);
    (void)read_to_end(peer.fd);
    CHECK_INT(close(peer.fd), 0);
    EVENTUALLY(fixture.closed == 1);
    CHECK_INT(fixture.last_code, code);
    peer_free(&peer);
    fixture_end(&fixture);
}

EACH_TERMS(broken_rules)
{
    struct tws_buffer bomb = TWS_BUFFER_EMPTY;
    struct tws_error err;
    static char zeros[3 << 20];
    struct tws_deflater *deflater = tws_deflater_new(&agreed_terms.out);
    struct tws_span data = {.data = zeros, .length = sizeof(zeros)};
    CHECK_INT(tws_deflater_add(deflater, data, true, &bomb, &err), TWS_OK);
    tws_deflater_free(deflater);
    expect_failure(PING, "p", 1, 1002);
    expect_failure(TEXT, "\xff\xff\xff", 3, 1007);
    expect_failure(BINARY, (const char *)tws_buffer_data(&bomb),
                   tws_buffer_length(&bomb), 1009);
    tws_buffer_release(&bomb);
    (void)per_frame;
    (void)takeover;
}

/* Looks ------------------------------------------------------------------- */

enum { ROUNDS = 200 };

static void *
send_many(void *client)
{
    size_t sent = 0;
    for (int i = 0; i < ROUNDS; i++) {
        sent += send_text(client, long_text) == TWS_OK;
    }
    return (void *)(uintptr_t)sent;
}

static bool
has_deflater(struct tws_client *client)
{
    pthread_mutex_lock(&client->compression->lock);
    bool has = client->compression->deflater != NULL;
    pthread_mutex_unlock(&client->compression->lock);
    return has;
}

/* Keepalive takes contexts, while messages come and go on two threads. */
EACH_TERMS(looks_come_in_between)
{
    struct fixture fixture;
    pthread_t thread;
    void *sent;
    fixture_init(&fixture, TWS_POLLER_BEST);
    fixture.options.ping_interval = MILLISECOND;
    fixture.options.ping_timeout = UINT64_MAX;
    fixture.hold = true;
    fixture.on_open = agree;
    fixture_start(&fixture);
    struct peer peer = peer_of(connect_client(&fixture));
    EVENTUALLY(fixture.opened == 1);
    CHECK_INT(pthread_create(&thread, NULL, send_many, fixture.held), 0);
    for (int i = 0; i < ROUNDS; i++) {
        peer_put_text(&peer, long_text);
        peer_expect_text(&peer, long_text, true);
        peer_expect_text(&peer, long_text, true);
    }
    CHECK_INT(pthread_join(thread, &sent), 0);
    CHECK_INT((uintptr_t)sent, ROUNDS);
    EVENTUALLY(!has_deflater(fixture.held));
    peer_put_text(&peer, long_text);
    peer_expect_text(&peer, long_text, true);
    (void)per_frame;
    (void)takeover;
    peer_close(&peer);
    fixture_end(&fixture);
}

/* Whoever holds a client that is over holds none of its contexts. */
EACH_TERMS(the_end_gives_contexts_back)
{
    struct fixture fixture;
    struct peer peer = start(&fixture);
    struct tws_client *client = fixture.held;
    (void)per_frame;
    for (int i = 0; i < 3; i++) {
        peer_put_text(&peer, long_text);
        peer_expect_text(&peer, long_text, true);
    }
    CHECK_INT(has_deflater(client), takeover);
    peer_close(&peer);
    EVENTUALLY(fixture.closed == 1);
    tws_client_retain(client);
    fixture_end(&fixture);
    CHECK(client->compression->deflater == NULL);
    CHECK(client->compression->inflater == NULL);
    CHECK(client->compression->in.history.bytes == NULL);
    CHECK(client->compression->out.history.bytes == NULL);
    tws_client_release(client);
}

RUN(T(echoes), T(contexts_are_taken_over), T(the_program_decides),
    T(exactly_the_threshold), T(noise_is_not_compressed), T(fragments),
    T(a_fragment_that_grows), T(streams), T(a_stream_that_is_dropped),
    T(shared_forms), T(several_threads_send), T(nothing_is_sent_after_the_end),
    T(what_did_not_leave_is_forgotten),
    T(much_is_inflated_without_the_exclusion),
    T(a_handler_reads_a_message_in_chunks), T(broken_rules),
    T(looks_come_in_between), T(the_end_gives_contexts_back))
