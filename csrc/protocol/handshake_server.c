#include "protocol/handshake_server.h"

#include "protocol/http_fields.h"

#include <stdio.h>

/* The value of a field that must not be repeated. *present tells an empty
 * value from none. */
static enum tws_status
single_value(const struct tws_http_head *head, struct tws_span name,
             struct tws_span *value, bool *present, struct tws_error *err)
{
    size_t count;
    const struct tws_http_field *field = tws_http_find(head, name, &count);
    if (count > 1) {
        return tws_error_refused(err, 400,
                                 "%zu %.*s fields, expected at most one",
                                 count, TWS_HTTP_QUOTED(name));
    }
    *present = field != NULL;
    *value = field != NULL ? field->value : TWS_SPAN("");
    return TWS_OK;
}

/* RFC 9112 §3.2: exactly one Host, which only HTTP/1.0 may leave out. */
static enum tws_status
judge_host(const struct tws_http_head *head,
           struct tws_handshake_request *request, struct tws_error *err)
{
    bool present = false;
    enum tws_status status =
        single_value(head, TWS_SPAN("Host"), &request->host, &present, err);
    if (status != TWS_OK) {
        return status;
    }
    if (!present) {
        return head->version_minor == 0
                   ? TWS_OK
                   : tws_error_refused(err, 400,
                                       "no Host field, expected one");
    }
    if (!tws_host_valid(request->host)) {
        return tws_error_refused(
            err, 400, "Host is \"%.*s\", expected a host and a port",
            TWS_HTTP_QUOTED(request->host));
    }
    return TWS_OK;
}

/* The bytes of "http://" or one of its kin at the front of `target`. */
static size_t
scheme_length(struct tws_span target)
{
    static const char *const SCHEMES[] = {"http://", "https://", "ws://",
                                          "wss://"};
    for (size_t i = 0; i < TWS_ARRAY_SIZE(SCHEMES); i++) {
        struct tws_span scheme = {.data = SCHEMES[i],
                                  .length = strlen(SCHEMES[i])};
        struct tws_span front = {.data = target.data, .length = scheme.length};
        if (target.length >= scheme.length
            && tws_span_equal_nocase(front, scheme)) {
            return scheme.length;
        }
    }
    return 0;
}

static size_t
length_before(struct tws_span text, const char *delimiters)
{
    size_t i = 0;
    while (i < text.length && strchr(delimiters, text.data[i]) == NULL) {
        i++;
    }
    return i;
}

/* Splits the target into path and query; an absolute-form's authority takes
 * the place of the Host field (RFC 9112 §3.2.2). */
static enum tws_status
judge_target(const struct tws_http_head *head,
             struct tws_handshake_request *request, struct tws_error *err)
{
    struct tws_span rest = head->target;
    /* RFC 6455 §3: a fragment is never sent. */
    if (!tws_http_is_target(rest)
        || memchr(rest.data, '#', rest.length) != NULL) {
        goto refuse;
    }
    size_t skip = scheme_length(rest);
    if (skip > 0) {
        rest.data += skip;
        rest.length -= skip;
        request->host = (struct tws_span){.data = rest.data,
                                          .length = length_before(rest, "/?")};
        if (!tws_host_valid(request->host)) {
            goto refuse;
        }
        rest.data += request->host.length;
        rest.length -= request->host.length;
    }
    else if (rest.data[0] != '/') {
        goto refuse;
    }
    size_t length = length_before(rest, "?");
    request->path = (struct tws_span){.data = rest.data, .length = length};
    if (length == 0) {
        request->path = TWS_SPAN("/"); /* RFC 9110 §4.2.3 */
    }
    if (length < rest.length) {
        request->query = (struct tws_span){.data = rest.data + length + 1,
                                           .length = rest.length - length - 1};
    }
    return TWS_OK;

refuse:
    return tws_error_refused(err, 400,
                             "request target is \"%.*s\", expected a path",
                             TWS_HTTP_QUOTED(head->target));
}

/* A body on a request that never has one is how a second request gets past
 * a proxy: neither its framing nor its bytes are looked at. */
