/* Which web pages may connect: the Origin field against the policy
 * (RFC 6454 §7, RFC 6455 §10.2). */
#ifndef TWS_PROTOCOL_ORIGIN_H
#define TWS_PROTOCOL_ORIGIN_H

#include "protocol/status.h"

enum tws_origin_policy {
    TWS_ORIGIN_ANY,  /* no check */
    TWS_ORIGIN_SAME, /* scheme://Host of the request itself */
    TWS_ORIGIN_LIST, /* exactly one of the given origins */
};

struct tws_origins {
    enum tws_origin_policy policy;
    const struct tws_span *list; /* borrowed; for TWS_ORIGIN_LIST */
    size_t count;
};

/* True when `origin` (the field's value) may connect. Scheme and host
 * compare without case, a default port equals its absence (80 for http, 443
 * for https), everything else must be equal to the letter: no prefix,
 * suffix or substring is ever enough. "null" matches only a list entry spelt
 * "null", a value that holds more than one origin matches nothing. For
 * TWS_ORIGIN_SAME: `host` is the Host field, `secure` whether the connection
 * is TLS; the origin's scheme must be https if secure and http or https
 * otherwise (a TLS-ending proxy in front hides the s from us) and its host and
 * port those of `host`, where an absent port in `host` stands for the default
 * of the origin's scheme. */
bool tws_origin_allowed(const struct tws_origins *origins,
                        struct tws_span origin, struct tws_span host,
                        bool secure);

/* True for scheme "://" host [":" port], all lower or upper case letters,
 * no path: what a list entry must look like. "null" is an origin, too. */
bool tws_origin_valid(struct tws_span origin);

/* True for host [":" port]: what a Host field must look like (RFC 9110
 * §7.2). The host is a name of letters, digits and "-._~", or an IPv6
 * address in brackets; the port is empty or 1-65535 without leading zeros. */
bool tws_host_valid(struct tws_span host);

#endif /* TWS_PROTOCOL_ORIGIN_H */
