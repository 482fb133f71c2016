#include "net/asking.h"

#include "answer_fixture.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- both ends --- */

struct ends {
    struct tws_asking asking;
    struct tws_transport transport;
    int peer; /* -1: none any more */
    unsigned events;
    struct tws_error err;
    struct tws_http_head head;
};

static void
open_ends(struct ends *ends, const struct tws_handshake_offer *offer,
          struct tws_span initial)
{
    int fds[2];
    memset(ends, 0, sizeof(*ends));
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    ends->peer = fds[1];
    tws_transport_plain(&ends->transport, fds[0]);
    CHECK_INT(tws_asking_init(&ends->asking, offer, &limits, &ends->err),
              TWS_OK);
    CHECK_INT(tws_asking_add(&ends->asking, initial, &ends->err), TWS_OK);
}

static void
close_ends(struct ends *ends)
{
    tws_asking_release(&ends->asking);
    close(ends->transport.fd);
    if (ends->peer >= 0) {
        close(ends->peer);
    }
}

static enum tws_status
advance(struct ends *ends)
{
    return tws_asking_advance(&ends->asking, &ends->transport, &ends->events,
                              &ends->err);
}

static void
say(const struct ends *ends, const char *text)
{
    CHECK_INT(write(ends->peer, text, strlen(text)), (long long)strlen(text));
}

static void
welcome(const struct ends *ends, const char *fields, const char *behind)
{
    char request[2048] = "";
    char answer[1024];
    CHECK(read(ends->peer, request, sizeof(request) - 1) > 0);
    (void)write_welcome(answer, sizeof(answer), request, fields, behind);
    say(ends, answer);
}

static bool
contains(struct tws_span text, const char *part)
{
    return memmem(text.data, text.length, part, strlen(part)) != NULL;
}

/* --- the request --- */

TEST(request_is_written)
{
    struct ends ends;
    char data[1024];
    struct tws_handshake_offer offer = plain_offer();
    open_ends(&ends, &offer, TWS_SPAN(""));
    CHECK_INT(ends.asking.state, TWS_ASKING_WRITING);
    CHECK_INT(advance(&ends), TWS_AGAIN);
    CHECK_INT(ends.asking.state, TWS_ASKING_READING);
    ssize_t got = read(ends.peer, data, sizeof(data));
    CHECK(got > 0);
    struct tws_span text = {.data = data, .length = (size_t)got};
    CHECK_INT(strncmp(data, "GET /chat HTTP/1.1\r\n", 20), 0);
    CHECK(contains(text, "\r\nHost: example.com\r\n"));
    CHECK_INT(tws_asking_request(&ends.asking, &ends.head, &ends.err), TWS_OK);
    CHECK_BYTES(ends.head.target.data, ends.head.target.length, "/chat");
    close_ends(&ends);
}

TEST(host_of_the_offer_is_needed_no_longer)
{
    struct ends ends;
    char host[] = "example.com";
    struct tws_handshake_offer offer = plain_offer();
    offer.host.data = host;
    open_ends(&ends, &offer, TWS_SPAN(""));
    memset(host, 'X', sizeof(host) - 1);
    CHECK_INT(tws_asking_request(&ends.asking, &ends.head, &ends.err), TWS_OK);
    const struct tws_http_field *field =
        tws_http_find(&ends.head, TWS_SPAN("Host"), NULL);
    CHECK(field != NULL);
    if (field != NULL) {
        CHECK_BYTES(field->value.data, field->value.length, "example.com");
    }
    close_ends(&ends);
}

TEST(keys_differ)
{
    char keys[8][TWS_KEY_LENGTH];
    for (size_t i = 0; i < 8; i++) {
        struct tws_asking asking;
        struct tws_error err;
        struct tws_http_head head;
        struct tws_handshake_offer offer = plain_offer();
        CHECK_INT(tws_asking_init(&asking, &offer, &limits, &err), TWS_OK);
        CHECK_INT(tws_asking_request(&asking, &head, &err), TWS_OK);
        const struct tws_http_field *field =
            tws_http_find(&head, TWS_SPAN("Sec-WebSocket-Key"), NULL);
        CHECK(field != NULL && field->value.length == TWS_KEY_LENGTH);
        if (field != NULL) {
            memcpy(keys[i], field->value.data, TWS_KEY_LENGTH);
        }
        for (size_t j = 0; j < i; j++) {
            CHECK(memcmp(keys[i], keys[j], TWS_KEY_LENGTH) != 0);
        }
        tws_asking_release(&asking);
    }
}

