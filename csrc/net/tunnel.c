#include "net/tunnel.h"

#include "protocol/http_body.h"
#include "protocol/http_connect.h"
#include "protocol/socks5.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <stdlib.h>

enum { READ_SIZE = 4096 };

enum state {
    ASKING,    /* HTTP: writing the request */
    ANSWERING, /* HTTP: reading the head of the answer */
    REFUSING,  /* HTTP: reading the body of a refusal */
    TALKING,   /* SOCKS */
};

struct tws_tunnel {
    uint8_t state; /* enum state */

    struct tws_buffer request; /* wiped once it is written */
    struct tws_http_connect connect;
    struct tws_buffer in;      /* the answer's head */
    struct tws_http_body body; /* of a refusal, as it arrives */
    struct tws_buffer content; /* of that body */
    struct tws_error refusal;  /* while the body is awaited */

    struct tws_socks5 socks;
};

/* --- making one --- */

static struct tws_span
span_of(const char *text)
{
    return text == NULL
               ? TWS_SPAN("")
               : (struct tws_span){.data = text, .length = strlen(text)};
}

static enum tws_status
prepare_http(struct tws_tunnel *tunnel,
             const struct tws_tunnel_options *options, struct tws_error *err)
{
    struct tws_http_connect_offer offer = {
        .host = span_of(options->host),
        .port = options->port,
        .credentials = options->username != NULL,
        .username = span_of(options->username),
        .password = span_of(options->password),
        .user_agent = span_of(options->user_agent),
    };
    tunnel->state = ASKING;
    tunnel->connect = (struct tws_http_connect){
        .limits = options->limits != NULL ? *options->limits
                                          : TWS_HTTP_LIMITS_DEFAULT,
        .credentials = offer.credentials,
    };
    return tws_http_connect_write(&tunnel->request, &offer, err);
}

/* The bytes of an address, or 0 for a family that no proxy knows. */
static size_t
copy_address(const struct tws_address *address, uint8_t out[16])
{
    if (address->storage.ss_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, &address->storage, sizeof(in));
        memcpy(out, &in.sin_addr, sizeof(in.sin_addr));
        return sizeof(in.sin_addr);
    }
    if (address->storage.ss_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, &address->storage, sizeof(in6));
        memcpy(out, &in6.sin6_addr, sizeof(in6.sin6_addr));
        return sizeof(in6.sin6_addr);
    }
    return 0;
}

/* The bytes of an address in figures, or 0 for a name. */
static size_t
read_address(const char *host, uint8_t out[16])
{
    if (inet_pton(AF_INET, host, out) == 1) {
        return sizeof(struct in_addr);
    }
    return inet_pton(AF_INET6, host, out) == 1 ? sizeof(struct in6_addr) : 0;
}

static enum tws_status
prepare_socks(struct tws_tunnel *tunnel,
              const struct tws_tunnel_options *options, struct tws_error *err)
{
    uint8_t address[16];
    struct tws_socks5_offer offer = {
        .name = span_of(options->host),
        .port = options->port,
        .credentials = options->username != NULL,
        .username = span_of(options->username),
        .password = span_of(options->password),
    };
    if (options->address != NULL) {
        offer.address_length = copy_address(options->address, address);
        offer.address = address;
    }
    else {
        offer.address_length =
            options->host == NULL ? 0 : read_address(options->host, address);
        offer.address = offer.address_length > 0 ? address : NULL;
    }
    tunnel->state = TALKING;
    return tws_socks5_init(&tunnel->socks, &offer, err);
}

enum tws_status
tws_tunnel_new(const struct tws_tunnel_options *options,
               struct tws_tunnel **tunnel, struct tws_error *err)
{
    struct tws_tunnel *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return tws_error_nomem(err);
    }
    enum tws_status status = options->kind == TWS_TUNNEL_HTTP
                                 ? prepare_http(made, options, err)
                                 : prepare_socks(made, options, err);
    if (status != TWS_OK) {
        tws_tunnel_free(made);
        return status;
    }
    *tunnel = made;
    return TWS_OK;
}

static void
wipe(struct tws_buffer *buffer)
{
    if (buffer->memory != NULL) {
        OPENSSL_cleanse(buffer->memory, buffer->capacity);
    }
    tws_buffer_release(buffer);
}

void
tws_tunnel_free(struct tws_tunnel *tunnel)
{
    if (tunnel == NULL) {
        return;
    }
    wipe(&tunnel->request);
    tws_socks5_wipe(&tunnel->socks);
    tws_buffer_release(&tunnel->in);
    tws_buffer_release(&tunnel->content);
    free(tunnel);
}

/* --- HTTP --- */

static enum tws_status
write_request(struct tws_tunnel *tunnel, struct tws_transport *transport,
              struct tws_error *err)
{
    struct tws_buffer *request = &tunnel->request;
    while (tws_buffer_length(request) > 0) {
        size_t written;
        enum tws_status status =
            tws_write(transport, tws_buffer_data(request),
                      tws_buffer_length(request), &written, err);
        if (status != TWS_OK) {
            return status;
        }
        tws_buffer_consume(request, written);
    }
    wipe(request);
    return TWS_OK;
}

static enum tws_status
read_answer(struct tws_tunnel *tunnel, struct tws_transport *transport,
            struct tws_http_head *head, struct tws_error *err)
{
    enum tws_status status = TWS_AGAIN;
    while (status == TWS_AGAIN) {
        uint8_t *room;
        size_t got;
        if (tws_buffer_reserve(&tunnel->in, READ_SIZE, &room) != TWS_OK) {
            return tws_error_nomem(err);
        }
        status = tws_read(transport, room, READ_SIZE, &got, err);
        if (status != TWS_OK) {
            return status;
        }
        tws_buffer_commit(&tunnel->in, got);
        status =
            tws_http_connect_take(&tunnel->connect, &tunnel->in, head, err);
    }
    return status;
}

