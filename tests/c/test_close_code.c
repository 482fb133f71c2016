#include "protocol/close_code.h"

#include "guard.h"
#include "harness.h"

enum { CLOSE_MAX = 125 };

/* The codes of the registry (RFC 6455 §7.4.1, §11.7) that a peer may send,
 * one by one; beside them the two ranges of §7.4.2. */
static const unsigned registered[] = {
    1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014,
};

static bool
may_be_sent(unsigned code)
{
    for (size_t i = 0; i < TWS_ARRAY_SIZE(registered); i++) {
        if (code == registered[i]) {
            return true;
        }
    }
    return code / 1000 == 3 || code / 1000 == 4;
}

static struct tws_error
stale_error(void)
{
    struct tws_error err;
    memset(&err, 0x5a, sizeof(err));
    return err;
}

TEST(every_code)
{
    for (unsigned code = 0; code <= 0xffff; code++) {
        CHECK_INT(tws_close_code_on_wire(code), may_be_sent(code));
        uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
        uint16_t got = 7;
        struct tws_span reason = TWS_SPAN("stale");
        struct tws_error err = stale_error();
        enum tws_status status =
            tws_close_parse(payload, sizeof(payload), &got, &reason, &err);
        if (may_be_sent(code)) {
            CHECK_INT(status, TWS_OK);
            CHECK_INT(got, code);
            CHECK_INT(reason.length, 0);
        }
        else {
            CHECK_INT(status, TWS_PROTOCOL);
            CHECK_INT(err.status, TWS_PROTOCOL);
            CHECK_INT(err.close_code, 1002);
            CHECK_INT(got, 7);
            CHECK(tws_span_equal(reason, TWS_SPAN("stale")));
        }
    }
    CHECK(!tws_close_code_on_wire(65536 + 1000));
    CHECK(!tws_close_code_on_wire((unsigned)-1));
}

TEST(no_payload_means_no_status)
{
    uint16_t code = 0;
    struct tws_span reason = TWS_SPAN("stale");
    struct tws_error err;
    CHECK_INT(tws_close_parse(NULL, 0, &code, &reason, &err), TWS_OK);
    CHECK_INT(code, 1005);
    CHECK_INT(reason.length, 0);
}

TEST(one_byte_is_an_error)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t payload = (uint8_t)byte;
        struct guard input = guard_copy(&payload, 1);
        uint16_t code = 7;
        struct tws_span reason = TWS_SPAN("stale");
        struct tws_error err = stale_error();
        CHECK_INT(tws_close_parse(input.data, 1, &code, &reason, &err),
                  TWS_PROTOCOL);
        CHECK_INT(err.close_code, 1002);
        CHECK(strstr(err.reason, "1 byte") != NULL);
        CHECK_INT(code, 7);
        guard_free(&input);
    }
}

TEST(a_reason_is_borrowed_from_the_payload)
{
    const uint8_t payload[] = "\x03\xe9gr\xc3\xbc\xc3\x9f";
    struct guard input = guard_copy(payload, sizeof(payload) - 1);
    uint16_t code = 0;
    struct tws_span reason = {0};
    struct tws_error err;
    CHECK_INT(
        tws_close_parse(input.data, sizeof(payload) - 1, &code, &reason, &err),
        TWS_OK);
    CHECK_INT(code, 1001);
    CHECK(reason.data == (const char *)input.data + 2);
    CHECK_BYTES(reason.data, reason.length, "gr\xc3\xbc\xc3\x9f");
    guard_free(&input);
}

TEST(a_reason_must_be_whole_utf8)
{
    static const char *const bad[] = {
        "\x80",           "\xff",     "ok\xc3",       "ok\xe2\x82",
        "ok\xf0\x9f\x98", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(bad); i++) {
        uint8_t payload[CLOSE_MAX] = {0x03, 0xe8};
        size_t length = 2 + strlen(bad[i]);
        memcpy(payload + 2, bad[i], length - 2);
        struct guard input = guard_copy(payload, length);
        uint16_t code = 7;
        struct tws_span reason = TWS_SPAN("stale");
        struct tws_error err = stale_error();
        CHECK_INT(tws_close_parse(input.data, length, &code, &reason, &err),
                  TWS_PROTOCOL);
        CHECK_INT(err.close_code, 1007);
        CHECK_INT(code, 7);
        CHECK(tws_span_equal(reason, TWS_SPAN("stale")));
        guard_free(&input);
    }
}

