#include "protocol/compression.h"

#include <stdlib.h>

struct tws_compression *
tws_compression_new(const struct tws_compression_terms *terms,
                    struct tws_deflate_pool *pool)
{
    struct tws_compression *compression = calloc(1, sizeof(*compression));
    if (compression == NULL) {
        return NULL;
    }
    if (pthread_mutex_init(&compression->lock, NULL) != 0) {
        free(compression);
        return NULL;
    }
    compression->terms = *terms;
    compression->pool = tws_deflate_pool_retain(pool);
    return compression;
}

static void
give_deflater_back(struct tws_compression *compression)
{
    tws_deflate_pool_give_deflater(compression->pool, compression->deflater);
    compression->deflater = NULL;
}

static void
give_inflater_back(struct tws_compression *compression)
{
    tws_deflate_pool_give_inflater(compression->pool, compression->inflater);
    compression->inflater = NULL;
}

void
tws_compression_end(struct tws_compression *compression)
{
    compression->stale = true;
    if (compression->terms.out_takeover) {
        tws_deflater_free(compression->deflater);
        compression->deflater = NULL;
    }
    else {
        give_deflater_back(compression);
    }
    if (compression->terms.in_takeover) {
        tws_inflater_free(compression->inflater);
        compression->inflater = NULL;
    }
    else {
        give_inflater_back(compression);
    }
}

void
tws_compression_free(struct tws_compression *compression)
{
    if (compression == NULL) {
        return;
    }
    tws_compression_end(compression);
    tws_deflate_pool_release(compression->pool);
    pthread_mutex_destroy(&compression->lock);
    free(compression);
}

/* Sending ---------------------------------------------------------------- */

enum tws_status
tws_compression_deflate(struct tws_compression *compression,
                        struct tws_span data, bool end, struct tws_buffer *out,
                        struct tws_error *err)
{
    const struct tws_compression_terms *terms = &compression->terms;
    if (compression->deflater == NULL) {
        compression->deflater = terms->out_takeover
                                    ? tws_deflater_new(&terms->out)
                                    : tws_deflate_pool_take_deflater(
                                        compression->pool, &terms->out);
        if (compression->deflater == NULL) {
            return tws_error_nomem(err);
        }
    }
    else if (compression->stale) {
        tws_deflater_reset(compression->deflater);
    }
    compression->stale = false;
    enum tws_status status =
        tws_deflater_add(compression->deflater, data, end, out, err);
    if (status != TWS_OK) {
        tws_compression_forget_sent(compression);
    }
    else if (end && !terms->out_takeover) {
        give_deflater_back(compression);
    }
    return status;
}

void
tws_compression_forget_sent(struct tws_compression *compression)
{
    compression->stale = true;
    if (!compression->terms.out_takeover) {
        give_deflater_back(compression);
    }
}

void
tws_compression_stop_deflating(struct tws_compression *compression)
{
    compression->stale = true;
    if (compression->deflater != NULL) {
        give_deflater_back(compression);
    }
}

/* Receiving -------------------------------------------------------------- */

static enum tws_status
need_inflater(struct tws_compression *compression, struct tws_error *err)
{
    const struct tws_compression_terms *terms = &compression->terms;
    if (compression->inflater == NULL) {
        compression->inflater =
            terms->in_takeover ? tws_inflater_new(terms->in_window_bits)
                               : tws_deflate_pool_take_inflater(
                                   compression->pool, terms->in_window_bits);
    }
    return compression->inflater != NULL ? TWS_OK : tws_error_nomem(err);
}

enum tws_status
tws_compression_inflate(struct tws_compression *compression,
                        struct tws_input *input, uint8_t *room, size_t size,
                        size_t *got, struct tws_error *err)
{
    enum tws_status status = need_inflater(compression, err);
    return status != TWS_OK ? status
                            : tws_inflater_read(compression->inflater, input,
                                                room, size, got, err);
}

enum tws_status
tws_compression_end_inflate(struct tws_compression *compression, uint8_t *room,
                            size_t size, size_t *got, struct tws_error *err)
{
    enum tws_status status = need_inflater(compression, err);
    if (status == TWS_OK) {
        status = tws_inflater_end(compression->inflater, room, size, got, err);
    }
    if (status == TWS_OK && !compression->terms.in_takeover) {
        tws_compression_stop_inflating(compression);
    }
    return status;
}

void
tws_compression_stop_inflating(struct tws_compression *compression)
{
    if (compression->inflater != NULL) {
        give_inflater_back(compression);
    }
}
