/* OPENSSL_cleanse() is replaced, so that what is wiped can be looked at. */
#include "net/tunnel.h"

#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <unistd.h>

#define CONNECT "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n"
#define LOGIN "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"
#define OPENED "HTTP/1.1 200 Connection established\r\n\r\n"
#define BY_NAME                                                               \
    "\x05\x01\x00\x03\x0b"                                                    \
    "example.org\x01\xbb"

static unsigned wiped; /* memory that held a password */

void
OPENSSL_cleanse(void *data, size_t length)
{
    static const struct tws_span forms[] = {
        TWS_SPAN("open sesame"), TWS_SPAN("QWxhZGRpbjpvcGVuIHNlc2FtZQ==")};
    bool found = false;
    for (size_t i = 0; i < TWS_ARRAY_SIZE(forms); i++) {
        found =
            found
            || memmem(data, length, forms[i].data, forms[i].length) != NULL;
    }
    wiped += found;
    memset(data, 0, length);
}

/* --- both ends --- */

struct ends {
    struct tws_tunnel *tunnel;
    struct tws_transport transport;
    int peer; /* -1: closed */
    unsigned events;
    struct tws_error err;
    struct tws_http_head head;
};

static struct tws_tunnel_options
new_options(enum tws_tunnel_kind kind)
{
    return (struct tws_tunnel_options){
        .kind = kind, .host = "example.org", .port = 443};
}

static struct tws_tunnel_options
with_login(enum tws_tunnel_kind kind)
{
    struct tws_tunnel_options options = new_options(kind);
    options.username = "Aladdin";
    options.password = "open sesame";
    return options;
}

static void
open_ends(struct ends *ends, const struct tws_tunnel_options *options)
{
    int fds[2];
    memset(ends, 0, sizeof(*ends));
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    tws_transport_plain(&ends->transport, fds[0]);
    ends->peer = fds[1];
    CHECK_INT(tws_tunnel_new(options, &ends->tunnel, &ends->err), TWS_OK);
}

static void
hang_up(struct ends *ends)
{
    close(ends->peer);
    ends->peer = -1;
}

static void
close_ends(struct ends *ends)
{
    tws_tunnel_free(ends->tunnel);
    close(ends->transport.fd);
    if (ends->peer >= 0) {
        close(ends->peer);
    }
}

static enum tws_status
advance(struct ends *ends)
{
    ends->events = 0;
    return tws_tunnel_advance(ends->tunnel, &ends->transport, &ends->events,
                              &ends->err);
}

/* It waits for what the peer has to say. */
static void
expect_waiting(struct ends *ends)
{
    CHECK_INT(advance(ends), TWS_AGAIN);
    CHECK_INT(ends->events, TWS_WAIT_READ);
}

static void
say(const struct ends *ends, struct tws_span text)
{
    CHECK_INT(write(ends->peer, text.data, text.length),
              (long long)text.length);
}

#define HEAR(ends, literal)                                                   \
    do {                                                                      \
        char hear_data[2048];                                                 \
        ssize_t hear_got = read((ends)->peer, hear_data, sizeof(hear_data));  \
        CHECK_BYTES(hear_data, hear_got < 0 ? 0 : (size_t)hear_got, literal); \
    } while (0)

/* What the server has said is there to be read, all of it. */
static void
expect_untouched(struct ends *ends, const char *expected)
{
    char data[64];
    ssize_t got = read(ends->transport.fd, data, sizeof(data));
    CHECK_INT(got, strlen(expected));
    CHECK(got >= 0 && memcmp(data, expected, (size_t)got) == 0);
}

static void
expect_reason(const struct ends *ends, uint16_t http_status,
              const char *expected)
{
    CHECK_INT(ends->err.http_status, http_status);
    if (strcmp(ends->err.reason, expected) != 0) {
        (void)fprintf(stderr, "got: %s\n", ends->err.reason);
        CHECK(false);
    }
}

static void
expect_body(const struct ends *ends, const char *expected)
{
    struct tws_span body = tws_tunnel_body(ends->tunnel);
    CHECK_INT(body.length, strlen(expected));
    CHECK(body.length == strlen(expected)
          && memcmp(body.data, expected, body.length) == 0);
}

/* --- a transport that takes and gives a byte at a time --- */