static enum tws_status
judge_body(const struct tws_http_head *head, struct tws_error *err)
{
    if (tws_http_find(head, TWS_SPAN("Transfer-Encoding"), NULL) != NULL) {
        return tws_error_refused(err, 400,
                                 "Transfer-Encoding field, expected no body");
    }
    struct tws_span value = TWS_SPAN("");
    bool present = false;
    enum tws_status status =
        single_value(head, TWS_SPAN("Content-Length"), &value, &present, err);
    if (status != TWS_OK) {
        return status;
    }
    if (present && !tws_span_equal(value, TWS_SPAN("0"))) {
        return tws_error_refused(
            err, 400, "Content-Length is \"%.*s\", expected none or 0",
            TWS_HTTP_QUOTED(value));
    }
    return TWS_OK;
}

static enum tws_status
judge_method(const struct tws_http_head *head, bool upgrade,
             struct tws_error *err)
{
    if (tws_span_equal(head->method, TWS_SPAN("GET"))
        || (!upgrade && tws_span_equal(head->method, TWS_SPAN("HEAD")))) {
        return TWS_OK;
    }
    return tws_error_refused(err, 405, "method is \"%.*s\", expected %s",
                             TWS_HTTP_QUOTED(head->method),
                             upgrade ? "GET" : "GET or HEAD");
}

/* RFC 6455 §4.2.1, §4.4. */
static enum tws_status
judge_version(const struct tws_http_head *head, struct tws_error *err)
{
    struct tws_span version = TWS_SPAN("");
    bool present = false;
    enum tws_status status = single_value(
        head, TWS_SPAN("Sec-WebSocket-Version"), &version, &present, err);
    if (status != TWS_OK) {
        return status;
    }
    if (!present) {
        return tws_error_refused(err, 426,
                                 "no Sec-WebSocket-Version field, expected "
                                 "Sec-WebSocket-Version: 13");
    }
    if (!tws_span_equal(version, TWS_SPAN("13"))) {
        return tws_error_refused(err, 426,
                                 "Sec-WebSocket-Version is \"%.*s\", expected "
                                 "Sec-WebSocket-Version: 13",
                                 TWS_HTTP_QUOTED(version));
    }
    return TWS_OK;
}

static enum tws_status
judge_key(const struct tws_http_head *head,
          struct tws_handshake_request *request, struct tws_error *err)
{
    bool present = false;
    enum tws_status status = single_value(head, TWS_SPAN("Sec-WebSocket-Key"),
                                          &request->key, &present, err);
    if (status != TWS_OK) {
        return status;
    }
    if (!present) {
        return tws_error_refused(err, 400,
                                 "no Sec-WebSocket-Key field, expected one");
    }
    if (!tws_handshake_key_valid(request->key)) {
        return tws_error_refused(
            err, 400,
            "Sec-WebSocket-Key is \"%.*s\", expected base64 of 16 bytes",
            TWS_HTTP_QUOTED(request->key));
    }
    return TWS_OK;
}

static bool
contains(const struct tws_span *list, size_t count, struct tws_span text)
{
    for (size_t i = 0; i < count; i++) {
        if (tws_span_equal(list[i], text)) {
            return true;
        }
    }
    return false;
}

/* Sec-WebSocket-Protocol = 1#token, over all fields of the name (RFC 6455
 * §4.3, §11.3.4); the client's order decides. */
static enum tws_status
judge_protocols(const struct tws_http_head *head,
                const struct tws_handshake_policy *policy,
                struct tws_handshake_request *request, struct tws_error *err)
{
    const struct tws_span name = TWS_SPAN("Sec-WebSocket-Protocol");
    bool present = false;
    bool any = false;
    for (size_t i = 0; i < head->field_count; i++) {
        if (!tws_span_equal_nocase(head->fields[i].name, name)) {
            continue;
        }
        present = true;
        struct tws_list_walker walker = {.rest = head->fields[i].value};
        struct tws_span element;
        while (tws_list_next(&walker, &element)) {
            any = true;
            if (!tws_http_is_token(element)) {
                return tws_error_refused(
                    err, 400,
                    "Sec-WebSocket-Protocol lists \"%.*s\", expected a token",
                    TWS_HTTP_QUOTED(element));
            }
            if (request->protocol.length == 0
                && contains(policy->protocols, policy->protocol_count,
                            element)) {
                request->protocol = element;
            }
        }
    }
    if (present && !any) {
        return tws_error_refused(
            err, 400, "Sec-WebSocket-Protocol is empty, expected a token");
    }
    return TWS_OK;
}

/* Sec-WebSocket-Extensions = 1#extension, over all fields of the name
 * (RFC 6455 §9.1, §11.3.2). One that lists nothing offers nothing: empty
 * elements are to be passed over (RFC 9110 §5.6.1.2), and there are clients
 * that send the field for each connection. */