TEST(offer_that_is_none)
{
    struct tws_asking asking;
    struct tws_error err;
    struct tws_handshake_offer offer = plain_offer();
    offer.target = TWS_SPAN("chat");
    CHECK_INT(tws_asking_init(&asking, &offer, &limits, &err), TWS_REFUSED);
    tws_asking_release(&asking);
    offer = plain_offer();
    offer.host = TWS_SPAN("");
    CHECK_INT(tws_asking_init(&asking, &offer, &limits, &err), TWS_REFUSED);
    tws_asking_release(&asking);
}

/* --- the answer --- */

TEST(good_answer)
{
    static const struct tws_span protocols[] = {
        {.data = "a", .length = 1},
        {.data = "b", .length = 1},
    };
    struct ends ends;
    struct tws_handshake_offer offer = plain_offer();
    offer.protocols = protocols;
    offer.protocol_count = 2;
    open_ends(&ends, &offer, TWS_SPAN(""));
    CHECK_INT(advance(&ends), TWS_AGAIN);
    welcome(&ends, "Sec-WebSocket-Protocol: b\r\n", "rest");
    CHECK_INT(advance(&ends), TWS_OK);
    struct tws_span protocol = ends.asking.protocol;
    struct tws_span rest = tws_asking_rest(&ends.asking);
    CHECK_BYTES(protocol.data, protocol.length, "b");
    CHECK_BYTES(rest.data, rest.length, "rest");
    CHECK_INT(tws_asking_answer(&ends.asking, &ends.head, &ends.err), TWS_OK);
    CHECK_INT(ends.head.status, 101);
    close_ends(&ends);
}

TEST(interim_answers_are_passed_over)
{
    struct ends ends;
    struct tws_handshake_offer offer = plain_offer();
    open_ends(&ends, &offer, TWS_SPAN(""));
    CHECK_INT(advance(&ends), TWS_AGAIN);
    say(&ends, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n"
               "Link: x\r\n\r\n");
    CHECK_INT(advance(&ends), TWS_AGAIN);
    welcome(&ends, "", "");
    CHECK_INT(advance(&ends), TWS_OK);
    CHECK_INT(tws_asking_answer(&ends.asking, &ends.head, &ends.err), TWS_OK);
    CHECK_INT(ends.head.status, 101);
    CHECK_INT(tws_asking_rest(&ends.asking).length, 0);
    close_ends(&ends);
}

TEST(interim_answers_have_a_bound)
{
    struct ends ends;
    struct tws_handshake_offer offer = plain_offer();
    open_ends(&ends, &offer, TWS_SPAN(""));
    CHECK_INT(advance(&ends), TWS_AGAIN);
    for (int i = 0; i < TWS_ASKING_INTERIM_MAX; i++) {
        say(&ends, "HTTP/1.1 102 Processing\r\n\r\n");
        CHECK_INT(advance(&ends), TWS_AGAIN);
    }
    say(&ends, "HTTP/1.1 102 Processing\r\n\r\n");
    CHECK_INT(advance(&ends), TWS_REFUSED);
    CHECK(!tws_asking_refusal(&ends.asking, &ends.err));
    CHECK_INT(ends.err.http_status, 0);
    close_ends(&ends);
}

TEST(bytes_read_before_are_part_of_the_answer)
{
    struct ends ends;
    struct tws_handshake_offer offer = plain_offer();
    open_ends(&ends, &offer, TWS_SPAN("HTTP/1.1 500 O"));
    CHECK_INT(advance(&ends), TWS_AGAIN);
    say(&ends, "ops\r\nContent-Length: 0\r\n\r\n");
    CHECK_INT(advance(&ends), TWS_REFUSED);
    CHECK_INT(ends.err.http_status, 500);
    close_ends(&ends);
}

static void
check_body(const char *answer, bool ended, enum tws_status step,
           uint16_t status, const char *expected)
{
    struct ends ends;
    struct tws_handshake_offer offer = plain_offer();
    open_ends(&ends, &offer, TWS_SPAN(""));
    CHECK_INT(advance(&ends), TWS_AGAIN);
    say(&ends, answer);
    if (ended) {
        CHECK_INT(shutdown(ends.peer, SHUT_WR), 0);
    }
    CHECK_INT(advance(&ends), step);
    CHECK_INT(ends.asking.state, TWS_ASKING_REFUSING);
    CHECK(tws_asking_refusal(&ends.asking, &ends.err));
    CHECK_INT(ends.err.status, TWS_REFUSED);
    CHECK_INT(ends.err.http_status, status);
    struct tws_span body = tws_asking_body(&ends.asking);
    CHECK_INT(body.length, strlen(expected));
    CHECK(body.length == strlen(expected)
          && memcmp(body.data, expected, body.length) == 0);
    CHECK_INT(tws_asking_answer(&ends.asking, &ends.head, &ends.err), TWS_OK);
    CHECK_INT(ends.head.status, status);
    close_ends(&ends);
}

