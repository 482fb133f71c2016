#include "protocol/socks5.h"

#include "guard.h"
#include "harness.h"

#define HOST "example.org"
/* VER CMD RSV ATYP, then a name, and port 443. */
#define REQUEST "\x05\x01\x00\x03\x0b" HOST "\x01\xbb"
#define OPENED "\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34"

static const uint8_t ipv4[] = {192, 0, 2, 1};
static const uint8_t ipv6[] = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0,
                               0,    0,    0,    0,    0, 0, 0, 1};

static struct tws_socks5_offer
by_name(void)
{
    return (struct tws_socks5_offer){.name = TWS_SPAN(HOST), .port = 443};
}

static struct tws_socks5_offer
with_login(void)
{
    struct tws_socks5_offer offer = by_name();
    offer.credentials = true;
    offer.username = TWS_SPAN("Aladdin");
    offer.password = TWS_SPAN("open sesame");
    return offer;
}

/* Sends what is due, one byte at a time, and compares it. */
static void
expect_output(struct tws_socks5 *socks, const char *expected, size_t length)
{
    struct tws_span output = tws_socks5_output(socks);
    CHECK_INT(output.length, length);
    CHECK_INT(tws_socks5_wanted(socks), 0);
    for (size_t i = 0; i < length; i++) {
        output = tws_socks5_output(socks);
        CHECK_INT(output.length, length - i);
        CHECK(output.length > 0 && output.data[0] == expected[i]);
        tws_socks5_sent(socks, 1);
    }
    CHECK_INT(tws_socks5_output(socks).length, 0);
}

#define EXPECT_OUTPUT(socks, literal)                                         \
    expect_output((socks), (literal), sizeof(literal) - 1)

/* Hands over `length` bytes in parts of `step`, each at the end of its
 * memory. */
static enum tws_status
answer(struct tws_socks5 *socks, const char *text, size_t length, size_t step,
       size_t *taken, struct tws_error *err)
{
    enum tws_status status = TWS_AGAIN;
    size_t done = 0;
    *taken = 0;
    while (status == TWS_AGAIN && done < length) {
        size_t part = length - done < step ? length - done : step;
        struct guard guard = guard_copy(text + done, part);
        size_t consumed = SIZE_MAX;
        status = tws_socks5_take(socks, guard.data, part, &consumed, err);
        guard_free(&guard);
        CHECK(consumed <= part);
        *taken += consumed;
        done += part;
    }
    return status;
}

/* An answer that is taken whole. */
static void
take_all(struct tws_socks5 *socks, const char *text, size_t length,
         enum tws_status expected)
{
    struct tws_error err;
    size_t taken;
    CHECK_INT(answer(socks, text, length, length, &taken, &err), expected);
    CHECK_INT(taken, length);
}

#define TAKE(socks, literal, expected)                                        \
    take_all((socks), (literal), sizeof(literal) - 1, (expected))

static void
start(struct tws_socks5 *socks, const struct tws_socks5_offer *offer)
{
    struct tws_error err;
    CHECK_INT(tws_socks5_init(socks, offer, &err), TWS_OK);
}

/* Up to where the reply to the request is awaited. */
static void
ask(struct tws_socks5 *socks)
{
    struct tws_socks5_offer offer = by_name();
    start(socks, &offer);
    EXPECT_OUTPUT(socks, "\x05\x01\x00");
    TAKE(socks, "\x05\x00", TWS_AGAIN);
    EXPECT_OUTPUT(socks, REQUEST);
}

TEST(opens_by_name)
{
    struct tws_socks5 socks;
    ask(&socks);
    TAKE(&socks, OPENED, TWS_OK);
    CHECK_INT(tws_socks5_wanted(&socks), 0);
    CHECK_INT(tws_socks5_output(&socks).length, 0);
}