static enum tws_status
judge_extensions(const struct tws_http_head *head, struct tws_error *err)
{
    const struct tws_span name = TWS_SPAN("Sec-WebSocket-Extensions");
    for (size_t i = 0; i < head->field_count; i++) {
        if (!tws_span_equal_nocase(head->fields[i].name, name)) {
            continue;
        }
        struct tws_extension_walker walker = {.rest = head->fields[i].value};
        struct tws_span extension;
        struct tws_extension_param param;
        enum tws_status status = tws_extension_next(&walker, &extension, err);
        while (status == TWS_OK) {
            do {
                status = tws_extension_param_next(&walker, &param, err);
            } while (status == TWS_OK);
            if (status == TWS_EOF) {
                status = tws_extension_next(&walker, &extension, err);
            }
        }
        if (status != TWS_EOF) {
            return status;
        }
    }
    return TWS_OK;
}

static enum tws_status
judge_connection(const struct tws_http_head *head, struct tws_error *err)
{
    /* RFC 9110 §7.8: Upgrade means nothing in HTTP/1.0. */
    if (head->version_minor == 0) {
        return tws_error_refused(err, 400,
                                 "upgrade by HTTP/1.0, expected HTTP/1.1");
    }
    if (!tws_http_lists_token(head, TWS_SPAN("Connection"),
                              TWS_SPAN("upgrade"))) {
        const struct tws_http_field *field =
            tws_http_find(head, TWS_SPAN("Connection"), NULL);
        struct tws_span got = field == NULL ? TWS_SPAN("") : field->value;
        return tws_error_refused(
            err, 400, "Connection is \"%.*s\", expected it to list upgrade",
            TWS_HTTP_QUOTED(got));
    }
    return TWS_OK;
}

/* What the policy says, once the request is known to be well-formed. */
static enum tws_status
judge_policy(const struct tws_handshake_policy *policy,
             const struct tws_handshake_request *request, bool has_origin,
             struct tws_error *err)
{
    if (has_origin
        && !tws_origin_allowed(&policy->origins, request->origin,
                               request->host, policy->secure)) {
        return tws_error_refused(
            err, 403, "origin \"%.*s\" is none of those that may connect",
            TWS_HTTP_QUOTED(request->origin));
    }
    if (policy->location_count > 0
        && !contains(policy->locations, policy->location_count,
                     request->path)) {
        return tws_error_refused(
            err, 404, "path \"%.*s\" is none of those that are served",
            TWS_HTTP_QUOTED(request->path));
    }
    return TWS_OK;
}

static enum tws_status
judge_upgrade(const struct tws_http_head *head,
              const struct tws_handshake_policy *policy,
              struct tws_handshake_request *request, bool has_origin,
              struct tws_error *err)
{
    enum tws_status status = judge_connection(head, err);
    if (status == TWS_OK) {
        status = judge_version(head, err);
    }
    if (status == TWS_OK) {
        status = judge_key(head, request, err);
    }
    if (status == TWS_OK) {
        status = judge_protocols(head, policy, request, err);
    }
    if (status == TWS_OK) {
        status = judge_extensions(head, err);
    }
    if (status == TWS_OK) {
        status = judge_policy(policy, request, has_origin, err);
    }
    return status;
}

enum tws_status
tws_handshake_judge(const struct tws_http_head *head,
                    const struct tws_handshake_policy *policy,
                    struct tws_handshake_request *request,
                    struct tws_error *err)
{
    struct tws_handshake_request found = {
        .query = TWS_SPAN(""),
        .key = TWS_SPAN(""),
        .protocol = TWS_SPAN(""),
        .upgrade = tws_http_lists_token(head, TWS_SPAN("Upgrade"),
                                        TWS_SPAN("websocket")),
    };
    bool has_origin = false;
    enum tws_status status = judge_method(head, found.upgrade, err);
    if (status == TWS_OK) {
        status = judge_host(head, &found, err);
    }
    if (status == TWS_OK) {
        status = judge_target(head, &found, err);
    }
    if (status == TWS_OK) {
        status = judge_body(head, err);
    }
    if (status == TWS_OK) {
        /* RFC 6454 §7.3: a user agent sends one. */
        status = single_value(head, TWS_SPAN("Origin"), &found.origin,
                              &has_origin, err);
    }
    if (status == TWS_OK && found.upgrade) {
        status = judge_upgrade(head, policy, &found, has_origin, err);
    }
    if (status == TWS_OK) {
        *request = found;
    }
    return status;
}