static const struct tws_transport_ops *plain_ops;
static bool refuses_now; /* every other write */

static enum tws_status
read_byte(struct tws_transport *transport, uint8_t *data, size_t size,
          size_t *got, struct tws_error *err)
{
    return plain_ops->read(transport, data, size > 0 ? 1 : 0, got, err);
}

static enum tws_status
write_byte(struct tws_transport *transport, const struct iovec *parts,
           int count, size_t *written, struct tws_error *err)
{
    struct iovec byte = parts[0];
    (void)count;
    refuses_now = !refuses_now;
    if (refuses_now) {
        return TWS_AGAIN;
    }
    byte.iov_len = 1;
    return plain_ops->writev(transport, &byte, 1, written, err);
}

static void
use_bytes(struct ends *ends)
{
    static const struct tws_transport_ops bytes = {.read = read_byte,
                                                   .writev = write_byte};
    plain_ops = ends->transport.ops;
    ends->transport.ops = &bytes;
}

/* --- HTTP --- */

TEST(http_opens)
{
    struct ends ends;
    struct tws_tunnel_options options = with_login(TWS_TUNNEL_HTTP);
    options.user_agent = "twspy";
    open_ends(&ends, &options);
    expect_waiting(&ends);
    HEAR(&ends, CONNECT "User-Agent: twspy\r\n" LOGIN "\r\n");
    expect_waiting(&ends);
    say(&ends, TWS_SPAN(OPENED));
    CHECK_INT(advance(&ends), TWS_OK);
    say(&ends, TWS_SPAN("server"));
    expect_untouched(&ends, "server");
    CHECK_INT(tws_tunnel_answer(ends.tunnel, &ends.head, &ends.err), TWS_EOF);
    CHECK(!tws_tunnel_refusal(ends.tunnel, &ends.err));
    expect_body(&ends, "");
    close_ends(&ends);
}

TEST(http_answer_in_two_parts_wherever_they_part)
{
    static const char answer[] = "HTTP/1.1 100 Continue\r\n\r\n" OPENED;
    for (size_t cut = 1; cut < sizeof(answer) - 1; cut++) {
        struct ends ends;
        struct tws_tunnel_options options = new_options(TWS_TUNNEL_HTTP);
        open_ends(&ends, &options);
        expect_waiting(&ends);
        HEAR(&ends, CONNECT "\r\n");
        say(&ends, (struct tws_span){.data = answer, .length = cut});
        expect_waiting(&ends);
        say(&ends, (struct tws_span){.data = answer + cut,
                                     .length = sizeof(answer) - 1 - cut});
        CHECK_INT(advance(&ends), TWS_OK);
        close_ends(&ends);
    }
}

TEST(http_byte_by_byte)
{
    struct ends ends;
    struct tws_tunnel_options options = with_login(TWS_TUNNEL_HTTP);
    enum tws_status status;
    unsigned waits = 0;
    open_ends(&ends, &options);
    use_bytes(&ends);
    status = advance(&ends);
    while (status == TWS_AGAIN && ends.events == TWS_WAIT_WRITE) {
        waits++;
        status = advance(&ends);
    }
    CHECK_INT(waits, sizeof(CONNECT LOGIN "\r\n") - 1);
    CHECK_INT(ends.events, TWS_WAIT_READ);
    HEAR(&ends, CONNECT LOGIN "\r\n");
    say(&ends, TWS_SPAN(OPENED "server"));
    CHECK_INT(advance(&ends), TWS_OK);
    expect_untouched(&ends, "server");
    close_ends(&ends);
}

TEST(http_bytes_behind_the_answer_are_refused)
{
    struct ends ends;
    struct tws_tunnel_options options = new_options(TWS_TUNNEL_HTTP);
    open_ends(&ends, &options);
    expect_waiting(&ends);
    say(&ends, TWS_SPAN(OPENED "server"));
    CHECK_INT(advance(&ends), TWS_REFUSED);
    expect_reason(&ends, 0,
                  "proxy sent 6 bytes behind its answer, before the tunnel "
                  "was used, expected none");
    CHECK_INT(tws_tunnel_answer(ends.tunnel, &ends.head, &ends.err), TWS_EOF);
    close_ends(&ends);
}

