#include "protocol/http1.h"

const char *
tws_http_phrase(uint16_t status)
{
    /* RFC 9110 §15, and RFC 6585 for 428 to 431. */
    static const struct {
        uint16_t status;
        const char *phrase;
    } PHRASES[] = {
        {100, "Continue"},
        {101, "Switching Protocols"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {203, "Non-Authoritative Information"},
        {204, "No Content"},
        {205, "Reset Content"},
        {206, "Partial Content"},
        {300, "Multiple Choices"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {305, "Use Proxy"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {402, "Payment Required"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {407, "Proxy Authentication Required"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {426, "Upgrade Required"},
        {428, "Precondition Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(PHRASES); i++) {
        if (PHRASES[i].status == status) {
            return PHRASES[i].phrase;
        }
    }
    return "Unknown";
}

/* All parts or none, so that a failure leaves the head as it was. */
static enum tws_status
append_parts(struct tws_buffer *out, const struct tws_span *parts,
             size_t count, struct tws_error *err)
{
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        length += parts[i].length;
    }
    uint8_t *room;
    if (tws_buffer_reserve(out, length, &room) != TWS_OK) {
        return tws_error_nomem(err);
    }
    for (size_t i = 0; i < count; i++) {
        if (parts[i].length > 0) {
            memcpy(room, parts[i].data, parts[i].length);
            room += parts[i].length;
        }
    }
    tws_buffer_commit(out, length);
    return TWS_OK;
}

enum tws_status
tws_http_write_request_line(struct tws_buffer *out, struct tws_span method,
                            struct tws_span target, struct tws_error *err)
{
    if (!tws_http_is_token(method)) {
        return tws_error_refused(err, 0,
                                 "method is \"%.*s\", expected a token",
                                 TWS_HTTP_QUOTED(method));
    }
    if (!tws_http_is_target(target)) {
        return tws_error_refused(
            err, 0, "request target is \"%.*s\", expected printable ASCII",
            TWS_HTTP_QUOTED(target));
    }
    const struct tws_span parts[] = {method, TWS_SPAN(" "), target,
                                     TWS_SPAN(" HTTP/1.1\r\n")};
    return append_parts(out, parts, TWS_ARRAY_SIZE(parts), err);
}

enum tws_status
tws_http_write_status_line(struct tws_buffer *out, uint16_t status,
                           struct tws_error *err)
{
    if (status < 100 || status > 599) {
        return tws_error_refused(err, 0,
                                 "HTTP status is %u, expected 100 to 599",
                                 (unsigned)status);
    }
    const char *phrase = tws_http_phrase(status);
    const char code[3] = {(char)('0' + status / 100),
                          (char)('0' + status / 10 % 10),
                          (char)('0' + status % 10)};
    const struct tws_span parts[] = {
        TWS_SPAN("HTTP/1.1 "), {.data = code, .length = sizeof(code)},
        TWS_SPAN(" "),         {.data = phrase, .length = strlen(phrase)},
        TWS_SPAN("\r\n"),
    };
    return append_parts(out, parts, TWS_ARRAY_SIZE(parts), err);
}

enum tws_status
tws_http_write_field(struct tws_buffer *out, struct tws_span name,
                     struct tws_span value, struct tws_error *err)
{
    if (!tws_http_is_token(name)) {
        return tws_error_refused(err, 0,
                                 "field name is \"%.*s\", expected a token",
                                 TWS_HTTP_QUOTED(name));
    }
    if (!tws_http_is_field_value(value)) {
        return tws_error_refused(
            err, 0,
            "value of field %.*s holds CR, LF, NUL or another control byte",
            TWS_HTTP_QUOTED(name));
    }
    const struct tws_span parts[] = {name, TWS_SPAN(": "), value,
                                     TWS_SPAN("\r\n")};
    return append_parts(out, parts, TWS_ARRAY_SIZE(parts), err);
}

enum tws_status
tws_http_write_end(struct tws_buffer *out, struct tws_error *err)
{
    const struct tws_span end = TWS_SPAN("\r\n");
    return append_parts(out, &end, 1, err);
}
