/* The head of an HTTP message and the walkers over its values. Whatever is
 * accepted must keep what http1.h and http_fields.h promise. The first byte
 * chooses how the rest arrives and how much of it is allowed. */
#include "input.h"
#include "protocol/http_fields.h"

/* The outcome of a scan, pieces of `step` bytes at a time. */
struct outcome {
    enum tws_status status;
    size_t head_length;
    size_t scanned;
    struct tws_error err;
};

static struct outcome
scan(struct tws_span text, size_t step, const struct tws_http_limits *limits)
{
    struct outcome outcome = {.status = TWS_AGAIN};
    struct tws_http_scanner scanner = {0};
    size_t there = 0;
    do {
        there = text.length - there < step ? text.length : there + step;
        /* Of what was scanned nothing is left: to look again is found. */
        uint8_t *copy = exact_begin(text.data, there);
        memset(copy, 0, scanner.scanned);
        outcome.status =
            tws_http_scan(&scanner, (const char *)copy, there, limits,
                          &outcome.head_length, &outcome.err);
        exact_end(copy);
        require(scanner.scanned <= there);
        require(scanner.scanned <= limits->head_bytes);
    } while (outcome.status == TWS_AGAIN && there < text.length);
    outcome.scanned = scanner.scanned;
    return outcome;
}

/* What a scanned head may hold, said another way than the scanner does. */
static void
check_lines(struct tws_span head)
{
    require(head.length >= 5);
    require(memcmp(head.data + head.length - 4, "\r\n\r\n", 4) == 0);
    for (size_t i = 0; i < head.length; i++) {
        char c = head.data[i];
        if (c == '\n') {
            require(i > 0 && head.data[i - 1] == '\r');
            require(i + 1 == head.length
                    || (head.data[i + 1] != ' ' && head.data[i + 1] != '\t'));
        }
        else if (c == '\r') {
            require(i + 1 < head.length && head.data[i + 1] == '\n');
            require(i < 2 || i + 2 == head.length || head.data[i - 1] != '\n');
        }
        else {
            require(c == '\t' || (c & 0xe0) != 0);
            require(c != 0x7f);
        }
    }
}

static void
check_scan(struct tws_span text, size_t step,
           const struct tws_http_limits *limits, struct outcome *whole)
{
    *whole = scan(text, text.length + 1, limits);
    struct outcome parts = scan(text, step, limits);
    require(whole->status == parts.status);
    require(whole->scanned == parts.scanned);
    require(whole->head_length == parts.head_length);
    if (whole->status == TWS_OK) {
        check_lines((struct tws_span){.data = text.data,
                                      .length = whole->head_length});
    }
    if (whole->status == TWS_REFUSED) {
        require(whole->err.http_status == parts.err.http_status);
        require(whole->err.http_status == 400
                || whole->err.http_status == 431);
        require(strcmp(whole->err.reason, parts.err.reason) == 0);
    }
}

static void
check_list(struct tws_span value)
{
    struct tws_list_walker walker = {.rest = value};
    struct tws_span element;
    const char *before = value.data;
    while (tws_list_next(&walker, &element)) {
        require(element.length > 0 && is_inside(element, value));
        require(element.data >= before);
        require(tws_http_trim(element).length == element.length);
        require(is_inside(walker.rest, value));
        require(walker.rest.data >= element.data + element.length);
        before = walker.rest.data;
    }
    require(walker.rest.length == 0);
}

static enum tws_status
check_params(struct tws_extension_walker *walker, struct tws_span value)
{
    struct tws_extension_param param;
    struct tws_error err;
    enum tws_status status;
    while ((status = tws_extension_param_next(walker, &param, &err))
           == TWS_OK) {
        require(tws_http_is_token(param.name) && is_inside(param.name, value));
        if (!param.has_value) {
            require(param.value.length == 0);
            continue;
        }
        require(param.value.length > 0 && is_inside(param.value, value));
        char *out = (char *)exact_begin(param.value.data, param.value.length);
        size_t length = tws_extension_unquote(&param, out);
        require(length <= param.value.length);
        require(param.quoted_pairs == (length < param.value.length));
        require(tws_http_is_token(
            (struct tws_span){.data = out, .length = length}));
        exact_end((const uint8_t *)out);
    }
    return status;
}

static void
check_extensions(struct tws_span value)
{
    struct tws_extension_walker walker = {.rest = value};
    struct tws_error err;
    struct tws_span name;
    enum tws_status status;
    while ((status = tws_extension_next(&walker, &name, &err)) == TWS_OK) {
        require(tws_http_is_token(name) && is_inside(name, value));
        require(is_inside(walker.rest, value)
                && is_inside(walker.params, value));
        status = check_params(&walker, value);
        require(status == TWS_EOF || status == TWS_REFUSED);
    }
    require(status == TWS_EOF || err.http_status == 400);
}