#define FORBIDDEN "HTTP/1.1 403 Forbidden\r\nX-Why: rule\r\n"
#define FORBIDDEN_REASON "proxy refused: 403 Forbidden, expected 2xx"

TEST(http_refusals)
{
    static const struct tws_span answers[] = {
        TWS_SPAN(FORBIDDEN "Content-Length: 5\r\n\r\nhello"),
        TWS_SPAN(FORBIDDEN "Transfer-Encoding: chunked\r\n\r\n"
                           "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        TWS_SPAN("HTTP/1.1 102 Wait\r\n\r\n" FORBIDDEN
                 "Content-Length: 5\r\n\r\nhello"),
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(answers); i++) {
        for (size_t cut = 1; cut <= answers[i].length; cut++) {
            struct ends ends;
            struct tws_tunnel_options options = new_options(TWS_TUNNEL_HTTP);
            open_ends(&ends, &options);
            expect_waiting(&ends);
            say(&ends,
                (struct tws_span){.data = answers[i].data, .length = cut});
            if (cut < answers[i].length) {
                expect_waiting(&ends);
                say(&ends,
                    (struct tws_span){.data = answers[i].data + cut,
                                      .length = answers[i].length - cut});
            }
            CHECK_INT(advance(&ends), TWS_REFUSED);
            expect_reason(&ends, 403, FORBIDDEN_REASON);
            expect_body(&ends, "hello");
            CHECK_INT(tws_tunnel_answer(ends.tunnel, &ends.head, &ends.err),
                      TWS_OK);
            CHECK_INT(ends.head.status, 403);
            const struct tws_http_field *field =
                tws_http_find(&ends.head, TWS_SPAN("x-why"), NULL);
            CHECK(field != NULL
                  && tws_span_equal(field->value, TWS_SPAN("rule")));
            close_ends(&ends);
        }
    }
}

TEST(http_refusal_ends_with_the_stream)
{
    struct ends ends;
    struct tws_tunnel_options options = new_options(TWS_TUNNEL_HTTP);
    open_ends(&ends, &options);
    expect_waiting(&ends);
    say(&ends, TWS_SPAN(FORBIDDEN "\r\nhel"));
    expect_waiting(&ends);
    say(&ends, TWS_SPAN("lo"));
    hang_up(&ends);
    CHECK_INT(advance(&ends), TWS_REFUSED);
    expect_reason(&ends, 403, FORBIDDEN_REASON);
    expect_body(&ends, "hello");
    close_ends(&ends);
}

TEST(http_refusal_whose_body_nobody_awaits)
{
    struct ends ends;
    struct tws_tunnel_options options = new_options(TWS_TUNNEL_HTTP);
    open_ends(&ends, &options);
    expect_waiting(&ends);
    CHECK(!tws_tunnel_refusal(ends.tunnel, &ends.err));
    say(&ends, TWS_SPAN(FORBIDDEN "Content-Length: 9\r\n\r\nhello"));
    expect_waiting(&ends);
    CHECK(tws_tunnel_refusal(ends.tunnel, &ends.err));
    expect_reason(&ends, 403, FORBIDDEN_REASON);
    expect_body(&ends, "hello");
    CHECK_INT(tws_tunnel_answer(ends.tunnel, &ends.head, &ends.err), TWS_OK);
    close_ends(&ends);
}

TEST(http_body_has_a_bound)
{
    static const struct tws_span heads[] = {
        TWS_SPAN(FORBIDDEN "\r\n"),
        TWS_SPAN(FORBIDDEN "Content-Length: 999999999999\r\n\r\n"),
        TWS_SPAN(FORBIDDEN "Transfer-Encoding: chunked\r\n\r\n"
                           "fffffff\r\n"),
    };
    static const char flood[4096];
    for (size_t i = 0; i < TWS_ARRAY_SIZE(heads); i++) {
        struct ends ends;
        struct tws_tunnel_options options = new_options(TWS_TUNNEL_HTTP);
        enum tws_status status = TWS_AGAIN;
        size_t sent = 0;
        open_ends(&ends, &options);
        expect_waiting(&ends);
        say(&ends, heads[i]);
        while (status == TWS_AGAIN && sent < 1 << 20) {
            ssize_t written = write(ends.peer, flood, sizeof(flood));
            sent += written > 0 ? (size_t)written : 0;
            status = advance(&ends);
        }
        CHECK_INT(status, TWS_REFUSED);
        CHECK(sent <= TWS_TUNNEL_BODY_MAX + 2 * sizeof(flood));
        CHECK_INT(tws_tunnel_body(ends.tunnel).length, TWS_TUNNEL_BODY_MAX);
        close_ends(&ends);
    }
}