TEST(opens_by_address)
{
    struct tws_socks5 socks;
    struct tws_socks5_offer offer = by_name();
    offer.address = ipv4;
    offer.address_length = sizeof(ipv4);
    start(&socks, &offer);
    EXPECT_OUTPUT(&socks, "\x05\x01\x00");
    TAKE(&socks, "\x05\x00", TWS_AGAIN);
    EXPECT_OUTPUT(&socks, "\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb");
    TAKE(&socks, OPENED, TWS_OK);
    offer.address = ipv6;
    offer.address_length = sizeof(ipv6);
    start(&socks, &offer);
    EXPECT_OUTPUT(&socks, "\x05\x01\x00");
    TAKE(&socks, "\x05\x00", TWS_AGAIN);
    EXPECT_OUTPUT(&socks, "\x05\x01\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00"
                          "\x00\x00\x00\x00\x00\x00\x00\x01\x01\xbb");
    TAKE(&socks, OPENED, TWS_OK);
}

/* True where the memory holds the password anywhere. */
static bool
holds_password(const struct tws_socks5 *socks)
{
    return memmem(socks, sizeof(*socks), "sesame", 6) != NULL;
}

TEST(logs_in)
{
    struct tws_socks5 socks;
    struct tws_socks5_offer offer = with_login();
    start(&socks, &offer);
    EXPECT_OUTPUT(&socks, "\x05\x02\x00\x02");
    CHECK(holds_password(&socks));
    TAKE(&socks, "\x05\x02", TWS_AGAIN);
    EXPECT_OUTPUT(&socks, "\x01\x07"
                          "Aladdin\x0bopen sesame");
    CHECK(!holds_password(&socks));
    TAKE(&socks, "\x01\x00", TWS_AGAIN);
    EXPECT_OUTPUT(&socks, REQUEST);
    TAKE(&socks, OPENED, TWS_OK);
}

TEST(login_that_is_not_wanted_is_forgotten)
{
    struct tws_socks5 socks;
    struct tws_socks5_offer offer = with_login();
    start(&socks, &offer);
    EXPECT_OUTPUT(&socks, "\x05\x02\x00\x02");
    TAKE(&socks, "\x05\x00", TWS_AGAIN);
    CHECK(!holds_password(&socks));
    EXPECT_OUTPUT(&socks, REQUEST);
    TAKE(&socks, OPENED, TWS_OK);
    start(&socks, &offer);
    CHECK(holds_password(&socks));
    tws_socks5_wipe(&socks);
    CHECK(!holds_password(&socks));
}

TEST(password_may_be_empty)
{
    struct tws_socks5 socks;
    struct tws_socks5_offer offer = with_login();
    offer.password = TWS_SPAN("");
    start(&socks, &offer);
    EXPECT_OUTPUT(&socks, "\x05\x02\x00\x02");
    TAKE(&socks, "\x05\x02", TWS_AGAIN);
    EXPECT_OUTPUT(&socks, "\x01\x07"
                          "Aladdin\x00");
}

TEST(longest_texts)
{
    char text[256];
    struct tws_socks5 socks;
    struct tws_error err;
    struct tws_span longest = {.data = text, .length = 255};
    struct tws_span longer = {.data = text, .length = 256};
    memset(text, 'a', sizeof(text));
    struct tws_socks5_offer offer = {.name = longest,
                                     .port = 65535,
                                     .credentials = true,
                                     .username = longest,
                                     .password = longest};
    start(&socks, &offer);
    EXPECT_OUTPUT(&socks, "\x05\x02\x00\x02");
    TAKE(&socks, "\x05\x02", TWS_AGAIN);
    struct tws_span output = tws_socks5_output(&socks);
    CHECK_INT(output.length, 3 + 255 + 255);
    CHECK_INT((uint8_t)output.data[1], 255);
    CHECK_INT((uint8_t)output.data[257], 255);
    tws_socks5_sent(&socks, output.length);
    TAKE(&socks, "\x01\x00", TWS_AGAIN);
    output = tws_socks5_output(&socks);
    CHECK_INT(output.length, 7 + 255);
    CHECK_INT((uint8_t)output.data[4], 255);
    CHECK_INT((uint8_t)output.data[261], 255);
    struct tws_socks5_offer too_long = offer;
    too_long.name = longer;
    CHECK_INT(tws_socks5_init(&socks, &too_long, &err), TWS_REFUSED);
    too_long = offer;
    too_long.username = longer;
    CHECK_INT(tws_socks5_init(&socks, &too_long, &err), TWS_REFUSED);
    too_long = offer;
    too_long.password = longer;
    CHECK_INT(tws_socks5_init(&socks, &too_long, &err), TWS_REFUSED);
}

