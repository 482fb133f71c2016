#include "guard.h"
#include "harness.h"
#include "protocol/http1.h"

static const struct tws_http_limits LIMITS = {.head_bytes = 16384,
                                              .field_count = 128};

static struct tws_span
text(const char *data)
{
    return (struct tws_span){.data = data, .length = strlen(data)};
}

/* 0 for TWS_OK, 1 for TWS_AGAIN, else the status of the refusal, which must
 * say something. */
static int
outcome(enum tws_status status, const struct tws_error *err)
{
    if (status == TWS_OK || status == TWS_AGAIN) {
        return status == TWS_OK ? 0 : 1;
    }
    CHECK_INT(status, TWS_REFUSED);
    CHECK_INT(err->status, TWS_REFUSED);
    CHECK(strlen(err->reason) > 10);
    return err->http_status;
}

/* Scans in pieces of `step` bytes. What was looked at is overwritten with
 * NUL between the calls: a scanner that looks twice refuses it. The input
 * ends at a guard page that moves with what has arrived. */
static int
scan_in_steps(const char *data, size_t length, size_t step,
              const struct tws_http_limits *limits, size_t *head_length,
              struct tws_error *err)
{
    struct guard guard = guard_copy(data, length);
    struct tws_http_scanner scanner = {0};
    enum tws_status status = TWS_AGAIN;
    size_t there = 0;
    while (status == TWS_AGAIN && there < length) {
        there = length - there < step ? length : there + step;
        status = tws_http_scan(&scanner, (const char *)guard.data, there,
                               limits, head_length, err);
        CHECK(scanner.scanned <= there);
        memset(guard.data, 0, scanner.scanned);
    }
    guard_free(&guard);
    return outcome(status, err);
}

static int
scan_limited(const char *data, size_t length,
             const struct tws_http_limits *limits)
{
    static const size_t STEPS[] = {1, 2, 3, 7, 64};
    struct tws_error err = {0};
    size_t whole_length = 0;
    int whole =
        scan_in_steps(data, length, length, limits, &whole_length, &err);
    for (size_t i = 0; i < TWS_ARRAY_SIZE(STEPS); i++) {
        struct tws_error other = {0};
        size_t other_length = 0;
        CHECK_INT(scan_in_steps(data, length, STEPS[i], limits, &other_length,
                                &other),
                  whole);
        CHECK_INT(other_length, whole_length);
        CHECK(strcmp(err.reason, other.reason) == 0);
    }
    return whole;
}

static int
parse_limited(const char *data, size_t length, bool response,
              const struct tws_http_limits *limits)
{
    struct guard guard = guard_copy(data, length);
    struct tws_http_head head;
    struct tws_error err = {0};
    enum tws_status status =
        response ? tws_http_parse_response((const char *)guard.data, length,
                                           limits, &head, &err)
                 : tws_http_parse_request((const char *)guard.data, length,
                                          limits, &head, &err);
    guard_free(&guard);
    return outcome(status, &err);
}

#define SCAN(literal) scan_limited(literal, sizeof(literal) - 1, &LIMITS)
#define PARSE(literal)                                                        \
    parse_limited(literal, sizeof(literal) - 1, false, &LIMITS)
#define PARSE_RESPONSE(literal)                                               \
    parse_limited(literal, sizeof(literal) - 1, true, &LIMITS)

/* Refused with that status by the scanner and by the parser alone. */
#define CHECK_BOTH(literal, status)                                           \
    do {                                                                      \
        CHECK_INT(SCAN(literal), status);                                     \
        CHECK_INT(PARSE(literal), status);                                    \
    } while (0)

#define LINE "GET /chat HTTP/1.1\r\n"

