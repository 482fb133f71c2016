/* Connects one descriptor that exists already, to one address or to those of
 * a host in turn. Never blocks; the owner waits for what
 * tws_connecting_wait() names and keeps the deadline. See net/racing.h for
 * addresses side by side. */
#ifndef TWS_NET_CONNECTING_H
#define TWS_NET_CONNECTING_H

#include "net/source.h"

struct tws_connecting {
    int fd;                      /* borrowed */
    struct tws_resolve *resolve; /* owned, or NULL */
    struct tws_source source;    /* to be set before the first advance */
    struct tws_address address;
    bool known;           /* the look-up has ended well, or there was none */
    bool trying;          /* it is `address` that is tried now */
    bool begun;           /* connect() was called with it */
    bool queue_full;      /* ... is to be called again at attempt_end */
    uint64_t attempt_end; /* of this address; UINT64_MAX: the whole time */
    int gai_error;        /* EAI_*, where the look-up was what failed */
};

/* With a look-up for the family of the descriptor (moved here), or with one
 * address. Both are only to be released afterwards. */
void tws_connecting_by_name(struct tws_connecting *connecting, int fd,
                            struct tws_resolve *resolve);
void tws_connecting_by_address(struct tws_connecting *connecting, int fd,
                               const struct tws_address *address);
void tws_connecting_release(struct tws_connecting *connecting);

/* Goes on. `now` and `deadline` are nanoseconds of the monotonic clock: where
 * several addresses are left, each gets its share of the time.
 *
 * TWS_OK: connected. TWS_AGAIN. TWS_REFUSED: the look-up failed, see
 * gai_error. TWS_OS: the error of the last address, as no other answers
 * either, with a reason in words; the descriptor may be used for another try.
 * TWS_NOMEM. */
enum tws_status tws_connecting_advance(struct tws_connecting *connecting,
                                       uint64_t now, uint64_t deadline,
                                       struct tws_error *err);

/* What to wait for (its descriptor may be -1: only for the time), and until
 * when (UINT64_MAX: the owner's deadline) tws_connecting_advance() need not
 * be called. */
void tws_connecting_wait(const struct tws_connecting *connecting,
                         struct tws_wait *wait, uint64_t *until);

/* True while no address is known yet. */
bool tws_connecting_is_resolving(const struct tws_connecting *connecting);

#endif /* TWS_NET_CONNECTING_H */
