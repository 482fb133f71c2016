#include "protocol/http_connect.h"

#include "harness.h"

#define ASK(authority)                                                        \
    "CONNECT " authority " HTTP/1.1\r\nHost: " authority "\r\n"
#define OPENED "HTTP/1.1 200 Connection established\r\n\r\n"
#define REFUSED "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nVia: a\r\n\r\n"

static const struct tws_http_limits limits = {.head_bytes = 256,
                                              .field_count = 8};

static struct tws_http_connect_offer
new_offer(const char *host)
{
    return (struct tws_http_connect_offer){
        .host = {.data = host, .length = strlen(host)}, .port = 443};
}

static struct tws_http_connect_offer
with_login(struct tws_span username, struct tws_span password)
{
    struct tws_http_connect_offer offer = new_offer("example.org");
    offer.credentials = true;
    offer.username = username;
    offer.password = password;
    return offer;
}

static void
expect_request(const struct tws_http_connect_offer *offer,
               const char *expected)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err = {.reason = ""};
    CHECK_INT(tws_http_connect_write(&out, offer, &err), TWS_OK);
    size_t length = tws_buffer_length(&out);
    if (length != strlen(expected)
        || memcmp(tws_buffer_data(&out), expected, length) != 0) {
        (void)fprintf(stderr, "got: %.*s\n%s\n", (int)length,
                      (const char *)tws_buffer_data(&out), err.reason);
        CHECK(false);
    }
    tws_buffer_release(&out);
}

/* Nothing is written; the reason says `expected` and no secret. */
static void
expect_refusal(const struct tws_http_connect_offer *offer,
               const char *expected)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err = {.http_status = 1};
    CHECK_INT(tws_buffer_append(&out, "before", 6), TWS_OK);
    CHECK_INT(tws_http_connect_write(&out, offer, &err), TWS_REFUSED);
    CHECK_INT(err.http_status, 0);
    CHECK_BYTES(tws_buffer_data(&out), tws_buffer_length(&out), "before");
    if (strstr(err.reason, expected) == NULL
        || strstr(err.reason, "sesame") != NULL) {
        (void)fprintf(stderr, "got: %s\n", err.reason);
        CHECK(false);
    }
    tws_buffer_release(&out);
}

TEST(authorities)
{
    static const struct {
        const char *host;
        uint16_t port;
        const char *expected;
    } cases[] = {
        {"example.org", 443, ASK("example.org:443") "\r\n"},
        {"example.org", 80, ASK("example.org:80") "\r\n"},
        {"192.0.2.1", 65535, ASK("192.0.2.1:65535") "\r\n"},
        {"2001:db8::1", 1, ASK("[2001:db8::1]:1") "\r\n"},
        {"::", 8080, ASK("[::]:8080") "\r\n"},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        struct tws_http_connect_offer offer = new_offer(cases[i].host);
        offer.port = cases[i].port;
        expect_request(&offer, cases[i].expected);
    }
}

TEST(longest_host)
{
    char host[257];
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    memset(host, 'a', sizeof(host));
    host[255] = '\0';
    struct tws_http_connect_offer offer = new_offer(host);
    offer.port = 65535;
    CHECK_INT(tws_http_connect_write(&out, &offer, &err), TWS_OK);
    CHECK_INT(tws_buffer_length(&out), 2 * (255 + 6) + 8 + 11 + 6 + 2 + 2);
    tws_buffer_release(&out);
    host[255] = 'a';
    host[256] = '\0';
    offer = new_offer(host);
    expect_refusal(&offer, "host name has 256 bytes, expected 1 to 255");
}

TEST(all_fields)
{
    struct tws_http_connect_offer offer =
        with_login(TWS_SPAN("Aladdin"), TWS_SPAN("open sesame"));
    offer.user_agent = TWS_SPAN("twspy/1");
    expect_request(&offer,
                   ASK("example.org:443") "User-Agent: twspy/1\r\n"
                                          "Proxy-Authorization: Basic "
                                          "QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"
                                          "\r\n");
}