TEST(good_head_is_found_and_taken_apart)
{
    static const char DATA[] = "GET /chat?a=b HTTP/1.1\r\n"
                               "Host: example.com\r\n"
                               "X-Empty:\r\n"
                               "x-spaces: \t a\tb \xff \t \r\n"
                               "\r\nframes";
    struct tws_http_scanner scanner = {0};
    struct tws_error err = {0};
    size_t length = 0;
    CHECK_INT(tws_http_scan(&scanner, DATA, sizeof(DATA) - 1, &LIMITS, &length,
                            &err),
              TWS_OK);
    CHECK_INT(length, sizeof(DATA) - 1 - strlen("frames"));
    CHECK_INT(scanner.scanned, length);
    CHECK_INT(scanner.lines, 4);

    struct guard guard = guard_copy(DATA, length);
    struct tws_http_head head;
    CHECK_INT(tws_http_parse_request((const char *)guard.data, length, &LIMITS,
                                     &head, &err),
              TWS_OK);
    CHECK_BYTES(head.method.data, head.method.length, "GET");
    CHECK_BYTES(head.target.data, head.target.length, "/chat?a=b");
    CHECK_INT(head.version_minor, 1);
    CHECK_INT(head.status, 0);
    CHECK_INT(head.field_count, 3);
    CHECK_BYTES(head.fields[0].name.data, head.fields[0].name.length, "Host");
    CHECK_BYTES(head.fields[0].value.data, head.fields[0].value.length,
                "example.com");
    CHECK_INT(head.fields[1].value.length, 0);
    CHECK_BYTES(head.fields[2].value.data, head.fields[2].value.length,
                "a\tb \xff");
    guard_free(&guard);
}

TEST(good_response_is_taken_apart)
{
    static const char DATA[] = "HTTP/1.1 101 Switching Protocols\r\n"
                               "Upgrade: websocket\r\n\r\n";
    struct tws_http_head head;
    struct tws_error err = {0};
    CHECK_INT(
        tws_http_parse_response(DATA, sizeof(DATA) - 1, &LIMITS, &head, &err),
        TWS_OK);
    CHECK_INT(head.status, 101);
    CHECK_INT(head.version_minor, 1);
    CHECK_BYTES(head.phrase.data, head.phrase.length, "Switching Protocols");
    CHECK_INT(head.method.length, 0);
    CHECK_INT(head.target.length, 0);
    CHECK_INT(head.field_count, 1);
    CHECK_INT(PARSE_RESPONSE("HTTP/1.1 200 \r\n\r\n"), 0);
    CHECK_INT(PARSE_RESPONSE("HTTP/1.0 599 \xe9t\xe9\tx\r\n\r\n"), 0);
}

TEST(finished_scanner_gives_the_same_answer_again)
{
    struct tws_http_scanner scanner = {0};
    struct tws_error err = {0};
    size_t length = 0;
    const char *data = "GET / HTTP/1.1\r\n\r\n\x01";
    CHECK_INT(tws_http_scan(&scanner, data, 18, &LIMITS, &length, &err),
              TWS_OK);
    length = 0;
    CHECK_INT(tws_http_scan(&scanner, data, 19, &LIMITS, &length, &err),
              TWS_OK);
    CHECK_INT(length, 18);

    scanner = (struct tws_http_scanner){0};
    CHECK_INT(tws_http_scan(&scanner, "GET\n", 4, &LIMITS, &length, &err),
              TWS_REFUSED);
    CHECK_INT(tws_http_scan(&scanner, "GET\n\r\n", 6, &LIMITS, &length, &err),
              TWS_REFUSED);
}

TEST(every_unfinished_head_wants_more)
{
    static const char DATA[] = LINE "Host: a\r\nB: c\r\n\r\n";
    struct tws_error err;
    size_t length = 77;
    for (size_t i = 0; i < sizeof(DATA) - 1; i++) {
        struct guard guard = guard_copy(DATA, i);
        struct tws_http_scanner scanner = {0};
        CHECK_INT(tws_http_scan(&scanner, (const char *)guard.data, i, &LIMITS,
                                &length, &err),
                  TWS_AGAIN);
        CHECK_INT(scanner.scanned, i);
        CHECK_INT(length, 77);
        /* The parser alone takes nothing that is cut. */
        CHECK_INT(parse_limited(DATA, i, false, &LIMITS), 400);
        guard_free(&guard);
    }
    CHECK_INT(SCAN(LINE "Host: a\r\nB: c\r\n\r\n"), 0);
}

