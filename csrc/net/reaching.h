/* From a host to a connected TCP socket: looks up its name and that of the
 * own address, and connects a descriptor of the owner's (net/connecting.h) or
 * one of several that it makes itself (net/racing.h). Never blocks; the owner
 * waits for what tws_reaching_wait() names and keeps the deadline. */
#ifndef TWS_NET_REACHING_H
#define TWS_NET_REACHING_H

#include "net/connecting.h"
#include "net/racing.h"

/* How to go about it. Borrowed, for the call only. */
struct tws_reaching_options {
    int family;   /* of the owner's descriptor; AF_UNSPEC: there is none */
    int protocol; /* of socket(2), where AF_UNSPEC */
    const char *source_host; /* the own address: a name, in figures, or "" for
                              * any; NULL: the system chooses */
    uint16_t source_port;
};

struct tws_reaching {
    int fd; /* of what is connected, or is to be; -1: none yet */
    int gai_error;
    struct tws_source source;
    struct tws_resolve *source_resolve; /* owned, or NULL */
    bool source_known;
    struct tws_racing *racing; /* owned, or NULL: there is a descriptor */
    struct tws_connecting connecting;
};

/* `fd` is the owner's; -1 with AF_UNSPEC. "" as host is this machine. TWS_OK,
 * TWS_NOMEM or TWS_OS. A zeroed struct may be released, too. */
enum tws_status
tws_reaching_by_name(struct tws_reaching *reaching, int fd, const char *host,
                     uint16_t port, const struct tws_reaching_options *options,
                     struct tws_error *err);
void tws_reaching_by_address(struct tws_reaching *reaching, int fd,
                             const struct tws_address *address);
void tws_reaching_release(struct tws_reaching *reaching);

/* As tws_racing_advance() and tws_connecting_advance(). After TWS_OK
 * reaching->fd is connected; where AF_UNSPEC, it is the caller's then. */
enum tws_status tws_reaching_advance(struct tws_reaching *reaching,
                                     uint64_t now, uint64_t deadline,
                                     struct tws_error *err);
size_t tws_reaching_wait(const struct tws_reaching *reaching,
                         struct tws_wait waits[TWS_RACING_WAITS],
                         uint64_t *until);

/* True while an address is still looked up; *own says whether it is the own
 * one. */
bool tws_reaching_is_resolving(const struct tws_reaching *reaching, bool *own);

/* The EAI_* code where a look-up was what failed, else 0. */
int tws_reaching_gai_error(const struct tws_reaching *reaching);

/* Ends the owner's wait, now or when it next begins, unless it is for a
 * descriptor of the owner's. Any thread, as long as the release has not
 * begun. */
void tws_reaching_interrupt(const struct tws_reaching *reaching);

#endif /* TWS_NET_REACHING_H */