static void
check_head(const struct tws_http_head *head, struct tws_span text,
           const struct tws_http_limits *limits)
{
    require(head->version_minor <= 9);
    require(head->field_count <= limits->field_count);
    for (size_t i = 0; i < head->field_count; i++) {
        struct tws_span name = head->fields[i].name;
        struct tws_span value = head->fields[i].value;
        size_t count = 0;
        require(is_inside(name, text) && is_inside(value, text));
        require(tws_http_is_token(name) && tws_http_is_field_value(value));
        require(tws_http_trim(value).length == value.length);
        require(tws_http_find(head, name, &count) <= &head->fields[i]);
        require(count > 0);
        check_list(value);
        check_extensions(value);
    }
}

/* Writes the head again: what is read back must be the same. */
static void
check_rewrite(const struct tws_http_head *head, bool response)
{
    struct tws_buffer out = TWS_BUFFER_EMPTY;
    struct tws_error err;
    const struct tws_http_limits limits = {.head_bytes = SIZE_MAX,
                                           .field_count = 256};
    require((response ? tws_http_write_status_line(&out, head->status, &err)
                      : tws_http_write_request_line(&out, head->method,
                                                    head->target, &err))
            == TWS_OK);
    for (size_t i = 0; i < head->field_count; i++) {
        require(tws_http_write_field(&out, head->fields[i].name,
                                     head->fields[i].value, &err)
                == TWS_OK);
    }
    require(tws_http_write_end(&out, &err) == TWS_OK);

    struct tws_span text = {.data = (const char *)tws_buffer_data(&out),
                            .length = tws_buffer_length(&out)};
    struct outcome outcome = scan(text, text.length, &limits);
    require(outcome.status == TWS_OK);
    require(outcome.head_length == text.length);
    struct tws_http_head again;
    require((response ? tws_http_parse_response(text.data, text.length,
                                                &limits, &again, &err)
                      : tws_http_parse_request(text.data, text.length, &limits,
                                               &again, &err))
            == TWS_OK);
    require(again.status == head->status);
    require(tws_span_equal(again.method, head->method));
    require(tws_span_equal(again.target, head->target));
    require(again.field_count == head->field_count);
    for (size_t i = 0; i < head->field_count; i++) {
        require(tws_span_equal(again.fields[i].name, head->fields[i].name));
        require(tws_span_equal(again.fields[i].value, head->fields[i].value));
    }
    tws_buffer_release(&out);
}

static void
check_parse(struct tws_span text, const struct tws_http_limits *limits,
            const struct outcome *scanned, bool response)
{
    struct tws_http_head head;
    struct tws_error err = {0};
    enum tws_status status =
        response ? tws_http_parse_response(text.data, text.length, limits,
                                           &head, &err)
                 : tws_http_parse_request(text.data, text.length, limits,
                                          &head, &err);
    if (status != TWS_OK) {
        require(status == TWS_REFUSED && err.reason[0] != '\0');
        require(err.http_status == 400 || err.http_status == 431
                || err.http_status == 505);
        return;
    }
    /* The parser is never laxer than the scanner. */
    require(scanned->status == TWS_OK);
    require(scanned->head_length == text.length);
    check_head(&head, text, limits);
    if (response) {
        require(head.status >= 100 && head.status <= 599);
        require(tws_http_is_field_value(head.phrase));
        require(is_inside(head.phrase, text));
    }
    else {
        require(tws_http_is_token(head.method)
                && is_inside(head.method, text));
        require(tws_http_is_target(head.target)
                && is_inside(head.target, text));
    }
    check_rewrite(&head, response);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    struct tws_http_limits limits = TWS_HTTP_LIMITS_DEFAULT;
    if ((data[0] & 0x80) != 0) {
        limits = (struct tws_http_limits){.head_bytes = 64, .field_count = 3};
    }
    struct tws_span text = {.data = (const char *)data + 1,
                            .length = size - 1};
    struct outcome scanned;
    check_scan(text, (data[0] & 0x1f) + 1u, &limits, &scanned);
    check_list(text);
    check_extensions(text);
    struct tws_span head = text;
    if (scanned.status == TWS_OK) {
        require(scanned.head_length <= limits.head_bytes);
        head.length = scanned.head_length;
    }
    check_parse(head, &limits, &scanned, false);
    check_parse(head, &limits, &scanned, true);
    return 0;
}