TEST(credentials_of_every_remainder)
{
    struct tws_http_connect_offer offer =
        with_login(TWS_SPAN("a"), TWS_SPAN(""));
    expect_request(
        &offer,
        ASK("example.org:443") "Proxy-Authorization: Basic YTo=\r\n\r\n");
    offer = with_login(TWS_SPAN("a"), TWS_SPAN("b"));
    expect_request(
        &offer,
        ASK("example.org:443") "Proxy-Authorization: Basic YTpi\r\n\r\n");
    offer = with_login(TWS_SPAN("a"), TWS_SPAN("b:"));
    expect_request(
        &offer,
        ASK("example.org:443") "Proxy-Authorization: Basic YTpiOg==\r\n\r\n");
    /* RFC 7617 §2.1: UTF-8. */
    offer = with_login(TWS_SPAN("test"), TWS_SPAN("123\xc2\xa3"));
    expect_request(&offer, ASK("example.org:443") "Proxy-Authorization: Basic "
                                                  "dGVzdDoxMjPCow==\r\n\r\n");
}

/* A buffer that grows leaves what it held in freed memory: there must be
 * room for all before the first secret is written, which shows where the
 * writing ends before that. */
TEST(memory_with_secrets_does_not_move)
{
    static char text[8192];
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_buffer cut_short = TWS_BUFFER_EMPTY;
    struct tws_error err;
    memset(text, 'x', sizeof(text));
    struct tws_span longest = {.data = text, .length = sizeof(text)};
    struct tws_http_connect_offer offer = with_login(longest, longest);
    offer.user_agent = longest;
    CHECK_INT(tws_http_connect_write(&out, &offer, &err), TWS_OK);
    CHECK(tws_buffer_length(&out) > 2 * sizeof(text) / 3 * 4 + sizeof(text));
    text[8000] = '\n';
    offer.username = TWS_SPAN("a");
    static char harmless[2 * 8192 - 1];
    memset(harmless, 'y', sizeof(harmless));
    offer.password =
        (struct tws_span){.data = harmless, .length = sizeof(harmless)};
    CHECK_INT(tws_http_connect_write(&cut_short, &offer, &err), TWS_REFUSED);
    CHECK(strstr(err.reason, "User-Agent") != NULL);
    CHECK(cut_short.capacity >= tws_buffer_length(&out));
    tws_buffer_release(&out);
    tws_buffer_release(&cut_short);
}

TEST(credentials_have_a_bound)
{
    static char text[16384];
    memset(text, 'x', sizeof(text));
    struct tws_http_connect_offer offer =
        with_login(TWS_SPAN("a"),
                   (struct tws_span){.data = text, .length = sizeof(text)});
    expect_refusal(&offer, "more than 16384 bytes");
    offer.username.length = SIZE_MAX;
    expect_refusal(&offer, "more than 16384 bytes");
}

TEST(what_cannot_be_said_is_refused)
{
    static const struct tws_span bad_hosts[] = {
        TWS_SPAN("a\0b"),     TWS_SPAN("a\r\nX: y"), TWS_SPAN("a b"),
        TWS_SPAN("a:80"),     TWS_SPAN("[::1]"),     TWS_SPAN("fe80::1%eth0"),
        TWS_SPAN("user@a"),   TWS_SPAN("a/b"),       TWS_SPAN("a\x7f"),
        TWS_SPAN("\xc3\xa4"), TWS_SPAN("::1\0"),     TWS_SPAN("a\n"),
    };
    static const struct tws_span bad_secrets[] = {
        TWS_SPAN("sesame\0"),   TWS_SPAN("sesame\r\n"), TWS_SPAN("\nsesame"),
        TWS_SPAN("sesame\x7f"), TWS_SPAN("\x1bsesame"),
    };
    struct tws_http_connect_offer offer = new_offer("");
    expect_refusal(&offer, "host name has 0 bytes, expected 1 to 255");
    for (size_t i = 0; i < TWS_ARRAY_SIZE(bad_hosts); i++) {
        offer.host = bad_hosts[i];
        expect_refusal(&offer, "expected a host name or an address");
    }
    for (size_t i = 0; i < TWS_ARRAY_SIZE(bad_secrets); i++) {
        offer = with_login(bad_secrets[i], TWS_SPAN("b"));
        expect_refusal(&offer, "control byte");
        offer = with_login(TWS_SPAN("b"), bad_secrets[i]);
        expect_refusal(&offer, "control byte");
    }
    offer = with_login(TWS_SPAN("open:sesame"), TWS_SPAN("b"));
    expect_refusal(&offer, "colon");
    offer = with_login(TWS_SPAN(""), TWS_SPAN("sesame"));
    expect_refusal(&offer, "username for the proxy is empty");
    offer = with_login(TWS_SPAN("open"), TWS_SPAN("sesame"));
    offer.user_agent = TWS_SPAN("a\r\nb");
    expect_refusal(&offer, "value of field User-Agent");
    offer = new_offer("example.org");
    offer.port = 0;
    expect_refusal(&offer, "port is 0");
}