TEST(http_endless_head)
{
    struct ends ends;
    struct tws_http_limits limits = {.head_bytes = 512, .field_count = 8};
    struct tws_tunnel_options options = new_options(TWS_TUNNEL_HTTP);
    enum tws_status status = TWS_AGAIN;
    size_t sent = 0;
    options.limits = &limits;
    open_ends(&ends, &options);
    limits.head_bytes = SIZE_MAX; /* borrowed for the call only */
    expect_waiting(&ends);
    say(&ends, TWS_SPAN("HTTP/1.1 200 "));
    while (status == TWS_AGAIN && sent < 1 << 20) {
        say(&ends, TWS_SPAN("0123456789abcdef"));
        sent += 16;
        status = advance(&ends);
    }
    CHECK_INT(status, TWS_REFUSED);
    CHECK_INT(sent, 512);
    expect_reason(&ends, 0,
                  "proxy sent no HTTP answer: head does not end within 512 "
                  "bytes, which is the limit");
    close_ends(&ends);
}

TEST(http_proxy_ends_early)
{
    static const struct tws_span parts[] = {
        TWS_SPAN(""), TWS_SPAN("HTTP"), TWS_SPAN("HTTP/1.1 200 OK\r\n\r"),
        TWS_SPAN("HTTP/1.1 100 Continue\r\n\r\n")};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(parts); i++) {
        struct ends ends;
        struct tws_tunnel_options options = new_options(TWS_TUNNEL_HTTP);
        open_ends(&ends, &options);
        expect_waiting(&ends);
        HEAR(&ends, CONNECT "\r\n");
        say(&ends, parts[i]);
        hang_up(&ends);
        CHECK_INT(advance(&ends), TWS_EOF);
        close_ends(&ends);
    }
}

/* --- SOCKS --- */

TEST(socks_opens_by_name)
{
    struct ends ends;
    struct tws_tunnel_options options = new_options(TWS_TUNNEL_SOCKS5);
    open_ends(&ends, &options);
    expect_waiting(&ends);
    HEAR(&ends, "\x05\x01\x00");
    say(&ends, TWS_SPAN("\x05\x00"));
    expect_waiting(&ends);
    HEAR(&ends, BY_NAME);
    say(&ends, TWS_SPAN("\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34server"));
    CHECK_INT(advance(&ends), TWS_OK);
    expect_untouched(&ends, "server");
    close_ends(&ends);
}

/* Up to the request, which is compared. */
static void
expect_socks_request(const struct tws_tunnel_options *options,
                     struct tws_span expected)
{
    struct ends ends;
    char data[300];
    open_ends(&ends, options);
    expect_waiting(&ends);
    HEAR(&ends, "\x05\x01\x00");
    say(&ends, TWS_SPAN("\x05\x00"));
    expect_waiting(&ends);
    ssize_t got = read(ends.peer, data, sizeof(data));
    CHECK_INT(got, expected.length);
    CHECK(got > 0 && memcmp(data, expected.data, (size_t)got) == 0);
    close_ends(&ends);
}

TEST(socks_addresses)
{
    struct tws_tunnel_options options = new_options(TWS_TUNNEL_SOCKS5);
    struct tws_address address = {.length = sizeof(struct sockaddr_in)};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(1)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    const struct tws_span ipv4 =
        TWS_SPAN("\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb");
    const struct tws_span ipv6 =
        TWS_SPAN("\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00"
                 "\x00\x00\x00\x00\x00\x00\x00\x01\x01\xbb");
    CHECK_INT(inet_pton(AF_INET, "192.0.2.1", &in.sin_addr), 1);
    CHECK_INT(inet_pton(AF_INET6, "2001:db8::1", &in6.sin6_addr), 1);
    /* Looked up by us: the name is not told, and the port is the option's. */
    memcpy(&address.storage, &in, sizeof(in));
    options.address = &address;
    expect_socks_request(&options, ipv4);
    memcpy(&address.storage, &in6, sizeof(in6));
    expect_socks_request(&options, ipv6);
    /* In figures: no name, so that nobody looks it up. */
    options.address = NULL;
    options.host = "192.0.2.1";
    expect_socks_request(&options, ipv4);
    options.host = "2001:db8::1";
    expect_socks_request(&options, ipv6);
    options.host = "192.0.2.1.example";
    expect_socks_request(&options, TWS_SPAN("\x05\x01\x00\x03\x11"
                                            "192.0.2.1.example\x01\xbb"));
}

