#include "protocol/http_body.h"

#include "protocol/http_fields.h"

/* How the end is told. */
enum {
    NO_BODY,
    BY_LENGTH,
    CHUNKED,
    BY_END_OF_STREAM,
};

/* Where a chunked body stands (RFC 9112 §7.1). */
enum {
    IN_SIZE,
    IN_EXTENSION, /* up to the LF behind a size */
    IN_DATA,
    AFTER_DATA,    /* the CRLF behind a chunk's data */
    AT_LINE_START, /* of the trailer */
    IN_TRAILER,
};

enum {
    SIZE_DIGITS = 15,        /* of a chunk's size: no overflow of 64 bits */
    LINES_MAX = 1024 * 1024, /* bytes of all that is no content */
};

/* True where `text` is a number below 10^18. */
static bool
read_length(struct tws_span text, uint64_t *length)
{
    uint64_t value = 0;
    if (text.length == 0 || text.length > 18) {
        return false;
    }
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    *length = value;
    return true;
}

void
tws_http_body_begin(struct tws_http_body *body,
                    const struct tws_http_head *head)
{
    size_t count;
    *body = (struct tws_http_body){.framing = BY_END_OF_STREAM};
    if (head->status < 200 || head->status == 204 || head->status == 304) {
        body->framing = NO_BODY;
        return;
    }
    /* RFC 9112 §6.3: it overrides a Content-Length. */
    if (tws_http_find(head, TWS_SPAN("Transfer-Encoding"), NULL) != NULL) {
        if (tws_http_lists_token(head, TWS_SPAN("Transfer-Encoding"),
                                 TWS_SPAN("chunked"))) {
            body->framing = CHUNKED;
        }
        return;
    }
    const struct tws_http_field *field =
        tws_http_find(head, TWS_SPAN("Content-Length"), &count);
    if (count == 1 && read_length(field->value, &body->left)) {
        body->framing = body->left > 0 ? BY_LENGTH : NO_BODY;
    }
}

/* The value of a hexadecimal digit, or -1. */
static int
digit_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = tws_ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A byte between the contents. TWS_OK: the body ends here, as it should or
 * as it is broken. */
static enum tws_status
take_framing_byte(struct tws_http_body *body, char c)
{
    body->line++;
    if (body->line > LINES_MAX) {
        return TWS_OK;
    }
    switch (body->state) {
    case IN_SIZE: {
        int value = digit_value(c);
        if (value >= 0 && body->digits < SIZE_DIGITS) {
            body->left = body->left * 16 + (uint64_t)value;
            body->digits++;
            return TWS_AGAIN;
        }
        if (value >= 0 || body->digits == 0) {
            return TWS_OK;
        }
        body->state = IN_EXTENSION;
        break;
    }
    case AFTER_DATA:
        if (c == '\n') {
            body->state = IN_SIZE;
            body->digits = 0;
            return TWS_AGAIN;
        }
        return c == '\r' ? TWS_AGAIN : TWS_OK;
    case AT_LINE_START:
        if (c == '\n') {
            return TWS_OK;
        }
        if (c != '\r') {
            body->state = IN_TRAILER;
        }
        return TWS_AGAIN;
    case IN_TRAILER:
        if (c == '\n') {
            body->state = AT_LINE_START;
        }
        return TWS_AGAIN;
    default:
        break;
    }
    if (c == '\n') { /* the line of the size ends */
        body->state = body->left > 0 ? IN_DATA : AT_LINE_START;
    }
    return TWS_AGAIN;
}

/* How many of `length` bytes are content. */
static size_t
content_length(const struct tws_http_body *body, size_t length)
{
    if (body->framing == BY_END_OF_STREAM) {
        return length;
    }
    if (body->framing == CHUNKED && body->state != IN_DATA) {
        return 0;
    }
    return length < body->left ? length : (size_t)body->left;
}

/* `length` bytes of content were taken. */
static enum tws_status
count_content(struct tws_http_body *body, size_t length)
{
    if (body->framing == BY_END_OF_STREAM) {
        return TWS_AGAIN;
    }
    body->left -= length;
    if (body->left > 0) {
        return TWS_AGAIN;
    }
    body->state = AFTER_DATA;
    return body->framing == CHUNKED ? TWS_AGAIN : TWS_OK;
}

enum tws_status
tws_http_body_take(struct tws_http_body *body, const uint8_t *data,
                   size_t length, size_t ceiling, struct tws_buffer *content,
                   struct tws_error *err)
{
    size_t used = 0;
    enum tws_status status = body->framing == NO_BODY ? TWS_OK : TWS_AGAIN;
    while (status == TWS_AGAIN && used < length) {
        size_t part = content_length(body, length - used);
        size_t room = ceiling - tws_buffer_length(content);
        if (part == 0) {
            status = take_framing_byte(body, (char)data[used]);
            used++;
            continue;
        }
        size_t kept = part < room ? part : room;
        if (tws_buffer_append(content, data + used, kept) != TWS_OK) {
            return tws_error_nomem(err);
        }
        used += part;
        status = kept < part ? TWS_OK : count_content(body, part);
    }
    if (status == TWS_OK) {
        body->framing = NO_BODY; /* and says so again */
    }
    return status;
}