TEST(bare_lf_is_refused)
{
    CHECK_BOTH("GET / HTTP/1.1\nHost: a\n\n", 400);
    CHECK_BOTH(LINE "Host: a\nB: c\r\n\r\n", 400);
    CHECK_BOTH(LINE "Host\n: a\r\n\r\n", 400);
    CHECK_BOTH(LINE "Host: a\r\n\n", 400);
    CHECK_BOTH(LINE "\n", 400);
}

TEST(bare_cr_is_refused)
{
    CHECK_BOTH("GET / HTTP/1.1\rHost: a\r\n\r\n", 400);
    CHECK_BOTH(LINE "Host: a\rB: c\r\n\r\n", 400);
    CHECK_BOTH(LINE "Host: a\r\r\n\r\n", 400);
    CHECK_BOTH(LINE "Host: a\r\n\r\r\n", 400);
    CHECK_BOTH(LINE "Host: a\r\n\rX", 400);
}

TEST(folded_line_is_refused)
{
    CHECK_BOTH(LINE "Host: a\r\n b\r\n\r\n", 400);
    CHECK_BOTH(LINE "Host: a\r\n\tb\r\n\r\n", 400);
    CHECK_BOTH(LINE " Host: a\r\n\r\n", 400);
    CHECK_BOTH(LINE "Host: a\r\n \r\n\r\n", 400);
    struct tws_http_head head;
    struct tws_error err;
    const char *data = LINE "Host: a\r\n b\r\n\r\n";
    CHECK_INT(tws_http_parse_request(data, strlen(data), &LIMITS, &head, &err),
              TWS_REFUSED);
    CHECK(strstr(err.reason, "folded") != NULL);
}

TEST(empty_line_or_space_before_the_request_line_is_refused)
{
    CHECK_BOTH("\r\n" LINE "Host: a\r\n\r\n", 400);
    CHECK_BOTH("\n" LINE "Host: a\r\n\r\n", 400);
    CHECK_BOTH("\r\n\r\n", 400);
    CHECK_BOTH(" " LINE "Host: a\r\n\r\n", 400);
    CHECK_BOTH("\t" LINE "Host: a\r\n\r\n", 400);
    struct tws_http_scanner scanner = {0};
    struct tws_error err;
    size_t length;
    CHECK_INT(tws_http_scan(&scanner, "\r\n", 2, &LIMITS, &length, &err),
              TWS_REFUSED);
    CHECK(strstr(err.reason, "empty line, expected a start line") != NULL);
}

TEST(every_control_byte_is_refused_everywhere)
{
    static const char DATA[] = "GET / HTTP/1.1\r\nHost: abc\r\n\r\n";
    for (int byte = 0; byte <= 0x7f; byte++) {
        if (byte >= 0x20 && byte != 0x7f) {
            continue;
        }
        for (size_t i = 0; i < sizeof(DATA) - 1; i++) {
            char data[sizeof(DATA)];
            memcpy(data, DATA, sizeof(DATA));
            if (data[i] == (char)byte) {
                continue;
            }
            data[i] = (char)byte;
            size_t length = sizeof(DATA) - 1;
            /* A tab may stand in and around a value, nowhere else. */
            int expected = byte == '\t' && i > 20 && i < 25 ? 0 : 400;
            CHECK_INT(parse_limited(data, length, false, &LIMITS), expected);
            if (byte != '\t') {
                CHECK_INT(scan_limited(data, length, &LIMITS), 400);
            }
        }
    }
}

TEST(header_split_on_vertical_tab_or_form_feed)
{
    CHECK_BOTH(LINE "Host: a\x0bTransfer-Encoding: chunked\r\n\r\n", 400);
    CHECK_BOTH(LINE "Host: a\x0cX: b\r\n\r\n", 400);
    CHECK_BOTH("GET\x0b/\x0bHTTP/1.1\r\nHost: a\r\n\r\n", 400);
    CHECK_BOTH("GET\x0c/\x0cHTTP/1.1\r\nHost: a\r\n\r\n", 400);
    CHECK_INT(PARSE(LINE "Host:\x0b"
                         "a\r\n\r\n"),
              400);
}