/* With both wrong, the code is judged first. */
TEST(errors_say_what_was_got_and_expected)
{
    uint16_t code;
    struct tws_span reason;
    struct tws_error err = stale_error();
    CHECK_INT(tws_close_parse((const uint8_t *)"\x03\xed\xff", 3, &code,
                              &reason, &err),
              TWS_PROTOCOL);
    CHECK_INT(err.close_code, 1002);
    CHECK(strstr(err.reason, "1005") != NULL);
    CHECK(strstr(err.reason, "3000-4999") != NULL);
}

static size_t
write_close(uint16_t code, const char *reason, size_t length, uint8_t *out)
{
    size_t written = 999;
    memset(out, 0xc3, CLOSE_MAX + 1);
    tws_close_write(code, (struct tws_span){reason, length}, out, &written);
    CHECK(written <= CLOSE_MAX);
    CHECK_INT(out[CLOSE_MAX], 0xc3);
    return written;
}

TEST(no_status_writes_nothing)
{
    uint8_t out[CLOSE_MAX + 1];
    CHECK_INT(write_close(1005, "reason", 6, out), 0);
    CHECK_INT(out[0], 0xc3);
}

TEST(a_code_without_reason_is_two_bytes)
{
    uint8_t out[CLOSE_MAX + 1];
    size_t length = write_close(4999, NULL, 0, out);
    CHECK_BYTES(out, length, "\x13\x87");
    CHECK_INT(out[2], 0xc3);
}

TEST(what_is_written_reads_back)
{
    char text[TWS_CLOSE_REASON_MAX];
    memset(text, 'r', sizeof(text));
    for (size_t i = 0; i < TWS_ARRAY_SIZE(registered); i++) {
        for (size_t length = 0; length <= sizeof(text); length++) {
            uint8_t out[CLOSE_MAX + 1];
            uint16_t code = 0;
            struct tws_span reason = {0};
            struct tws_error err;
            size_t written =
                write_close((uint16_t)registered[i], text, length, out);
            CHECK_INT(written, length + 2);
            CHECK_INT(tws_close_parse(out, written, &code, &reason, &err),
                      TWS_OK);
            CHECK_INT(code, registered[i]);
            CHECK(tws_span_equal(reason, (struct tws_span){text, length}));
        }
    }
}

/* A long reason of one character, shifted so that the cut meets each of the
 * character's bytes. It keeps all that fits and stays valid. */
TEST(a_long_reason_is_cut_between_characters)
{
    static const char *const characters[] = {"x", "\xc3\xbc", "\xe2\x82\xac",
                                             "\xf0\x9f\x98\x80"};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(characters); i++) {
        size_t size = strlen(characters[i]);
        for (size_t shift = 0; shift < size; shift++) {
            char text[300];
            size_t length = shift;
            memset(text, 'a', shift);
            while (length + size <= sizeof(text)) {
                memcpy(text + length, characters[i], size);
                length += size;
            }
            struct guard input = guard_copy(text, length);
            uint8_t out[CLOSE_MAX + 1];
            size_t written =
                write_close(1000, (const char *)input.data, length, out);
            size_t fits = shift + (TWS_CLOSE_REASON_MAX - shift) / size * size;
            CHECK_INT(written, 2 + fits);
            CHECK(memcmp(out + 2, text, fits) == 0);
            uint16_t code;
            struct tws_span reason;
            struct tws_error err;
            CHECK_INT(tws_close_parse(out, written, &code, &reason, &err),
                      TWS_OK);
            guard_free(&input);
        }
    }
}

/* A reason that is cut by one byte only. */
TEST(the_first_length_that_does_not_fit)
{
    char text[TWS_CLOSE_REASON_MAX + 1];
    uint8_t out[CLOSE_MAX + 1];
    memset(text, 'a', sizeof(text));
    CHECK_INT(write_close(1000, text, sizeof(text), out), CLOSE_MAX);
    memcpy(text + sizeof(text) - 2, "\xc3\xbc", 2);
    CHECK_INT(write_close(1000, text, sizeof(text), out), CLOSE_MAX - 1);
}

RUN(T(every_code), T(no_payload_means_no_status), T(one_byte_is_an_error),
    T(a_reason_is_borrowed_from_the_payload), T(a_reason_must_be_whole_utf8),
    T(errors_say_what_was_got_and_expected), T(no_status_writes_nothing),
    T(a_code_without_reason_is_two_bytes), T(what_is_written_reads_back),
    T(a_long_reason_is_cut_between_characters),
    T(the_first_length_that_does_not_fit))