/* All that a proxy says, each with all that it is told before. */
struct turn {
    struct tws_span hear;
    struct tws_span say;
};

static const struct turn login_turns[] = {
    {TWS_SPAN("\x05\x02\x00\x02"), TWS_SPAN("\x05\x02")},
    {TWS_SPAN("\x01\x07"
              "Aladdin\x0bopen sesame"),
     TWS_SPAN("\x01\x00")},
    {TWS_SPAN(BY_NAME), TWS_SPAN("\x05\x00\x00\x03\x02hi\x12\x34")},
};

static enum tws_status
advance_fully(struct ends *ends)
{
    enum tws_status status = advance(ends);
    while (status == TWS_AGAIN && ends->events == TWS_WAIT_WRITE) {
        status = advance(ends);
    }
    return status;
}

static void
expect_turns(struct ends *ends, size_t split)
{
    enum tws_status status = advance_fully(ends);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(login_turns); i++) {
        const struct turn *turn = &login_turns[i];
        char data[300];
        bool last = i + 1 == TWS_ARRAY_SIZE(login_turns);
        size_t cut = split < turn->say.length ? split : turn->say.length;
        CHECK_INT(status, TWS_AGAIN);
        ssize_t got = read(ends->peer, data, sizeof(data));
        CHECK_INT(got, turn->hear.length);
        CHECK(got > 0 && memcmp(data, turn->hear.data, (size_t)got) == 0);
        say(ends, (struct tws_span){.data = turn->say.data, .length = cut});
        if (cut < turn->say.length) {
            CHECK_INT(advance_fully(ends), TWS_AGAIN);
            CHECK_INT(ends->events, TWS_WAIT_READ);
        }
        say(ends, (struct tws_span){.data = turn->say.data + cut,
                                    .length = turn->say.length - cut});
        if (last) {
            say(ends, TWS_SPAN("server"));
        }
        status = advance_fully(ends);
    }
    CHECK_INT(status, TWS_OK);
    expect_untouched(ends, "server");
}

TEST(socks_logs_in_wherever_the_replies_part)
{
    for (size_t split = 0; split <= 9; split++) {
        struct ends ends;
        struct tws_tunnel_options options = with_login(TWS_TUNNEL_SOCKS5);
        open_ends(&ends, &options);
        expect_turns(&ends, split);
        close_ends(&ends);
    }
}

TEST(socks_byte_by_byte)
{
    struct ends ends;
    struct tws_tunnel_options options = with_login(TWS_TUNNEL_SOCKS5);
    open_ends(&ends, &options);
    use_bytes(&ends);
    expect_turns(&ends, 1);
    close_ends(&ends);
}

/* A proxy that does not wait, either. */
TEST(socks_replies_before_they_are_due)
{
    struct ends ends;
    struct tws_tunnel_options options = new_options(TWS_TUNNEL_SOCKS5);
    open_ends(&ends, &options);
    say(&ends, TWS_SPAN("\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34"
                        "server"));
    CHECK_INT(advance(&ends), TWS_OK);
    HEAR(&ends, "\x05\x01\x00" BY_NAME);
    expect_untouched(&ends, "server");
    close_ends(&ends);
}