/* A refusal's head has come; behind it the body begins. */
static enum tws_status
begin_refusing(struct tws_tunnel *tunnel, const struct tws_http_head *head,
               const struct tws_error *refusal, struct tws_error *err)
{
    struct tws_buffer *in = &tunnel->in;
    size_t head_length = tunnel->connect.head_length;
    tunnel->refusal = *refusal;
    tunnel->state = REFUSING;
    tws_http_body_begin(&tunnel->body, head);
    enum tws_status status =
        tws_http_body_take(&tunnel->body, tws_buffer_data(in) + head_length,
                           tws_buffer_length(in) - head_length,
                           TWS_TUNNEL_BODY_MAX, &tunnel->content, err);
    in->end = in->start + head_length;
    return status;
}

/* TWS_AGAIN, or anything else: it has ended. */
static enum tws_status
read_body(struct tws_tunnel *tunnel, struct tws_transport *transport,
          struct tws_error *err)
{
    enum tws_status status = TWS_AGAIN;
    while (status == TWS_AGAIN) {
        uint8_t data[READ_SIZE];
        size_t got;
        status = tws_read(transport, data, sizeof(data), &got, err);
        if (status != TWS_OK) {
            return status;
        }
        status =
            tws_http_body_take(&tunnel->body, data, got, TWS_TUNNEL_BODY_MAX,
                               &tunnel->content, err);
    }
    return status;
}

static enum tws_status
advance_http(struct tws_tunnel *tunnel, struct tws_transport *transport,
             unsigned *events, struct tws_error *err)
{
    struct tws_error ignored; /* the answer counts, however its body ends */
    enum tws_status status = TWS_AGAIN;
    if (tunnel->state == ASKING) {
        *events = TWS_WAIT_WRITE;
        status = write_request(tunnel, transport, err);
        if (status != TWS_OK) {
            return status;
        }
        tunnel->state = ANSWERING;
    }
    *events = TWS_WAIT_READ;
    if (tunnel->state == ANSWERING) {
        struct tws_http_head head;
        status = read_answer(tunnel, transport, &head, err);
        if (status != TWS_REFUSED || err->http_status == 0) {
            return status;
        }
        status = begin_refusing(tunnel, &head, err, &ignored);
    }
    else {
        status = TWS_AGAIN;
    }
    if (status == TWS_AGAIN
        && read_body(tunnel, transport, &ignored) == TWS_AGAIN) {
        return TWS_AGAIN;
    }
    *err = tunnel->refusal;
    return TWS_REFUSED;
}

/* --- SOCKS --- */

static enum tws_status
write_message(struct tws_tunnel *tunnel, struct tws_transport *transport,
              struct tws_error *err)
{
    for (;;) {
        struct tws_span message = tws_socks5_output(&tunnel->socks);
        size_t written;
        if (message.length == 0) {
            return TWS_OK;
        }
        enum tws_status status =
            tws_write(transport, message.data, message.length, &written, err);
        if (status != TWS_OK) {
            return status;
        }
        tws_socks5_sent(&tunnel->socks, written);
    }
}

/* Of what is there, only what is certain to be the proxy's is read. */
static enum tws_status
advance_socks(struct tws_tunnel *tunnel, struct tws_transport *transport,
              unsigned *events, struct tws_error *err)
{
    enum tws_status status = TWS_AGAIN;
    while (status == TWS_AGAIN) {
        uint8_t data[TWS_SOCKS5_TEXT_MAX + 16];
        size_t got;
        size_t consumed;
        *events = TWS_WAIT_WRITE;
        status = write_message(tunnel, transport, err);
        if (status != TWS_OK) {
            return status;
        }
        *events = TWS_WAIT_READ;
        size_t wanted = tws_socks5_wanted(&tunnel->socks);
        if (wanted > sizeof(data)) {
            wanted = sizeof(data);
        }
        status = tws_read(transport, data, wanted, &got, err);
        if (status != TWS_OK) {
            return status;
        }
        status = tws_socks5_take(&tunnel->socks, data, got, &consumed, err);
    }
    return status;
}

/* --- the whole --- */

enum tws_status
tws_tunnel_advance(struct tws_tunnel *tunnel, struct tws_transport *transport,
                   unsigned *events, struct tws_error *err)
{
    return tunnel->state == TALKING
               ? advance_socks(tunnel, transport, events, err)
               : advance_http(tunnel, transport, events, err);
}

bool
tws_tunnel_refusal(const struct tws_tunnel *tunnel, struct tws_error *err)
{
    if (tunnel->state != REFUSING) {
        return false;
    }
    *err = tunnel->refusal;
    return true;
}

enum tws_status
tws_tunnel_answer(const struct tws_tunnel *tunnel, struct tws_http_head *head,
                  struct tws_error *err)
{
    if (tunnel->state != REFUSING) {
        return TWS_EOF;
    }
    return tws_http_parse_response((const char *)tws_buffer_data(&tunnel->in),
                                   tunnel->connect.head_length,
                                   &tunnel->connect.limits, head, err);
}

struct tws_span
tws_tunnel_body(const struct tws_tunnel *tunnel)
{
    const struct tws_buffer *content = &tunnel->content;
    return tws_buffer_length(content) == 0
               ? TWS_SPAN("")
               : (struct tws_span){
                   .data = (const char *)tws_buffer_data(content),
                   .length = tws_buffer_length(content),
               };
}
