#include "protocol/http1.h"

/* Where the scanner stands between two bytes. */
enum {
    AT_START,      /* before the first byte */
    IN_LINE,       /* behind the first byte of a line */
    AFTER_CR,      /* the LF that ends the line must follow */
    AT_LINE_START, /* a field line or the empty line begins */
    AFTER_LAST_CR, /* the LF that ends the head must follow */
    AT_END,
};

/* One bit for each tchar (RFC 9110 §5.6.2), 32 bytes a word. */
static const uint32_t TOKEN_BYTES[8] = {
    0, 0x03ff6cfa, /* ! # $ % & ' * + - . 0-9 */
    0xc7fffffe,    /* A-Z ^ _ */
    0x57ffffff,    /* ` a-z | ~ */
};

static bool
is_token_byte(char c)
{
    uint8_t byte = (uint8_t)c;
    return (TOKEN_BYTES[byte >> 5] >> (byte & 31) & 1) != 0;
}

/* What may stand inside a line: VCHAR, SP, HTAB and obs-text (RFC 9110
 * §5.5). */
static bool
is_text_byte(char c)
{
    uint8_t byte = (uint8_t)c;
    return (byte >= 0x20 && byte != 0x7f) || byte == '\t';
}

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* How many bytes at the front of `data` may stand inside a line. */
static size_t
text_length(const char *data, size_t length)
{
    size_t i = 0;
    while (i < length && is_text_byte(data[i])) {
        i++;
    }
    return i;
}

bool
tws_http_is_token(struct tws_span text)
{
    for (size_t i = 0; i < text.length; i++) {
        if (!is_token_byte(text.data[i])) {
            return false;
        }
    }
    return text.length > 0;
}

bool
tws_http_is_field_value(struct tws_span text)
{
    return text_length(text.data, text.length) == text.length;
}

bool
tws_http_is_target(struct tws_span text)
{
    for (size_t i = 0; i < text.length; i++) {
        if (text.data[i] < 0x21 || text.data[i] > 0x7e) {
            return false;
        }
    }
    return text.length > 0;
}

struct tws_span
tws_http_trim(struct tws_span text)
{
    while (text.length > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text.data++;
        text.length--;
    }
    while (text.length > 0
           && (text.data[text.length - 1] == ' '
               || text.data[text.length - 1] == '\t')) {
        text.length--;
    }
    return text;
}

const struct tws_http_field *
tws_http_find(const struct tws_http_head *head, struct tws_span name,
              size_t *count)
{
    const struct tws_http_field *first = NULL;
    size_t found = 0;
    for (size_t i = 0; i < head->field_count; i++) {
        if (!tws_span_equal_nocase(head->fields[i].name, name)) {
            continue;
        }
        if (found == 0) {
            first = &head->fields[i];
        }
        found++;
    }
    if (count != NULL) {
        *count = found;
    }
    return first;
}

static size_t
field_limit(const struct tws_http_limits *limits)
{
    return limits->field_count < TWS_HTTP_FIELDS_MAX ? limits->field_count
                                                     : TWS_HTTP_FIELDS_MAX;
}

static enum tws_status
refuse_head_bytes(const struct tws_http_limits *limits, struct tws_error *err)
{
    return tws_error_refused(
        err, 431, "head does not end within %zu bytes, which is the limit",
        limits->head_bytes);
}

static enum tws_status
refuse_field_count(const struct tws_http_limits *limits, struct tws_error *err)
{
    return tws_error_refused(err, 431,
                             "more than %zu header fields, which is the limit",
                             field_limit(limits));
}

/* A byte that no line may hold. */
static enum tws_status
refuse_byte(size_t position, char c, struct tws_error *err)
{
    if (c == '\n') {
        return tws_error_refused(
            err, 400, "bare LF at byte %zu of the head, expected CRLF",
            position);
    }
    return tws_error_refused(
        err, 400, "control byte 0x%02x at byte %zu of the head, expected text",
        (unsigned)(uint8_t)c, position);
}

static enum tws_status
refuse_bare_cr(size_t position, struct tws_error *err)
{
    return tws_error_refused(
        err, 400, "bare CR before byte %zu of the head, expected CRLF",
        position);
}