TEST(what_cannot_be_said_is_refused)
{
    static const struct tws_span bad_names[] = {
        TWS_SPAN(""),       TWS_SPAN("a\0b"),      TWS_SPAN("a\r\nb"),
        TWS_SPAN("a b"),    TWS_SPAN("a:80"),      TWS_SPAN("a/"),
        TWS_SPAN("user@a"), TWS_SPAN("fe80::1%e"), TWS_SPAN("[::1]"),
        TWS_SPAN("a\x7f"),  TWS_SPAN("\xc3\xa4"),
    };
    static const struct tws_span bad_secrets[] = {
        TWS_SPAN("sesame\0"),   TWS_SPAN("sesame\r\n"), TWS_SPAN("\nsesame"),
        TWS_SPAN("sesame\x7f"), TWS_SPAN("\x1bsesame"),
    };
    struct tws_socks5 socks;
    struct tws_error err;
    for (size_t i = 0; i < TWS_ARRAY_SIZE(bad_names); i++) {
        struct tws_socks5_offer offer = by_name();
        offer.name = bad_names[i];
        CHECK_INT(tws_socks5_init(&socks, &offer, &err), TWS_REFUSED);
        CHECK_INT(err.http_status, 0);
    }
    for (size_t i = 0; i < TWS_ARRAY_SIZE(bad_secrets); i++) {
        struct tws_socks5_offer offer = with_login();
        offer.username = bad_secrets[i];
        CHECK_INT(tws_socks5_init(&socks, &offer, &err), TWS_REFUSED);
        CHECK(strstr(err.reason, "sesame") == NULL);
        offer = with_login();
        offer.password = bad_secrets[i];
        CHECK_INT(tws_socks5_init(&socks, &offer, &err), TWS_REFUSED);
        CHECK(strstr(err.reason, "sesame") == NULL);
    }
    struct tws_socks5_offer offer = with_login();
    offer.username = TWS_SPAN("");
    CHECK_INT(tws_socks5_init(&socks, &offer, &err), TWS_REFUSED);
    offer = by_name();
    offer.port = 0;
    CHECK_INT(tws_socks5_init(&socks, &offer, &err), TWS_REFUSED);
    offer = by_name();
    offer.address = ipv6;
    offer.address_length = 15;
    CHECK_INT(tws_socks5_init(&socks, &offer, &err), TWS_REFUSED);
}

/* Each form of a reply, in each size of part, with the server's bytes right
 * behind it: they must stay. */
TEST(nothing_of_the_server_is_taken)
{
    static const struct tws_span replies[] = {
        TWS_SPAN(OPENED),
        TWS_SPAN("\x05\x00\x00\x04"
                 "0123456789abcdef\x12\x34"),
        TWS_SPAN("\x05\x00\x00\x03\x03"
                 "abc\x12\x34"),
        TWS_SPAN("\x05\x00\x00\x03\x01"
                 "a\x12\x34"),
        TWS_SPAN("\x05\x00\x00\x03\x00\x12\x34"),
        TWS_SPAN("\x05\x00\xff\x01\x7f\x00\x00\x01\x12\x34"), /* RSV */
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(replies); i++) {
        char text[64];
        size_t length = replies[i].length;
        memcpy(text, replies[i].data, length);
        memcpy(text + length, "server", 6);
        for (size_t step = 1; step <= length + 6; step++) {
            struct tws_socks5 socks;
            struct tws_error err;
            size_t taken;
            ask(&socks);
            CHECK_INT(answer(&socks, text, length + 6, step, &taken, &err),
                      TWS_OK);
            CHECK_INT(taken, length);
        }
    }
}

