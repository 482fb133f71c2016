#include "net/reaching.h"

/* The own address. An empty host is any, not the loopback that it is for a
 * look-up. */
static enum tws_status
begin_source(struct tws_reaching *reaching,
             const struct tws_reaching_options *options, struct tws_error *err)
{
    if (options->source_host == NULL || options->source_host[0] == '\0') {
        if (options->source_host != NULL) {
            tws_source_any(&reaching->source, options->source_port);
        }
        reaching->source_known = true;
        return TWS_OK;
    }
    return tws_resolve_begin(options->source_host, options->source_port,
                             options->family, &reaching->source_resolve, err);
}

enum tws_status
tws_reaching_by_name(struct tws_reaching *reaching, int fd, const char *host,
                     uint16_t port, const struct tws_reaching_options *options,
                     struct tws_error *err)
{
    struct tws_resolve *resolve = NULL;
    *reaching = (struct tws_reaching){.fd = fd};
    enum tws_status status = begin_source(reaching, options, err);
    if (status == TWS_OK) {
        status = tws_resolve_begin(host, port, options->family, &resolve, err);
    }
    if (status == TWS_OK && fd < 0) {
        status =
            tws_racing_new(resolve, options->protocol, &reaching->racing, err);
    }
    else if (status == TWS_OK) {
        tws_connecting_by_name(&reaching->connecting, fd, resolve);
    }
    if (status != TWS_OK) {
        tws_resolve_free(resolve);
        tws_reaching_release(reaching);
    }
    return status;
}

void
tws_reaching_by_address(struct tws_reaching *reaching, int fd,
                        const struct tws_address *address)
{
    *reaching = (struct tws_reaching){.fd = fd, .source_known = true};
    tws_connecting_by_address(&reaching->connecting, fd, address);
}

void
tws_reaching_release(struct tws_reaching *reaching)
{
    tws_resolve_free(reaching->source_resolve);
    tws_racing_free(reaching->racing);
    tws_connecting_release(&reaching->connecting);
    *reaching = (struct tws_reaching){.fd = -1};
}

enum tws_status
tws_reaching_advance(struct tws_reaching *reaching, uint64_t now,
                     uint64_t deadline, struct tws_error *err)
{
    enum tws_status status = TWS_OK;
    if (!reaching->source_known) {
        status = tws_source_from(&reaching->source, reaching->source_resolve,
                                 &reaching->gai_error, err);
        reaching->source_known = status == TWS_OK;
    }
    if (status == TWS_OK && reaching->racing != NULL) {
        tws_racing_bind(reaching->racing, &reaching->source);
        return tws_racing_advance(reaching->racing, now, &reaching->fd, err);
    }
    if (status == TWS_OK) {
        reaching->connecting.source = reaching->source;
        status =
            tws_connecting_advance(&reaching->connecting, now, deadline, err);
    }
    return status;
}

size_t
tws_reaching_wait(const struct tws_reaching *reaching,
                  struct tws_wait waits[TWS_RACING_WAITS], uint64_t *until)
{
    *until = UINT64_MAX;
    if (!reaching->source_known) {
        waits[0] =
            (struct tws_wait){.fd = tws_resolve_fd(reaching->source_resolve),
                              .events = TWS_WAIT_READ};
        return 1;
    }
    if (reaching->racing != NULL) {
        return tws_racing_wait(reaching->racing, waits, until);
    }
    tws_connecting_wait(&reaching->connecting, &waits[0], until);
    return 1;
}

bool
tws_reaching_is_resolving(const struct tws_reaching *reaching, bool *own)
{
    *own = !reaching->source_known;
    if (*own) {
        return true;
    }
    return reaching->racing != NULL
               ? tws_racing_is_resolving(reaching->racing)
               : tws_connecting_is_resolving(&reaching->connecting);
}

int
tws_reaching_gai_error(const struct tws_reaching *reaching)
{
    if (reaching->gai_error != 0) {
        return reaching->gai_error;
    }
    return reaching->racing != NULL ? tws_racing_gai_error(reaching->racing)
                                    : reaching->connecting.gai_error;
}

void
tws_reaching_interrupt(const struct tws_reaching *reaching)
{
    if (reaching->source_resolve != NULL) {
        tws_resolve_interrupt(reaching->source_resolve);
    }
    if (reaching->racing != NULL) {
        tws_racing_interrupt(reaching->racing);
    }
    if (reaching->connecting.resolve != NULL) {
        tws_resolve_interrupt(reaching->connecting.resolve);
    }
}
