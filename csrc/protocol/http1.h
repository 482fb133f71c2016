/* The head of an HTTP/1.1 message (RFC 9112 §2-§5), parsed in place and
 * strictly: lines end in CRLF and nothing else, no folded lines, no space
 * before the colon, no NUL or other control byte, bounded size and count. */
#ifndef TWS_PROTOCOL_HTTP1_H
#define TWS_PROTOCOL_HTTP1_H

#include "protocol/buffer.h"
#include "protocol/status.h"

enum {
    TWS_HTTP_FIELDS_MAX = 256, /* what struct tws_http_head has room for */
};

struct tws_http_limits {
    size_t head_bytes;  /* of the whole head, default 16384 */
    size_t field_count; /* at most TWS_HTTP_FIELDS_MAX, default 128 */
};

#define TWS_HTTP_LIMITS_DEFAULT                                               \
    ((struct tws_http_limits){.head_bytes = 16384, .field_count = 128})

/* Finds the end of a head in bytes that arrive piecemeal; a byte is looked
 * at once however it arrives. A zeroed struct stands at the beginning. */
struct tws_http_scanner {
    size_t scanned; /* bytes looked at so far */
    size_t lines;   /* complete lines so far, the start line included */
    uint8_t state;  /* private */
};

/* `data` is the head from its first byte, `length` what is there by now
 * (never less than at the call before). TWS_OK: *head_length is set, the
 * empty line included. TWS_AGAIN: not complete yet. TWS_REFUSED with
 * http_status 400 (bare LF or CR, NUL or another control byte, a folded
 * line) or 431 (too many bytes or lines), as soon as the bytes show it. */
enum tws_status tws_http_scan(struct tws_http_scanner *scanner,
                              const char *data, size_t length,
                              const struct tws_http_limits *limits,
                              size_t *head_length, struct tws_error *err);

struct tws_http_field {
    struct tws_span name;  /* a token, as sent */
    struct tws_span value; /* without surrounding white space */
};

/* All spans are borrowed from the parsed bytes. */
struct tws_http_head {
    struct tws_span method; /* request: a token */
    struct tws_span target; /* request: as sent */
    uint16_t status;        /* response: 100-599 */
    struct tws_span phrase; /* response: reason phrase, may be empty */
    uint8_t version_minor;  /* HTTP/1.x */
    size_t field_count;
    struct tws_http_field fields[TWS_HTTP_FIELDS_MAX];
};

/* Parse a complete head (`length` as found by tws_http_scan). TWS_REFUSED
 * with http_status 400, 431, or 505 for a version that is not HTTP/1.x;
 * what *head holds is unspecified then. A request target is printable
 * ASCII: anything else is refused. Field values may hold bytes 0x80-0xff
 * (obs-text) and TAB. */
enum tws_status tws_http_parse_request(const char *data, size_t length,
                                       const struct tws_http_limits *limits,
                                       struct tws_http_head *head,
                                       struct tws_error *err);
enum tws_status tws_http_parse_response(const char *data, size_t length,
                                        const struct tws_http_limits *limits,
                                        struct tws_http_head *head,
                                        struct tws_error *err);

/* The first field of that name, or NULL; names compare without case.
 * *count (where not NULL) is set to how many fields have the name. */
const struct tws_http_field *tws_http_find(const struct tws_http_head *head,
                                           struct tws_span name,
                                           size_t *count);

/* Grammar predicates (RFC 9110 §5.6.2, §5.5). */
bool tws_http_is_token(struct tws_span text);
bool tws_http_is_field_value(struct tws_span text); /* no CR LF NUL, CTL */
bool tws_http_is_target(struct tws_span text); /* 0x21-0x7e, at least one */

/* `text` without the spaces and tabs around it (OWS, RFC 9110 §5.6.3). */
struct tws_span tws_http_trim(struct tws_span text);

/* The two arguments of a "%.*s" that quotes a span in a reason, cut so that
 * what was expected still fits behind it. */
#define TWS_HTTP_QUOTED(span)                                                 \
    (int)((span).length < 40 ? (span).length : 40),                           \
        ((span).length > 0 ? (span).data : "")

/* Writers append to `out`. TWS_NOMEM, or TWS_REFUSED (http_status 0: the
 * mistake is ours) where a part would break the head (a name that is no
 * token, a value with CR, LF, NUL, a target with a space, a status outside
 * 100-599): nothing is written then. The caller ends the head with
 * tws_http_write_end(). */
enum tws_status tws_http_write_request_line(struct tws_buffer *out,
                                            struct tws_span method,
                                            struct tws_span target,
                                            struct tws_error *err);
/* The phrase is the registered one of `status` (RFC 9110 §15). */
enum tws_status tws_http_write_status_line(struct tws_buffer *out,
                                           uint16_t status,
                                           struct tws_error *err);
enum tws_status tws_http_write_field(struct tws_buffer *out,
                                     struct tws_span name,
                                     struct tws_span value,
                                     struct tws_error *err);
enum tws_status tws_http_write_end(struct tws_buffer *out,
                                   struct tws_error *err);

/* The registered reason phrase, or "Unknown". */
const char *tws_http_phrase(uint16_t status);

#endif /* TWS_PROTOCOL_HTTP1_H */