TEST(socks_refusals)
{
    static const struct {
        struct tws_span say;
        const char *reason;
    } cases[] = {
        {TWS_SPAN("\x05\x00\x05\x04"), "proxy refused: host unreachable (4)"},
        {TWS_SPAN("\x05\x00\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00"),
         "proxy refused: connection refused (5)"},
        {TWS_SPAN("\x05\xff"),
         "proxy refused: it wants authentication, give a username and a "
         "password (255)"},
        {TWS_SPAN("HTTP/1.1 400 Bad Request\r\n\r\n"),
         "proxy answered with version 72, expected SOCKS version 5; it may "
         "be no SOCKS 5 proxy"},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        struct ends ends;
        struct tws_tunnel_options options = new_options(TWS_TUNNEL_SOCKS5);
        open_ends(&ends, &options);
        say(&ends, cases[i].say);
        CHECK_INT(advance(&ends), TWS_REFUSED);
        expect_reason(&ends, 0, cases[i].reason);
        CHECK_INT(tws_tunnel_answer(ends.tunnel, &ends.head, &ends.err),
                  TWS_EOF);
        expect_body(&ends, "");
        CHECK(!tws_tunnel_refusal(ends.tunnel, &ends.err));
        close_ends(&ends);
    }
}

TEST(socks_proxy_ends_early)
{
    static const struct tws_span parts[] = {
        TWS_SPAN(""), TWS_SPAN("\x05"), TWS_SPAN("\x05\x00\x05\x00\x00\x01"),
        TWS_SPAN("\x05\x00\x05\x00\x00\x03\xff"
                 "abc")};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(parts); i++) {
        struct ends ends;
        struct tws_tunnel_options options = new_options(TWS_TUNNEL_SOCKS5);
        enum tws_status status;
        open_ends(&ends, &options);
        say(&ends, parts[i]);
        CHECK_INT(shutdown(ends.peer, SHUT_WR), 0);
        status = advance(&ends);
        CHECK_INT(status, TWS_EOF);
        close_ends(&ends);
    }
}

/* --- both --- */

static const enum tws_tunnel_kind kinds[] = {TWS_TUNNEL_HTTP,
                                             TWS_TUNNEL_SOCKS5};

TEST(system_errors_are_passed_on)
{
    for (size_t i = 0; i < TWS_ARRAY_SIZE(kinds); i++) {
        struct ends ends;
        struct tws_tunnel_options options = new_options(kinds[i]);
        open_ends(&ends, &options);
        hang_up(&ends);
        CHECK_INT(advance(&ends), TWS_OS);
        CHECK_INT(ends.err.sys_errno, EPIPE);
        close_ends(&ends);
    }
}

TEST(room_is_awaited)
{
    static const char zeros[4096];
    for (size_t i = 0; i < TWS_ARRAY_SIZE(kinds); i++) {
        struct ends ends;
        struct tws_tunnel_options options = new_options(kinds[i]);
        struct pollfd poll_fd = {.events = POLLOUT};
        char data[65536];
        open_ends(&ends, &options);
        poll_fd.fd = ends.transport.fd;
        while (write(ends.transport.fd, zeros, sizeof(zeros)) > 0) {
        }
        CHECK_INT(advance(&ends), TWS_AGAIN);
        CHECK_INT(ends.events, TWS_WAIT_WRITE);
        while (read(ends.peer, data, sizeof(data)) > 0) {
        }
        CHECK_INT(poll(&poll_fd, 1, 5000), 1);
        expect_waiting(&ends);
        close_ends(&ends);
    }
}

TEST(what_cannot_be_said_is_refused)
{
    static const char *const hosts[] = {"",      "a\r\nb",      "a b",
                                        "a:80",  "fe80::1%e",   "[::1]",
                                        "a@b:c", "http://a.b/", "::1\n"};
    static const char *const secrets[] = {"sesame\r\n", "\nsesame",
                                          "\x1bsesame"};
    struct tws_tunnel *tunnel = NULL;
    struct tws_error err;
    for (size_t i = 0; i < TWS_ARRAY_SIZE(kinds); i++) {
        for (size_t j = 0; j < TWS_ARRAY_SIZE(hosts); j++) {
            struct tws_tunnel_options options = new_options(kinds[i]);
            options.host = hosts[j];
            CHECK_INT(tws_tunnel_new(&options, &tunnel, &err), TWS_REFUSED);
            CHECK_INT(err.http_status, 0);
        }
        for (size_t j = 0; j < TWS_ARRAY_SIZE(secrets); j++) {
            struct tws_tunnel_options options = with_login(kinds[i]);
            options.username = secrets[j];
            CHECK_INT(tws_tunnel_new(&options, &tunnel, &err), TWS_REFUSED);
            CHECK(strstr(err.reason, "sesame") == NULL);
            options = with_login(kinds[i]);
            options.password = secrets[j];
            CHECK_INT(tws_tunnel_new(&options, &tunnel, &err), TWS_REFUSED);
            CHECK(strstr(err.reason, "sesame") == NULL);
        }
        struct tws_tunnel_options options = new_options(kinds[i]);
        options.host = NULL;
        CHECK_INT(tws_tunnel_new(&options, &tunnel, &err), TWS_REFUSED);
    }
    struct tws_tunnel_options options = new_options(TWS_TUNNEL_SOCKS5);
    struct tws_address address = {.storage = {.ss_family = AF_UNIX}};
    options.address = &address;
    CHECK_INT(tws_tunnel_new(&options, &tunnel, &err), TWS_REFUSED);
    CHECK(tunnel == NULL);
    tws_tunnel_free(NULL);
}