struct asked {
    struct tws_http_connect connect;
    struct tws_buffer in;
    struct tws_http_head head;
    struct tws_error err;
};

/* Lets `text` arrive in parts of `step` bytes. */
static enum tws_status
arrive(struct asked *asked, struct tws_span text, size_t step)
{
    enum tws_status status = TWS_AGAIN;
    for (size_t done = 0; status == TWS_AGAIN && done < text.length;
         done += step) {
        size_t part = text.length - done < step ? text.length - done : step;
        CHECK_INT(tws_buffer_append(&asked->in, text.data + done, part),
                  TWS_OK);
        status = tws_http_connect_take(&asked->connect, &asked->in,
                                       &asked->head, &asked->err);
    }
    return status;
}

static struct asked
new_asked(void)
{
    return (struct asked){.connect = {.limits = limits}};
}

TEST(open_answers)
{
    static const struct tws_span answers[] = {
        TWS_SPAN(OPENED),
        TWS_SPAN("HTTP/1.0 200 OK\r\n\r\n"),
        TWS_SPAN("HTTP/1.1 299 \r\nVia: a\r\n\r\n"),
        /* RFC 9110 §9.3.6: both are ignored. */
        TWS_SPAN("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        TWS_SPAN("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        TWS_SPAN("HTTP/1.1 204 No Content\r\n\r\n"),
        TWS_SPAN("HTTP/1.1 100 Continue\r\n\r\n" OPENED),
        TWS_SPAN("HTTP/1.1 103 Early\r\nLink: a\r\n\r\n"
                 "HTTP/1.1 102 Processing\r\n\r\n" OPENED),
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(answers); i++) {
        for (size_t step = 1; step <= answers[i].length; step++) {
            struct asked asked = new_asked();
            CHECK_INT(arrive(&asked, answers[i], step), TWS_OK);
            CHECK_INT(tws_buffer_length(&asked.in), 0);
            tws_buffer_release(&asked.in);
        }
    }
}

TEST(bytes_behind_an_open_answer_are_refused)
{
    static const struct tws_span answers[] = {
        TWS_SPAN(OPENED "x"),
        TWS_SPAN("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
        TWS_SPAN("HTTP/1.1 100 Continue\r\n\r\n" OPENED "x"),
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(answers); i++) {
        struct asked asked = new_asked();
        CHECK_INT(arrive(&asked, answers[i], answers[i].length), TWS_REFUSED);
        CHECK_INT(asked.err.http_status, 0);
        CHECK(strstr(asked.err.reason, "proxy sent 1 bytes behind") != NULL);
        tws_buffer_release(&asked.in);
    }
}

static void
expect_refused(struct tws_span answer, uint16_t http_status,
               const char *reason, bool credentials)
{
    for (size_t step = 1; step <= answer.length; step++) {
        struct asked asked = new_asked();
        asked.connect.credentials = credentials;
        CHECK_INT(arrive(&asked, answer, step), TWS_REFUSED);
        CHECK_INT(asked.err.http_status, http_status);
        if (strcmp(asked.err.reason, reason) != 0) {
            (void)fprintf(stderr, "got: %s\n", asked.err.reason);
            CHECK(false);
        }
        tws_buffer_release(&asked.in);
    }
}

TEST(refusals)
{
    expect_refused(TWS_SPAN(REFUSED), 403,
                   "proxy refused: 403 Forbidden, expected 2xx", true);
    expect_refused(TWS_SPAN("HTTP/1.1 407 Log in\r\n\r\n"), 407,
                   "proxy refused: 407 Log in, expected 2xx: give it a "
                   "username and a password",
                   false);
    expect_refused(TWS_SPAN("HTTP/1.1 407 Log in\r\n\r\n"), 407,
                   "proxy refused: 407 Log in, expected 2xx: it has not "
                   "accepted the username and password",
                   true);
    expect_refused(TWS_SPAN("HTTP/1.1 100 Go on\r\n\r\n"
                            "HTTP/1.0 502 Bad Gateway\r\n\r\n"),
                   502, "proxy refused: 502 Bad Gateway, expected 2xx", false);
    expect_refused(TWS_SPAN("HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"), 302,
                   "proxy refused: 302 Found, expected 2xx", false);
    expect_refused(TWS_SPAN("HTTP/1.1 101 Switching\r\n\r\n"), 101,
                   "proxy refused: 101 Switching, expected 2xx", false);
    /* Text of the peer ends in logs. */
    expect_refused(TWS_SPAN("HTTP/1.1 500 \xe2\x80\xae\t\r\n\r\n"), 500,
                   "proxy refused: 500 ????, expected 2xx", false);
}

TEST(refusal_keeps_its_head_and_what_follows)
{
    struct asked asked = new_asked();
    const size_t head_length = sizeof(REFUSED) - 1;
    CHECK_INT(arrive(&asked, TWS_SPAN(REFUSED "no"), head_length + 2),
              TWS_REFUSED);
    CHECK_INT(asked.connect.head_length, head_length);
    CHECK_INT(tws_buffer_length(&asked.in), head_length + 2);
    CHECK_INT(asked.head.status, 403);
    CHECK_INT(asked.head.field_count, 2);
    tws_buffer_release(&asked.in);
}

TEST(what_is_no_answer)
{
    static const struct tws_span answers[] = {
        TWS_SPAN("\x05\x00"),
        TWS_SPAN("\r\n\r\n"),
        TWS_SPAN("HTTP/1.1 200 OK\n\n"),
        TWS_SPAN("HTTP/1.1 200 OK\rX\r\n\r\n"),
        TWS_SPAN("HTTP/2.0 200 OK\r\n\r\n"),
        TWS_SPAN("HTTP/1.1 999 OK\r\n\r\n"),
        TWS_SPAN("HTTP/1.1 20 OK\r\n\r\n"),
        TWS_SPAN("SSH-2.0-OpenSSH\r\n\r\n"),
        TWS_SPAN("HTTP/1.1 200 OK\r\nVia\r\n\r\n"),
        TWS_SPAN("HTTP/1.1 200 OK\r\nVia : a\r\n\r\n"),
        TWS_SPAN("HTTP/1.1 200 OK\r\n Via: a\r\n\r\n"),
        TWS_SPAN("HTTP/1.1 200 OK\r\nVia: \0\r\n\r\n"),
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(answers); i++) {
        for (size_t step = 1; step <= answers[i].length; step++) {
            struct asked asked = new_asked();
            CHECK_INT(arrive(&asked, answers[i], step), TWS_REFUSED);
            CHECK_INT(asked.err.http_status, 0);
            CHECK(strncmp(asked.err.reason, "proxy sent no HTTP answer: ", 27)
                  == 0);
            tws_buffer_release(&asked.in);
        }
    }
}

/* An endless line, endless fields, endless interim answers. */
TEST(what_never_ends)
{
    static const char *const parts[] = {"x", "X: y\r\n",
                                        "HTTP/1.1 100 Continue\r\n\r\n"};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(parts); i++) {
        struct asked asked = new_asked();
        struct tws_span part = {.data = parts[i], .length = strlen(parts[i])};
        enum tws_status status = TWS_AGAIN;
        size_t total = 0;
        if (i == 1) {
            status = arrive(&asked, TWS_SPAN("HTTP/1.1 200 OK\r\n"), 17);
        }
        while (status == TWS_AGAIN && total < 100000) {
            status = arrive(&asked, part, part.length);
            total += part.length;
        }
        CHECK_INT(status, TWS_REFUSED);
        CHECK_INT(asked.err.http_status, 0);
        CHECK(total < 600);
        CHECK(asked.in.capacity <= 1024);
        tws_buffer_release(&asked.in);
    }
}

RUN(T(authorities), T(longest_host), T(all_fields),
    T(credentials_of_every_remainder), T(memory_with_secrets_does_not_move),
    T(credentials_have_a_bound), T(what_cannot_be_said_is_refused),
    T(open_answers), T(bytes_behind_an_open_answer_are_refused), T(refusals),
    T(refusal_keeps_its_head_and_what_follows), T(what_is_no_answer),
    T(what_never_ends))
