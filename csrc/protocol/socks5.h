/* The client's side of SOCKS 5 (RFC 1928), with username and password where
 * they are given (RFC 1929). Bytes in, bytes out: the caller sends what
 * tws_socks5_output() shows, reads at most tws_socks5_wanted() bytes, hands
 * them to tws_socks5_take(), until that says TWS_OK. Allocates nothing. */
#ifndef TWS_PROTOCOL_SOCKS5_H
#define TWS_PROTOCOL_SOCKS5_H

#include "protocol/status.h"

enum {
    TWS_SOCKS5_TEXT_MAX = 255, /* bytes of a name, a username, a password:
                                * their lengths are one octet */
};

/* What to ask for. All borrowed, for the call only. */
struct tws_socks5_offer {
    struct tws_span name;   /* the proxy looks it up; or: */
    const uint8_t *address; /* in network order; NULL: by name */
    size_t address_length;  /* 4 or 16 */
    uint16_t port;
    bool credentials;
    struct tws_span username;
    struct tws_span password; /* may be empty, as proxies take that */
};

/* Private, but for its size. Holds the credentials until they have been sent
 * or turn out not to be needed. */
struct tws_socks5 {
    uint8_t state;
    bool credentials;
    uint8_t greeting[4];
    uint8_t login[3 + 2 * TWS_SOCKS5_TEXT_MAX];
    uint8_t request[7 + TWS_SOCKS5_TEXT_MAX];
    size_t login_length;
    size_t request_length;
    size_t sent;     /* of the message that is due */
    uint8_t head[5]; /* of the reply that comes */
    size_t got;      /* bytes of that reply */
    size_t need;     /* bytes of it, as far as is known */
};

/* TWS_REFUSED (http_status 0) where the offer can't be said: a name,
 * username or password of a length that does not fit, a name that is no host
 * name, a control byte in the credentials, port 0. */
enum tws_status tws_socks5_init(struct tws_socks5 *socks,
                                const struct tws_socks5_offer *offer,
                                struct tws_error *err);

/* What is to be sent before anything is read; empty: nothing. Borrowed until
 * the next call. */
struct tws_span tws_socks5_output(const struct tws_socks5 *socks);
/* `length` bytes of it were sent. */
void tws_socks5_sent(struct tws_socks5 *socks, size_t length);

/* How many bytes, at the least, are still to come from the proxy before
 * something is to be sent or the tunnel is open: to read no more than that
 * leaves all bytes of the server behind it where they are. 0: none. */
size_t tws_socks5_wanted(const struct tws_socks5 *socks);

/* Takes what the proxy has sent; *consumed says how much of it, which is
 * never more than belongs to the reply that is due. TWS_OK: open. TWS_AGAIN:
 * there is something to send, or more must come. TWS_REFUSED (http_status
 * 0): the proxy said no, or what no proxy says. */
enum tws_status tws_socks5_take(struct tws_socks5 *socks, const uint8_t *data,
                                size_t length, size_t *consumed,
                                struct tws_error *err);

/* Wipes the whole, for what it may hold of credentials. */
void tws_socks5_wipe(struct tws_socks5 *socks);

#endif /* TWS_PROTOCOL_SOCKS5_H */
