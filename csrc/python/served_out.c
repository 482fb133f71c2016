#include "python/served_out.h"

#include "python/deflate_type.h"

enum { LARGE_SEND = 64 * 1024 }; /* bytes whose encryption takes its time */

/* Whether the GIL is in the way of others for long. */
static bool
is_work(const struct tws_client *client, size_t length, bool compressed)
{
    return (compressed && length >= TWS_DEFLATE_ALONE_MIN)
           || (length >= LARGE_SEND && client->transport.tls != NULL);
}

enum tws_status
tws_served_out_message(struct tws_client *client,
                       struct tws_client_message *message,
                       struct tws_error *err)
{
    enum tws_status status;
    size_t length = message->payload.length;
    bool compressed = tws_client_compresses(
        client, message->opcode, length, (enum tws_compress)message->compress);
    if (!is_work(client, length, compressed)) {
        /* Another thread may be compressing much, or wait for the GIL. */
        message->at_once = true;
        status = tws_client_send_message(client, message, err);
        if (status != TWS_AGAIN) {
            return status;
        }
        message->at_once = false;
    }
    Py_BEGIN_ALLOW_THREADS
    status = tws_client_send_message(client, message, err);
    Py_END_ALLOW_THREADS
    return status;
}

enum tws_status
tws_served_out_packed(struct tws_client *client, struct tws_span frames,
                      enum tws_standing standing, bool marked,
                      struct tws_error *err)
{
    enum tws_status status;
    if (!marked || client->compression == NULL) {
        return tws_client_send_packed(client, frames, standing, 0, 0, NULL,
                                      err);
    }
    Py_BEGIN_ALLOW_THREADS
    status = tws_client_send_foreign(client, frames, standing, err);
    Py_END_ALLOW_THREADS
    return status;
}

enum tws_status
tws_served_out_begin(struct tws_client *client, const void *stream,
                     enum tws_compress compress, struct tws_error *err)
{
    enum tws_status status;
    if (client->compression == NULL || compress == TWS_COMPRESS_NEVER) {
        return tws_client_begin_stream(client, stream, compress, err);
    }
    Py_BEGIN_ALLOW_THREADS
    status = tws_client_begin_stream(client, stream, compress, err);
    Py_END_ALLOW_THREADS
    return status;
}

enum tws_status
tws_served_out_fragment(struct tws_client *client, uint8_t opcode, bool fin,
                        const struct tws_span parts[2], struct tws_error *err)
{
    enum tws_status status;
    size_t length = parts[0].length + parts[1].length;
    if (!is_work(client, length, client->compression != NULL)) {
        return tws_client_send_fragment(client, opcode, fin, parts, err);
    }
    Py_BEGIN_ALLOW_THREADS
    status = tws_client_send_fragment(client, opcode, fin, parts, err);
    Py_END_ALLOW_THREADS
    return status;
}

enum tws_status
tws_served_out_pack(const struct tws_client *client, uint8_t opcode,
                    struct tws_span payload, struct tws_buffer *out,
                    struct tws_error *err)
{
    enum tws_status status;
    if (payload.length < TWS_DEFLATE_ALONE_MIN) {
        return tws_client_pack_shared(client, opcode, payload, out, err);
    }
    Py_BEGIN_ALLOW_THREADS
    status = tws_client_pack_shared(client, opcode, payload, out, err);
    Py_END_ALLOW_THREADS
    return status;
}