TEST(body_of_a_refusal)
{
    check_body("HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\nbodyrest", false,
               TWS_REFUSED, 404, "body");
    check_body("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", false,
               TWS_REFUSED, 404, "");
    check_body("HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\nbody", false,
               TWS_AGAIN, 404, "body");
    check_body("HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\nbody", true,
               TWS_REFUSED, 404, "body");
    check_body("HTTP/1.1 404 No\r\n\r\nbody", false, TWS_AGAIN, 404, "body");
    check_body("HTTP/1.1 404 No\r\n\r\nbody", true, TWS_REFUSED, 404, "body");
    check_body("HTTP/1.1 204 No\r\n\r\nbody", false, TWS_REFUSED, 204, "");
    check_body("HTTP/1.1 404 No\r\nContent-Length: x\r\n\r\nbody", true,
               TWS_REFUSED, 404, "body");
    check_body("HTTP/1.1 404 No\r\nContent-Length: "
               "99999999999999999999999999999999\r\n\r\nbody",
               true, TWS_REFUSED, 404, "body");
    check_body("HTTP/1.1 404 No\r\nContent-Length: 18446744073709551618\r\n"
               "\r\nbody",
               true, TWS_REFUSED, 404, "body"); /* 2^64 + 2 */
    check_body("HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n"
               "3\r\nbod\r\n1;x=y\r\ny\r\n0\r\n\r\nrest",
               false, TWS_REFUSED, 403, "body");
    check_body("HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n"
               "3\r\nbod\r\n9\r\ny",
               false, TWS_AGAIN, 403, "body");
    check_body("HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n"
               "3\r\nbod\r\n9\r\ny",
               true, TWS_REFUSED, 403, "body");
    check_body("HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n"
               "4\r\nbody\r\nno chunk",
               false, TWS_REFUSED, 403, "body");
    check_body("HTTP/1.1 101 x\r\nUpgrade: h2c\r\n\r\nbody", false,
               TWS_REFUSED, 101, "");
}

TEST(body_has_a_bound)
{
    static const char flood[4096];
    struct ends ends;
    struct tws_handshake_offer offer = plain_offer();
    enum tws_status step = TWS_AGAIN;
    size_t sent = 0;
    open_ends(&ends, &offer, TWS_SPAN(""));
    CHECK_INT(advance(&ends), TWS_AGAIN);
    say(&ends, "HTTP/1.1 500 No\r\n\r\n");
    while (step == TWS_AGAIN && sent < 10 * 1024 * 1024) {
        ssize_t written = write(ends.peer, flood, sizeof(flood));
        sent += written > 0 ? (size_t)written : 0;
        step = advance(&ends);
    }
    CHECK_INT(step, TWS_REFUSED);
    CHECK_INT(tws_asking_body(&ends.asking).length, TWS_ASKING_BODY_MAX);
    CHECK(sent < 2 * 1024 * 1024);
    close_ends(&ends);
}

TEST(no_answer)
{
    static const char *const answers[] = {
        "",
        "HTTP/1.1 101 Switch",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 101 x\nUpgrade: websocket\n\n",
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(answers); i++) {
        struct ends ends;
        struct tws_handshake_offer offer = plain_offer();
        open_ends(&ends, &offer, TWS_SPAN(""));
        CHECK_INT(advance(&ends), TWS_AGAIN);
        say(&ends, answers[i]);
        CHECK_INT(shutdown(ends.peer, SHUT_WR), 0);
        CHECK_INT(advance(&ends), TWS_REFUSED);
        CHECK_INT(ends.err.status, TWS_REFUSED);
        CHECK(!tws_asking_refusal(&ends.asking, &ends.err));
        close_ends(&ends);
    }
}

TEST(peer_that_is_gone)
{
    struct ends ends;
    struct tws_handshake_offer offer = plain_offer();
    open_ends(&ends, &offer, TWS_SPAN(""));
    close(ends.peer);
    ends.peer = -1;
    CHECK_INT(advance(&ends), TWS_OS);
    CHECK_INT(ends.err.status, TWS_OS);
    CHECK_INT(ends.err.sys_errno, EPIPE);
    close_ends(&ends);
}

/* --- transports of other kinds --- */

static const struct tws_transport_ops *plain_ops;
static char kept[4096]; /* taken from the descriptor, not read yet */
static size_t kept_length;

/* As with records of TLS: what has come is taken at once, and handed out in
 * pieces, of which the descriptor knows nothing. */
