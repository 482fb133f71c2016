/* Compression of one connection: what its ends have agreed on, and the
 * contexts, which are made at first use. One thread receives at a time, and
 * one sends; the two do not meet here. */
#ifndef TWS_PROTOCOL_COMPRESSION_H
#define TWS_PROTOCOL_COMPRESSION_H

#include "protocol/deflate_pool.h"

#include <pthread.h>

/* "Out" is what this end sends, "in" what it receives. */
struct tws_compression_terms {
    struct tws_deflate_settings out;
    uint8_t in_window_bits;
    bool per_frame;    /* deflate-frame; else permessage-deflate */
    bool out_takeover; /* a message may refer to those before */
    bool in_takeover;
    size_t threshold; /* bytes; smaller messages are better sent as they are
                       */
};

/* Whether a message is compressed, where compression was agreed. */
enum tws_compress {
    TWS_COMPRESS_AUTO, /* if it has the threshold's size, or is sent in pieces;
                        * not where that makes it larger, if it can be helped
                        */
    TWS_COMPRESS_NEVER,
    TWS_COMPRESS_ALWAYS,
};

/* Of one direction, between two messages. */
struct tws_compression_rest {
    struct tws_history history; /* with takeover, where no context is kept */
    struct tws_tenure tenure;
    bool amid;    /* a message, that is: the context stays */
    bool borrows; /* from the pool, now and then */
};

struct tws_compression {
    struct tws_compression_terms terms;
    struct tws_deflate_pool *pool; /* a reference */

    struct tws_inflater *inflater; /* borrowed while a message is being
                                    * received, and between two that follow
                                    * one another closely; else NULL */
    struct tws_compression_rest in;

    /* Held by whoever compresses, from before that until what it made has its
     * place among the bytes to be sent: a message that refers to others must
     * follow them. Not taken here. Of what follows. */
    pthread_mutex_t lock;
    struct tws_deflater *deflater; /* as `inflater` */
    struct tws_compression_rest out;
    bool stale; /* the peer's window is not what `deflater` takes it for */
};

/* Whether a message (or frame) of so many bytes is compressed. */
static inline bool
tws_compression_wants(const struct tws_compression *compression, size_t length,
                      enum tws_compress compress)
{
    return compress == TWS_COMPRESS_ALWAYS
           || (compress == TWS_COMPRESS_AUTO
               && length >= compression->terms.threshold);
}

/* Keeps a reference to the pool. NULL where there is no memory. */
struct tws_compression *
tws_compression_new(const struct tws_compression_terms *terms,
                    struct tws_deflate_pool *pool);
void tws_compression_free(struct tws_compression *compression); /* or NULL */
/* Nothing comes or goes any more, while somebody still holds it: frees all
 * that was kept of messages. With the lock, and for who receives. */
void tws_compression_end(struct tws_compression *compression);
/* Now and then, for who receives: where nothing came or went since the last
 * time, gives back the contexts that were kept for what would follow. */
void tws_compression_look(struct tws_compression *compression);

/* Appends the compressed form of a message (or frame), or of a part of it
 * where `end` is false; see tws_deflater_add(). With the lock. After a
 * failure tws_compression_forget_sent() has been done. */
enum tws_status tws_compression_deflate(struct tws_compression *compression,
                                        struct tws_span data, bool end,
                                        struct tws_buffer *out,
                                        struct tws_error *err);
/* What was compressed last did not go out, or something else did that was
 * compressed elsewhere: the next message must not refer to what was before.
 * With the lock. */
void tws_compression_forget_sent(struct tws_compression *compression);
/* Nothing will be compressed any more: gives back the context's memory. With
 * the lock. */
void tws_compression_stop_deflating(struct tws_compression *compression);

/* As tws_inflater_read() and tws_inflater_end(), for who receives. */
enum tws_status tws_compression_inflate(struct tws_compression *compression,
                                        struct tws_input *input, uint8_t *room,
                                        size_t size, size_t *got,
                                        struct tws_error *err);
enum tws_status
tws_compression_end_inflate(struct tws_compression *compression, uint8_t *room,
                            size_t size, size_t *got, struct tws_error *err);
/* The message that is being received will not be gone on with, nor any other:
 * gives back what it has borrowed. */
void tws_compression_stop_inflating(struct tws_compression *compression);

#endif /* TWS_PROTOCOL_COMPRESSION_H */
