#include "net/dialing.h"

#include "net/asking.h"

#include <stdio.h>
#include <stdlib.h>

/* In the order of their turn; those with nothing to do are passed at once. */
enum stage {
    LOOKING_UP, /* of the server, for a proxy that takes addresses */
    REACHING,
    PROXYING,
    SECURING,
    ASKING,
};

/* A host for people: cut, so that something else fits beside it. */
enum { HOST_SHOWN = 64 };

struct place {
    char host[HOST_SHOWN + 1];
    uint16_t port; /* 0: it goes without saying */
};

struct tws_dialing {
    uint8_t stage; /* enum stage */
    struct tws_transport transport;
    struct tws_proxying proxying;
    struct tws_reaching reaching;
    struct tws_securing securing;
    struct tws_asking asking;
    unsigned events; /* that the transport is waited for */
    struct place server;
    struct place proxy; /* an empty host: there is none */
    struct place source;
};

size_t
tws_dialing_host_field(const char *host, uint16_t port, bool secure,
                       char out[TWS_HOST_FIELD_MAX + 1])
{
    bool is_ipv6 = strchr(host, ':') != NULL;
    size_t length = is_ipv6 ? strcspn(host, "%") : strlen(host);
    if (length > TWS_HOST_MAX) {
        length = TWS_HOST_MAX; /* too long for any name */
    }
    char port_text[8] = "";
    if (port != (secure ? 443 : 80)) {
        (void)snprintf(port_text, sizeof(port_text), ":%u", (unsigned)port);
    }
    int made =
        snprintf(out, TWS_HOST_FIELD_MAX + 1, "%s%.*s%s%s", is_ipv6 ? "[" : "",
                 (int)length, host, is_ipv6 ? "]" : "", port_text);
    return made < 0 ? 0 : (size_t)made;
}

static struct place
place_of(const char *host, uint16_t port)
{
    struct place place = {.port = port};
    (void)snprintf(place.host, sizeof(place.host), "%.*s", HOST_SHOWN,
                   host[0] == '\0' ? "localhost" : host);
    for (char *p = place.host; *p != '\0'; p++) {
        if (*p < 0x20 || *p > 0x7e) {
            *p = '?'; /* as in every reason: it may end in a log */
        }
    }
    return place;
}

/* --- making one --- */

enum tws_status
tws_dialing_new(const struct tws_handshake_offer *offer,
                const struct tws_http_limits *limits,
                struct tws_dialing **dialing, struct tws_error *err)
{
    struct tws_dialing *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return tws_error_nomem(err);
    }
    made->transport.fd = -1;
    made->reaching.fd = -1;
    /* Where nothing else is known of the server. */
    (void)snprintf(made->server.host, sizeof(made->server.host), "%.*s",
                   (int)offer->host.length, offer->host.data);
    enum tws_status status =
        tws_asking_init(&made->asking, offer, limits, err);
    if (status != TWS_OK) {
        tws_dialing_free(made);
        return status;
    }
    *dialing = made;
    return TWS_OK;
}

void
tws_dialing_free(struct tws_dialing *dialing)
{
    if (dialing == NULL) {
        return;
    }
    tws_transport_release(&dialing->transport);
    tws_proxying_release(&dialing->proxying);
    tws_reaching_release(&dialing->reaching);
    tws_securing_release(&dialing->securing);
    tws_asking_release(&dialing->asking);
    free(dialing);
}

enum tws_status
tws_dialing_secure(struct tws_dialing *dialing,
                   struct tws_tls_context *context, const char *host,
                   const char *peer, struct tws_error *err)
{
    return tws_securing_init(&dialing->securing, context, host, peer, err);
}

enum tws_status
tws_dialing_by_name(struct tws_dialing *dialing, int fd, const char *host,
                    uint16_t port, const struct tws_proxy *proxy,
                    const struct tws_reaching_options *options,
                    struct tws_error *err)
{
    enum tws_status status = TWS_OK;
    dialing->server = place_of(host, port);
    if (options->source_host != NULL) {
        dialing->source = place_of(options->source_host, 0);
    }
    if (proxy != NULL) {
        dialing->proxy = place_of(proxy->host, proxy->port);
        status = tws_proxying_init(&dialing->proxying, proxy, host, port, err);
        host = proxy->host;
        port = proxy->port;
    }
    dialing->stage = LOOKING_UP;
    return status != TWS_OK ? status
                            : tws_reaching_by_name(&dialing->reaching, fd,
                                                   host, port, options, err);
}

void
tws_dialing_by_address(struct tws_dialing *dialing, int fd,
                       const struct tws_address *address)
{
    char host[TWS_HOST_TEXT];
    tws_socket_host(address, host);
    dialing->server = place_of(host, 0);
    dialing->stage = REACHING;
    tws_reaching_by_address(&dialing->reaching, fd, address);
}