/* RFC 9112 §2.2 allows a server to ignore an empty line before the start
 * line, for user agents that sent one behind a body. No request here has a
 * body and no WebSocket client does that: refuse it, as two parsers that
 * disagree on where a message begins are what smuggling lives on. */
static enum tws_status
refuse_start(struct tws_error *err)
{
    return tws_error_refused(
        err, 400,
        "head begins with white space or an empty line, expected a start "
        "line");
}

/* RFC 9112 §5.2: a server refuses obs-fold. */
static enum tws_status
refuse_fold(struct tws_error *err)
{
    return tws_error_refused(
        err, 400,
        "folded field line (it begins with white space), expected a name");
}

static enum tws_status
scan_byte(struct tws_http_scanner *scanner, char c,
          const struct tws_http_limits *limits, struct tws_error *err)
{
    switch (scanner->state) {
    case AT_START:
        if (c == '\r' || c == ' ' || c == '\t') {
            return refuse_start(err);
        }
        break;
    case AT_LINE_START:
        if (c == '\r') {
            scanner->state = AFTER_LAST_CR;
            return TWS_OK;
        }
        if (c == ' ' || c == '\t') {
            return refuse_fold(err);
        }
        /* `lines` counts the start line, too. */
        if (scanner->lines > field_limit(limits)) {
            return refuse_field_count(limits, err);
        }
        break;
    case AFTER_CR:
    case AFTER_LAST_CR:
        if (c != '\n') {
            return refuse_bare_cr(scanner->scanned, err);
        }
        if (scanner->state == AFTER_LAST_CR) {
            scanner->state = AT_END;
            return TWS_OK;
        }
        scanner->lines++;
        scanner->state = AT_LINE_START;
        return TWS_OK;
    default:
        if (c == '\r') {
            scanner->state = AFTER_CR;
            return TWS_OK;
        }
        break;
    }
    if (!is_text_byte(c)) {
        return refuse_byte(scanner->scanned, c, err);
    }
    scanner->state = IN_LINE;
    return TWS_OK;
}

enum tws_status
tws_http_scan(struct tws_http_scanner *scanner, const char *data,
              size_t length, const struct tws_http_limits *limits,
              size_t *head_length, struct tws_error *err)
{
    size_t end = length < limits->head_bytes ? length : limits->head_bytes;
    while (scanner->scanned < end && scanner->state != AT_END) {
        if (scanner->state == IN_LINE) {
            scanner->scanned +=
                text_length(data + scanner->scanned, end - scanner->scanned);
            if (scanner->scanned == end) {
                break;
            }
        }
        /* A refused byte stays in front of the scanner, so that asking
         * again gives the same answer. */
        enum tws_status status =
            scan_byte(scanner, data[scanner->scanned], limits, err);
        if (status != TWS_OK) {
            return status;
        }
        scanner->scanned++;
    }
    if (scanner->state == AT_END) {
        *head_length = scanner->scanned;
        return TWS_OK;
    }
    if (scanner->scanned >= limits->head_bytes) {
        return refuse_head_bytes(limits, err);
    }
    return TWS_AGAIN;
}

/* Takes the next line off the front of `rest`, without its CRLF. */
static enum tws_status
next_line(struct tws_span *rest, struct tws_span *line, struct tws_error *err)
{
    const char *cr =
        rest->length > 0 ? memchr(rest->data, '\r', rest->length) : NULL;
    if (cr == NULL) {
        return tws_error_refused(
            err, 400, "head ends within a line, expected an empty line");
    }
    size_t length = (size_t)(cr - rest->data);
    if (length + 1 == rest->length || cr[1] != '\n') {
        return tws_error_refused(
            err, 400, "bare CR behind \"%.*s\", expected CRLF",
            TWS_HTTP_QUOTED(
                ((struct tws_span){.data = rest->data, .length = length})));
    }
    *line = (struct tws_span){.data = rest->data, .length = length};
    rest->data += length + 2;
    rest->length -= length + 2;
    return TWS_OK;
}