static enum tws_status
piecemeal_read(struct tws_transport *transport, uint8_t *data, size_t size,
               size_t *got, struct tws_error *err)
{
    if (kept_length == 0) {
        enum tws_status status = plain_ops->read(
            transport, (uint8_t *)kept, sizeof(kept), &kept_length, err);
        if (status != TWS_OK) {
            return status;
        }
    }
    *got = size < 7 ? size : 7;
    if (*got > kept_length) {
        *got = kept_length;
    }
    memcpy(data, kept, *got);
    kept_length -= *got;
    memmove(kept, kept + *got, kept_length);
    return TWS_OK;
}

static bool
piecemeal_pending(struct tws_transport *transport)
{
    (void)transport;
    return kept_length > 0;
}

/* Takes a byte, and has then had enough. */
static enum tws_status
reluctant_writev(struct tws_transport *transport, const struct iovec *parts,
                 int count, size_t *written, struct tws_error *err)
{
    static bool full;
    struct iovec one = {.iov_base = parts[0].iov_base, .iov_len = 1};
    (void)count;
    full = !full;
    return full ? TWS_AGAIN
                : plain_ops->writev(transport, &one, 1, written, err);
}

static enum tws_status
failing_read(struct tws_transport *transport, uint8_t *data, size_t size,
             size_t *got, struct tws_error *err)
{
    (void)transport;
    (void)data;
    (void)size;
    (void)got;
    return tws_error_tls(err, "a record was damaged or forged");
}

static void
wrap(struct ends *ends, struct tws_transport_ops *ops)
{
    plain_ops = ends->transport.ops;
    *ops = *plain_ops;
    ends->transport.ops = ops;
    kept_length = 0;
}

/* Nothing that has come already is waited for. */
TEST(pending_bytes)
{
    struct ends ends;
    struct tws_transport_ops ops;
    struct tws_handshake_offer offer = plain_offer();
    open_ends(&ends, &offer, TWS_SPAN(""));
    wrap(&ends, &ops);
    ops.read = piecemeal_read;
    ops.pending = piecemeal_pending;
    CHECK_INT(advance(&ends), TWS_AGAIN);
    say(&ends, "HTTP/1.1 102 Processing\r\n\r\n");
    CHECK_INT(advance(&ends), TWS_AGAIN);
    CHECK_INT(ends.events, TWS_WAIT_READ);
    CHECK(!tws_pending(&ends.transport));
    welcome(&ends, "", "");
    CHECK_INT(advance(&ends), TWS_OK);
    CHECK(!tws_pending(&ends.transport));
    close_ends(&ends);
    open_ends(&ends, &offer, TWS_SPAN(""));
    wrap(&ends, &ops);
    ops.read = piecemeal_read;
    ops.pending = piecemeal_pending;
    CHECK_INT(advance(&ends), TWS_AGAIN);
    say(&ends, "HTTP/1.1 404 No\r\n\r\nall of this is the body");
    CHECK_INT(advance(&ends), TWS_AGAIN);
    CHECK(!tws_pending(&ends.transport));
    CHECK_BYTES(tws_asking_body(&ends.asking).data,
                tws_asking_body(&ends.asking).length,
                "all of this is the body");
    close_ends(&ends);
}

TEST(request_that_leaves_byte_by_byte)
{
    struct ends ends;
    struct tws_transport_ops ops;
    struct tws_handshake_offer offer = plain_offer();
    unsigned waits = 0;
    open_ends(&ends, &offer, TWS_SPAN(""));
    wrap(&ends, &ops);
    ops.writev = reluctant_writev;
    while (advance(&ends) == TWS_AGAIN && ends.events == TWS_WAIT_WRITE) {
        waits++;
    }
    CHECK(waits > 50);
    CHECK_INT(ends.asking.state, TWS_ASKING_READING);
    welcome(&ends, "", "");
    CHECK_INT(advance(&ends), TWS_OK);
    close_ends(&ends);
}

TEST(error_of_the_encryption)
{
    struct ends ends;
    struct tws_transport_ops ops;
    struct tws_handshake_offer offer = plain_offer();
    open_ends(&ends, &offer, TWS_SPAN(""));
    wrap(&ends, &ops);
    ops.read = failing_read;
    CHECK_INT(advance(&ends), TWS_TLS);
    CHECK_INT(ends.err.status, TWS_TLS);
    close_ends(&ends);
}

RUN(T(request_is_written), T(host_of_the_offer_is_needed_no_longer),
    T(keys_differ), T(offer_that_is_none), T(good_answer),
    T(interim_answers_are_passed_over), T(interim_answers_have_a_bound),
    T(bytes_read_before_are_part_of_the_answer), T(body_of_a_refusal),
    T(body_has_a_bound), T(no_answer), T(peer_that_is_gone), T(pending_bytes),
    T(request_that_leaves_byte_by_byte), T(error_of_the_encryption))
