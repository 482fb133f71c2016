#include "protocol/http_body.h"

#include "guard.h"
#include "harness.h"

enum { CEILING = 1000 };

static struct tws_http_body
begin(const char *text)
{
    struct tws_http_head head;
    struct tws_error err;
    struct tws_http_body body;
    CHECK_INT(tws_http_parse_response(text, strlen(text),
                                      &TWS_HTTP_LIMITS_DEFAULT, &head, &err),
              TWS_OK);
    tws_http_body_begin(&body, &head);
    return body;
}

/* Hands over parts of `step` bytes, each at the end of its memory, until the
 * body ends. */
static enum tws_status
take(struct tws_http_body *body, const char *text, size_t length, size_t step,
     size_t ceiling, struct tws_buffer *content)
{
    struct tws_error err;
    enum tws_status status =
        tws_http_body_take(body, NULL, 0, ceiling, content, &err);
    for (size_t done = 0; status == TWS_AGAIN && done < length; done += step) {
        size_t part = length - done < step ? length - done : step;
        struct guard guard = guard_copy(text + done, part);
        status =
            tws_http_body_take(body, guard.data, part, ceiling, content, &err);
        guard_free(&guard);
    }
    return status;
}

static void
check(const char *head, struct tws_span text, enum tws_status expected,
      const char *expected_content)
{
    for (size_t step = 1; step <= text.length + 1; step++) {
        struct tws_buffer content = TWS_BUFFER_EMPTY;
        struct tws_http_body body = begin(head);
        struct tws_error err;
        enum tws_status status =
            take(&body, text.data, text.length, step, CEILING, &content);
        CHECK_INT(status, expected);
        CHECK_INT(tws_buffer_length(&content), strlen(expected_content));
        if (tws_buffer_length(&content) > 0) {
            CHECK_INT(memcmp(tws_buffer_data(&content), expected_content,
                             strlen(expected_content)),
                      0);
        }
        if (status == TWS_OK) {
            /* The end stays the end. */
            CHECK_INT(tws_http_body_take(&body, (const uint8_t *)"more", 4,
                                         CEILING, &content, &err),
                      TWS_OK);
            CHECK_INT(tws_buffer_length(&content), strlen(expected_content));
        }
        tws_buffer_release(&content);
    }
}

#define LENGTH(value) "HTTP/1.1 404 No\r\nContent-Length: " value "\r\n\r\n"
#define CHUNKS                                                                \
    "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n"                       \
    "Content-Length: 2\r\n\r\n"
#define NEITHER "HTTP/1.1 404 No\r\n\r\n"

TEST(by_length)
{
    check(LENGTH("5"), TWS_SPAN("hello"), TWS_OK, "hello");
    check(LENGTH("5"), TWS_SPAN("hello and more"), TWS_OK, "hello");
    check(LENGTH("5"), TWS_SPAN("hell"), TWS_AGAIN, "hell");
    check(LENGTH("5"), TWS_SPAN(""), TWS_AGAIN, "");
    check(LENGTH("0"), TWS_SPAN("hello"), TWS_OK, "");
    check(LENGTH("999999999999999999"), TWS_SPAN("a"), TWS_AGAIN, "a");
}

TEST(length_that_is_none)
{
    check(LENGTH(""), TWS_SPAN("hello"), TWS_AGAIN, "hello");
    check(LENGTH("-1"), TWS_SPAN("hello"), TWS_AGAIN, "hello");
    check(LENGTH("1, 1"), TWS_SPAN("hello"), TWS_AGAIN, "hello");
    check(LENGTH("1\r\nContent-Length: 2"), TWS_SPAN("hello"), TWS_AGAIN,
          "hello");
    /* Which is 0 in 64 bits. */
    check(LENGTH("18446744073709551616"), TWS_SPAN("hello"), TWS_AGAIN,
          "hello");
}

TEST(by_end_of_stream)
{
    check(NEITHER, TWS_SPAN("hello"), TWS_AGAIN, "hello");
    check("HTTP/1.1 404 No\r\nTransfer-Encoding: gzip\r\n"
          "Content-Length: 2\r\n\r\n",
          TWS_SPAN("hello"), TWS_AGAIN, "hello");
}

TEST(answers_without_a_body)
{
    check("HTTP/1.1 101 Go\r\nContent-Length: 5\r\n\r\n", TWS_SPAN("hello"),
          TWS_OK, "");
    check("HTTP/1.1 204 No\r\n\r\n", TWS_SPAN("hello"), TWS_OK, "");
    check("HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", TWS_SPAN("hello"),
          TWS_OK, "");
}

