#include "protocol/origin.h"

/* host [":" port] */
struct authority {
    struct tws_span host;
    uint32_t port; /* 0: none given */
};

struct origin {
    struct tws_span scheme;
    struct authority authority;
};

static bool
is_alpha(char c)
{
    return tws_ascii_lower(c) >= 'a' && tws_ascii_lower(c) <= 'z';
}

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool
is_name_byte(char c)
{
    return is_alpha(c) || is_digit(c) || c == '-' || c == '.' || c == '_'
           || c == '~';
}

static bool
is_address_byte(char c)
{
    return is_digit(c) || c == ':' || c == '.'
           || (tws_ascii_lower(c) >= 'a' && tws_ascii_lower(c) <= 'f');
}

/* The bytes of the host at the front of `text`: a name, or an IPv6 address
 * with its brackets and, where there is one, its zone (RFC 6874). 0 where
 * there is none. */
static size_t
host_length(struct tws_span text)
{
    size_t i = 0;
    if (text.length == 0 || text.data[0] != '[') {
        while (i < text.length && is_name_byte(text.data[i])) {
            i++;
        }
        return i;
    }
    i = 1;
    while (i < text.length && is_address_byte(text.data[i])) {
        i++;
    }
    if (i == 1) {
        return 0;
    }
    if (i < text.length && text.data[i] == '%') {
        while (i < text.length
               && (text.data[i] == '%' || is_name_byte(text.data[i]))) {
            i++;
        }
    }
    return i < text.length && text.data[i] == ']' ? i + 1 : 0;
}

/* 1-65535 without leading zeros. */
static bool
parse_port(struct tws_span text, uint32_t *port)
{
    if (text.length == 0 || text.length > 5 || text.data[0] == '0') {
        return false;
    }
    uint32_t value = 0;
    for (size_t i = 0; i < text.length; i++) {
        if (!is_digit(text.data[i])) {
            return false;
        }
        value = value * 10 + (uint32_t)(text.data[i] - '0');
    }
    if (value > 65535) {
        return false;
    }
    *port = value;
    return true;
}

static bool
parse_authority(struct tws_span text, bool empty_port,
                struct authority *authority)
{
    size_t length = host_length(text);
    if (length == 0) {
        return false;
    }
    authority->host = (struct tws_span){.data = text.data, .length = length};
    authority->port = 0;
    if (length == text.length) {
        return true;
    }
    if (text.data[length] != ':') {
        return false;
    }
    struct tws_span port = {.data = text.data + length + 1,
                            .length = text.length - length - 1};
    return (empty_port && port.length == 0)
           || parse_port(port, &authority->port);
}

/* The serialization of RFC 6454 §6.2. */
static bool
parse_origin(struct tws_span text, struct origin *origin)
{
    size_t length = 0;
    while (length < text.length
           && (is_alpha(text.data[length])
               || (length > 0
                   && (is_digit(text.data[length]) || text.data[length] == '+'
                       || text.data[length] == '-'
                       || text.data[length] == '.')))) {
        length++;
    }
    if (length == 0 || text.length - length < 3
        || memcmp(text.data + length, "://", 3) != 0) {
        return false;
    }
    origin->scheme = (struct tws_span){.data = text.data, .length = length};
    struct tws_span authority = {.data = text.data + length + 3,
                                 .length = text.length - length - 3};
    return parse_authority(authority, false, &origin->authority);
}

/* The port given, else the scheme's default, else 0. */
static uint32_t
effective_port(const struct authority *authority, struct tws_span scheme)
{
    if (authority->port != 0) {
        return authority->port;
    }
    if (tws_span_equal_nocase(scheme, TWS_SPAN("http"))) {
        return 80;
    }
    return tws_span_equal_nocase(scheme, TWS_SPAN("https")) ? 443 : 0;
}

static bool
equal_authority(const struct authority *a, const struct authority *b,
                struct tws_span scheme)
{
    return tws_span_equal_nocase(a->host, b->host)
           && effective_port(a, scheme) == effective_port(b, scheme);
}

static bool
same_origin(struct tws_span text, struct tws_span host, bool secure)
{
    struct origin origin;
    struct authority ours;
    if (!parse_origin(text, &origin) || !parse_authority(host, true, &ours)) {
        return false;
    }
    if (!tws_span_equal_nocase(origin.scheme, TWS_SPAN("https"))
        && (secure
            || !tws_span_equal_nocase(origin.scheme, TWS_SPAN("http")))) {
        return false;
    }
    return equal_authority(&origin.authority, &ours, origin.scheme);
}

static bool
listed_origin(const struct tws_origins *origins, struct tws_span text)
{
    struct origin origin;
    bool parsed = parse_origin(text, &origin);
    bool null = tws_span_equal(text, TWS_SPAN("null"));
    for (size_t i = 0; i < origins->count; i++) {
        struct origin entry;
        if (null && tws_span_equal(origins->list[i], text)) {
            return true;
        }
        if (parsed && parse_origin(origins->list[i], &entry)
            && tws_span_equal_nocase(origin.scheme, entry.scheme)
            && equal_authority(&origin.authority, &entry.authority,
                               origin.scheme)) {
            return true;
        }
    }
    return false;
}

bool
tws_origin_allowed(const struct tws_origins *origins, struct tws_span origin,
                   struct tws_span host, bool secure)
{
    switch (origins->policy) {
    case TWS_ORIGIN_ANY:
        return true;
    case TWS_ORIGIN_SAME:
        return same_origin(origin, host, secure);
    case TWS_ORIGIN_LIST:
        return listed_origin(origins, origin);
    }
    return false;
}

bool
tws_origin_valid(struct tws_span origin)
{
    struct origin parsed;
    return tws_span_equal(origin, TWS_SPAN("null"))
           || parse_origin(origin, &parsed);
}

bool
tws_host_valid(struct tws_span host)
{
    struct authority parsed;
    return parse_authority(host, true, &parsed);
}
