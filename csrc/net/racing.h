/* One TCP connection to whichever of a host's addresses answers first (Happy
 * Eyeballs, RFC 8305): an address that is dead costs a moment, not a timeout.
 * Never blocks; the owner waits for what tws_racing_wait() names and keeps
 * the deadline. */
#ifndef TWS_NET_RACING_H
#define TWS_NET_RACING_H

#include "net/source.h"

enum {
    TWS_RACING_MAX = 8, /* attempts at a time */
    TWS_RACING_WAITS = TWS_RACING_MAX + 1,
};

/* Between the beginnings of two attempts (RFC 8305 §5: 250 ms). */
#define TWS_RACING_DELAY ((uint64_t)250 * 1000 * 1000)

struct tws_racing; /* belongs to one thread, but for the interruption */

/* `resolve` (for AF_UNSPEC) is moved here on success; `protocol` is that of
 * socket(2). TWS_OK, TWS_NOMEM or TWS_OS. */
enum tws_status tws_racing_new(struct tws_resolve *resolve, int protocol,
                               struct tws_racing **racing,
                               struct tws_error *err);
/* NULL is allowed. */
void tws_racing_free(struct tws_racing *racing);

/* Before the first advance: the own address. */
void tws_racing_bind(struct tws_racing *racing,
                     const struct tws_source *source);

/* Goes on as far as it gets; `now` is nanoseconds of the monotonic clock.
 * TWS_OK: connected: *fd is owned by the caller, non-blocking, closed on exec
 * and has TCP_NODELAY; the other attempts are closed. TWS_AGAIN. TWS_REFUSED:
 * the look-up failed, see tws_racing_gai_error(). TWS_OS: no address can be
 * connected to; the reason says of each why, as "Connection refused (::1,
 * 127.0.0.1)", and sys_errno is the most telling one. TWS_NOMEM. Only to be
 * freed after all of them but TWS_AGAIN. */
enum tws_status tws_racing_advance(struct tws_racing *racing, uint64_t now,
                                   int *fd, struct tws_error *err);

/* What to wait for, and until when (UINT64_MAX: the owner's deadline)
 * tws_racing_advance() need not be called. Returns how many there are. */
size_t tws_racing_wait(const struct tws_racing *racing,
                       struct tws_wait waits[TWS_RACING_WAITS],
                       uint64_t *until);

/* True while the addresses are not known yet. */
bool tws_racing_is_resolving(const struct tws_racing *racing);

/* The EAI_* code where the look-up was what failed, else 0. */
int tws_racing_gai_error(const struct tws_racing *racing);

/* Ends the owner's wait, now or when it next begins: the one call that any
 * thread may make, as long as tws_racing_free() has not begun. */
void tws_racing_interrupt(const struct tws_racing *racing);

#endif /* TWS_NET_RACING_H */