enum tws_status
tws_dialing_connected(struct tws_dialing *dialing,
                      const struct tws_transport *transport,
                      struct tws_span initial, struct tws_error *err)
{
    dialing->transport = *transport;
    dialing->stage = PROXYING;
    if (initial.length > 0 && dialing->securing.context != NULL) {
        return tws_error_refused(err, 0,
                                 "%zu bytes were read before a handshake of "
                                 "TLS, which they belong to",
                                 initial.length);
    }
    return tws_asking_add(&dialing->asking, initial, err);
}

/* --- going on --- */

/* One stage, as far as it gets. TWS_OK: it is over. */
static enum tws_status
run(struct tws_dialing *dialing, uint64_t now, uint64_t deadline,
    struct tws_error *err)
{
    switch ((enum stage)dialing->stage) {
    case LOOKING_UP:
        return tws_proxying_look_up(&dialing->proxying, err);
    case REACHING:
        return tws_reaching_advance(&dialing->reaching, now, deadline, err);
    case PROXYING:
        return tws_proxying_advance(&dialing->proxying, &dialing->transport,
                                    &dialing->events, err);
    case SECURING:
        return tws_securing_advance(&dialing->securing, &dialing->transport,
                                    &dialing->events, err);
    case ASKING:
        break;
    }
    return tws_asking_advance(&dialing->asking, &dialing->transport,
                              &dialing->events, err);
}

/* A stage has ended well: on to the next. TWS_DIALING_WAIT: nobody needs to
 * know. */
static enum tws_dialing_step
step_on(struct tws_dialing *dialing)
{
    switch ((enum stage)dialing->stage) {
    case LOOKING_UP:
        dialing->stage = REACHING;
        break;
    case REACHING:
        dialing->stage = PROXYING;
        tws_transport_plain(&dialing->transport, dialing->reaching.fd);
        return dialing->reaching.racing != NULL ? TWS_DIALING_REACHED
                                                : TWS_DIALING_WAIT;
    case PROXYING:
        dialing->stage = SECURING;
        return TWS_DIALING_STREAM;
    case SECURING:
        dialing->stage = ASKING;
        break;
    case ASKING:
        return TWS_DIALING_CONNECTED;
    }
    return TWS_DIALING_WAIT;
}

enum tws_dialing_step
tws_dialing_advance(struct tws_dialing *dialing, uint64_t now,
                    uint64_t deadline, struct tws_error *err)
{
    struct tws_error ignored;
    enum tws_status status;
    do {
        status = run(dialing, now, deadline, err);
        enum tws_dialing_step step =
            status == TWS_OK ? step_on(dialing) : TWS_DIALING_WAIT;
        if (step != TWS_DIALING_WAIT) {
            return step;
        }
    } while (status == TWS_OK);
    if (status == TWS_AGAIN) {
        return TWS_DIALING_WAIT;
    }
    if (status == TWS_OS
        && tws_dialing_state(dialing) != TWS_DIALING_CONNECTING) {
        int error = err->sys_errno; /* the reason is the name of a call */
        char words[TWS_ERRNO_TEXT];
        (void)tws_error_os(err, error, tws_errno_text(error, words));
    }
    return status == TWS_REFUSED && tws_dialing_refusal(dialing, &ignored)
               ? TWS_DIALING_REFUSED
               : TWS_DIALING_FAILED;
}

size_t
tws_dialing_wait(const struct tws_dialing *dialing,
                 struct tws_wait waits[TWS_DIALING_WAITS], uint64_t *until)
{
    *until = UINT64_MAX;
    switch ((enum stage)dialing->stage) {
    case LOOKING_UP:
        waits[0] = (struct tws_wait){.fd = tws_proxying_fd(&dialing->proxying),
                                     .events = TWS_WAIT_READ};
        return 1;
    case REACHING:
        return tws_reaching_wait(&dialing->reaching, waits, until);
    case PROXYING:
    case SECURING:
    case ASKING:
        break;
    }
    waits[0] = (struct tws_wait){.fd = dialing->transport.fd,
                                 .events = dialing->events};
    return 1;
}

void
tws_dialing_interrupt(struct tws_dialing *dialing)
{
    tws_proxying_interrupt(&dialing->proxying);
    tws_reaching_interrupt(&dialing->reaching);
}

/* --- the stream --- */

int
tws_dialing_fd(const struct tws_dialing *dialing)
{
    return dialing->stage > REACHING ? dialing->transport.fd
                                     : dialing->reaching.fd;
}

void
tws_dialing_replace(struct tws_dialing *dialing, int fd)
{
    tws_transport_release(&dialing->transport);
    tws_transport_plain(&dialing->transport, fd);
}

void
tws_dialing_transport(struct tws_dialing *dialing,
                      struct tws_transport *transport)
{
    *transport = dialing->transport;
    dialing->transport = (struct tws_transport){.fd = -1};
}

/* --- what goes on --- */

