/* A byte queue that owns its memory: bytes are appended at the end and
 * consumed at the front. Empty it holds no memory until it is used, and
 * tws_buffer_release() gives the memory back. Not thread-safe. */
#ifndef TWS_PROTOCOL_BUFFER_H
#define TWS_PROTOCOL_BUFFER_H

#include "protocol/status.h"

struct tws_buffer {
    uint8_t *memory; /* owned; NULL while capacity is 0 */
    size_t capacity;
    size_t start; /* first unread byte */
    size_t end;   /* one past the last byte; start <= end <= capacity */
};

/* A zeroed struct is an empty buffer. */
#define TWS_BUFFER_EMPTY ((struct tws_buffer){0})

static inline size_t
tws_buffer_length(const struct tws_buffer *buffer)
{
    return buffer->end - buffer->start;
}

/* Borrowed until the next call that changes the buffer; NULL where it holds
 * no memory. */
static inline uint8_t *
tws_buffer_data(const struct tws_buffer *buffer)
{
    return buffer->memory == NULL ? NULL : buffer->memory + buffer->start;
}

/* All of it, borrowed as above. */
static inline struct tws_span
tws_buffer_span(const struct tws_buffer *buffer)
{
    return (struct tws_span){
        .data = (const char *)tws_buffer_data(buffer),
        .length = tws_buffer_length(buffer),
    };
}

/* Makes room for `extra` more bytes behind the last one and hands out where
 * they go (borrowed until the next call). May move what is there to the
 * front; grows by doubling. TWS_NOMEM leaves the buffer as it was. */
enum tws_status tws_buffer_reserve(struct tws_buffer *buffer, size_t extra,
                                   uint8_t **room);
/* Counts `length` bytes written into reserved room as part of the queue. */
void tws_buffer_commit(struct tws_buffer *buffer, size_t length);
/* reserve + copy + commit. `data` is borrowed for the call. */
enum tws_status tws_buffer_append(struct tws_buffer *buffer, const void *data,
                                  size_t length);
/* Drops `length` bytes at the front (at most what is there). */
void tws_buffer_consume(struct tws_buffer *buffer, size_t length);
/* The same at the end. */
void tws_buffer_withdraw(struct tws_buffer *buffer, size_t length);
/* Frees the memory; the buffer is empty and usable again. */
void tws_buffer_release(struct tws_buffer *buffer);

#endif /* TWS_PROTOCOL_BUFFER_H */
