/* A peer's bytes from the first one on, in pieces: what the handshake makes of
 * them. The first byte chooses the side and the size of the pieces. */
#include "net/tls.h"

#include "tls_fixture.h"

#include <openssl/err.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *input;
static size_t input_left;
static size_t step;
static bool resting; /* every other read finds nothing */

static enum tws_status
give(struct tws_transport *transport, uint8_t *data, size_t size, size_t *got,
     struct tws_error *err)
{
    (void)transport;
    (void)err;
    resting = !resting;
    if (resting) {
        return TWS_AGAIN;
    }
    if (input_left == 0) {
        return TWS_EOF;
    }
    *got = input_left < step ? input_left : step;
    *got = *got < size ? *got : size;
    memcpy(data, input, *got);
    input += *got;
    input_left -= *got;
    return TWS_OK;
}

static enum tws_status
take(struct tws_transport *transport, const struct iovec *parts, int count,
     size_t *written, struct tws_error *err)
{
    (void)transport;
    (void)err;
    *written = 0;
    for (int i = 0; i < count; i++) {
        *written += parts[i].iov_len;
    }
    return TWS_OK;
}

static void
end(struct tws_transport *transport)
{
    (void)transport;
}

static const struct tws_transport_ops memory_ops = {
    .read = give,
    .writev = take,
    .end_writing = end,
};

static void
check_outcome(struct tws_transport *transport, enum tws_status status,
              enum tws_role role, const struct tws_error *err)
{
    struct tws_error again;
    unsigned events = 0;
    MUST(status == TWS_EOF || status == TWS_TLS
         || (status == TWS_REFUSED && role == TWS_SERVER
             && err->http_status == 400));
    MUST(tws_secure(transport, &events, &again) == status
         || (status == TWS_EOF && resting)); /* AGAIN, and then the end */
    if (status != TWS_EOF) {
        MUST(err->reason[0] != '\0' && strcmp(err->reason, again.reason) == 0);
    }
    MUST(ERR_peek_error() == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tws_tls_context *contexts[2];
    struct tws_transport transport = {.ops = &memory_ops, .fd = -1};
    struct tws_error err = {0};
    enum tws_status status;
    if (size == 0) {
        return 0;
    }
    if (server_file == NULL) {
        fixture_begin();
        contexts[TWS_CLIENT] = client_context();
        contexts[TWS_SERVER] = server_context_of(server_file);
    }
    enum tws_role role = data[0] & 1 ? TWS_SERVER : TWS_CLIENT;
    step = data[0] >> 1 == 0 ? SIZE_MAX : data[0] >> 1;
    input = data + 1;
    input_left = size - 1;
    resting = false;
    MUST(tws_tls_start(&transport, contexts[role],
                       role == TWS_CLIENT ? "a.test" : NULL, NULL, &err)
         == TWS_OK);
    do {
        unsigned events = 0;
        status = tws_secure(&transport, &events, &err);
        MUST(status != TWS_AGAIN || events == TWS_WAIT_READ);
        MUST(ERR_peek_error() == 0);
    } while (status == TWS_AGAIN);
    /* Nobody has guessed a secret. */
    check_outcome(&transport, status, role, &err);
    if (status == TWS_REFUSED) {
        tws_tls_strip(&transport);
    }
    tws_transport_release(&transport);
    return 0;
}
