/* Names to socket addresses. A look-up of a name can't be interrupted, so it
 * runs in a thread of its own, which is left behind when nobody waits for it
 * any more; addresses in figures are read on the spot. */
#ifndef TWS_NET_RESOLVE_H
#define TWS_NET_RESOLVE_H

#include "net/socket.h"

enum { TWS_HOST_MAX = 255 }; /* bytes of a host name */

struct tws_resolve; /* a look-up; belongs to one thread at a time */

/* Begins a look-up for a TCP connection. `family` is AF_INET, AF_INET6 or
 * AF_UNSPEC. An empty host is this machine (127.0.0.1, ::1). TWS_OK with
 * *resolve (owned by the caller), TWS_NOMEM, or TWS_OS. */
enum tws_status tws_resolve_begin(const char *host, uint16_t port, int family,
                                  struct tws_resolve **resolve,
                                  struct tws_error *err);

/* Readable once the result is there; -1 where it is there already. */
int tws_resolve_fd(const struct tws_resolve *resolve);

/* The next address to try. TWS_OK with *address; TWS_AGAIN: not known yet;
 * TWS_EOF: there are no more. TWS_REFUSED: the look-up failed, *gai_error is
 * the EAI_* code of getaddrinfo(); TWS_OS where that is EAI_SYSTEM. */
enum tws_status tws_resolve_next(struct tws_resolve *resolve,
                                 struct tws_address *address, int *gai_error,
                                 struct tws_error *err);

/* How many addresses tws_resolve_next() has yet to give. */
size_t tws_resolve_left(const struct tws_resolve *resolve);

/* Makes tws_resolve_fd() readable although nothing is known: the one call
 * that any thread may make, as long as tws_resolve_free() has not begun. */
void tws_resolve_interrupt(struct tws_resolve *resolve);

/* Ends the look-up, or leaves it behind. NULL is allowed. */
void tws_resolve_free(struct tws_resolve *resolve);

#endif /* TWS_NET_RESOLVE_H */
