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
begin_borrowing(struct tws_compression *compression,
                struct tws_compression_rest *rest)
{
    if (!rest->borrows) {
        rest->borrows = true;
        tws_deflate_pool_enter(compression->pool);
    }
}

static void
end_borrowing(struct tws_compression *compression,
              struct tws_compression_rest *rest)
{
    tws_history_release(&rest->history);
    if (rest->borrows) {
        rest->borrows = false;
        tws_deflate_pool_leave(compression->pool);
    }
}

/* What it knows is lost, unless it was saved. */
static void
give_deflater_back(struct tws_compression *compression)
{
    tws_deflate_pool_give_deflater(compression->pool, compression->deflater);
    compression->deflater = NULL;
    compression->out.amid = false;
    tws_tenure_end(&compression->out.tenure, compression->pool, TWS_OUT);
}

static void
give_inflater_back(struct tws_compression *compression)
{
    tws_deflate_pool_give_inflater(compression->pool, compression->inflater);
    compression->inflater = NULL;
    compression->in.amid = false;
    tws_tenure_end(&compression->in.tenure, compression->pool, TWS_IN);
}

void
tws_compression_end(struct tws_compression *compression)
{
    tws_compression_stop_deflating(compression);
    tws_compression_stop_inflating(compression);
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

static enum tws_status
need_deflater(struct tws_compression *compression, struct tws_error *err)
{
    if (compression->deflater == NULL) {
        begin_borrowing(compression, &compression->out);
        compression->deflater = tws_deflate_pool_take_deflater(
            compression->pool, &compression->terms.out);
        if (compression->deflater == NULL) {
            return tws_error_nomem(err);
        }
        tws_deflater_restore(compression->deflater, &compression->out.history);
    }
    else if (compression->stale) {
        tws_deflater_reset(compression->deflater);
    }
    compression->stale = false;
    return TWS_OK;
}

/* Without memory for what it knows it stays. */
static void
park_deflater(struct tws_compression *compression)
{
    struct tws_history *history = &compression->out.history;
    if (compression->stale
        || tws_deflater_save(compression->deflater, history) == TWS_OK) {
        give_deflater_back(compression);
    }
}

static void
end_deflating(struct tws_compression *compression)
{
    struct tws_compression_rest *out = &compression->out;
    out->amid = false;
    if (!compression->terms.out_takeover) {
        give_deflater_back(compression);
    }
    else if (tws_tenure_extend(&out->tenure, compression->pool, TWS_OUT)) {
        tws_history_release(&out->history);
    }
    else {
        park_deflater(compression);
    }
}

enum tws_status
tws_compression_deflate(struct tws_compression *compression,
                        struct tws_span data, bool end, struct tws_buffer *out,
                        struct tws_error *err)
{
    enum tws_status status = need_deflater(compression, err);
    if (status != TWS_OK) {
        return status;
    }
    compression->out.amid = true;
    status = tws_deflater_add(compression->deflater, data, end, out, err);
    if (status != TWS_OK) {
        tws_compression_forget_sent(compression);
    }
    else if (end) {
        end_deflating(compression);
    }
    return status;
}

void
tws_compression_forget_sent(struct tws_compression *compression)
{
    compression->stale = true;
    compression->out.amid = false;
    tws_history_release(&compression->out.history);
    if (!compression->out.tenure.held) {
        give_deflater_back(compression);
    }
}

void
tws_compression_stop_deflating(struct tws_compression *compression)
{
    compression->stale = true;
    give_deflater_back(compression);
    end_borrowing(compression, &compression->out);
}

/* Receiving -------------------------------------------------------------- */

static enum tws_status
need_inflater(struct tws_compression *compression, struct tws_error *err)
{
    if (compression->inflater != NULL) {
        return TWS_OK;
    }
    begin_borrowing(compression, &compression->in);
    compression->inflater = tws_deflate_pool_take_inflater(
        compression->pool, compression->terms.in_window_bits);
    if (compression->inflater == NULL) {
        return tws_error_nomem(err);
    }
    if (tws_inflater_restore(compression->inflater, &compression->in.history)
        != TWS_OK) {
        give_inflater_back(compression);
        return tws_error_nomem(err);
    }
    return TWS_OK;
}

static void
park_inflater(struct tws_compression *compression)
{
    struct tws_history *history = &compression->in.history;
    if (tws_inflater_save(compression->inflater, history) == TWS_OK) {
        give_inflater_back(compression);
    }
}

static void
end_inflating(struct tws_compression *compression)
{
    struct tws_compression_rest *in = &compression->in;
    in->amid = false;
    if (!compression->terms.in_takeover) {
        give_inflater_back(compression);
    }
    else if (tws_tenure_extend(&in->tenure, compression->pool, TWS_IN)) {
        tws_history_release(&in->history);
    }
    else {
        park_inflater(compression);
    }
}

enum tws_status
tws_compression_inflate(struct tws_compression *compression,
                        struct tws_input *input, uint8_t *room, size_t size,
                        size_t *got, struct tws_error *err)
{
    enum tws_status status = need_inflater(compression, err);
    if (status == TWS_OK) {
        compression->in.amid = true;
        status = tws_inflater_read(compression->inflater, input, room, size,
                                   got, err);
    }
    return status;
}

enum tws_status
tws_compression_end_inflate(struct tws_compression *compression, uint8_t *room,
                            size_t size, size_t *got, struct tws_error *err)
{
    enum tws_status status = need_inflater(compression, err);
    if (status == TWS_OK) {
        status = tws_inflater_end(compression->inflater, room, size, got, err);
    }
    if (status == TWS_OK) {
        end_inflating(compression);
    }
    return status;
}

void
tws_compression_stop_inflating(struct tws_compression *compression)
{
    give_inflater_back(compression);
    end_borrowing(compression, &compression->in);
}

/* At rest ---------------------------------------------------------------- */

void
tws_compression_look(struct tws_compression *compression)
{
    if (tws_tenure_is_idle(&compression->in.tenure)
        && compression->inflater != NULL && !compression->in.amid) {
        park_inflater(compression);
    }
    if (pthread_mutex_trylock(&compression->lock) != 0) {
        return; /* it is in use */
    }
    if (tws_tenure_is_idle(&compression->out.tenure)
        && compression->deflater != NULL && !compression->out.amid) {
        park_deflater(compression);
    }
    pthread_mutex_unlock(&compression->lock);
}
