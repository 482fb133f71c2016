/* The own address that a client's socket is bound to before it connects. */
#ifndef TWS_NET_SOURCE_H
#define TWS_NET_SOURCE_H

#include "net/resolve.h"

/* All zero: the system chooses. */
struct tws_source {
    bool given;
    struct tws_address ipv4; /* length 0: none of this family */
    struct tws_address ipv6;
};

/* Any address of this machine, with that port. */
void tws_source_any(struct tws_source *source, uint16_t port);

/* Of what a look-up has found, the first address of each family. TWS_OK; else
 * what tws_resolve_next() says, TWS_AGAIN among it. */
enum tws_status tws_source_from(struct tws_source *source,
                                struct tws_resolve *resolve, int *gai_error,
                                struct tws_error *err);

/* False where nothing of this family can be reached from there. */
bool tws_source_allows(const struct tws_source *source, int family);

/* Binds a socket of that family, where a source was given. TWS_OK, also where
 * it is bound to that very address already; or TWS_OS with EADDRNOTAVAIL
 * among others. */
enum tws_status tws_source_bind(const struct tws_source *source, int fd,
                                int family, struct tws_error *err);

#endif /* TWS_NET_SOURCE_H */
