#include "protocol/ending.h"

#include "harness.h"

#include <limits.h>

static struct tws_ending
cleared(enum tws_ended_by by, uint16_t code, struct tws_span reason)
{
    struct tws_ending ending;
    memset(&ending, 0x5a, sizeof(ending));
    tws_ending_clear(&ending);
    ending.by = (uint8_t)by;
    tws_ending_set_reason(&ending, code, reason);
    return ending;
}

#define CHECK_LINE(ending, literal)                                           \
    do {                                                                      \
        char check_line[TWS_ENDING_LINE_MAX];                                 \
        memset(check_line, 'x', sizeof(check_line));                          \
        tws_ending_describe((ending), check_line);                            \
        CHECK(memchr(check_line, '\0', sizeof(check_line)) != NULL);          \
        CHECK_BYTES(check_line, strlen(check_line), literal);                 \
    } while (0)

TEST(a_cleared_one_says_nothing)
{
    struct tws_ending ending;
    memset(&ending, 0x5a, sizeof(ending));
    tws_ending_clear(&ending);
    CHECK_INT(ending.code, 0);
    CHECK_INT(ending.reason_length, 0);
    CHECK_INT(ending.reason[0], '\0');
    CHECK_INT(ending.sent_code, 0);
    CHECK_INT(ending.sent_reason[0], '\0');
    CHECK_INT(ending.received_code, 0);
    CHECK_INT(ending.received_reason[0], '\0');
    CHECK_INT(ending.sys_errno, 0);
    CHECK(ending.unsent == 0);
    CHECK(ending.ping_age == UINT64_MAX);
}

TEST(each_has_a_name)
{
    static const char *const names[] = {"peer", "us", "network", "limit",
                                        "keepalive"};
    static const enum tws_ended_by all[] = {
        TWS_ENDED_BY_PEER, TWS_ENDED_BY_US, TWS_ENDED_BY_NETWORK,
        TWS_ENDED_BY_LIMIT, TWS_ENDED_BY_KEEPALIVE};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(all); i++) {
        CHECK(strcmp(tws_ended_by_name(all[i]), names[i]) == 0);
    }
}

TEST(a_reason_is_cut_between_characters)
{
    char text[2 * TWS_CLOSE_REASON_MAX];
    struct tws_ending ending;
    memset(text, 'a', sizeof(text));
    struct tws_span reason = {.data = text, .length = TWS_CLOSE_REASON_MAX};
    ending = cleared(TWS_ENDED_BY_PEER, 1000, reason);
    CHECK_INT(ending.code, 1000);
    CHECK_INT(ending.reason_length, TWS_CLOSE_REASON_MAX);
    CHECK_INT(ending.reason[TWS_CLOSE_REASON_MAX], '\0');

    reason.length = sizeof(text);
    memcpy(text + TWS_CLOSE_REASON_MAX - 2, "\xe2\x82\xac", 3);
    ending = cleared(TWS_ENDED_BY_PEER, 1000, reason);
    CHECK_INT(ending.reason_length, TWS_CLOSE_REASON_MAX - 2);
    CHECK_INT(ending.reason[TWS_CLOSE_REASON_MAX - 2], '\0');
    tws_ending_set_sent(&ending, 1000, reason);
    CHECK_INT(strlen(ending.sent_reason), TWS_CLOSE_REASON_MAX - 2);
    tws_ending_set_received(&ending, 1000, reason);
    CHECK_INT(strlen(ending.received_reason), TWS_CLOSE_REASON_MAX - 2);

    tws_ending_set_reason(&ending, 1001, TWS_SPAN("b"));
    CHECK_BYTES(ending.reason, ending.reason_length, "b");
    CHECK_INT(ending.reason[1], '\0');
    tws_ending_set_reason(&ending, 1001, (struct tws_span){.length = 0});
    CHECK_INT(ending.reason_length, 0);
}

TEST(a_nul_does_not_cut_what_was_received)
{
    struct tws_ending ending =
        cleared(TWS_ENDED_BY_PEER, 1000, TWS_SPAN("a\0b"));
    tws_ending_set_received(&ending, 1000, TWS_SPAN("a\0b"));
    tws_ending_set_sent(&ending, 1000, TWS_SPAN("\0c"));
    CHECK_BYTES(ending.reason, ending.reason_length, "a\0b");
    CHECK_LINE(&ending, "ended by the peer: 1000 (a?b); sent Close 1000 (?c), "
                        "received Close 1000 (a?b)");
}

TEST(by_the_peer)
{
    struct tws_ending ending =
        cleared(TWS_ENDED_BY_PEER, 1001, TWS_SPAN("restart"));
    tws_ending_set_received(&ending, 1001, TWS_SPAN("restart"));
    tws_ending_set_sent(&ending, 1001, TWS_SPAN(""));
    CHECK_LINE(&ending, "ended by the peer: 1001 (restart); sent Close 1001, "
                        "received Close 1001 (restart)");
}

TEST(a_close_without_a_code)
{
    struct tws_ending ending = cleared(TWS_ENDED_BY_PEER, 1005, TWS_SPAN(""));
    tws_ending_set_received(&ending, 1005, TWS_SPAN(""));
    tws_ending_set_sent(&ending, 1005, TWS_SPAN(""));
    CHECK_LINE(&ending, "ended by the peer: 1005; sent Close without a code, "
                        "received Close without a code");
}