TEST(nul_in_a_head_is_refused)
{
    CHECK_BOTH(LINE "Host: a\0b\r\n\r\n", 400);
    CHECK_BOTH(LINE "Ho\0st: a\r\n\r\n", 400);
    CHECK_BOTH("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    CHECK_BOTH("\0" LINE "\r\n", 400);
}

TEST(high_bytes_count_as_text_in_values_only)
{
    for (int byte = 0x80; byte <= 0xff; byte++) {
        char data[] = "GET / HTTP/1.1\r\nHost: abc\r\n\r\n";
        size_t length = sizeof(data) - 1;
        static const size_t TOKENS[] = {0, 1, 4, 6, 9, 11, 13, 16, 19};
        for (size_t i = 0; i < TWS_ARRAY_SIZE(TOKENS); i++) {
            char kept = data[TOKENS[i]];
            data[TOKENS[i]] = (char)byte;
            CHECK_INT(parse_limited(data, length, false, &LIMITS), 400);
            CHECK_INT(scan_limited(data, length, &LIMITS), 0);
            data[TOKENS[i]] = kept;
        }
        data[23] = (char)byte;
        CHECK_INT(parse_limited(data, length, false, &LIMITS), 0);
        data[20] = (char)byte; /* in place of the colon */
        CHECK_INT(parse_limited(data, length, false, &LIMITS), 400);
    }
}

TEST(space_before_the_colon_is_refused)
{
    CHECK_INT(PARSE(LINE "Host : a\r\n\r\n"), 400);
    CHECK_INT(PARSE(LINE "Host\t: a\r\n\r\n"), 400);
    CHECK_INT(PARSE(LINE "Transfer Encoding: a\r\n\r\n"), 400);
    struct tws_http_head head;
    struct tws_error err;
    const char *data = LINE "Host : a\r\n\r\n";
    CHECK_INT(tws_http_parse_request(data, strlen(data), &LIMITS, &head, &err),
              TWS_REFUSED);
    CHECK(strcmp(err.reason, "white space between \"Host\" and its colon")
          == 0);
}

TEST(field_line_without_name_or_colon_is_refused)
{
    CHECK_INT(PARSE(LINE ": a\r\n\r\n"), 400);
    CHECK_INT(PARSE(LINE ":\r\n\r\n"), 400);
    CHECK_INT(PARSE(LINE "Host\r\n\r\n"), 400);
    CHECK_INT(PARSE(LINE "Ho(st: a\r\n\r\n"), 400);
    CHECK_INT(PARSE(LINE "\"Host\": a\r\n\r\n"), 400);
}

TEST(request_line_has_three_words_and_two_spaces)
{
    CHECK_INT(PARSE("GET /\r\n\r\n"), 400);
    CHECK_INT(PARSE("GET\r\n\r\n"), 400);
    CHECK_INT(PARSE("GET  / HTTP/1.1\r\n\r\n"), 400);
    CHECK_INT(PARSE("GET /  HTTP/1.1\r\n\r\n"), 400);
    CHECK_INT(PARSE("GET / HTTP/1.1 \r\n\r\n"), 400);
    CHECK_INT(PARSE("GET / a HTTP/1.1\r\n\r\n"), 400);
    CHECK_INT(PARSE("GET\t/\tHTTP/1.1\r\n\r\n"), 400);
    CHECK_INT(PARSE("GET / \r\n\r\n"), 400);
    CHECK_INT(PARSE("G@T / HTTP/1.1\r\n\r\n"), 400);
    CHECK_INT(PARSE("GET /\xe9 HTTP/1.1\r\n\r\n"), 400);
    CHECK_INT(PARSE("GET /\x7f HTTP/1.1\r\n\r\n"), 400);
    CHECK_INT(PARSE("GET /\x1b[31m HTTP/1.1\r\n\r\n"), 400);
}

TEST(version_is_spelt_exactly_and_one_point_x)
{
    CHECK_INT(PARSE("GET / http/1.1\r\n\r\n"), 400);
    CHECK_INT(PARSE("GET / Http/1.1\r\n\r\n"), 400);
    CHECK_INT(PARSE("GET / HTTP/1\r\n\r\n"), 400);
    CHECK_INT(PARSE("GET / HTTP/1.10\r\n\r\n"), 400);
    CHECK_INT(PARSE("GET / HTTP/11.1\r\n\r\n"), 400);
    CHECK_INT(PARSE("GET / HTTP/1,1\r\n\r\n"), 400);
    CHECK_INT(PARSE("GET / HTTP/+1.1\r\n\r\n"), 400);
    CHECK_INT(PARSE("GET / HTTP/x.1\r\n\r\n"), 400);
    CHECK_INT(PARSE("GET / HTTP/1.x\r\n\r\n"), 400);
    CHECK_INT(PARSE("GET / XTTP/1.1\r\n\r\n"), 400);
    CHECK_INT(PARSE("GET / HTTP/2.0\r\n\r\n"), 505);
    CHECK_INT(PARSE("PRI * HTTP/2.0\r\n\r\n"), 505);
    CHECK_INT(PARSE("GET / HTTP/0.9\r\n\r\n"), 505);
    CHECK_INT(PARSE("GET / HTTP/1.0\r\n\r\n"), 0);
    CHECK_INT(PARSE("GET / HTTP/1.9\r\n\r\n"), 0);
}

TEST(status_line_is_strict)
{
    CHECK_INT(PARSE_RESPONSE("HTTP/1.1 101\r\n\r\n"), 400);
    CHECK_INT(PARSE_RESPONSE("HTTP/1.1  101 x\r\n\r\n"), 400);
    CHECK_INT(PARSE_RESPONSE("HTTP/1.1 0101 x\r\n\r\n"), 400);
    CHECK_INT(PARSE_RESPONSE("HTTP/1.1 +10 x\r\n\r\n"), 400);
    CHECK_INT(PARSE_RESPONSE("HTTP/1.1 1o1 x\r\n\r\n"), 400);
    CHECK_INT(PARSE_RESPONSE("HTTP/1.1 10\xb1 x\r\n\r\n"), 400);
    CHECK_INT(PARSE_RESPONSE("HTTP/1.1 099 x\r\n\r\n"), 400);
    CHECK_INT(PARSE_RESPONSE("HTTP/1.1 600 x\r\n\r\n"), 400);
    CHECK_INT(PARSE_RESPONSE("HTTP/2.0 200 OK\r\n\r\n"), 505);
    CHECK_INT(PARSE_RESPONSE("http/1.1 200 OK\r\n\r\n"), 400);
    CHECK_INT(PARSE_RESPONSE("HTTP/1.1 200 O\x1bK\r\n\r\n"), 400);
    CHECK_INT(PARSE_RESPONSE("ICY 200 OK\r\n\r\n"), 400);
    CHECK_INT(PARSE_RESPONSE("HTTP/1.1 200 OK\r\nA : b\r\n\r\n"), 400);
}

TEST(bytes_behind_the_head_are_refused_by_the_parser)
{
    CHECK_INT(PARSE(LINE "Host: a\r\n\r\nX"), 400);
    CHECK_INT(PARSE(LINE "Host: a\r\n\r\n\r\n"), 400);
}

/* LINE, then `count` fields, then the empty line. */
static size_t
make_flood(char *data, size_t count)
{
    size_t length = strlen(LINE);
    memcpy(data, LINE, length);
    for (size_t i = 0; i < count; i++) {
        memcpy(data + length, "a:\r\n", 4);
        length += 4;
    }
    memcpy(data + length, "\r\n", 2);
    return length + 2;
}

TEST(one_field_too_many_is_431_however_it_arrives)
{
    static char data[4096];
    struct tws_http_limits limits = LIMITS;
    CHECK_INT(scan_limited(data, make_flood(data, 128), &limits), 0);
    CHECK_INT(parse_limited(data, make_flood(data, 128), false, &limits), 0);
    CHECK_INT(scan_limited(data, make_flood(data, 129), &limits), 431);
    CHECK_INT(parse_limited(data, make_flood(data, 129), false, &limits), 431);
    /* As soon as the bytes show it: with the first byte of the line. */
    size_t length = make_flood(data, 129) - 2 - 3;
    CHECK_INT(scan_limited(data, length, &limits), 431);
    CHECK_INT(scan_limited(data, length - 1, &limits), 1);
}

TEST(field_limit_never_exceeds_the_room_in_the_head)
{
    static char data[4096];
    struct tws_http_limits limits = {.head_bytes = 16384,
                                     .field_count = 100000};
    size_t most = TWS_HTTP_FIELDS_MAX;
    CHECK_INT(scan_limited(data, make_flood(data, most), &limits), 0);
    CHECK_INT(parse_limited(data, make_flood(data, most), false, &limits), 0);
    CHECK_INT(scan_limited(data, make_flood(data, most + 1), &limits), 431);
    CHECK_INT(parse_limited(data, make_flood(data, most + 1), false, &limits),
              431);
    limits.field_count = 0;
    CHECK_INT(scan_limited(data, make_flood(data, 0), &limits), 0);
    CHECK_INT(scan_limited(data, make_flood(data, 1), &limits), 431);
}

TEST(head_too_long_is_431_however_it_arrives)
{
    static char data[20000];
    struct tws_http_limits limits = LIMITS;
    size_t length = strlen(LINE "A: ");
    memcpy(data, LINE "A: ", length);
    memset(data + length, 'x', sizeof(data) - length);
    memcpy(data + 16380, "\r\n\r\n", 4);
    CHECK_INT(scan_limited(data, 16384, &limits), 0);
    CHECK_INT(parse_limited(data, 16384, false, &limits), 0);
    limits.head_bytes = 16383;
    CHECK_INT(scan_limited(data, 16384, &limits), 431);
    CHECK_INT(scan_limited(data, 16382, &limits), 1);
    CHECK_INT(scan_limited(data, 16383, &limits), 431);
    CHECK_INT(parse_limited(data, 16384, false, &limits), 431);
    /* One endless line, no CR in sight. */
    memset(data + 16380, 'x', 4);
    CHECK_INT(scan_limited(data, sizeof(data), &LIMITS), 431);
    /* An endless request line. */
    memset(data, 'G', sizeof(data));
    CHECK_INT(scan_limited(data, sizeof(data), &LIMITS), 431);
}

TEST(long_head_byte_by_byte_is_looked_at_once)
{
    /* 8 KiB in one field; scan_in_steps() overwrites what was looked at, and
     * the scanner's own count never runs behind what is there. */
    static char data[8192];
    size_t length = strlen(LINE "A: ");
    memcpy(data, LINE "A: ", length);
    memset(data + length, 'x', sizeof(data) - length);
    memcpy(data + sizeof(data) - 4, "\r\n\r\n", 4);
    struct tws_error err = {0};
    size_t head_length = 0;
    CHECK_INT(
        scan_in_steps(data, sizeof(data), 1, &LIMITS, &head_length, &err), 0);
    CHECK_INT(head_length, sizeof(data));

    struct tws_http_scanner scanner = {0};
    for (size_t i = 1; i < sizeof(data); i++) {
        CHECK_INT(
            tws_http_scan(&scanner, data, i, &LIMITS, &head_length, &err),
            TWS_AGAIN);
        CHECK_INT(scanner.scanned, i);
    }
}

TEST(find_ignores_case_and_counts)
{
    static const char DATA[] =
        LINE "HOST: a\r\nX: 1\r\nhost: b\r\nHosts: c\r\n\r\n";
    struct tws_http_head head;
    struct tws_error err;
    size_t count = 9;
    CHECK_INT(
        tws_http_parse_request(DATA, sizeof(DATA) - 1, &LIMITS, &head, &err),
        TWS_OK);
    const struct tws_http_field *field =
        tws_http_find(&head, TWS_SPAN("Host"), &count);
    CHECK(field == &head.fields[0]);
    CHECK_INT(count, 2);
    CHECK(tws_http_find(&head, TWS_SPAN("Hos"), &count) == NULL);
    CHECK_INT(count, 0);
    CHECK(tws_http_find(&head, TWS_SPAN("x"), NULL) == &head.fields[1]);
}

TEST(predicates_know_every_byte)
{
    const char *separators = "()<>@,;:\\\"/[]?={} ";
    for (int i = 0; i <= 0xff; i++) {
        char byte = (char)i;
        struct tws_span one = {.data = &byte, .length = 1};
        bool token = i > 0x20 && i < 0x7f && strchr(separators, i) == NULL;
        CHECK_INT(tws_http_is_token(one), token);
        CHECK_INT(tws_http_is_target(one), i > 0x20 && i < 0x7f);
        CHECK_INT(tws_http_is_field_value(one),
                  i == '\t' || (i >= 0x20 && i != 0x7f));
    }
    CHECK(!tws_http_is_token(TWS_SPAN("")));
    CHECK(!tws_http_is_target(TWS_SPAN("")));
    CHECK(tws_http_is_field_value(TWS_SPAN("")));
    CHECK(!tws_http_is_token(TWS_SPAN("a b")));
    CHECK(!tws_http_is_field_value(TWS_SPAN("a\r\nb")));
}

TEST(trim_drops_spaces_and_tabs_only)
{
    struct tws_span got = tws_http_trim(text(" \t a b\t "));
    CHECK_BYTES(got.data, got.length, "a b");
    CHECK_INT(tws_http_trim(text(" \t ")).length, 0);
    CHECK_INT(tws_http_trim(text("\x0b")).length, 1);
}

TEST(reason_says_what_was_got_and_expected_and_is_printable)
{
    struct tws_http_head head;
    struct tws_error err;
    const char *data = "G\x1b[2JT\xff / HTTP/1.1\r\n\r\n";
    CHECK_INT(tws_http_parse_request(data, strlen(data), &LIMITS, &head, &err),
              TWS_REFUSED);
    CHECK(strcmp(err.reason, "method is \"G?[2JT?\", expected a token") == 0);
    data = "GET / http/1.1\r\n\r\n";
    CHECK_INT(tws_http_parse_request(data, strlen(data), &LIMITS, &head, &err),
              TWS_REFUSED);
    CHECK(strcmp(err.reason, "HTTP version is \"http/1.1\", expected HTTP/1.1")
          == 0);
}

RUN(T(good_head_is_found_and_taken_apart), T(good_response_is_taken_apart),
    T(finished_scanner_gives_the_same_answer_again),
    T(every_unfinished_head_wants_more), T(bare_lf_is_refused),
    T(bare_cr_is_refused), T(folded_line_is_refused),
    T(empty_line_or_space_before_the_request_line_is_refused),
    T(every_control_byte_is_refused_everywhere),
    T(header_split_on_vertical_tab_or_form_feed), T(nul_in_a_head_is_refused),
    T(high_bytes_count_as_text_in_values_only),
    T(space_before_the_colon_is_refused),
    T(field_line_without_name_or_colon_is_refused),
    T(request_line_has_three_words_and_two_spaces),
    T(version_is_spelt_exactly_and_one_point_x), T(status_line_is_strict),
    T(bytes_behind_the_head_are_refused_by_the_parser),
    T(one_field_too_many_is_431_however_it_arrives),
    T(field_limit_never_exceeds_the_room_in_the_head),
    T(head_too_long_is_431_however_it_arrives),
    T(long_head_byte_by_byte_is_looked_at_once),
    T(find_ignores_case_and_counts), T(predicates_know_every_byte),
    T(trim_drops_spaces_and_tabs_only),
    T(reason_says_what_was_got_and_expected_and_is_printable))