/* Takes what stands before the next space off the front of `rest`, and the
 * space. False where there is none. */
static bool
next_word(struct tws_span *rest, struct tws_span *word)
{
    const char *space =
        rest->length > 0 ? memchr(rest->data, ' ', rest->length) : NULL;
    if (space == NULL) {
        return false;
    }
    size_t length = (size_t)(space - rest->data);
    *word = (struct tws_span){.data = rest->data, .length = length};
    rest->data += length + 1;
    rest->length -= length + 1;
    return true;
}

static enum tws_status
parse_version(struct tws_span text, uint8_t *minor, struct tws_error *err)
{
    /* "HTTP" is case-sensitive, one digit each (RFC 9112 §2.3). */
    if (text.length != 8 || memcmp(text.data, "HTTP/", 5) != 0
        || !is_digit(text.data[5]) || text.data[6] != '.'
        || !is_digit(text.data[7])) {
        return tws_error_refused(err, 400,
                                 "HTTP version is \"%.*s\", expected HTTP/1.1",
                                 TWS_HTTP_QUOTED(text));
    }
    if (text.data[5] != '1') {
        return tws_error_refused(err, 505,
                                 "HTTP version is %.*s, expected HTTP/1.1",
                                 TWS_HTTP_QUOTED(text));
    }
    *minor = (uint8_t)(text.data[7] - '0');
    return TWS_OK;
}

/* method SP request-target SP HTTP-version (RFC 9112 §3). */
static enum tws_status
parse_request_line(struct tws_span line, struct tws_http_head *head,
                   struct tws_error *err)
{
    struct tws_span rest = line;
    if (!next_word(&rest, &head->method) || !next_word(&rest, &head->target)) {
        return tws_error_refused(
            err, 400,
            "request line \"%.*s\", expected a method, a target and a "
            "version with one space between",
            TWS_HTTP_QUOTED(line));
    }
    if (!tws_http_is_token(head->method)) {
        return tws_error_refused(err, 400,
                                 "method is \"%.*s\", expected a token",
                                 TWS_HTTP_QUOTED(head->method));
    }
    if (!tws_http_is_target(head->target)) {
        return tws_error_refused(
            err, 400, "request target is \"%.*s\", expected printable ASCII",
            TWS_HTTP_QUOTED(head->target));
    }
    return parse_version(rest, &head->version_minor, err);
}

/* HTTP-version SP status-code SP [reason-phrase] (RFC 9112 §4). */
static enum tws_status
parse_status_line(struct tws_span line, struct tws_http_head *head,
                  struct tws_error *err)
{
    struct tws_span rest = line;
    struct tws_span version;
    struct tws_span code;
    if (!next_word(&rest, &version) || !next_word(&rest, &code)) {
        return tws_error_refused(
            err, 400,
            "status line \"%.*s\", expected a version, a status and a "
            "phrase with one space between",
            TWS_HTTP_QUOTED(line));
    }
    enum tws_status status = parse_version(version, &head->version_minor, err);
    if (status != TWS_OK) {
        return status;
    }
    if (code.length != 3 || code.data[0] < '1' || code.data[0] > '5'
        || !is_digit(code.data[1]) || !is_digit(code.data[2])) {
        return tws_error_refused(err, 400,
                                 "status is \"%.*s\", expected 100 to 599",
                                 TWS_HTTP_QUOTED(code));
    }
    head->status =
        (uint16_t)((code.data[0] - '0') * 100 + (code.data[1] - '0') * 10
                   + code.data[2] - '0');
    if (!tws_http_is_field_value(rest)) {
        return tws_error_refused(err, 400,
                                 "reason phrase \"%.*s\" holds a control byte",
                                 TWS_HTTP_QUOTED(rest));
    }
    head->phrase = rest;
    return TWS_OK;
}

