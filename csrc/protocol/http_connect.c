#include "protocol/http_connect.h"

#include "protocol/origin.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    HOST_MAX = 255,
    CREDENTIALS_MAX = 16 * 1024,
    INTERIM_MAX = 16,                         /* answers of 1xx */
    REQUEST_ROOM = 2 * (HOST_MAX + 16) + 256, /* beside what is given */
};

/* --- the request --- */

static bool
has_control(struct tws_span text)
{
    for (size_t i = 0; i < text.length; i++) {
        uint8_t byte = (uint8_t)text.data[i];
        if (byte < 0x20 || byte == 0x7f) {
            return true;
        }
    }
    return false;
}

/* RFC 7617 §2: no control characters, no colon in the user-id. */
static enum tws_status
check_credentials(const struct tws_http_connect_offer *offer,
                  struct tws_error *err)
{
    struct tws_span username = offer->username;
    if (username.length == 0) {
        return tws_error_refused(err, 0,
                                 "username for the proxy is empty, expected "
                                 "one, or no credentials");
    }
    if (username.length > CREDENTIALS_MAX
        || offer->password.length > CREDENTIALS_MAX - username.length) {
        return tws_error_refused(
            err, 0, "credentials for the proxy have more than %d bytes",
            CREDENTIALS_MAX);
    }
    if (has_control(username) || has_control(offer->password)) {
        return tws_error_refused(
            err, 0, "credentials for the proxy hold a control byte");
    }
    if (memchr(username.data, ':', username.length) != NULL) {
        return tws_error_refused(
            err, 0,
            "username for the proxy holds a colon, which HTTP takes "
            "for the end of it");
    }
    return TWS_OK;
}

/* Looks like an IPv6 address in figures: hexadecimal digits, two colons or
 * more, and dots for an IPv4 part. So no zone, which only means something on
 * this machine (RFC 6874 §4), and no port. */
static bool
is_ipv6_text(struct tws_span host)
{
    size_t colons = 0;
    for (size_t i = 0; i < host.length; i++) {
        char c = tws_ascii_lower(host.data[i]);
        if (c == ':') {
            colons++;
        }
        else if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f')
                 && c != '.') {
            return false;
        }
    }
    return colons >= 2;
}

/* The authority-form of RFC 9112 §3.2.3, which always has a port. */
static enum tws_status
make_authority(const struct tws_http_connect_offer *offer,
               char out[HOST_MAX + 16], struct tws_span *authority,
               struct tws_error *err)
{
    struct tws_span host = offer->host;
    if (host.length == 0 || host.length > HOST_MAX) {
        return tws_error_refused(err, 0,
                                 "host name has %zu bytes, expected 1 to %d",
                                 host.length, HOST_MAX);
    }
    if (offer->port == 0) {
        return tws_error_refused(err, 0, "port is 0, expected 1 to 65535");
    }
    bool is_ipv6 = memchr(host.data, ':', host.length) != NULL;
    int made = snprintf(out, HOST_MAX + 16, "%s%.*s%s:%u", is_ipv6 ? "[" : "",
                        (int)host.length, host.data, is_ipv6 ? "]" : "",
                        (unsigned)offer->port);
    *authority =
        (struct tws_span){.data = out, .length = made < 0 ? 0 : (size_t)made};
    if (has_control(host) || (is_ipv6 && !is_ipv6_text(host))
        || !tws_host_valid(*authority)) {
        return tws_error_refused(
            err, 0,
            "host is \"%.*s\", expected a host name or an address "
            "without a zone",
            TWS_HTTP_QUOTED(host));
    }
    return TWS_OK;
}

/* Basic credentials (RFC 7617 §2) as the value of a field. */
static enum tws_status
write_credentials(struct tws_buffer *out,
                  const struct tws_http_connect_offer *offer,
                  struct tws_error *err)
{
    static const char scheme[] = "Basic ";
    const size_t prefix = sizeof(scheme) - 1;
    size_t plain = offer->username.length + 1 + offer->password.length;
    size_t size = plain + prefix + (plain + 2) / 3 * 4 + 1;
    uint8_t *memory = malloc(size);
    if (memory == NULL) {
        return tws_error_nomem(err);
    }
    char *value = (char *)memory + plain;
    memcpy(memory, offer->username.data, offer->username.length);
    memory[offer->username.length] = ':';
    if (offer->password.length > 0) {
        memcpy(memory + offer->username.length + 1, offer->password.data,
               offer->password.length);
    }
    memcpy(value, scheme, prefix);
    int digits =
        EVP_EncodeBlock((unsigned char *)value + prefix, memory, (int)plain);
    enum tws_status status = tws_http_write_field(
        out, TWS_SPAN("Proxy-Authorization"),
        (struct tws_span){.data = value, .length = prefix + (size_t)digits},
        err);
    OPENSSL_cleanse(memory, size);
    free(memory);
    return status;
}