/* Reading no more than is wanted ends at the end of the reply, whatever is
 * behind it. */
TEST(wanted_never_reaches_behind_the_reply)
{
    for (size_t name = 0; name <= 255; name++) {
        char text[5 + 255 + 2] = "\x05\x00\x00\x03";
        size_t length = 5 + name + 2;
        size_t done = 0;
        size_t consumed;
        struct tws_socks5 socks;
        struct tws_error err;
        enum tws_status status = TWS_AGAIN;
        text[4] = (char)name;
        ask(&socks);
        while (status == TWS_AGAIN) {
            size_t wanted = tws_socks5_wanted(&socks);
            CHECK(wanted > 0 && wanted <= length - done);
            status = tws_socks5_take(&socks, (uint8_t *)text + done, wanted,
                                     &consumed, &err);
            CHECK_INT(consumed, wanted);
            done += wanted;
        }
        CHECK_INT(status, TWS_OK);
        CHECK_INT(done, length);
    }
}

TEST(replies_may_come_before_they_are_due)
{
    struct tws_socks5 socks;
    struct tws_error err;
    struct tws_socks5_offer offer = with_login();
    const char *all = "\x05\x02\x01\x00" OPENED;
    size_t consumed;
    start(&socks, &offer);
    CHECK_INT(
        tws_socks5_take(&socks, (const uint8_t *)all, 14, &consumed, &err),
        TWS_AGAIN);
    CHECK_INT(consumed, 0);
    EXPECT_OUTPUT(&socks, "\x05\x02\x00\x02");
    CHECK_INT(
        tws_socks5_take(&socks, (const uint8_t *)all, 14, &consumed, &err),
        TWS_AGAIN);
    CHECK_INT(consumed, 2);
}

struct refusal {
    struct tws_span text;
    const char *reason;
};

static void
check_refused(struct tws_socks5 *socks, const struct refusal *refusal,
              size_t step)
{
    struct tws_error err = {.http_status = 1};
    size_t taken;
    CHECK_INT(answer(socks, refusal->text.data, refusal->text.length, step,
                     &taken, &err),
              TWS_REFUSED);
    CHECK_INT(err.http_status, 0);
    if (strcmp(err.reason, refusal->reason) != 0) {
        (void)fprintf(stderr, "got: %s\n", err.reason);
        CHECK(false);
    }
}

TEST(every_error_code)
{
    static const char *const texts[] = {
        [1] = "proxy refused: general SOCKS server failure (1)",
        [2] = "proxy refused: connection not allowed by ruleset (2)",
        [3] = "proxy refused: network unreachable (3)",
        [4] = "proxy refused: host unreachable (4)",
        [5] = "proxy refused: connection refused (5)",
        [6] = "proxy refused: TTL expired (6)",
        [7] = "proxy refused: command not supported (7)",
        [8] = "proxy refused: address type not supported (8)",
    };
    for (unsigned code = 1; code < 256; code++) {
        char text[10] = {5, (char)code, 0, 1};
        char reason[64];
        struct refusal refusal = {
            .text = {.data = text, .length = sizeof(text)},
            .reason = reason,
        };
        (void)snprintf(reason, sizeof(reason), "%s",
                       code < TWS_ARRAY_SIZE(texts) ? texts[code] : "");
        if (code >= TWS_ARRAY_SIZE(texts)) {
            (void)snprintf(reason, sizeof(reason),
                           "proxy refused: unassigned error (%u)", code);
        }
        struct tws_socks5 socks;
        ask(&socks);
        check_refused(&socks, &refusal, 1);
        ask(&socks);
        check_refused(&socks, &refusal, sizeof(text));
        /* Without the rest, which not every proxy sends. */
        refusal.text.length = 2;
        ask(&socks);
        check_refused(&socks, &refusal, 2);
    }
}