TEST(by_us)
{
    struct tws_ending ending = cleared(
        TWS_ENDED_BY_US, 1006, TWS_SPAN("peer did not answer our Close"));
    tws_ending_set_sent(&ending, 1000, TWS_SPAN("bye"));
    CHECK_LINE(&ending, "ended by us: 1006 (peer did not answer our Close); "
                        "sent Close 1000 (bye), received no Close frame");
}

TEST(by_the_network_with_all_there_is)
{
    struct tws_ending ending = cleared(TWS_ENDED_BY_NETWORK, 1006,
                                       TWS_SPAN("Connection reset by peer"));
    ending.sys_errno = 104;
    ending.unsent = 4096;
    ending.ping_age = 12399999999;
    CHECK_LINE(&ending,
               "ended by the network: 1006 (Connection reset by peer); sent "
               "no Close frame, received none; errno 104; 4096 bytes unsent; "
               "ping not answered for 12.3 s");
    ending.sys_errno = 0;
    ending.unsent = 1;
    ending.ping_age = 0;
    CHECK_LINE(&ending,
               "ended by the network: 1006 (Connection reset by peer); sent "
               "no Close frame, received none; 1 byte unsent; ping not "
               "answered for 0.0 s");
}

TEST(by_a_limit)
{
    struct tws_ending ending =
        cleared(TWS_ENDED_BY_LIMIT, 1009, TWS_SPAN("too big"));
    tws_ending_set_sent(&ending, 1009, TWS_SPAN("too big"));
    CHECK_LINE(&ending, "ended by a limit: 1009 (too big); sent Close 1009 "
                        "(too big), received no Close frame");
}

TEST(by_the_keepalive)
{
    struct tws_ending ending =
        cleared(TWS_ENDED_BY_KEEPALIVE, 1006, TWS_SPAN("no answer"));
    tws_ending_set_received(&ending, 1000, TWS_SPAN(""));
    ending.ping_age = 20000000000;
    CHECK_LINE(&ending, "ended by the keepalive: 1006 (no answer); sent no "
                        "Close frame, received Close 1000; ping not answered "
                        "for 20.0 s");
}

/* What a peer writes must not look like another line of a log, or like other
 * words of this one. */
TEST(control_characters_are_replaced)
{
    struct tws_ending ending =
        cleared(TWS_ENDED_BY_PEER, 1000,
                TWS_SPAN("\x01\n\x1f \x7f\xc2\x80\xc2\x9f"
                         "\xe2\x80\xa8\xe2\x80\xae\xe2\x81\xa6\xe2\x81\xa9"));
    CHECK_LINE(&ending,
               "ended by the peer: 1000 (\?\?\? \?\?\?\?\?\?\?); sent no "
               "Close frame, received none");
    /* U+00A0, 2027, 202F, 2065, 206A, 20AC and an umlaut stay. */
    static const char kept[] =
        "\xc2\xa0\xe2\x80\xa7\xe2\x80\xaf\xe2\x81\xa5\xe2\x81\xaa\xe2\x82\xac"
        "\xc3\xbc~";
    char line[TWS_ENDING_LINE_MAX];
    tws_ending_set_reason(&ending, 1000, TWS_SPAN(kept));
    tws_ending_describe(&ending, line);
    CHECK(strstr(line, kept) != NULL);
}

/* A reason whose last character is not whole is not read beyond. */
TEST(a_reason_that_ends_in_a_character)
{
    struct tws_ending ending =
        cleared(TWS_ENDED_BY_PEER, 1000, TWS_SPAN("a\xe2\x80"));
    CHECK_LINE(&ending, "ended by the peer: 1000 (a\xe2\x80); sent no Close "
                        "frame, received none");
    tws_ending_set_reason(&ending, 1000, TWS_SPAN("b\xc2"));
    CHECK_LINE(&ending, "ended by the peer: 1000 (b\xc2); sent no Close "
                        "frame, received none");
}

TEST(the_longest_line_fits)
{
    char text[TWS_CLOSE_REASON_MAX];
    char line[TWS_ENDING_LINE_MAX];
    struct tws_span reason = {.data = text, .length = sizeof(text)};
    memset(text, 'r', sizeof(text));
    struct tws_ending ending =
        cleared(TWS_ENDED_BY_KEEPALIVE, UINT16_MAX, reason);
    tws_ending_set_sent(&ending, UINT16_MAX, reason);
    tws_ending_set_received(&ending, UINT16_MAX, reason);
    ending.sys_errno = INT_MIN;
    ending.unsent = UINT64_MAX;
    ending.ping_age = UINT64_MAX - 1;
    tws_ending_describe(&ending, line);
    size_t length = strlen(line);
    CHECK(length < TWS_ENDING_LINE_MAX - 1);
    CHECK_BYTES(line + length - 17, 17, "r 18446744073.7 s");
}

RUN(T(a_cleared_one_says_nothing), T(each_has_a_name),
    T(a_reason_is_cut_between_characters),
    T(a_nul_does_not_cut_what_was_received), T(by_the_peer),
    T(a_close_without_a_code), T(by_us), T(by_the_network_with_all_there_is),
    T(by_a_limit), T(by_the_keepalive), T(control_characters_are_replaced),
    T(a_reason_that_ends_in_a_character), T(the_longest_line_fits))