static enum tws_status
write_head(struct tws_buffer *out, const struct tws_http_connect_offer *offer,
           struct tws_span authority, struct tws_error *err)
{
    enum tws_status status =
        tws_http_write_request_line(out, TWS_SPAN("CONNECT"), authority, err);
    if (status == TWS_OK) {
        status = tws_http_write_field(out, TWS_SPAN("Host"), authority, err);
    }
    if (status == TWS_OK && offer->user_agent.length > 0) {
        status = tws_http_write_field(out, TWS_SPAN("User-Agent"),
                                      offer->user_agent, err);
    }
    if (status == TWS_OK && offer->credentials) {
        status = write_credentials(out, offer, err);
    }
    return status == TWS_OK ? tws_http_write_end(out, err) : status;
}

enum tws_status
tws_http_connect_write(struct tws_buffer *out,
                       const struct tws_http_connect_offer *offer,
                       struct tws_error *err)
{
    char text[HOST_MAX + 16];
    struct tws_span authority = TWS_SPAN("");
    enum tws_status status = make_authority(offer, text, &authority, err);
    if (status == TWS_OK && offer->credentials) {
        status = check_credentials(offer, err);
    }
    if (status != TWS_OK) {
        return status;
    }
    /* All at once: memory that grows leaves a copy of a secret behind. */
    uint8_t *room;
    size_t secrets = offer->credentials
                         ? offer->username.length + offer->password.length
                         : 0;
    if (offer->user_agent.length > SIZE_MAX / 4
        || tws_buffer_reserve(
               out, REQUEST_ROOM + offer->user_agent.length + 2 * secrets,
               &room)
               != TWS_OK) {
        return tws_error_nomem(err);
    }
    size_t before = tws_buffer_length(out);
    status = write_head(out, offer, authority, err);
    if (status != TWS_OK) {
        out->end = out->start + before; /* all of it or nothing */
    }
    return status;
}

/* --- the answer --- */

/* What http1.h says of a head that is none: of a client, no status of HTTP
 * belongs to it. */
static enum tws_status
no_answer(struct tws_error *err)
{
    struct tws_error found = *err;
    return tws_error_refused(err, 0, "proxy sent no HTTP answer: %s",
                             found.reason);
}

static enum tws_status
refuse(const struct tws_http_connect *connect,
       const struct tws_http_head *head, struct tws_error *err)
{
    const char *hint = "";
    if (head->status == 407) {
        hint = connect->credentials
                   ? ": it has not accepted the username and password"
                   : ": give it a username and a password";
    }
    return tws_error_refused(
        err, head->status, "proxy refused: %u %.*s, expected 2xx%s",
        (unsigned)head->status, TWS_HTTP_QUOTED(head->phrase), hint);
}

/* A head is there. TWS_AGAIN: it was an interim one (RFC 9110 §15.2). */
static enum tws_status
judge(struct tws_http_connect *connect, struct tws_buffer *in,
      size_t head_length, const struct tws_http_head *head,
      struct tws_error *err)
{
    bool open = head->status >= 200 && head->status < 300;
    /* Nobody has asked to switch protocols (RFC 9110 §15.2.2). */
    bool interim = head->status < 200 && head->status != 101;
    if (!open && !interim) {
        connect->head_length = head_length;
        return refuse(connect, head, err);
    }
    tws_buffer_consume(in, head_length);
    if (interim) {
        connect->scanner = (struct tws_http_scanner){0};
        connect->interim++;
        if (connect->interim > INTERIM_MAX) {
            return tws_error_refused(
                err, 0, "proxy sent more than %d interim answers (1xx)",
                INTERIM_MAX);
        }
        return TWS_AGAIN;
    }
    size_t behind = tws_buffer_length(in);
    if (behind > 0) {
        return tws_error_refused(
            err, 0,
            "proxy sent %zu bytes behind its answer, before the tunnel was "
            "used, expected none",
            behind);
    }
    return TWS_OK;
}

enum tws_status
tws_http_connect_take(struct tws_http_connect *connect, struct tws_buffer *in,
                      struct tws_http_head *head, struct tws_error *err)
{
    enum tws_status status = TWS_AGAIN;
    while (status == TWS_AGAIN && tws_buffer_length(in) > 0) {
        const char *data = (const char *)tws_buffer_data(in);
        size_t head_length = 0;
        status = tws_http_scan(&connect->scanner, data, tws_buffer_length(in),
                               &connect->limits, &head_length, err);
        if (status == TWS_AGAIN) {
            return status;
        }
        if (status == TWS_OK) {
            status = tws_http_parse_response(data, head_length,
                                             &connect->limits, head, err);
        }
        if (status == TWS_REFUSED) {
            return no_answer(err);
        }
        status = judge(connect, in, head_length, head, err);
    }
    return status;
}
