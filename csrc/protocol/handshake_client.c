#include "protocol/handshake_client.h"

#include "protocol/http_fields.h"
#include "protocol/origin.h"

/* RFC 6455 §4.1 item 10: tokens, none of them twice. */
static enum tws_status
check_protocols(const struct tws_handshake_offer *offer, struct tws_error *err)
{
    for (size_t i = 0; i < offer->protocol_count; i++) {
        struct tws_span protocol = offer->protocols[i];
        if (!tws_http_is_token(protocol)) {
            return tws_error_refused(err, 0,
                                     "subprotocol is \"%.*s\", expected a "
                                     "token",
                                     TWS_HTTP_QUOTED(protocol));
        }
        for (size_t j = 0; j < i; j++) {
            if (tws_span_equal(protocol, offer->protocols[j])) {
                return tws_error_refused(
                    err, 0, "subprotocol \"%.*s\" twice, expected it once",
                    TWS_HTTP_QUOTED(protocol));
            }
        }
    }
    return TWS_OK;
}

/* The fields that the handshake writes itself, or that would announce a
 * body. */
static bool
is_reserved(const struct tws_handshake_offer *offer, struct tws_span name)
{
    static const char *const RESERVED[] = {
        "Host", "Upgrade", "Connection", "Content-Length", "Transfer-Encoding",
    };
    for (size_t i = 0; i < TWS_ARRAY_SIZE(RESERVED); i++) {
        if (tws_span_equal_nocase(
                name, (struct tws_span){.data = RESERVED[i],
                                        .length = strlen(RESERVED[i])})) {
            return true;
        }
    }
    const struct tws_span prefix = TWS_SPAN("Sec-WebSocket-");
    struct tws_span front = {.data = name.data, .length = prefix.length};
    if (name.length >= prefix.length && tws_span_equal_nocase(front, prefix)) {
        return true;
    }
    return offer->origin.length > 0
           && tws_span_equal_nocase(name, TWS_SPAN("Origin"));
}

static enum tws_status
check_offer(const struct tws_handshake_offer *offer, struct tws_error *err)
{
    if (offer->target.length == 0 || offer->target.data[0] != '/'
        || memchr(offer->target.data, '#', offer->target.length) != NULL) {
        /* RFC 6455 §3: no fragment. */
        return tws_error_refused(
            err, 0, "target is \"%.*s\", expected a path without a fragment",
            TWS_HTTP_QUOTED(offer->target));
    }
    if (!tws_host_valid(offer->host)) {
        return tws_error_refused(
            err, 0, "host is \"%.*s\", expected a host and a port",
            TWS_HTTP_QUOTED(offer->host));
    }
    if (!tws_handshake_key_valid((struct tws_span){
            .data = offer->key, .length = sizeof(offer->key)})) {
        return tws_error_refused(err, 0,
                                 "handshake key is not base64 of 16 bytes");
    }
    for (size_t i = 0; i < offer->field_count; i++) {
        if (is_reserved(offer, offer->fields[i].name)) {
            return tws_error_refused(
                err, 0, "field %.*s is written by the handshake itself",
                TWS_HTTP_QUOTED(offer->fields[i].name));
        }
    }
    return check_protocols(offer, err);
}

static enum tws_status
write_protocols(struct tws_buffer *out,
                const struct tws_handshake_offer *offer, struct tws_error *err)
{
    if (offer->protocol_count == 0) {
        return TWS_OK;
    }
    struct tws_span between = TWS_SPAN("Sec-WebSocket-Protocol: ");
    for (size_t i = 0; i < offer->protocol_count; i++) {
        if (tws_buffer_append(out, between.data, between.length) != TWS_OK
            || tws_buffer_append(out, offer->protocols[i].data,
                                 offer->protocols[i].length)
                   != TWS_OK) {
            return tws_error_nomem(err);
        }
        between = TWS_SPAN(", ");
    }
    return tws_http_write_end(out, err); /* of the line */
}

static enum tws_status
write_head(struct tws_buffer *out, const struct tws_handshake_offer *offer,
           struct tws_error *err)
{
    const struct tws_http_field fields[] = {
        {TWS_SPAN("Host"), offer->host},
        {TWS_SPAN("Upgrade"), TWS_SPAN("websocket")},
        {TWS_SPAN("Connection"), TWS_SPAN("Upgrade")},
        {TWS_SPAN("Sec-WebSocket-Key"),
         {.data = offer->key, .length = sizeof(offer->key)}},
        {TWS_SPAN("Sec-WebSocket-Version"), TWS_SPAN("13")},
        {TWS_SPAN("Origin"), offer->origin},
        {TWS_SPAN("Sec-WebSocket-Extensions"), offer->extensions},
    };
    enum tws_status status =
        tws_http_write_request_line(out, TWS_SPAN("GET"), offer->target, err);
    for (size_t i = 0; status == TWS_OK && i < TWS_ARRAY_SIZE(fields); i++) {
        if (fields[i].value.length > 0) {
            status = tws_http_write_field(out, fields[i].name, fields[i].value,
                                          err);
        }
    }
    if (status == TWS_OK) {
        status = write_protocols(out, offer, err);
    }
    for (size_t i = 0; status == TWS_OK && i < offer->field_count; i++) {
        status = tws_http_write_field(out, offer->fields[i].name,
                                      offer->fields[i].value, err);
    }
    return status == TWS_OK ? tws_http_write_end(out, err) : status;
}

enum tws_status
tws_handshake_write_request(struct tws_buffer *out,
                            const struct tws_handshake_offer *offer,
                            struct tws_error *err)
{
    size_t before = tws_buffer_length(out);
    enum tws_status status = check_offer(offer, err);
    if (status != TWS_OK) {
        return status;
    }
    status = write_head(out, offer, err);
    if (status != TWS_OK) {
        out->end = out->start + before; /* all of it or nothing */
    }
    return status;
}