enum tws_dialing_state
tws_dialing_state(const struct tws_dialing *dialing)
{
    bool own;
    switch ((enum stage)dialing->stage) {
    case LOOKING_UP:
        return TWS_DIALING_RESOLVING;
    case REACHING:
        return tws_reaching_is_resolving(&dialing->reaching, &own)
                   ? TWS_DIALING_RESOLVING
                   : TWS_DIALING_CONNECTING;
    case PROXYING:
        return dialing->proxying.secured
                       || dialing->proxying.securing.context == NULL
                   ? TWS_DIALING_TUNNELLING
                   : TWS_DIALING_SECURING;
    case SECURING:
        return TWS_DIALING_SECURING;
    case ASKING:
        break;
    }
    switch ((enum tws_asking_state)dialing->asking.state) {
    case TWS_ASKING_WRITING:
        return TWS_DIALING_ASKING;
    case TWS_ASKING_READING:
        return TWS_DIALING_ANSWERING;
    case TWS_ASKING_REFUSING:
        break;
    }
    return TWS_DIALING_REFUSING;
}

/* "look-up of" and the like, then "proxy " perhaps, then the place. */
static void
write_stage(char text[TWS_DIALING_STAGE], const char *what,
            const struct place *place, const char *proxy, bool with_port)
{
    bool is_ipv6 = strchr(place->host, ':') != NULL;
    with_port = with_port && place->port != 0;
    char port[8] = "";
    if (with_port) {
        (void)snprintf(port, sizeof(port), ":%u", (unsigned)place->port);
    }
    (void)snprintf(text, TWS_DIALING_STAGE, "%s %s%s%s%s%s", what, proxy,
                   is_ipv6 && with_port ? "[" : "", place->host,
                   is_ipv6 && with_port ? "]" : "", port);
}

void
tws_dialing_stage(const struct tws_dialing *dialing,
                  char text[TWS_DIALING_STAGE])
{
    bool by_proxy = dialing->proxy.host[0] != '\0';
    const struct place *next = by_proxy ? &dialing->proxy : &dialing->server;
    const char *proxy = by_proxy ? "proxy " : "";
    bool own = false;
    switch ((enum stage)dialing->stage) {
    case LOOKING_UP:
        write_stage(text, "look-up of", &dialing->server, "", false);
        return;
    case REACHING:
        if (!tws_reaching_is_resolving(&dialing->reaching, &own)) {
            write_stage(text, "connect to", next, proxy, true);
        }
        else if (own) {
            write_stage(text, "look-up of source address", &dialing->source,
                        "", false);
        }
        else {
            write_stage(text, "look-up of", next, proxy, false);
        }
        return;
    case PROXYING:
        write_stage(text,
                    tws_dialing_state(dialing) == TWS_DIALING_SECURING
                        ? "TLS handshake with"
                        : "tunnel through",
                    next, proxy, true);
        return;
    case SECURING:
        write_stage(text, "TLS handshake with", &dialing->server, "", true);
        return;
    case ASKING:
        break;
    }
    write_stage(text, "opening handshake with", &dialing->server, "", true);
}

bool
tws_dialing_is_proxying(const struct tws_dialing *dialing)
{
    return dialing->stage == PROXYING;
}

int
tws_dialing_gai_error(const struct tws_dialing *dialing)
{
    return dialing->stage == LOOKING_UP
               ? dialing->proxying.gai_error
               : tws_reaching_gai_error(&dialing->reaching);
}

/* --- what was said --- */

bool
tws_dialing_refusal(const struct tws_dialing *dialing, struct tws_error *err)
{
    if (dialing->stage == PROXYING) {
        return dialing->proxying.tunnel != NULL
               && tws_tunnel_refusal(dialing->proxying.tunnel, err);
    }
    return tws_asking_refusal(&dialing->asking, err);
}

enum tws_status
tws_dialing_request(const struct tws_dialing *dialing,
                    struct tws_http_head *head, struct tws_error *err)
{
    return tws_asking_request(&dialing->asking, head, err);
}

enum tws_status
tws_dialing_answer(const struct tws_dialing *dialing,
                   struct tws_http_head *head, struct tws_error *err)
{
    if (dialing->stage == PROXYING && dialing->proxying.tunnel != NULL) {
        return tws_tunnel_answer(dialing->proxying.tunnel, head, err);
    }
    return dialing->asking.head_length == 0
               ? TWS_EOF
               : tws_asking_answer(&dialing->asking, head, err);
}

struct tws_span
tws_dialing_protocol(const struct tws_dialing *dialing)
{
    return dialing->asking.protocol;
}

struct tws_span
tws_dialing_extensions(const struct tws_dialing *dialing)
{
    return dialing->asking.extensions;
}

struct tws_span
tws_dialing_body(const struct tws_dialing *dialing)
{
    return dialing->stage == PROXYING && dialing->proxying.tunnel != NULL
               ? tws_tunnel_body(dialing->proxying.tunnel)
               : tws_asking_body(&dialing->asking);
}

struct tws_span
tws_dialing_rest(const struct tws_dialing *dialing)
{
    return tws_asking_rest(&dialing->asking);
}