TEST(in_chunks)
{
    check(CHUNKS, TWS_SPAN("5\r\nhello\r\n0\r\n\r\n"), TWS_OK, "hello");
    check(CHUNKS, TWS_SPAN("0\r\n\r\nhello"), TWS_OK, "");
    check(CHUNKS, TWS_SPAN("2\r\nhe\r\n003;name=\"x\"\r\nllo\r\n0\r\n\r\n"),
          TWS_OK, "hello");
    check(CHUNKS, TWS_SPAN("5 \r\nhello\r\n00\r\nX: 1\r\nY: 2\r\n\r\nrest"),
          TWS_OK, "hello");
    check(CHUNKS, TWS_SPAN("a\r\n0123456789\r\n0\r\n\r\n"), TWS_OK,
          "0123456789");
    check(CHUNKS, TWS_SPAN("A\r\n0123456789\r\n0\r\n\r\n"), TWS_OK,
          "0123456789");
    check(CHUNKS, TWS_SPAN("5\r\nhello\r\n0\r\n"), TWS_AGAIN, "hello");
    check(CHUNKS, TWS_SPAN("5\r\nhello\r\n0\r\nX: 1\r\n"), TWS_AGAIN, "hello");
    check(CHUNKS, TWS_SPAN("5\r\nhel"), TWS_AGAIN, "hel");
    check("HTTP/1.1 404 No\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n",
          TWS_SPAN("5\r\nhello\r\n0\r\n\r\n"), TWS_OK, "hello");
}

TEST(broken_chunks_end_the_body)
{
    check(CHUNKS, TWS_SPAN("hello"), TWS_OK, "");
    check(CHUNKS, TWS_SPAN("\r\nhello"), TWS_OK, "");
    check(CHUNKS, TWS_SPAN("-5\r\nhello"), TWS_OK, "");
    check(CHUNKS, TWS_SPAN("5\r\nhello!\r\n"), TWS_OK, "hello");
    check(CHUNKS, TWS_SPAN("5\r\nhello\r\nxyz\r\n"), TWS_OK, "hello");
    check(CHUNKS, TWS_SPAN("1111111111111111\r\nhello"), TWS_OK, "");
    check(CHUNKS, TWS_SPAN("111111111111111\r\nhello"), TWS_AGAIN, "hello");
    check(CHUNKS, TWS_SPAN("fffffffffffffff\r\nhello"), TWS_AGAIN, "hello");
}

TEST(content_has_a_bound)
{
    static const char *const heads[] = {LENGTH("2000"), CHUNKS, NEITHER};
    char text[2048];
    memset(text, 'a', sizeof(text));
    for (size_t i = 0; i < TWS_ARRAY_SIZE(heads); i++) {
        for (size_t step = 1; step < 1200; step += 399) {
            struct tws_buffer content = TWS_BUFFER_EMPTY;
            struct tws_http_body body = begin(heads[i]);
            if (i == 1) {
                memcpy(text, "7ff\r\n", 5);
            }
            CHECK_INT(take(&body, text, 900, step, CEILING, &content),
                      TWS_AGAIN);
            CHECK_INT(take(&body, text + 100, sizeof(text) - 100, step,
                           CEILING, &content),
                      TWS_OK);
            CHECK_INT(tws_buffer_length(&content), CEILING);
            tws_buffer_release(&content);
        }
    }
}

/* What is no content is not kept, so that only a count bounds it. */
TEST(framing_has_a_bound)
{
    static const struct {
        const char *start;
        const char *more;
    } cases[] = {
        {"1;", "name=value;"},
        {"0\r\n", "X: 1\r\n"},
        {"", "1\r\na\r\n"},
        {"1\r\na", "\r\r\r"},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(cases); i++) {
        struct tws_buffer content = TWS_BUFFER_EMPTY;
        struct tws_http_body body = begin(CHUNKS);
        enum tws_status status =
            take(&body, cases[i].start, strlen(cases[i].start), 100, 1 << 20,
                 &content);
        size_t total = 0;
        CHECK_INT(status, TWS_AGAIN);
        while (status == TWS_AGAIN && total < 3 << 20) {
            struct tws_error err;
            size_t length = strlen(cases[i].more);
            status = tws_http_body_take(&body, (const uint8_t *)cases[i].more,
                                        length, 1 << 20, &content, &err);
            total += length;
        }
        CHECK_INT(status, TWS_OK);
        tws_buffer_release(&content);
    }
}

RUN(T(by_length), T(length_that_is_none), T(by_end_of_stream),
    T(answers_without_a_body), T(in_chunks), T(broken_chunks_end_the_body),
    T(content_has_a_bound), T(framing_has_a_bound))