TEST(credentials_are_wiped_once_they_are_sent)
{
    struct ends ends;
    struct tws_tunnel_options options = with_login(TWS_TUNNEL_HTTP);
    wiped = 0;
    open_ends(&ends, &options);
    CHECK_INT(wiped, 1); /* where they were put together */
    expect_waiting(&ends);
    CHECK_INT(wiped, 2);
    HEAR(&ends, CONNECT LOGIN "\r\n");
    close_ends(&ends);
    CHECK_INT(wiped, 2);
    wiped = 0;
    options.kind = TWS_TUNNEL_SOCKS5;
    open_ends(&ends, &options);
    say(&ends, TWS_SPAN("\x05\x02"));
    CHECK_INT(wiped, 0);
    expect_waiting(&ends);
    CHECK_INT(wiped, 1);
    close_ends(&ends);
    CHECK_INT(wiped, 1);
}

TEST(credentials_that_are_never_sent_are_wiped)
{
    struct ends ends;
    struct tws_tunnel_options options = with_login(TWS_TUNNEL_HTTP);
    wiped = 0;
    open_ends(&ends, &options);
    close_ends(&ends);
    CHECK_INT(wiped, 2);
    wiped = 0;
    options.kind = TWS_TUNNEL_SOCKS5;
    open_ends(&ends, &options);
    close_ends(&ends);
    CHECK_INT(wiped, 1);
    wiped = 0;
    open_ends(&ends, &options);
    say(&ends, TWS_SPAN("\x05\x00"));
    expect_waiting(&ends); /* the proxy does not want them */
    CHECK_INT(wiped, 1);
    close_ends(&ends);
}

TEST(password_may_be_missing)
{
    struct ends ends;
    struct tws_tunnel_options options = with_login(TWS_TUNNEL_HTTP);
    options.password = NULL;
    open_ends(&ends, &options);
    expect_waiting(&ends);
    HEAR(&ends, CONNECT "Proxy-Authorization: Basic QWxhZGRpbjo=\r\n\r\n");
    close_ends(&ends);
    options.kind = TWS_TUNNEL_SOCKS5;
    open_ends(&ends, &options);
    say(&ends, TWS_SPAN("\x05\x02"));
    expect_waiting(&ends);
    HEAR(&ends, "\x05\x02\x00\x02\x01\x07"
                "Aladdin\x00");
    close_ends(&ends);
}

RUN(T(http_opens), T(http_answer_in_two_parts_wherever_they_part),
    T(http_byte_by_byte), T(http_bytes_behind_the_answer_are_refused),
    T(http_refusals), T(http_refusal_ends_with_the_stream),
    T(http_refusal_whose_body_nobody_awaits), T(http_body_has_a_bound),
    T(http_endless_head), T(http_proxy_ends_early), T(socks_opens_by_name),
    T(socks_addresses), T(socks_logs_in_wherever_the_replies_part),
    T(socks_byte_by_byte), T(socks_replies_before_they_are_due),
    T(socks_refusals), T(socks_proxy_ends_early),
    T(system_errors_are_passed_on), T(room_is_awaited),
    T(what_cannot_be_said_is_refused),
    T(credentials_are_wiped_once_they_are_sent),
    T(credentials_that_are_never_sent_are_wiped), T(password_may_be_missing))