/* The value of a field that the answer must have exactly once. */
static enum tws_status
required_value(const struct tws_http_head *head, struct tws_span name,
               struct tws_span *value, struct tws_error *err)
{
    size_t count;
    const struct tws_http_field *field = tws_http_find(head, name, &count);
    if (count != 1) {
        return tws_error_refused(err, head->status,
                                 "%zu %.*s fields in the answer, expected one",
                                 count, TWS_HTTP_QUOTED(name));
    }
    *value = field->value;
    return TWS_OK;
}

/* RFC 6455 §4.1, what the client checks: items 1 to 3. */
static enum tws_status
check_upgrade(const struct tws_http_head *head, struct tws_error *err)
{
    if (head->status != 101) {
        return tws_error_refused(
            err, head->status,
            "the server answered %u %.*s, expected 101 Switching Protocols",
            (unsigned)head->status, TWS_HTTP_QUOTED(head->phrase));
    }
    if (head->version_minor == 0) {
        return tws_error_refused(err, head->status,
                                 "the answer is HTTP/1.0, expected HTTP/1.1");
    }
    struct tws_span value = TWS_SPAN("");
    enum tws_status status =
        required_value(head, TWS_SPAN("Upgrade"), &value, err);
    if (status != TWS_OK) {
        return status;
    }
    if (!tws_span_equal_nocase(value, TWS_SPAN("websocket"))) {
        return tws_error_refused(
            err, head->status,
            "Upgrade is \"%.*s\" in the answer, expected websocket",
            TWS_HTTP_QUOTED(value));
    }
    /* A list, which may stand in several fields (RFC 9110 §5.3). */
    const struct tws_span connection = TWS_SPAN("Connection");
    if (!tws_http_lists_token(head, connection, TWS_SPAN("upgrade"))) {
        const struct tws_http_field *field =
            tws_http_find(head, connection, NULL);
        value = field == NULL ? TWS_SPAN("") : field->value;
        return tws_error_refused(
            err, head->status,
            "Connection is \"%.*s\" in the answer, expected it to list "
            "upgrade",
            TWS_HTTP_QUOTED(value));
    }
    return TWS_OK;
}

/* RFC 6455 §4.1, item 4. */
static enum tws_status
check_accept(const struct tws_http_head *head,
             const struct tws_handshake_offer *offer, struct tws_error *err)
{
    struct tws_span value = TWS_SPAN("");
    enum tws_status status =
        required_value(head, TWS_SPAN("Sec-WebSocket-Accept"), &value, err);
    if (status != TWS_OK) {
        return status;
    }
    char accept[TWS_ACCEPT_LENGTH];
    status = tws_accept_key(
        (struct tws_span){.data = offer->key, .length = sizeof(offer->key)},
        accept, err);
    if (status != TWS_OK) {
        return status;
    }
    struct tws_span expected = {.data = accept, .length = sizeof(accept)};
    if (!tws_equal_constant_time(value, expected)) {
        return tws_error_refused(
            err, head->status,
            "Sec-WebSocket-Accept is \"%.*s\", expected \"%.*s\"",
            TWS_HTTP_QUOTED(value), TWS_HTTP_QUOTED(expected));
    }
    return TWS_OK;
}

/* The value of a field that the answer may have once (RFC 6455 §11.3.2,
 * §11.3.4), empty where it has none. */
static enum tws_status
optional_value(const struct tws_http_head *head, struct tws_span name,
               bool *present, struct tws_span *value, struct tws_error *err)
{
    *present = tws_http_find(head, name, NULL) != NULL;
    *value = TWS_SPAN("");
    return *present ? required_value(head, name, value, err) : TWS_OK;
}

/* RFC 6455 §4.1, items 5 and 6. */
static enum tws_status
check_choices(const struct tws_http_head *head,
              const struct tws_handshake_offer *offer,
              struct tws_span *protocol, struct tws_span *extensions,
              struct tws_error *err)
{
    bool present = false;
    enum tws_status status = optional_value(
        head, TWS_SPAN("Sec-WebSocket-Extensions"), &present, extensions, err);
    if (status != TWS_OK) {
        return status;
    }
    /* An empty list agrees on none. */
    if (extensions->length > 0 && offer->extensions.length == 0) {
        return tws_error_refused(
            err, head->status,
            "extensions \"%.*s\" in the answer, none were offered",
            TWS_HTTP_QUOTED(*extensions));
    }
    status = optional_value(head, TWS_SPAN("Sec-WebSocket-Protocol"), &present,
                            protocol, err);
    if (status != TWS_OK || !present) {
        return status;
    }
    for (size_t i = 0; i < offer->protocol_count; i++) {
        if (tws_span_equal(*protocol, offer->protocols[i])) {
            return TWS_OK;
        }
    }
    return tws_error_refused(
        err, head->status,
        "subprotocol \"%.*s\" in the answer was not offered",
        TWS_HTTP_QUOTED(*protocol));
}

enum tws_status
tws_handshake_check_answer(const struct tws_http_head *head,
                           const struct tws_handshake_offer *offer,
                           struct tws_span *protocol,
                           struct tws_span *extensions, struct tws_error *err)
{
    struct tws_span chosen;
    struct tws_span agreed;
    enum tws_status status = check_upgrade(head, err);
    if (status == TWS_OK) {
        status = check_accept(head, offer, err);
    }
    if (status == TWS_OK) {
        status = check_choices(head, offer, &chosen, &agreed, err);
    }
    if (status == TWS_OK) {
        *protocol = chosen;
        *extensions = agreed;
    }
    return status;
}