static enum tws_status
refuse_name(struct tws_span line, struct tws_span name, struct tws_error *err)
{
    if (line.data[0] == ' ' || line.data[0] == '\t') {
        return refuse_fold(err);
    }
    if (name.length == 0) {
        return tws_error_refused(
            err, 400, "field line \"%.*s\" has no name before the colon",
            TWS_HTTP_QUOTED(line));
    }
    if (tws_http_trim(name).length != name.length) {
        /* RFC 9112 §5.1: refused, never trimmed. */
        return tws_error_refused(err, 400,
                                 "white space between \"%.*s\" and its colon",
                                 TWS_HTTP_QUOTED(tws_http_trim(name)));
    }
    return tws_error_refused(err, 400,
                             "field name is \"%.*s\", expected a token",
                             TWS_HTTP_QUOTED(name));
}

/* field-name ":" OWS field-value OWS (RFC 9112 §5); `line` is not empty. */
static enum tws_status
parse_field(struct tws_span line, struct tws_http_field *field,
            struct tws_error *err)
{
    const char *colon = memchr(line.data, ':', line.length);
    size_t length = colon == NULL ? line.length : (size_t)(colon - line.data);
    struct tws_span name = {.data = line.data, .length = length};
    if (colon == NULL && line.data[0] != ' ' && line.data[0] != '\t') {
        return tws_error_refused(err, 400,
                                 "field line \"%.*s\" without a colon",
                                 TWS_HTTP_QUOTED(line));
    }
    if (!tws_http_is_token(name)) {
        return refuse_name(line, name, err);
    }
    struct tws_span value = {.data = colon + 1,
                             .length = line.length - length - 1};
    if (!tws_http_is_field_value(value)) {
        size_t bad = text_length(value.data, value.length);
        return tws_error_refused(
            err, 400, "value of field %.*s holds control byte 0x%02x",
            TWS_HTTP_QUOTED(name), (unsigned)(uint8_t)value.data[bad]);
    }
    field->name = name;
    field->value = tws_http_trim(value);
    return TWS_OK;
}

static enum tws_status
parse_fields(struct tws_span rest, const struct tws_http_limits *limits,
             struct tws_http_head *head, struct tws_error *err)
{
    head->field_count = 0;
    for (;;) {
        struct tws_span line = TWS_SPAN("");
        enum tws_status status = next_line(&rest, &line, err);
        if (status != TWS_OK) {
            return status;
        }
        if (line.length == 0) {
            break;
        }
        if (head->field_count == field_limit(limits)) {
            return refuse_field_count(limits, err);
        }
        status = parse_field(line, &head->fields[head->field_count], err);
        if (status != TWS_OK) {
            return status;
        }
        head->field_count++;
    }
    if (rest.length > 0) {
        return tws_error_refused(
            err, 400, "%zu bytes behind the empty line, expected none",
            rest.length);
    }
    return TWS_OK;
}

typedef enum tws_status parse_line_function(struct tws_span line,
                                            struct tws_http_head *head,
                                            struct tws_error *err);

static enum tws_status
parse_head(const char *data, size_t length,
           const struct tws_http_limits *limits,
           parse_line_function *parse_start_line, struct tws_http_head *head,
           struct tws_error *err)
{
    /* Not the whole struct: its fields take 8 KiB. */
    head->method = head->target = head->phrase = TWS_SPAN("");
    head->status = 0;
    head->version_minor = 0;
    head->field_count = 0;
    if (length > limits->head_bytes) {
        return refuse_head_bytes(limits, err);
    }
    struct tws_span rest = {.data = data, .length = length};
    struct tws_span line = TWS_SPAN("");
    enum tws_status status = next_line(&rest, &line, err);
    if (status != TWS_OK) {
        return status;
    }
    if (line.length == 0) {
        return refuse_start(err);
    }
    status = parse_start_line(line, head, err);
    if (status != TWS_OK) {
        return status;
    }
    return parse_fields(rest, limits, head, err);
}

enum tws_status
tws_http_parse_request(const char *data, size_t length,
                       const struct tws_http_limits *limits,
                       struct tws_http_head *head, struct tws_error *err)
{
    return parse_head(data, length, limits, parse_request_line, head, err);
}

enum tws_status
tws_http_parse_response(const char *data, size_t length,
                        const struct tws_http_limits *limits,
                        struct tws_http_head *head, struct tws_error *err)
{
    return parse_head(data, length, limits, parse_status_line, head, err);
}
