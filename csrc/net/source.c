#include "net/source.h"

#include <errno.h>
#include <netinet/in.h>

void
tws_source_any(struct tws_source *source, uint16_t port)
{
    *source = (struct tws_source){
        .given = true,
        .ipv4 = {.length = sizeof(struct sockaddr_in)},
        .ipv6 = {.length = sizeof(struct sockaddr_in6)},
    };
    struct sockaddr_in *sin = (struct sockaddr_in *)&source->ipv4.storage;
    struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&source->ipv6.storage;
    sin->sin_family = AF_INET;
    sin->sin_port = htons(port);
    sin6->sin6_family = AF_INET6;
    sin6->sin6_port = htons(port);
}

enum tws_status
tws_source_from(struct tws_source *source, struct tws_resolve *resolve,
                int *gai_error, struct tws_error *err)
{
    struct tws_source found = {.given = true};
    struct tws_address address;
    enum tws_status status =
        tws_resolve_next(resolve, &address, gai_error, err);
    while (status == TWS_OK) {
        struct tws_address *slot =
            address.storage.ss_family == AF_INET6 ? &found.ipv6 : &found.ipv4;
        if (slot->length == 0) {
            *slot = address;
        }
        status = tws_resolve_next(resolve, &address, gai_error, err);
    }
    if (status != TWS_EOF) {
        return status;
    }
    *source = found;
    return TWS_OK;
}

static const struct tws_address *
of_family(const struct tws_source *source, int family)
{
    return family == AF_INET6 ? &source->ipv6 : &source->ipv4;
}

bool
tws_source_allows(const struct tws_source *source, int family)
{
    return !source->given || of_family(source, family)->length > 0;
}

static uint16_t
port_of(const struct tws_address *address)
{
    /* At the same place in both families. */
    return ((const struct sockaddr_in *)&address->storage)->sin_port;
}

/* True where the socket has that address already, by an earlier attempt. */
static bool
is_bound_to(int fd, const struct tws_address *address)
{
    struct sockaddr_storage own = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof(own);
    struct tws_address wanted = *address;
    struct sockaddr_in *sin = (struct sockaddr_in *)&wanted.storage;
    if (getsockname(fd, (struct sockaddr *)&own, &size) < 0
        || size != wanted.length) {
        return false;
    }
    if (sin->sin_port == 0) {
        sin->sin_port = ((struct sockaddr_in *)&own)->sin_port;
    }
    return memcmp(&own, &wanted.storage, size) == 0;
}

enum tws_status
tws_source_bind(const struct tws_source *source, int fd, int family,
                struct tws_error *err)
{
    const struct tws_address *address = of_family(source, family);
    int on = 1;
    if (!source->given) {
        return TWS_OK;
    }
    if (address->length == 0) {
        return tws_error_os(err, EADDRNOTAVAIL, "bind");
    }
    /* Attempts side by side, and one soon after the last, share the port;
     * what they connect to tells them apart. */
    if (port_of(address) != 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    }
    if (bind(fd, (const struct sockaddr *)&address->storage, address->length)
        == 0) {
        return TWS_OK;
    }
    int saved = errno;
    return saved == EINVAL && is_bound_to(fd, address)
               ? TWS_OK
               : tws_error_os(err, saved, "bind");
}