/* Takes back what was appended behind the first `length` bytes. */
static void
cut_back(struct tws_buffer *out, size_t length)
{
    out->end = out->start + length;
}

/* Those that have a value. */
static enum tws_status
write_fields(struct tws_buffer *out, const struct tws_http_field *fields,
             size_t count, struct tws_error *err)
{
    enum tws_status status = TWS_OK;
    for (size_t i = 0; status == TWS_OK && i < count; i++) {
        if (fields[i].value.length > 0) {
            status = tws_http_write_field(out, fields[i].name, fields[i].value,
                                          err);
        }
    }
    return status;
}

enum tws_status
tws_handshake_write_accept(struct tws_buffer *out,
                           const struct tws_handshake_request *request,
                           struct tws_span extensions, struct tws_error *err)
{
    size_t before = tws_buffer_length(out);
    char accept[TWS_ACCEPT_LENGTH];
    enum tws_status status = tws_accept_key(request->key, accept, err);
    if (status != TWS_OK) {
        return status;
    }
    const struct tws_http_field fields[] = {
        {TWS_SPAN("Upgrade"), TWS_SPAN("websocket")},
        {TWS_SPAN("Connection"), TWS_SPAN("Upgrade")},
        {TWS_SPAN("Sec-WebSocket-Accept"),
         {.data = accept, .length = sizeof(accept)}},
        {TWS_SPAN("Sec-WebSocket-Protocol"), request->protocol},
        {TWS_SPAN("Sec-WebSocket-Extensions"), extensions},
    };
    status = tws_http_write_status_line(out, 101, err);
    if (status == TWS_OK) {
        status = write_fields(out, fields, TWS_ARRAY_SIZE(fields), err);
    }
    if (status != TWS_OK) {
        cut_back(out, before);
    }
    return status;
}

static enum tws_status
write_refusal_head(struct tws_buffer *out, uint16_t http_status,
                   const struct tws_http_field *more, size_t count,
                   size_t body_length, struct tws_error *err)
{
    char digits[24];
    int length = snprintf(digits, sizeof(digits), "%zu", body_length);
    bool upgrade = http_status == 426;
    const struct tws_http_field fields[] = {
        {TWS_SPAN("Content-Type"), TWS_SPAN("text/plain; charset=utf-8")},
        {TWS_SPAN("Content-Length"),
         {.data = digits, .length = (size_t)length}},
        /* RFC 9110 §7.8: whoever sends Upgrade names it here, too. */
        {TWS_SPAN("Connection"),
         upgrade ? TWS_SPAN("close, Upgrade") : TWS_SPAN("close")},
        {TWS_SPAN("Upgrade"), upgrade ? TWS_SPAN("websocket") : TWS_SPAN("")},
        {TWS_SPAN("Sec-WebSocket-Version"),
         upgrade ? TWS_SPAN("13") : TWS_SPAN("")},
        {TWS_SPAN("Allow"),
         http_status == 405 ? TWS_SPAN("GET, HEAD") : TWS_SPAN("")},
    };
    enum tws_status status = tws_http_write_status_line(out, http_status, err);
    if (status == TWS_OK) {
        status = write_fields(out, fields, TWS_ARRAY_SIZE(fields), err);
    }
    if (status == TWS_OK) {
        status = write_fields(out, more, count, err);
    }
    return status == TWS_OK ? tws_http_write_end(out, err) : status;
}

enum tws_status
tws_handshake_write_refusal(struct tws_buffer *out, uint16_t http_status,
                            const char *reason, bool head_only,
                            struct tws_error *err)
{
    return tws_handshake_write_refusal_with(out, http_status, NULL, 0, reason,
                                            head_only, err);
}

enum tws_status
tws_handshake_write_refusal_with(struct tws_buffer *out, uint16_t http_status,
                                 const struct tws_http_field *fields,
                                 size_t field_count, const char *reason,
                                 bool head_only, struct tws_error *err)
{
    size_t before = tws_buffer_length(out);
    size_t length = strlen(reason);
    enum tws_status status = write_refusal_head(out, http_status, fields,
                                                field_count, length + 1, err);
    if (status == TWS_OK && !head_only
        && (tws_buffer_append(out, reason, length) != TWS_OK
            || tws_buffer_append(out, "\n", 1) != TWS_OK)) {
        status = tws_error_nomem(err);
    }
    if (status != TWS_OK) {
        cut_back(out, before);
    }
    return status;
}
