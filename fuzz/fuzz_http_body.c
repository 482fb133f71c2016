/* The body of a refusal, against a reader that has all of it at once: whole,
 * cut in two at every place, and byte by byte. The first bytes choose how its
 * end is told, and how much is kept. */
#include "input.h"
#include "protocol/http_body.h"

enum { HEAD = 2, LONGEST = 100, KEPT_MAX = 128 };

struct body {
    enum tws_status status; /* TWS_OK: whole, broken, or more than fits */
    size_t length;
    uint8_t content[LONGEST + 1];
};

static void
keep(struct body *body, uint8_t byte, size_t ceiling)
{
    if (body->length == ceiling) {
        body->status = TWS_OK;
        return;
    }
    body->content[body->length] = byte;
    body->length++;
}

/* Of a chunk's size; -1: none (RFC 9112 §7.1). */
static int
hex_value(uint8_t byte)
{
    const char *digits = "0123456789abcdef";
    const char *upper = "0123456789ABCDEF";
    const char *found = byte == '\0' ? NULL : strchr(digits, byte);
    const char *big = byte == '\0' ? NULL : strchr(upper, byte);
    return found != NULL ? (int)(found - digits)
           : big != NULL ? (int)(big - upper)
                         : -1;
}

/* Skips a line that may be anything; false: it has no end. */
static bool
skip_line(const uint8_t *data, size_t size, size_t *at)
{
    while (*at < size && data[*at] != '\n') {
        (*at)++;
    }
    (*at)++;
    return *at <= size;
}

static struct body
read_chunks(const uint8_t *data, size_t size, size_t ceiling)
{
    struct body body = {.status = TWS_AGAIN};
    size_t at = 0;
    while (body.status == TWS_AGAIN) {
        uint64_t length = 0;
        unsigned digits = 0;
        while (at < size && hex_value(data[at]) >= 0) {
            length = length * 16 + (uint64_t)hex_value(data[at]);
            digits++;
            at++;
            if (digits > 15) {
                body.status = TWS_OK;
                return body;
            }
        }
        if (at == size) {
            return body;
        }
        if (digits == 0) {
            body.status = TWS_OK;
            return body;
        }
        if (!skip_line(data, size, &at)) {
            return body;
        }
        if (length == 0) {
            break;
        }
        for (; length > 0 && body.status == TWS_AGAIN; length--) {
            if (at == size) {
                return body;
            }
            keep(&body, data[at], ceiling);
            at++;
        }
        while (body.status == TWS_AGAIN && at < size && data[at] == '\r') {
            at++;
        }
        if (body.status != TWS_AGAIN || at == size) {
            return body;
        }
        if (data[at] != '\n') {
            body.status = TWS_OK;
        }
        at++;
    }
    while (body.status == TWS_AGAIN) { /* the trailer, up to a blank line */
        while (at < size && data[at] == '\r') {
            at++;
        }
        if (at < size && data[at] == '\n') {
            body.status = TWS_OK;
        }
        else if (!skip_line(data, size, &at)) {
            break;
        }
    }
    return body;
}

static struct body
read_plain(const uint8_t *data, size_t size, uint64_t length, size_t ceiling)
{
    struct body body = {.status = length == 0 ? TWS_OK : TWS_AGAIN};
    for (size_t at = 0; body.status == TWS_AGAIN && at < size; at++) {
        keep(&body, data[at], ceiling);
        if (at + 1 == length) {
            body.status = TWS_OK;
        }
    }
    return body;
}

/* Two parts, or where `cut` is SIZE_MAX each byte by itself. */
static void
check(const struct tws_http_head *head, struct tws_span text, size_t cut,
      size_t ceiling, const struct body *expected)
{
    static struct tws_buffer content; /* kept from run to run */
    struct tws_http_body body;
    struct tws_error err;
    enum tws_status status = TWS_AGAIN;
    size_t at = 0;
    tws_http_body_begin(&body, head);
    do {
        size_t part = cut == SIZE_MAX ? 1 : at == 0 ? cut : text.length;
        part = part < text.length - at ? part : text.length - at;
        uint8_t *copy = exact_begin(text.data + at, part);
        status =
            tws_http_body_take(&body, copy, part, ceiling, &content, &err);
        exact_end(copy);
        at += part;
        cut = cut == 0 ? text.length : cut;
    } while (status == TWS_AGAIN && at < text.length);
    require(status == expected->status);
    require(tws_buffer_length(&content) == expected->length);
    require(expected->length == 0
            || memcmp(tws_buffer_data(&content), expected->content,
                      expected->length)
                   == 0);
    if (status == TWS_OK) { /* and says so again */
        require(tws_http_body_take(&body, (const uint8_t *)"x", 1, SIZE_MAX,
                                   &content, &err)
                == TWS_OK);
        require(tws_buffer_length(&content) == expected->length);
    }
    tws_buffer_consume(&content, tws_buffer_length(&content));
}

static void
add_field(struct tws_http_head *head, struct tws_span name,
          struct tws_span value)
{
    head->fields[head->field_count].name = name;
    head->fields[head->field_count].value = value;
    head->field_count++;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tws_http_head head;
    struct input input = {.data = data, .length = size};
    if (size < HEAD || size > LONGEST + HEAD) {
        return 0;
    }
    uint8_t choice = input_byte(&input);
    size_t ceiling = input_byte(&input) % KEPT_MAX;
    struct body expected;
    head.field_count = 0;
    head.status = (choice & 0x80) != 0 ? 403 : 304;
    char digits[2] = {(char)('0' + choice % 8), '5'};
    uint64_t length = (uint64_t)(choice % 8) * 10 + 5;
    if ((choice & 0x40) != 0) {
        add_field(&head, TWS_SPAN("content-length"),
                  (struct tws_span){.data = digits, .length = 2});
    }
    if ((choice & 0x20) != 0) {
        add_field(&head, TWS_SPAN("Transfer-Encoding"),
                  (choice & 0x10) != 0 ? TWS_SPAN("gzip, Chunked")
                                       : TWS_SPAN("gzip"));
    }
    if (head.status == 304) {
        expected = read_plain(input.data, input.length, 0, ceiling);
    }
    else if ((choice & 0x30) == 0x30) {
        expected = read_chunks(input.data, input.length, ceiling);
    }
    else if ((choice & 0x60) == 0x40) {
        expected = read_plain(input.data, input.length, length, ceiling);
    }
    else {
        expected = read_plain(input.data, input.length, UINT64_MAX, ceiling);
    }
    struct tws_span text = input_rest(&input);
    check(&head, text, SIZE_MAX, ceiling, &expected);
    for (size_t cut = 0; cut <= text.length; cut++) {
        check(&head, text, cut, ceiling, &expected);
    }
    return 0;
}