TEST(wrong_methods)
{
    static const struct refusal refusals[] = {
        {TWS_SPAN("\x05\xff"),
         "proxy refused: it wants authentication, give a username and a "
         "password (255)"},
        {TWS_SPAN("\x05\x02"),
         "proxy chose authentication method 2, which was not offered"},
        {TWS_SPAN("\x05\x01"),
         "proxy chose authentication method 1, which was not offered"},
        {TWS_SPAN("\x04"), "proxy answered with version 4, expected SOCKS "
                           "version 5; it may be no SOCKS 5 proxy"},
        {TWS_SPAN("HTTP/1.1 400 Bad Request\r\n"),
         "proxy answered with version 72, expected SOCKS version 5; it may "
         "be no SOCKS 5 proxy"},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(refusals); i++) {
        struct tws_socks5 socks;
        struct tws_socks5_offer offer = by_name();
        start(&socks, &offer);
        EXPECT_OUTPUT(&socks, "\x05\x01\x00");
        check_refused(&socks, &refusals[i], 1);
    }
    struct tws_socks5 socks;
    struct tws_socks5_offer offer = with_login();
    struct refusal neither = {
        TWS_SPAN("\x05\xff"),
        "proxy refused: it takes neither a username and password nor clients "
        "without (255)"};
    start(&socks, &offer);
    EXPECT_OUTPUT(&socks, "\x05\x02\x00\x02");
    check_refused(&socks, &neither, 1);
}

TEST(wrong_logins)
{
    static const struct refusal refusals[] = {
        {TWS_SPAN("\x01\x01"),
         "proxy refused: username or password not accepted (1)"},
        {TWS_SPAN("\x01\xff"),
         "proxy refused: username or password not accepted (255)"},
        {TWS_SPAN("\x05\x00"),
         "proxy answered the login with version 5, expected 1"},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(refusals); i++) {
        struct tws_socks5 socks;
        struct tws_socks5_offer offer = with_login();
        start(&socks, &offer);
        EXPECT_OUTPUT(&socks, "\x05\x02\x00\x02");
        TAKE(&socks, "\x05\x02", TWS_AGAIN);
        EXPECT_OUTPUT(&socks, "\x01\x07"
                              "Aladdin\x0bopen sesame");
        check_refused(&socks, &refusals[i], 1);
    }
}

TEST(wrong_replies)
{
    static const struct refusal refusals[] = {
        {TWS_SPAN("\x00\x00"), "proxy answered with version 0, expected SOCKS "
                               "version 5; it may be no SOCKS 5 proxy"},
        {TWS_SPAN("\x05\x00\x00\x00"),
         "proxy answered with address type 0, expected 1, 3 or 4"},
        {TWS_SPAN("\x05\x00\x00\x02"),
         "proxy answered with address type 2, expected 1, 3 or 4"},
        {TWS_SPAN("\x05\x00\x00\xff"),
         "proxy answered with address type 255, expected 1, 3 or 4"},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(refusals); i++) {
        struct tws_socks5 socks;
        ask(&socks);
        check_refused(&socks, &refusals[i], 1);
    }
}

RUN(T(opens_by_name), T(opens_by_address), T(logs_in),
    T(login_that_is_not_wanted_is_forgotten), T(password_may_be_empty),
    T(longest_texts), T(what_cannot_be_said_is_refused),
    T(nothing_of_the_server_is_taken),
    T(wanted_never_reaches_behind_the_reply),
    T(replies_may_come_before_they_are_due), T(every_error_code),
    T(wrong_methods), T(wrong_logins), T(wrong_replies))
